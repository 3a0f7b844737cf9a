"""Gates on weights. The models of several seeds, which differ in their weights, run together along a new axis."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..intervention.prepared_batch import PreparedBatch
from ..model.device import send
from ..model.passes import spend
from ..model.stream import ConcatenatedStream
from ..model.transformer import Activations, Alternative, Transformer
from ._masks import TrainingBatches


def is_masked(name: str) -> bool:
    """Whether a parameter has gates: the weights and biases of attention and MLPs, not those of embeddings and
    norms."""
    return name.startswith("blocks.") and ".norm_" not in name


def run_masked(model: Transformer, gates: Mapping[str, Tensor], ready: PreparedBatch) -> Tensor:
    """Outputs [M, n_read, d_out] of M models, whose weights are multiplied by gates [M, ...] that get gradients."""
    weights = {name: gate * model.get_parameter(name) for name, gate in gates.items()}
    n, tokens = len(next(iter(weights.values()))), send(ready.batch.clean, model.device)
    spend(forward=(n - 1) * len(tokens), backward=n * len(tokens))  # the engine counts one of the models
    return _together(lambda own: functional_call(model, own, (tokens,), {"read": ready.runs.read}), weights)


def with_weights(model: Transformer, gates: Mapping[str, Tensor]) -> Transformer:
    """A copy of the model with its weights multiplied by gates."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, gate in gates.items():
            masked.get_parameter(name).mul_(gate)
    return masked


def ungrouped(model: Transformer) -> Transformer:
    """The model without grouped queries: each head has a copy of the key and value weights that it shared."""
    config = model.config
    if config.kv_heads == config.n_heads:
        return model
    twin = Transformer(replace(config, n_kv_heads=None), model.graph.inputs).to(device=model.device, dtype=model.dtype)
    weights = model.state_dict()
    for layer in range(config.n_layers):
        for name in (f"blocks.{layer}.W_QKV", f"blocks.{layer}.b_QKV"):
            heads = weights[name].unflatten(-1, (-1, config.d_head))
            q, k, v = heads.split([config.n_heads, config.kv_heads, config.kv_heads], dim=-2)
            k, v = (part.repeat_interleave(config.n_heads // config.kv_heads, dim=-2) for part in (k, v))
            weights[name] = torch.cat([q, k, v], -2).flatten(-2)
        if config.joint_qk_norms:
            name = f"blocks.{layer}.norm_k.weight"
            gain = weights[name].unflatten(0, (config.kv_heads, -1))
            weights[name] = gain.repeat_interleave(config.n_heads // config.kv_heads, 0).flatten()
    twin.load_state_dict(weights)
    return twin


def cut_output_bias(model: Transformer, masks: Tensor) -> Tensor:
    """What readers lose of the output biases of attention [C, R, D] when masks [C, W, R] cut edges to zero.

    Each head of a layer has an equal share of the layer's bias.
    """
    graph = model.graph
    shares = model.embed.new_zeros(len(graph.writers), model.config.d_model)
    for group in (group for group in graph.groups if group.kind == "head"):
        of_layer = torch.zeros_like(shares[:, :1])
        of_layer[group.writers] = 1 / len(group.nodes)
        shares = shares + of_layer * model.blocks[group.layer].b_O
    return -torch.einsum("cwr,wd->crd", (1 - masks) * send(graph.exists, masks.device), shares)


class ModelsTogether:
    """Models that differ in the weights of their blocks, one per seed. One pass cuts each by masks of its own.

    Args:
        prompts: one for each model, with the same batches in the same order.
        bias_on_heads: whether a cut edge loses its head's share of the output bias (see ``cut_output_bias``).
    """

    def __init__(self, prompts: Sequence[TrainingBatches], bias_on_heads: bool = False) -> None:
        self._prompts, models = prompts[0], [each.model for each in prompts]
        self.graph, self.batches, self.objective = models[0].graph, prompts[0].batches, prompts[0].objective
        self.weigh = prompts[0].weigh
        self._weights = {
            f"model.{name}": torch.stack([model.get_parameter(name) for model in models])
            for name, _ in models[0].named_parameters()
            if is_masked(name)
        }
        self._cut = _Cut(models[0], bias_on_heads)
        self._alternatives = [
            _stacked([_parts(each.alternative) for each in of_models])
            for of_models in zip(*(each.batches for each in prompts), strict=True)
        ]

    def draw(self) -> tuple[int, PreparedBatch]:
        """The number of the next batch, and the batch."""
        ready = self._prompts.draw()
        return next(i for i, each in enumerate(self.batches) if each is ready), ready

    def outputs(self, batch: int, masks: Tensor) -> Tensor:
        """Outputs [M, C, n_read, d_out] of a batch under masks [M, C, W, R], those of model m under masks[m]."""
        ready, n = self.batches[batch], masks.shape[0] * masks.shape[1] * len(self.batches[batch].batch.rows)
        spend(forward=n - n // len(masks), backward=n)  # the engine counts one of the models

        def run(weights: dict[str, Tensor], own: Tensor, alternative: dict[str, Any]) -> Tensor:
            return functional_call(self._cut, weights, (own, alternative, ready.inputs, ready.runs.read))

        return _together(run, self._weights, masks, self._alternatives[batch])


def _together(run: Callable[..., Tensor], *of_models: Any) -> Tensor:
    """``run`` for each model's part, without torch's fused attention, which does not support an axis of models."""
    with sdpa_kernel(SDPBackend.MATH):
        return vmap(run)(*of_models)


class _Cut(nn.Module):
    """``Transformer.run_cut`` as a module's forward, which is what ``functional_call`` calls."""

    def __init__(self, model: Transformer, bias_on_heads: bool) -> None:
        super().__init__()
        self.model, self.bias_on_heads = model, bias_on_heads

    def forward(self, masks: Tensor, parts: Mapping[str, Any], inputs: Tensor, read: Tensor) -> Tensor:
        alternative = Alternative(Activations(parts["activations"]), parts["before"])
        offset = cut_output_bias(self.model, masks) if self.bias_on_heads else None
        options = {"read": read, "offset": offset, "gradient_stream": ConcatenatedStream}  # for vmap
        return self.model.run_cut(masks, alternative, inputs=inputs, **options)


def _parts(alternative: Alternative) -> dict[str, Any]:
    """An alternative as dicts of tensors, which ``vmap`` takes."""
    return {"activations": dict(alternative.activations), "before": alternative.before}


def _stacked(parts: Sequence[Any]) -> Any:
    """One dict with the tensors of dicts of the same form, stacked."""
    if isinstance(parts[0], dict):
        return {name: _stacked([each[name] for each in parts]) for name in parts[0]}
    return torch.stack(list(parts))
