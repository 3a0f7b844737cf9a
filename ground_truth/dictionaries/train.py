"""Trains the dictionaries of compiled programs: ``python -m circuitmeter.ground_truth.dictionaries.train --out DIR``.

On one core, a few seconds a dictionary; the same seed gives the same weights. A training that was interrupted goes on
from its checkpoint, and ends as if it had not been. DIR becomes what ships: a file a model, and ``manifest.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...suite.data import Data
from ...suite.errors import ModelError, mistakes_in_one_line, unknown
from ...suite.intervention.ablation import Ablation
from ...suite.intervention.feature_shares import FeatureShares, feature_shares
from ...suite.intervention.objective import OBJECTIVES
from ...suite.model.features.dictionary import FeatureDictionary
from ...suite.model.features.scores import dictionary_scores
from ...suite.model.features.site import Site
from ...suite.model.features.training import DictionaryTraining, TrainingRecipe
from ...suite.model.features.transformer import FeatureTransformer
from ...suite.model.transformer import Transformer
from ..files import write_json
from ..truth import load
from .recipe import DICTIONARY_PROGRAMS, DICTIONARY_SEEDS, DICTIONARY_WIDTHS, OF_PROGRAMS, recipe_of_program
from .shipped import ShippedDictionaries, ShippedSite, bytes_of, dictionary_manifest, file_of

_ABLATIONS = ("zero", "patch")  # under which it is measured what features and errors keep
CHECKPOINT_EVERY = 500  # steps
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class DictionaryLesson:
    """What a set of dictionaries is trained on.

    Args:
        name: of the set, ``FAMILY/NAME``.
        source, model: the model's name, and the model without features.
        task, data, objective: the prompts, and what the model's behaviour on them is scored by.
        width, seed: as ``ShippedDictionaries`` has them.
        activations: for each site what is decomposed there, [N, S].
        recipes: for each site how its dictionary is trained.
        directions: for each site the true directions [T, S], where they are known.
    """

    name: str
    source: str
    model: Transformer
    task: str
    data: Data
    objective: str
    width: str
    seed: int
    activations: Mapping[Site, Tensor]
    recipes: Mapping[Site, TrainingRecipe]
    directions: Mapping[Site, Tensor] = field(default_factory=dict)


def train_dictionaries(lessons: Iterable[DictionaryLesson], out: Path, tell: Callable[[str], None]) -> None:
    """Trains what ``out`` does not hold yet, and writes each set and its entry of the manifest as soon as it is whole.

    Args:
        tell: told, line by line, how far it is.

    Raises:
        ModelError: a checkpoint of another training.
    """
    for lesson in lessons:
        path, known = file_of(out, lesson.name), dictionary_manifest(out)
        if lesson.name in known and path.is_file():
            tell(f"{lesson.name} is there")
            continue
        start = time.process_time()
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {site: _trained(lesson, site, path.with_suffix(f".{site}.part"), tell) for site in lesson.recipes}
        content = bytes_of(found)
        path.write_bytes(content)
        entry = _entry(lesson, found, hashlib.sha256(content).hexdigest())
        write_json(
            out / "manifest.json", {name: each.as_json() for name, each in (known | {lesson.name: entry}).items()}
        )
        for site in lesson.recipes:
            path.with_suffix(f".{site}.part").unlink(missing_ok=True)
        told = ", ".join(f"{site} {about.unexplained:.3f}" for site, about in entry.sites.items())
        tell(f"{lesson.name}: unexplained {told}; {time.process_time() - start:.1f} s of CPU")


def _trained(lesson: DictionaryLesson, site: Site, part: Path, tell: Callable[[str], None]) -> FeatureDictionary:
    """The dictionary at a site, trained from its checkpoint on."""
    recipe = lesson.recipes[site]
    about = {"of": f"{lesson.name} {site} {asdict(recipe)}"}
    state = None
    if part.is_file():
        with safe_open(part, "pt") as file:
            if file.metadata() != about:
                raise ModelError(f"{part} is of another training; choose another --out.")
            state = {name: file.get_tensor(name) for name in file.keys()}
    training = DictionaryTraining(lesson.activations[site], recipe, state)
    if state is not None:
        tell(f"{lesson.name} {site} goes on from step {training.step}")
    for step, loss in training.run():
        if step % CHECKPOINT_EVERY == 0:
            new = part.with_suffix(".new")
            save_file({name: each.contiguous() for name, each in training.state.items()}, new, metadata=about)
            os.replace(new, part)
            tell(f"{lesson.name} {site} step {step}: loss {loss:.5f}")
    return training.dictionary()


def _entry(lesson: DictionaryLesson, found: Mapping[Site, FeatureDictionary], sha256: str) -> ShippedDictionaries:
    sites = {}
    for site, dictionary in found.items():
        true = lesson.directions.get(site)
        scores = dictionary_scores(dictionary, lesson.activations[site], directions=true)
        numbers = {name: None if value is None else round(value, _DIGITS) for name, value in asdict(scores).items()}
        known = None if true is None else len(true)
        sites[str(site)] = ShippedSite(recipe=lesson.recipes[site], directions=known, **numbers)
    model = FeatureTransformer.of(lesson.model, {site: (each, range(each.n_features)) for site, each in found.items()})
    shares = {ablation: _shares(model, lesson, ablation) for ablation in _ABLATIONS}
    return ShippedDictionaries(
        model=lesson.source,
        task=lesson.task,
        width=lesson.width,
        seed=lesson.seed,
        sites=sites,
        features_keep={ablation: round(each.features, _DIGITS) for ablation, each in shares.items()},
        errors_keep={ablation: round(each.errors, _DIGITS) for ablation, each in shares.items()},
        sha256=sha256,
    )


def _shares(model: FeatureTransformer, lesson: DictionaryLesson, ablation: str) -> FeatureShares:
    return feature_shares(
        model, lesson.data, ablation=Ablation.parse(ablation), objective=OBJECTIVES.get(lesson.objective)
    )


def values_at_sites(model: FeatureTransformer, data: Data) -> dict[Site, Tensor]:
    """What is decomposed at each site of a model, at every token of the prompts: float32 [N, S] a site."""
    found: dict[Site, list[Tensor]] = {at.site: [] for at in model.graph.sites}
    with torch.no_grad():
        for batch in data.batches(256):
            inputs = model.input_nodes(batch.clean)
            for site, rows in found.items():
                rows.append(model.values_at(site, inputs)[1][batch.valid].float())
    return {site: torch.cat(rows) for site, rows in found.items()}


def lessons_of_programs(programs: Sequence[str] = DICTIONARY_PROGRAMS) -> Iterator[DictionaryLesson]:
    """The lessons of programs in a random basis, at every site that they write to, on every input of their domains."""
    for program in programs:
        truth = load(f"tracr-rotated-features/{program}")
        model = truth.model()
        assert isinstance(model, FeatureTransformer)
        plain = load(f"tracr-rotated/{program}").model()
        tokens, read = torch.from_numpy(truth.domain.tokens), torch.from_numpy(truth.domain.read)
        turned = torch.roll(torch.arange(len(tokens)), len(tokens) // 2)  # each input's counterfactual: one far from it
        data = Data(tokens, tokens[turned], read, reference=tokens)
        activations = values_at_sites(model, data)
        directions = {at.site: model.dictionaries[str(at.site)].W_dec for at in model.graph.sites}
        for width in DICTIONARY_WIDTHS:
            for seed in DICTIONARY_SEEDS:
                yield DictionaryLesson(
                    f"{OF_PROGRAMS}/{program}-{width}-{seed}",
                    truth.name,
                    plain,
                    f"tracr-rotated/{program}",
                    data,
                    "answer-difference",
                    width,
                    seed,
                    activations,
                    {site: recipe_of_program(len(rows), width, seed) for site, rows in directions.items()},
                    directions,
                )


@mistakes_in_one_line
def train_asked(
    arguments: Sequence[str] | None,
    module: str,
    about: str | None,
    kind: str,
    known: Sequence[str],
    lessons: Callable[[Sequence[str]], Iterable[DictionaryLesson]],
) -> int:
    """The command line of a script that trains the dictionaries of what is named, or of everything.

    Args:
        arguments: ``[NAME ...] --out DIR``; those of the process when None.
        module, about: the script's name below ``circuitmeter``, and what it does.
        kind: what a name is of (``program``), and which names are ``known``.
        lessons: of the named ones.

    Returns:
        The exit status: 2 for an unknown name, or a checkpoint of another training.
    """
    parser = argparse.ArgumentParser(prog=f"python -m circuitmeter.{module}", description=about)
    parser.add_argument("names", nargs="*", metavar=kind.upper(), help=f"all of {', '.join(known)} unless given")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in known:
            raise ModelError(unknown(kind, name, known))
    torch.set_num_threads(1)
    wanted = lessons(options.names or known)
    train_dictionaries(wanted, options.out, lambda line: print(line, file=sys.stderr, flush=True))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return train_asked(
        arguments, "ground_truth.dictionaries.train", __doc__, "program", DICTIONARY_PROGRAMS, lessons_of_programs
    )


if __name__ == "__main__":
    sys.exit(main())
