"""A second implementation of a cut run, slow and plain, in numpy: every reader adds up its own input, edge by edge."""

from __future__ import annotations

import numpy as np


def weights_of(model) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def run(weights, config, tokens, cut=frozenset(), alternative=None):
    """(outputs [B, P, d_out], what each writer wrote). ``cut`` are edge names; they carry ``alternative[writer]``."""
    batch, positions = tokens.shape
    shape = (batch, positions, config.d_model)
    written = {
        "tok_embed": weights["embed"][tokens],
        "pos_embed": np.broadcast_to(weights["pos_embed"][:positions], shape),
    }

    def read(reader):
        x = np.zeros(shape)
        for writer, out in written.items():
            x = x + (alternative[writer] if f"{writer}->{reader}" in cut else out)
        return x

    for layer in range(config.n_layers):
        d, heads = config.d_head, config.n_heads
        packed, output = weights[f"blocks.{layer}.W_QKV"], weights[f"blocks.{layer}.W_O"]
        new = {}
        for head in range(heads):
            q, k, v = (
                read(f"a{layer}.h{head}<{part}>") @ packed[:, (i * heads + head) * d : (i * heads + head + 1) * d]
                for i, part in enumerate("qkv")
            )
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(d)
            if config.causal:
                scores = np.where(np.tril(np.ones((positions, positions), bool)), scores, -np.inf)
            pattern = np.exp(scores - scores.max(-1, keepdims=True))
            pattern /= pattern.sum(-1, keepdims=True)
            new[f"a{layer}.h{head}"] = pattern @ v @ output[head * d : (head + 1) * d]
        written |= new
        hidden = np.maximum(read(f"m{layer}") @ weights[f"blocks.{layer}.W_in"] + weights[f"blocks.{layer}.b_in"], 0)
        written[f"m{layer}"] = hidden @ weights[f"blocks.{layer}.W_out"] + weights[f"blocks.{layer}.b_out"]
    return read("logits") @ weights["unembed"], written
