"""Trains dictionaries of language models: ``python -m circuitmeter.suite.model.load.train_dictionaries --out DIR``.

Each is of the residual stream at one site, on a task's training prompts: of ``mini`` between its two layers, for each
task, width and seed; of SmolLM2 before its layer 10, for one task, width and seed (from its layer 11 on the first token
has a norm of a hundred times the others', and would be all that is learnt). DIR becomes what ships, as that of
``circuitmeter.ground_truth.dictionaries.train``, which trains those of programs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from .... import tasks
from ....ground_truth.dictionaries.recipe import (
    DICTIONARY_SEEDS,
    DICTIONARY_WIDTHS,
    OF_MINI,
    OF_SMOLLM2,
    recipe_of_model,
)
from ....ground_truth.dictionaries.train import DictionaryLesson, train_asked, values_at_sites
from ..features.dictionary import FeatureDictionary
from ..features.site import Site
from ..features.transformer import FeatureTransformer
from .by_name import load_model, on_model

_PROMPTS = 300  # of the training split, whose tokens are learnt; all where there are fewer
_JUDGED = 24  # of these, on which it is measured what features keep


class _Trained(NamedTuple):
    """Which dictionaries are trained of a model: their family and site, how many features are active at once, and of
    which widths and seeds they are."""

    family: str
    site: Site
    k: int
    widths: Sequence[str]
    seeds: Sequence[int]


_TRAINED = {
    "mini": _Trained(OF_MINI, Site(1, "resid_pre"), 8, tuple(DICTIONARY_WIDTHS), DICTIONARY_SEEDS),
    "smollm2": _Trained(OF_SMOLLM2, Site(10, "resid_pre"), 16, ("narrow",), (0,)),
}
SUBJECTS = ("mini/ioi", "mini/greater-than", "smollm2/ioi")


def lessons_of_models(subjects: Sequence[str] = SUBJECTS) -> Iterator[DictionaryLesson]:
    """The lessons of subjects, ``MODEL/TASK``. Raises ModelAbsent where a model is not on this machine."""
    for subject in subjects:
        name, _, task_name = subject.partition("/")
        family, site, k, widths, seeds = _TRAINED[name]
        model = load_model(name, device="cpu")
        d_model = model.config.d_model
        weights = ((d_model, 1), (1,), (1, d_model), (d_model,))
        nothing = FeatureDictionary(*(torch.zeros(shape) for shape in weights))
        task = on_model(tasks.load(task_name), name)
        data = task.data("train")
        data = data.select(torch.arange(min(_PROMPTS, data.n)))
        activations = values_at_sites(FeatureTransformer.of(model, {site: (nothing, [0])}), data)
        data = data.select(torch.arange(min(_JUDGED, data.n)))
        for width in widths:
            for seed in seeds:
                yield DictionaryLesson(
                    f"{family}/{task_name}-{width}-{seed}",
                    name,
                    model,
                    task_name,
                    data,
                    task.objective,
                    width,
                    seed,
                    activations,
                    {site: recipe_of_model(d_model, k, width, seed)},
                )


def main(arguments: Sequence[str] | None = None) -> int:
    return train_asked(
        arguments, "suite.model.load.train_dictionaries", __doc__, "subject", SUBJECTS, lessons_of_models
    )


if __name__ == "__main__":
    sys.exit(main())
