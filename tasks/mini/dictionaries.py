"""Trains the dictionaries of ``mini``: ``python -m circuitmeter.tasks.mini.dictionaries --out DIR``.

One of the residual stream between its two layers for each task, width and seed, on the task's training prompts. As
``circuitmeter.ground_truth.dictionaries.train``, which trains those of programs into the same DIR.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import torch

from ...ground_truth.dictionaries.recipe import DICTIONARY_SEEDS, DICTIONARY_WIDTHS, recipe_of_mini_dictionary
from ...ground_truth.dictionaries.shipped import OF_MINI
from ...ground_truth.dictionaries.train import DictionaryLesson, train_asked, values_at_sites
from ...suite.model.convert import from_huggingface
from ...suite.model.features.dictionary import FeatureDictionary
from ...suite.model.features.site import Site
from ...suite.model.features.transformer import FeatureTransformer
from .. import greater_than, ioi
from ..tokenizer import Tokenizer
from . import folder, vocabulary

_MODEL = "mini"
_SITE = Site(1, "resid_pre")
_TASKS = {"ioi": ioi.FAMILY, "greater-than": greater_than.FAMILY}
_PROMPTS = 300  # of the training split, whose tokens are learnt
_JUDGED = 24  # of these, on which it is measured what features keep


def lessons_of_mini(tasks: Sequence[str] = tuple(_TASKS)) -> Iterator[DictionaryLesson]:
    """The lessons of ``mini`` on tasks."""
    from transformers import GPT2LMHeadModel

    model = from_huggingface(GPT2LMHeadModel.from_pretrained(folder(_MODEL)), inputs="token")
    d_model = model.config.d_model
    nothing = FeatureDictionary(torch.zeros(d_model, 1), torch.zeros(1), torch.zeros(1, d_model), torch.zeros(d_model))
    probe = FeatureTransformer.of(model, {_SITE: (nothing, [0])})
    for name in tasks:
        task = _TASKS[name].task("").on(Tokenizer(vocabulary.build_tokenizer()))
        data = task.data("train")
        data = data.select(torch.arange(min(_PROMPTS, data.n)))
        activations, data = values_at_sites(probe, data), data.select(torch.arange(min(_JUDGED, data.n)))
        for width in DICTIONARY_WIDTHS:
            for seed in DICTIONARY_SEEDS:
                yield DictionaryLesson(
                    f"{OF_MINI}/{name}-{width}-{seed}",
                    _MODEL,
                    model,
                    name,
                    data,
                    task.objective,
                    width,
                    seed,
                    activations,
                    {_SITE: recipe_of_mini_dictionary(d_model, width, seed)},
                )


def main(arguments: Sequence[str] | None = None) -> int:
    return train_asked(arguments, "tasks.mini.dictionaries", __doc__, "task", list(_TASKS), lessons_of_mini)


if __name__ == "__main__":
    sys.exit(main())
