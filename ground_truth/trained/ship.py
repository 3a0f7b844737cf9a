"""Certifies trained models and puts them among the shipped: ``python -m circuitmeter.ground_truth.trained.ship DIR``.

A model that fails (see gap.py) is refused, and nothing of it is written. Node-strict models are shipped whatever their
edges do: their certificate says it (see ``inherited`` in gap.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ...suite.errors import ModelError
from ...suite.json_model import plain
from ...suite.model.transformer import Transformer
from ..certificate import Certificate, TrainedFrom
from ..certify import certify
from ..description import ModelDescription
from ..files import write_certificate, write_manifest, write_model
from .gap import NUMBER_TOLERANCE, OUTPUT_CHANGE, check_gap, gap, inherited
from .heads import orders, renamed, stored
from .recipe import Recipe
from .teacher import ProgramLesson, mistake, prepare_program
from .train import ENSEMBLE_CHECKPOINT

_WEIGHTS = {"edge": Path(__file__).parent / "weights", "node": Path(__file__).parent / "weights_node"}
_FAMILY_OF_LEVEL = {"edge": "trained", "node": "trained-node"}
REMARKS = {  # added to the program's description
    "edge": "Trained: dense weights{norm}.",
    "node": "Trained, node-strict, for comparison: dense weights{norm}; more edges matter than the program has.",
}


def ship_ensemble(folder: Path, into: Path | None = None, tell=lambda line: None) -> dict[str, Certificate]:
    """Certifies the models of a training, writes those that pass.

    Args:
        folder: what ``train`` wrote.
        into: a folder of models and their manifest; that of the shipped ones unless given.
        tell: told of each model what is certified, or why it is refused.

    Returns:
        The certificates of the shipped ones by name.
    """
    with safe_open(folder / ENSEMBLE_CHECKPOINT, "pt") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
        best = {name[len("best.") :]: file.get_tensor(name) for name in file.keys() if name.startswith("best.")}
    about["recipe"] |= {key: tuple(about["recipe"][key]) for key in ("vocabulary", "betas")}
    recipe, shipped = Recipe(**about["recipe"]), {}
    into, lesson = into or _WEIGHTS[recipe.strict], prepare_program(recipe)
    for model, seed in enumerate(about["seeds"]):
        name = recipe.name(seed)
        state = {part: weight[model] for part, weight in best.items()}
        try:
            shipped[name] = write(into / name, recipe, lesson, seed, about["step"], state)
        except ModelError as problem:
            tell(f"{name} is refused: {problem}")
            continue
        numbers = ", ".join(f"{key} {value:.3g}" for key, value in shipped[name].training.gap.as_json().items())
        tell(f"{name}: {len(shipped[name].ablations['patch'].core)} edges, {numbers}")
    if shipped:
        write_manifest(into, "trained: recipe.py")
    return shipped


def write(
    directory: Path, recipe: Recipe, lesson: ProgramLesson, seed: int, steps: int, state: dict[str, Tensor]
) -> Certificate:
    """Certifies one model and writes its directory; returns the certificate.

    Args:
        state: its weights, with the heads where they were in training.

    Raises:
        ModelError: it fails. Nothing is written then.
    """
    config = recipe.config(lesson.teacher.config)
    heads = orders(config, recipe.program, seed)
    model = Transformer(config, "split")
    model.load_state_dict(stored(state, config, heads))
    with torch.no_grad():
        outputs = model(lesson.tokens)
    problem = mistake(lesson, outputs, NUMBER_TOLERANCE)
    if problem:
        raise ModelError(problem)
    true = lesson.edges(model.graph)
    intended = [renamed(name, heads) for name in model.graph.named(true)]
    found = certify(model, lesson.domain, ablations=["patch", "resample"], tolerance=OUTPUT_CHANGE, every_pair=True)
    claim = found.ablations["patch"]
    numbers = gap(model.double(), lesson.domain, claim)
    if recipe.strict == "edge":
        check_gap(claim, numbers, intended, OUTPUT_CHANGE)
    behaviour = (outputs - lesson.outputs).abs()[lesson.read].max()
    training = TrainedFrom(
        teacher=lesson.source.name,
        recipe=plain(asdict(recipe)),
        seed=seed,
        steps=steps,
        intended=sorted(intended),
        gap=numbers.model_copy(update={"behaviour_error": round(float(behaviour), 6)}),
    )
    if recipe.strict == "node":
        training = training.model_copy(update={"inherited": inherited(model, lesson.domain, claim, intended)})
    source = lesson.source.description
    description = ModelDescription(
        family=_FAMILY_OF_LEVEL[recipe.strict],
        program=recipe.program,
        description=f"{source.description} {REMARKS[recipe.strict].format(norm=', layer norm' * recipe.norm)}",
        config=config,
        inputs="split",
        vocabulary=source.vocabulary,
        outputs=source.outputs,
        causal=config.causal,
        max_len=recipe.length,
        # What the nodes of the circuit write in the compiled program, which these were trained to stand for.
        writers={
            renamed(node, heads): source.writers[node]
            for node, used in zip(model.graph.writers, true.any(1).tolist(), strict=True)
            if used
        },
    )
    weights = write_model(directory, model.float().state_dict(), description)
    return write_certificate(directory, "", lesson.domain, found, weights, training)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m circuitmeter.ground_truth.trained.ship", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `train` wrote")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # sums in one order, so that certificates are the same bytes every time
    with safe_open(options.folder / ENSEMBLE_CHECKPOINT, "pt") as file:
        wanted = json.loads(file.metadata()["seeds"])
    shipped = ship_ensemble(options.folder, tell=lambda line: print(line, file=sys.stderr, flush=True))
    return 0 if len(shipped) == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
