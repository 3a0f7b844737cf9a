"""The directions of a compiled program as dictionaries: the residual stream has one dimension per value.

At the output of each attention layer and each MLP that writes anything stands a linear dictionary with one feature for
each dimension that it writes. With all of them as nodes nothing is left for the error nodes. A rotated program's
directions are the same ones rotated, which no axis gives away.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...suite.model.features.dictionary import FeatureDictionary
from ...suite.model.features.site import Site
from ...suite.model.features.transformer import FeatureTransformer
from ...suite.model.transformer import Transformer
from ..rotation import rotation
from ..structure import component_writes

CERTIFICATES = Path(__file__).parent / "certificates"
FEATURE_PROGRAMS = (
    "count_a",
    "detect_ab",
    "fraction_a",
    "hist",
    "is_unique",
    "pair_balance",
    "parity_ones",
    "pointer_twice",
    "seen_a",
    "xproportion",
)


def directions(
    model: Transformer, dimensions: Sequence[str], basis: int | None = None
) -> dict[Site, tuple[FeatureDictionary, range]]:
    """The dictionaries of a compiled model, with all their features.

    Args:
        model: in the basis in which its dimensions have names.
        dimensions: the name of each dimension of the residual stream.
        basis: the seed of a random basis to rotate the directions to; None: as the model is stored.
    """
    into = torch.eye(model.config.d_model) if basis is None else rotation(model.config.d_model, basis).float()
    found = {}
    for layer in range(model.config.n_layers):
        for place in ("attn_out", "mlp_out"):
            written = component_writes(model, place, layer).abs().amax(0) > 0
            where = written.nonzero().flatten().tolist()
            if where:
                dictionary = _linear(into[where], [_label(dimensions, d) for d in where])
                found[Site(layer, place)] = (dictionary, range(len(where)))
    return found


def with_directions(
    model: Transformer, stored: Transformer, dimensions: Sequence[str], basis: int | None = None
) -> FeatureTransformer:
    """A compiled model, rotated or not, with its directions as nodes; ``stored`` is the model before rotation."""
    return FeatureTransformer.of(model, directions(stored, dimensions, basis))


def _linear(rows: Tensor, labels: list[str]) -> FeatureDictionary:
    return FeatureDictionary(
        rows.T.contiguous(),
        torch.zeros(len(rows)),
        rows,
        torch.zeros(rows.shape[1]),
        "identity",
        labels=tuple(labels),
    )


def _label(dimensions: Sequence[str], dimension: int) -> str:
    """``reverse:2``, the third of the dimensions called reverse; the name alone where there is one."""
    name = dimensions[dimension]
    return name if dimensions.count(name) == 1 else f"{name}:{list(dimensions[:dimension]).count(name)}"
