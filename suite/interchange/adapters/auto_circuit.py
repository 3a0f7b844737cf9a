"""auto-circuit: the code of Miller, Chughtai and Saunders 2024 (UFO-101/auto-circuit), gradients of edge masks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ._tools import hooked_transformer, of_our_inputs, tool

if TYPE_CHECKING:
    from ..external import ExportedModel, PromptBatch

_INSTALL = "pip install 'transformer-lens<3' auto-circuit"
_CALLED = "auto-circuit"


class AutoCircuit:
    """Edge scores of ``mask_gradient_prune_scores``.

    Its input node is the residual stream before the first layer, tokens and positions together.

    Args:
        samples: ``integrated_grad_samples``, the steps along which all masks go from 0 to 1; 0 takes the gradient with
            every mask at 0, which is edge attribution patching.
    """

    format: ClassVar = "transformer-lens"
    ablations: ClassVar = frozenset({"patch", "zero"})
    packages: ClassVar = ("auto-circuit", "transformer-lens")

    def __init__(self, samples: int = 0) -> None:
        self.samples = samples

    def edge_scores(
        self, model: ExportedModel, prompts: tuple[PromptBatch, ...], *, ablation: str, objective: str
    ) -> Mapping[str, float]:
        gradients = tool(_CALLED, "auto_circuit.prune_algos.mask_gradient", _INSTALL)
        graphs = tool(_CALLED, "auto_circuit.utils.graph_utils", _INSTALL)
        kinds = tool(_CALLED, "auto_circuit.types", _INSTALL)
        batches = [self._as_theirs(number, batch) for number, batch in enumerate(prompts)]
        losses = {id(theirs.clean): batch.loss for theirs, batch in zip(batches, prompts, strict=True)}
        made = hooked_transformer(
            model,
            _CALLED,
            _INSTALL,
            kind=_with_one_output(losses),
            use_attn_result=True,
            use_split_qkv_input=True,
            use_hook_mlp_in=not model.config["attn_only"],
        ).requires_grad_(False)
        patchable = graphs.patchable_model(made, factorized=True, separate_qkv=True, device=made.cfg.device)
        patched = ablation == "patch"
        with redirect_stderr(StringIO()):  # its progress bars
            found = gradients.mask_gradient_prune_scores(
                patchable,
                batches,
                None,
                grad_function="logit",
                answer_function="avg_val",
                mask_val=None if self.samples else 0.0,
                integrated_grad_samples=self.samples or None,
                ablation_type=kinds.AblationType.RESAMPLE if patched else kinds.AblationType.ZERO,
                clean_corrupt="corrupt" if patched else None,
            )
        scores = {
            f"{_ours(edge.src.name)}->{_ours(edge.dest.name)}": float(edge.prune_score(found))
            for edge in patchable.edges
        }
        return of_our_inputs(scores, model, ablation)

    def _as_theirs(self, number: int, batch: PromptBatch) -> Any:
        """A batch of the tool's, whose one answer is the one output that the model below has."""
        answers = batch.clean.new_zeros(len(batch.clean), 1)
        corrupt = batch.clean if batch.counterfactual is None else batch.counterfactual
        pairs = tool(_CALLED, "auto_circuit.data", _INSTALL).PromptPairBatch
        return pairs(number, 0, batch.clean, corrupt, answers, answers)


def _with_one_output(losses: Mapping[int, Any]) -> type:
    """HookedTransformer whose output on the prompts of a loss is that loss.

    The tool knows four functions of the logits; the mean of one output is one of them, so it scores any objective.
    """
    whole = tool(_CALLED, "transformer_lens.HookedTransformer", _INSTALL).HookedTransformer

    class OneOutput(whole):  # type: ignore[misc, valid-type]
        def forward(self, tokens: Tensor) -> Tensor:
            logits = super().forward(tokens)
            loss = losses.get(id(tokens))
            return logits if loss is None else loss(logits).expand(len(tokens), 1)

    return OneOutput


def _ours(name: str) -> str:
    """Our name of a node: ``A0.1.Q`` is a0.h1<q>, ``MLP 0`` m0.

    >>> [_ours(name) for name in ("Resid Start", "A0.1", "A0.1.Q", "MLP 0", "Resid End")]
    ['input', 'a0.h1', 'a0.h1<q>', 'm0', 'logits']
    """
    if name in ("Resid Start", "Resid End"):
        return "input" if name == "Resid Start" else "logits"
    if name.startswith("MLP "):
        return f"m{name.removeprefix('MLP ')}"
    layer, head, *part = name.removeprefix("A").split(".")
    return f"a{layer}.h{head}" + (f"<{part[0].lower()}>" if part else "")
