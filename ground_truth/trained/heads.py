"""The order in which a trained model's heads are stored: a random one, so that no head's number says what it does."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...suite.model.block import Config

Orders = Sequence[Sequence[int]]  # for each layer, and each place in it, the number that the head had in training


def orders(config: Config, program: str, seed: int) -> Orders:
    """A random order for every layer."""
    chance = random.Random(f"{program} {seed}")  # random() is the one method that is the same in every Python version
    keys = [[chance.random() for _ in range(config.n_heads)] for _ in range(config.n_layers)]
    return [sorted(range(config.n_heads), key=layer.__getitem__) for layer in keys]


def stored(state: Mapping[str, Tensor], config: Config, heads: Orders) -> dict[str, Tensor]:
    """A state dict with its heads in this order."""
    state = dict(state)
    for layer, order in enumerate(heads):
        columns = torch.arange(config.n_heads * config.d_head).view(config.n_heads, -1)[list(order)].flatten()
        packed = torch.cat([columns + part * len(columns) for part in range(3)])
        at = f"blocks.{layer}"
        state[f"{at}.W_QKV"] = state[f"{at}.W_QKV"][:, packed].contiguous()
        state[f"{at}.b_QKV"] = state[f"{at}.b_QKV"][packed].contiguous()
        state[f"{at}.W_O"] = state[f"{at}.W_O"][columns].contiguous()
    return state


def renamed(name: str, heads: Orders) -> str:
    """A node or an edge by the numbers that the heads in it have afterwards.

    >>> renamed("a0.h1->a1.h0<q>", [[1, 0], [0, 1]])
    'a0.h0->a1.h0<q>'
    """
    return re.sub(r"a(\d+)\.h(\d+)", lambda m: f"a{m[1]}.h{heads[int(m[1])].index(int(m[2]))}", name)
