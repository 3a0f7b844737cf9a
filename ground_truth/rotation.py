"""The same model in another basis of its residual stream: no dimension stands for anything, and no output changes.

A compiled model keeps each variable in dimensions of its own, which a method could exploit without meaning to. Here the
stream is mapped to one of the next power of two of dimensions by a random matrix with orthonormal rows,

    Q = H S' H S / D      H the Hadamard matrix of size D, S and S' random signs; as many rows as there were dimensions,

in which every old dimension is spread over all new ones. Readers take their inputs back by the transpose, so every
read-write product, and with it every edge's truth, stays as it was: under patching, zero and any mean, which all
commute with a change of basis. Noise does not: it is drawn in each dimension of the residual stream.

Q has entries k/D, so products with float32 weights are exact in float64, and the weights after the cast back to
float32 are the same bytes on every machine, which a QR decomposition would not promise.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import torch
from torch import Tensor

_WRITES = ("embed", "pos_embed", "W_O", "b_O", "W_out", "b_out")  # their last axis is the residual stream
_READS = ("unembed", "W_QKV", "W_in")  # their first axis is


def rotated_size(d_model: int) -> int:
    """Dimensions of the rotated stream: the power of two at or above."""
    return 1 << (d_model - 1).bit_length()


def rotation(d_model: int, seed: int) -> Tensor:
    """Q: float64 [d_model, rotated_size(d_model)], with orthonormal rows; the same for the same seed everywhere."""
    size, generator = rotated_size(d_model), random.Random(seed)
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < size:
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    # random() is the one method that Python promises to be the same in every version.
    first, second = (
        torch.tensor([1.0 if generator.random() < 0.5 else -1.0 for _ in range(size)], dtype=torch.float64)
        for _ in range(2)
    )
    return ((hadamard * second) @ (hadamard * first) / size)[:d_model]


def rotate_basis(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A model's weights in the rotated basis.

    Args:
        state: of a Transformer without norms, float32.
        seed: of the basis.

    Returns:
        The state of a Transformer whose ``d_model`` is ``rotated_size`` of the old one, float32.
    """
    q = rotation(state["unembed"].shape[0], seed)
    turned = {}
    for name, weight in state.items():
        part = name.rpartition(".")[2]
        if part in _WRITES:
            weight = (weight.double() @ q).to(weight.dtype)
        elif part in _READS:
            weight = (q.T @ weight.double()).to(weight.dtype)
        turned[name] = weight.contiguous()
    return turned
