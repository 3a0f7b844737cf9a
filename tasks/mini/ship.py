"""Puts a trained mini model among the shipped ones: ``python -m circuitmeter.tasks.mini.ship DIR NAME``."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import safe_open
from transformers import GPT2LMHeadModel

from ..tokenizer import Tokenizer
from . import MINI_WEIGHTS, manifest, vocabulary
from .recipe import MiniRecipe
from .report import accuracies, examination
from .shipped import ShippedModel
from .train import MINI_CHECKPOINT

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def ship_mini(folder: Path, name: str, into: Path = MINI_WEIGHTS) -> ShippedModel:
    """Copies the files that ``transformers`` opens and writes the model's entry of the manifest; returns the entry."""
    with safe_open(folder / MINI_CHECKPOINT, "pt") as file:
        about = file.metadata()
    recipe = TypeAdapter(MiniRecipe).validate_json(about["recipe"])
    (into / name).mkdir(parents=True, exist_ok=True)
    for file in _FILES:
        shutil.copyfile(folder / file, into / name / file)
    model = GPT2LMHeadModel.from_pretrained(into / name)
    tokenizer = Tokenizer(vocabulary.build_tokenizer())
    courses = [course.task for course in recipe.courses]
    found = {split: accuracies(model, examination(tokenizer, courses, split)) for split in ("validation", "test")}
    entry = ShippedModel(
        seed=int(about["seed"]),
        steps=int(about["step"]),
        parameters=model.num_parameters(),
        recipe=recipe,
        accuracy={split: {task: round(value, 4) for task, value in row.items()} for split, row in found.items()},
        files={file: hashlib.sha256((into / name / file).read_bytes()).hexdigest() for file in _FILES},
    )
    whole = {each: shipped.as_json() for each, shipped in (manifest(into) | {name: entry}).items()}
    text = json.dumps(whole, indent=1, sort_keys=True)
    (into / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return entry


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m circuitmeter.tasks.mini.ship", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `train` wrote")
    parser.add_argument("name", metavar="NAME", help="such as mini-seed1")
    options = parser.parse_args(arguments)
    for task, value in ship_mini(options.folder, options.name).accuracy["test"].items():
        print(f"{task} {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
