"""TransformerLens 4: its attribution patching of edges (``transformer_lens.tools.analysis.attribution_patching``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import SpecError, unknown
from ._tools import gpt2_of_transformers, tool

if TYPE_CHECKING:
    from ..external import ExportedModel, PromptBatch

_INSTALL = "pip install 'transformer-lens>=4'"
_GRADIENTS_AT = ("counterfactual", "clean")
_CALLED = "TransformerLens 4"
_PARTS = {"q_input": "q", "k_input": "k", "v_input": "v"}


class AttributionPatching:
    """Edge scores of ``attribution_patch`` with ``granularity="edge"``, which it has for models of transformers.

    Its input node is the token embedding; edges from the position embedding are not in its graph and score 0.

    Args:
        gradient_at: the run whose gradient is taken. ``counterfactual`` is the tool's documented use: what restoring
            an edge does to the counterfactual run. ``clean`` gives it the two prompts of a pair the other way round:
            what patching an edge does to the clean run, which is edge attribution patching (Syed et al. 2023).
    """

    format: ClassVar = "huggingface"
    ablations: ClassVar = frozenset({"patch"})
    batch_size: ClassVar = 1  # it runs prompts one by one, and asks for the objective of each alone
    packages: ClassVar = ("transformer-lens",)

    def __init__(self, gradient_at: str = _GRADIENTS_AT[0]) -> None:
        if gradient_at not in _GRADIENTS_AT:
            raise SpecError(f"transformer-lens: {unknown('gradient_at', gradient_at, _GRADIENTS_AT)}")
        self.turned = gradient_at == "clean"

    def edge_scores(
        self, model: ExportedModel, prompts: tuple[PromptBatch, ...], *, ablation: str, objective: str
    ) -> Mapping[str, float]:
        patching = tool(_CALLED, "transformer_lens.tools.analysis.attribution_patching", _INSTALL)
        made, config = bridge(model), patching.EdgeAttributionConfig(granularity="edge")
        tokens = "input" if "input" in model.nodes else "tok_embed"
        scores = dict.fromkeys(model.edges, 0.0)
        for batch in prompts:
            pair = (batch.clean, batch.counterfactual)
            found = patching.attribution_patch(made, *(pair[::-1] if self.turned else pair), batch.loss, config)
            for (writer, reader), score in found.edge_scores.items():  # at each position
                scores[f"{_ours(writer, tokens)}->{_ours(reader, tokens)}"] += score
        return scores


def bridge(model: ExportedModel) -> Any:
    """A TransformerBridge, which is what TransformerLens has since version 4, around a GPT-2 of transformers.

    Raises:
        MethodError: it is not installed, or is older.
    """
    sources = tool(_CALLED, "transformer_lens.model_bridge.sources", _INSTALL)
    gpt2 = gpt2_of_transformers(model)
    return sources.build_bridge_from_module(gpt2, "GPT2LMHeadModel", hf_config=gpt2.config).eval()


def _ours(node: Any, tokens: str) -> str:
    """Our name of a node of the tool's."""
    if node.kind in ("embed", "logits"):
        return tokens if node.kind == "embed" else "logits"
    if node.kind in ("mlp_out", "mlp_in"):
        return f"m{node.layer}"
    return f"a{node.layer}.h{node.head}" + (f"<{_PARTS[node.kind]}>" if node.kind in _PARTS else "")
