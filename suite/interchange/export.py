"""Models of ours in other tools' formats: TransformerLens checkpoints, and Hugging Face folders of GPT-2's kind.

Both compute the same logits. The folders hold ``config.json`` and ``model.safetensors``, and load back here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError
from ..model.block import Config
from ..model.convert.gpt2 import LAYER as GPT2_LAYER
from ..model.transformer import Transformer

_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu"}
_NORMS = {"layer": "LN", "none": None}
_ROOT = 2.0**40  # of the epsilon that turns a layer norm off: a power of two, so that dividing by it is exact


def to_transformer_lens(model: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(keyword arguments of HookedTransformerConfig, state dict) of a model; the weights are shared where they can be.

    Raises:
        ModelError: an architecture that this format is not written for.
    """
    config, like = model.config, model.embed
    _refuse(config, "a TransformerLens checkpoint", norms=tuple(_NORMS))
    given = {
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "d_model": config.d_model,
        "d_head": config.d_head,
        "d_mlp": config.d_mlp or None,
        "d_vocab": config.d_vocab,
        "d_vocab_out": config.d_out,
        "n_ctx": config.n_positions,
        "act_fn": _ACTIVATIONS[config.activation] if config.d_mlp else None,
        "attn_only": not config.d_mlp,
        "attn_scale": 1 / config.scale,
        "attention_dir": "causal" if config.causal else "bidirectional",
        "normalization_type": _NORMS[config.norm],
        "eps": config.norm_eps,
        "parallel_attn_mlp": config.parallel,
        "positional_embedding_type": "standard",
        "init_weights": False,
    }
    learned = config.positions == "learned"
    state = {
        "embed.W_E": model.embed,
        "pos_embed.W_pos": model.pos_embed if learned else like.new_zeros(config.n_positions, config.d_model),
        "unembed.W_U": model.unembed,
        "unembed.b_U": model.unembed_bias if config.unembed_bias else like.new_zeros(config.d_out),
    }
    norms = {"ln_final": model.norm_final}
    for layer, block in enumerate(model.blocks):
        at = f"blocks.{layer}"
        weights, biases = block.reader_weights()  # [3H, D, E], [3H, E]
        for part, weight, bias in zip("QKV", weights.chunk(3), biases.chunk(3), strict=True):
            state |= {f"{at}.attn.W_{part}": weight, f"{at}.attn.b_{part}": bias}
        state |= {f"{at}.attn.W_O": block.W_O.unflatten(0, (config.n_heads, -1)), f"{at}.attn.b_O": block.b_O}
        norms[f"{at}.ln1"] = block.norm_attention
        if config.d_mlp:
            state |= {f"{at}.mlp.{name}": getattr(block, name) for name in ("W_in", "b_in", "W_out", "b_out")}
            norms[f"{at}.ln2"] = block.norm_mlp
    if config.norm == "layer":
        for name, norm in norms.items():
            state |= {f"{name}.w": norm.weight, f"{name}.b": norm.bias}
    return given, {name: weight.detach() for name, weight in state.items()}


def to_gpt2(model: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config.json, weights) of a GPT-2 of transformers that computes the same logits.

    GPT-2 has a layer norm, heads that together are as wide as its residual stream, and an output for every token.

    * A model without norms is given a stream twice as wide that holds x and -x, whose mean is 0, and an epsilon beside
      which the variance is nothing; the norm's weights undo the division, and readers read x.
    * Narrower heads are filled up with zeros, and queries hold what the scale of attention then lacks.
    * Where inputs and outputs are not equally many, the smaller number is filled up: the first ``outputs`` (in the
      config) of the logits are the model's, the others 0.

    Raises:
        ModelError: what no GPT-2 computes: attention that looks ahead, parallel blocks, no MLP, an output bias.
    """
    _refuse_no_gpt2(model)
    shape = _Gpt2Shape(model)
    matrices = {
        "W_QKV": lambda weight: shape.heads(shape.reading(weight)),
        "b_QKV": shape.heads,
        "W_O": shape.of_heads,
        "b_O": shape.written,
        "W_in": shape.reading,
        "b_in": lambda bias: bias,
        "W_out": shape.written,
        "b_out": shape.written,
    }
    state = {
        "transformer.wte.weight": shape.tokens(shape.written(model.embed)),
        "transformer.wpe.weight": shape.written(model.pos_embed),
        "lm_head.weight": shape.tokens(shape.reading(model.unembed).T),
    }
    norms = {"transformer.ln_f": model.norm_final}
    for layer, block in enumerate(model.blocks):
        at = f"transformer.h.{layer}"
        norms |= {f"{at}.ln_1": block.norm_attention, f"{at}.ln_2": block.norm_mlp}
        for ours, theirs in GPT2_LAYER.items():
            if ours in matrices:
                state[f"{at}.{theirs}"] = matrices[ours](block.get_parameter(ours))
    for name, module in norms.items():
        state |= {f"{name}.{part}": weight for part, weight in shape.norm(module).items()}
    return shape.config(), {name: weight.detach().contiguous() for name, weight in state.items()}


class _Gpt2Shape:
    """The sizes of the GPT-2 that computes what a model computes, and our weights in these sizes.

    Args:
        model: with D the width of its residual stream, H heads of width E. ``width`` is that of GPT-2's stream, and
            ``width`` / H that of its heads.
    """

    def __init__(self, model: Transformer) -> None:
        self._of, self._like = model.config, model.embed
        heads, d_model = self._of.n_heads, self._of.d_model
        self._normed = self._of.norm == "layer"
        self._width = d_model if self._normed else heads * -(-max(2 * d_model, heads * self._of.d_head) // heads)
        self._vocabulary = max(self._of.d_vocab, self._of.d_out)
        self._wider = self._width // heads - self._of.d_head
        self._stretch = self._of.scale / (self._width // heads) ** -0.5  # GPT-2 scales by the width of its own heads

    def config(self) -> dict[str, Any]:
        """``config.json``."""
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_layer": self._of.n_layers,
            "n_head": self._of.n_heads,
            "n_embd": self._width,
            "n_inner": self._of.d_mlp,
            "n_positions": self._of.n_positions,
            "vocab_size": self._vocabulary,
            "outputs": self._of.d_out,
            "activation_function": _ACTIVATIONS[self._of.activation],
            "layer_norm_epsilon": self._of.norm_eps if self._normed else _ROOT**2,
            "tie_word_embeddings": False,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }

    def written(self, value: Tensor) -> Tensor:
        """What goes into the stream [..., D], as it stands there [..., width]."""
        if self._normed:
            return value
        return F.pad(torch.cat([value, -value], -1), (0, self._width - 2 * self._of.d_model))

    def reading(self, weight: Tensor) -> Tensor:
        """A matrix that reads the stream [D, ...], with zeros for the rest of the stream [width, ...]."""
        return torch.cat([weight, weight.new_zeros(self._width - self._of.d_model, *weight.shape[1:])])

    def heads(self, value: Tensor) -> Tensor:
        """Queries, keys and values [..., 3 H E] as [..., 3 width]; the queries hold what the scale of scores lacks."""
        parts = value.unflatten(-1, (3, self._of.n_heads, self._of.d_head))
        if self._stretch != 1:
            parts = torch.cat([parts[..., :1, :, :] * self._stretch, parts[..., 1:, :, :]], -3)
        return F.pad(parts, (0, self._wider)).flatten(-3)

    def of_heads(self, weight: Tensor) -> Tensor:
        """The output matrix of the heads [H E, D], as [width, width]."""
        by_head = weight.unflatten(0, (self._of.n_heads, self._of.d_head))
        return self.written(F.pad(by_head, (0, 0, 0, self._wider)).flatten(0, 1))

    def tokens(self, matrix: Tensor) -> Tensor:
        """A matrix with a row for each token or output, with rows of zeros for those that GPT-2 has besides."""
        return F.pad(matrix, (0, 0, 0, self._vocabulary - len(matrix)))

    def norm(self, module: torch.nn.Module) -> dict[str, Tensor]:
        """The weights of a layer norm; where the model has no norm, those that undo the division."""
        if self._normed:
            return {"weight": module.weight, "bias": module.bias}
        return {"weight": self._like.new_full((self._width,), _ROOT), "bias": self._like.new_zeros(self._width)}


def _refuse_no_gpt2(model: Transformer) -> None:
    """Raises ModelError for a model that no GPT-2 computes."""
    config, kind = model.config, "a Hugging Face GPT-2"
    _refuse(config, kind, norms=tuple(_NORMS))
    fits = config.d_model % config.n_heads == 0 and config.d_head * config.n_heads <= config.d_model
    unlike = {
        "attention that looks ahead": not config.causal,
        "parallel blocks": config.parallel,
        "no MLP": not config.d_mlp,
        "layer norms and heads that do not fit into its stream": config.norm == "layer" and not fits,
        "an output bias": config.unembed_bias and bool(model.unembed_bias.any()),
        "no learned positions": config.positions != "learned",
    }
    _refuse_first(unlike, kind)


WRITERS = {"transformer-lens": to_transformer_lens, "huggingface": to_gpt2}


def export(model: Transformer, folder: Path, to: str) -> None:
    """Writes ``config.json`` and ``model.safetensors`` of a model into a folder, which is made.

    Args:
        to: ``transformer-lens`` or ``huggingface``.

    Raises:
        ModelError: another format, or an architecture that it does not have.
    """
    from safetensors.torch import save_file

    if to not in WRITERS:
        raise ModelError(f"no format {to!r}; models are written as {' or '.join(WRITERS)}.")
    config, weights = WRITERS[to](model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    copies = {name: weight.cpu().contiguous().clone() for name, weight in weights.items()}
    save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})


def _refuse(config: Config, kind: str, norms: tuple[str, ...]) -> None:
    unlike = {
        f"the norm {config.norm!r}": config.norm not in norms,
        f"the activation {config.activation!r}": bool(config.d_mlp) and config.activation not in _ACTIVATIONS,
        "rotary positions": config.positions == "rotary",
        "gated MLPs": config.gated,
        "grouped queries": config.kv_heads != config.n_heads,
        "norms of queries and keys": config.qk_norms,
        "readers without norms": config.norm != "none" and not config.pre_norms,
        "norms behind attention": config.post_norms,
        "windows of attention": "windows" in config.features,
        "capped scores or logits": config.score_cap is not None or config.logit_cap is not None,
    }
    _refuse_first(unlike, kind)


def _refuse_first(unlike: dict[str, bool], kind: str) -> None:
    for what, present in unlike.items():
        if present:
            raise ModelError(f"a model with {what} cannot be written as {kind}.")
