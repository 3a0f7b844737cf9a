"""EAP-IG: the code of Hanna, Pezzelle and Belinkov 2024 (hannamw/EAP-IG), which has several methods."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...errors import SpecError, Undefined, unknown
from ._tools import hooked_transformer, tool, with_two_heads

if TYPE_CHECKING:
    from ..external import ExportedModel, PromptBatch

_INSTALL = "pip install 'transformer-lens<4' git+https://github.com/hannamw/EAP-IG"
_INTERVENTIONS = {"patch": "patching", "zero": "zero", "mean": "mean", "mean-positional": "mean-positional"}
_METHODS = ("EAP", "EAP-IG-inputs", "EAP-IG-activations", "clean-corrupted", "information-flow-routes", "exact")
_PATCHING_ONLY = ("EAP-IG-inputs", "clean-corrupted")


class EapIg:
    """Edge scores of ``eap.attribute.attribute``.

    Its input node is the token embedding; edges from the position embedding are not in its graph and score 0. Where
    every layer has one head, it ends in an error in all layers but the first (``gradient_hook`` takes the axis of heads
    away and adds the rest to a column), so such a model is given a second head, which writes nothing.

    Args:
        method: as the tool names it: ``EAP``, ``EAP-IG-inputs``, ``EAP-IG-activations``, ``clean-corrupted``,
            ``information-flow-routes`` or ``exact``.
        steps: ``ig_steps`` of the methods that integrate.
    """

    format: ClassVar = "transformer-lens"
    ablations: ClassVar = frozenset({"patch", "zero", "mean"})
    packages: ClassVar = ("eap", "transformer-lens")

    def __init__(self, method: str = "EAP-IG-inputs", steps: int = 5) -> None:
        if method not in _METHODS:
            raise SpecError(f"eap-ig: {unknown('method', method, _METHODS)}")
        self.method, self.steps = method, steps

    def edge_scores(
        self, model: ExportedModel, prompts: tuple[PromptBatch, ...], *, ablation: str, objective: str
    ) -> Mapping[str, float]:
        if ablation not in _INTERVENTIONS:
            raise Undefined(f"EAP-IG has no {ablation} ablation; it has {', '.join(_INTERVENTIONS)}.")
        if self.method in _PATCHING_ONLY and ablation != "patch":
            raise Undefined(f"EAP-IG has {self.method} under patch alone; give --set method=EAP.")
        if model.config["attn_only"]:
            raise Undefined("EAP-IG has no graph for a model without MLPs.")
        attribute = tool("EAP-IG", "eap.attribute", _INSTALL).attribute
        made = hooked_transformer(
            with_two_heads(model),
            "EAP-IG",
            _INSTALL,
            use_attn_result=True,
            use_split_qkv_input=True,
            use_hook_mlp_in=True,
        )
        # Prompts are tokens already: "tokenizing" one returns it, without a token in front, and none is padding.
        made.to_tokens = lambda tokens, **_: tokens
        made.tokenizer = SimpleNamespace(padding_side="right", pad_token_id=-1, bos_token_id=-1)
        graph = tool("EAP-IG", "eap.graph", _INSTALL).Graph.from_model(made)
        batches = [
            (batch.clean, batch.clean if batch.counterfactual is None else batch.counterfactual, batch)
            for batch in prompts
        ]

        def metric(logits: Tensor, clean_logits: Tensor, lengths: Tensor, batch: PromptBatch) -> Tensor:
            return batch.loss(logits)

        with _Device(made.cfg.device), redirect_stderr(StringIO()):  # its progress bars
            attribute(
                made,
                graph,
                batches,
                metric,
                self.method,
                intervention=_INTERVENTIONS[ablation],
                ig_steps=self.steps,
                intervention_dataloader=_averaged(prompts),
                quiet=True,
            )
        tokens, ours = "input" if "input" in model.nodes else "tok_embed", set(model.edges)
        found = {}
        for name, edge in graph.edges.items():
            writer, _, reader = name.partition("->")
            if (called := f"{tokens if writer == 'input' else writer}->{reader}") in ours:
                found[called] = float(edge.score)
        return found


def _averaged(prompts: tuple[PromptBatch, ...]) -> list[tuple[Tensor]]:
    """The prompts whose activations the tool averages, as its loader has them."""
    if prompts[0].averaged is None:
        return [(batch.clean,) for batch in prompts]
    return [(some,) for some in prompts[0].averaged.split(256)]


class _Device(TorchFunctionMode):
    """Tensors that are asked for on ``cuda``, which the tool names in its code, are made where the model is."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if given.get("device") == "cuda":
            given["device"] = self.device
        return function(*args, **given)
