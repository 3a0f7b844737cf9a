"""gim-explain: the package of Edin et al. 2025 (arXiv:2505.17630), changes of the backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ._tools import hooked_transformer, tool

if TYPE_CHECKING:
    from ..external import ExportedModel, PromptBatch

_INSTALL = "pip install 'transformer-lens<4' gim-explain"
_CALLED = "gim-explain"


class GimExplain:
    """Attribution patching of edges under the package's context manager ``GIM``, which scores tokens and no edges.

    The objective itself is computed outside of the context, in which every softmax has the changed gradient.

    Args:
        temperature, q_scale, k_scale, v_scale, freeze_norm: as ``GIM`` has them, with its defaults.
    """

    format: ClassVar = "transformer-lens"
    ablations: ClassVar = frozenset({"patch", "zero"})
    packages: ClassVar = ("gim-explain", "transformer-lens")

    def __init__(
        self,
        temperature: float = 2.0,
        q_scale: float = 0.25,
        k_scale: float = 0.25,
        v_scale: float = 0.5,
        freeze_norm: bool = True,
    ) -> None:
        scales = {"q_scale": q_scale, "k_scale": k_scale, "v_scale": v_scale}
        self.changes = {"softmax_temperature": temperature, "freeze_norm": freeze_norm, **scales}

    def edge_scores(
        self, model: ExportedModel, prompts: tuple[PromptBatch, ...], *, ablation: str, objective: str
    ) -> Mapping[str, float]:
        gim = tool(_CALLED, "gim", _INSTALL).GIM
        made = hooked_transformer(
            model,
            _CALLED,
            _INSTALL,
            use_attn_result=True,
            use_split_qkv_input=True,
            use_hook_mlp_in=not model.config["attn_only"],
        )
        last, scores = model.config["n_layers"] - 1, dict.fromkeys(model.edges, 0.0)
        places = {reader: _read(reader, last) for reader in (edge.partition("->")[2] for edge in model.edges)}
        hooks = sorted({hook for hook, _ in places.values()})
        for batch in prompts:
            with gim(made, **self.changes):
                logits, seen = _seen(made, batch.clean)
            gradients = torch.autograd.grad(batch.loss(logits), [seen[hook] for hook in hooks])
            at = dict(zip(hooks, gradients, strict=True))
            with torch.no_grad():
                other = _seen(made, batch.counterfactual)[1] if ablation == "patch" else None
                changes = {node: (_written(node, other) if other else 0) - _written(node, seen) for node in model.nodes}
                for edge in model.edges:
                    writer, _, reader = edge.partition("->")
                    hook, head = places[reader]
                    gradient = at[hook] if head is None else at[hook][:, :, head]
                    scores[edge] += float((changes[writer] * gradient).sum())
        return scores


def _seen(made: Any, tokens: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of a run, and what passed each hook, with its gradients."""
    seen: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any) -> None:
        seen[hook.name] = value

    return made.run_with_hooks(tokens, fwd_hooks=[(lambda name: True, keep)]), seen


def _written(node: str, seen: Mapping[str, Tensor]) -> Tensor:
    """What a node wrote [B, P, d_model]."""
    if node == "input":
        return seen["hook_embed"] + seen["hook_pos_embed"]
    if node in ("tok_embed", "pos_embed"):
        return seen[f"hook_{node.removeprefix('tok_')}"]
    layer, _, head = node[1:].partition(".h")
    return seen[f"blocks.{layer}.attn.hook_result"][:, :, int(head)] if head else seen[f"blocks.{layer}.hook_mlp_out"]


def _read(reader: str, last: int) -> tuple[str, int | None]:
    """The hook at which a reader reads, and its head there."""
    if reader == "logits":
        return f"blocks.{last}.hook_resid_post", None
    layer, _, head = reader[1:].partition(".h")
    if not head:
        return f"blocks.{layer}.hook_mlp_in", None
    number, part = head.rstrip(">").split("<")
    return f"blocks.{layer}.hook_{part}_input", int(number)
