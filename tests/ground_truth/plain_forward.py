"""A second implementation of a cut run, slow and plain, in numpy: every reader adds up its own input, edge by edge."""

from __future__ import annotations

import re

import numpy as np


def weights_of(model) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def layer_of(edge, config):
    """The layer below which nothing changes when an edge, named, is cut."""
    reader = edge.partition("->")[2].partition("@")[0]
    return config.n_layers if reader == "logits" else int(re.match(r"[am](\d+)", reader)[1])


def normed(weights, config, name, x):
    if config.norm == "none":
        return x
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + config.norm_eps)
    return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def activation(config, x):
    if config.activation == "relu":
        return np.maximum(x, 0)
    # GPT-2's gelu, without a power: x**3 alone took a third of a run.
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def run(weights, config, tokens, cut=frozenset(), alternative=None, known=None, first=0):
    """(outputs [B, P, d_out], what each writer wrote). ``cut`` are edge names; they carry ``alternative[writer]``, at
    every position or, named with ``@3``, at that one.

    ``known`` is what every writer wrote in a run that is the same below layer ``first``, where this run begins.
    A reader with a cut edge adds up its input edge by edge; the others of its layer share one sum.
    """
    batch, positions = tokens.shape
    shape = (batch, positions, config.d_model)
    written = {
        "tok_embed": weights["embed"][tokens],
        "pos_embed": np.broadcast_to(weights["pos_embed"][:positions], shape),
    }
    biases = np.zeros(config.d_model)  # of attention so far: no edge carries them
    for layer in range(first):
        written |= {name: known[name] for name in [*(f"a{layer}.h{h}" for h in range(config.n_heads)), f"m{layer}"]}
        biases = biases + weights[f"blocks.{layer}.b_O"]
    into = {edge.partition("->")[2].partition("@")[0] for edge in cut}
    places = {}  # edge -> the positions at which it is cut, where it is not at all of them
    for edge, _, place in (edge.partition("@") for edge in cut):
        if place:
            places.setdefault(edge, []).append(int(place))

    def total(reader=None):
        x = np.zeros(shape) + biases
        for writer, out in written.items():
            edge = f"{writer}->{reader}"
            if edge in places:
                out = out.copy()
                out[:, places[edge]] = alternative[writer][:, places[edge]]
            x = x + (alternative[writer] if edge in cut else out)
        return x

    def read(reader, norm, whole):
        return normed(weights, config, norm, total(reader) if reader in into else whole)

    for layer in range(first, config.n_layers):
        d, heads, block = config.d_head, config.n_heads, f"blocks.{layer}"
        packed, shift, output = (weights[f"{block}.{name}"] for name in ("W_QKV", "b_QKV", "W_O"))
        new, whole = {}, total()
        for head in range(heads):
            columns = [slice((i * heads + head) * d, (i * heads + head + 1) * d) for i in range(3)]
            q, k, v = (
                read(f"a{layer}.h{head}<{part}>", f"{block}.norm_attention", whole) @ packed[:, here] + shift[here]
                for part, here in zip("qkv", columns, strict=True)
            )
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(d)
            if config.causal:
                scores = np.where(np.tril(np.ones((positions, positions), bool)), scores, -np.inf)
            pattern = np.exp(scores - scores.max(-1, keepdims=True))
            pattern /= pattern.sum(-1, keepdims=True)
            new[f"a{layer}.h{head}"] = pattern @ v @ output[head * d : (head + 1) * d]
        written |= new
        biases = biases + weights[f"{block}.b_O"]
        x = read(f"m{layer}", f"{block}.norm_mlp", total())
        hidden = activation(config, x @ weights[f"{block}.W_in"] + weights[f"{block}.b_in"])
        written[f"m{layer}"] = hidden @ weights[f"{block}.W_out"] + weights[f"{block}.b_out"]
    return read("logits", "norm_final", total()) @ weights["unembed"], written
