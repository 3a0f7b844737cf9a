"""The prompts on which a feature is most active, by which a reader of a drawing or a report understands the feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..data import Data
from ..model.device import send
from ..model.features.transformer import FeatureTransformer


class Example(NamedTuple):
    """A prompt on which a feature is active: the prompt's row, and the position and size of the largest activation."""

    row: int
    position: int
    activation: float


def top_examples(
    model: FeatureTransformer, data: Data, nodes: Sequence[str], n: int, batch_size: int = 64
) -> dict[str, list[Example]]:
    """The prompts on which features are most active, most active first; fewer than ``n`` if it is active on fewer.

    Args:
        nodes: names of feature nodes, such as ``m1.f17``.
        n: the number of prompts for each feature.
        batch_size: prompts in a run; it does not change the result.
    """
    found: dict[str, list[Example]] = {node: [] for node in nodes}
    for batch in data.batches(batch_size):
        first = torch.cat([batch.example[:1] >= 0, batch.example[1:] != batch.example[:-1]])  # one run of each prompt
        tokens, of_prompt = batch.clean[first], torch.arange(batch.clean.shape[1]) < data.lengths[batch.rows][:, None]
        inputs = model.input_nodes(send(tokens, model.device))
        for at in model.graph.sites:
            here = {f"{at.stem}.f{f}": f for f in at.features if f"{at.stem}.f{f}" in found}
            if not here:
                continue
            with torch.no_grad():
                read = model.values_at(at.site, inputs)[0]
                dictionary = model.dictionaries[str(at.site)].to(model.embed)
                active = dictionary.encode(read, torch.tensor(list(here.values()), device=read.device))
            active = active.masked_fill(~send(of_prompt, active.device)[..., None], 0.0)
            value, position = active.max(1)  # [B, k]
            for i, node in enumerate(here):
                rows = zip(batch.rows.tolist(), position[:, i].tolist(), value[:, i].tolist(), strict=True)
                found[node] += [Example(*row) for row in rows if row[2] > 0]
                found[node] = sorted(found[node], key=lambda each: (-each.activation, each.row))[:n]
    return found
