"""Trains the models of a program: ``python -m circuitmeter.ground_truth.trained.train hist --norm --out DIR``.

On one core, all seeds at once; the same seed gives the same weights. A training that was interrupted goes on from its
checkpoint, and ends as if it had not been.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor

from ...suite.errors import ModelError, mistakes_in_one_line
from .loss import draw, loss
from .progress import worst
from .recipe import RECIPES, Recipe, recipe_of
from .student import Students, initial
from .teacher import prepare_program

ENSEMBLE_CHECKPOINT = "checkpoint.safetensors"
_TRIAL_ROWS = 1024  # on which attempts are compared
_MOMENTS = ("exp_avg", "exp_avg_sq")


class EnsembleTraining:
    """Models of several seeds, the optimizer, and how many steps they have had.

    Batches and cuts are the same for all models: a seed stands for the initial weights. Gradients are clipped model by
    model, so no model depends on which others are trained with it.

    Args:
        recipe: how they are trained.
        seeds: of the initial weights; each stands for ``recipe.attempts`` of them.
    """

    def __init__(self, recipe: Recipe, seeds: Sequence[int]) -> None:
        self.recipe, self.seeds, self.step = recipe, list(seeds), 0
        self.lesson = prepare_program(recipe)
        self.config = recipe.config(self.lesson.teacher.config)
        first = [seed * 1000 + attempt for seed in seeds for attempt in range(recipe.attempts)]
        self._start(initial(self.config, first), {})
        self.best = {name: weight.detach().clone() for name, weight in self.students.parameters.items()}
        self.scores = torch.full((len(first),), torch.inf)

    def _start(self, parameters: dict[str, Tensor], moments: dict[str, dict[str, Tensor]]) -> None:
        weights = {name: weight.detach().clone().requires_grad_() for name, weight in parameters.items()}
        self.students = Students(self.config, weights)
        self.optimizer = torch.optim.Adam(weights.values(), betas=self.recipe.betas, fused=True)
        for name, part in moments.items():
            self.optimizer.state[weights[name]] = {"step": torch.tensor(float(self.step)), **part}

    def train_to(self, step: int) -> list[float]:
        """Takes steps until there have been ``step``; returns each model's mean loss over those taken."""
        losses = []
        while self.step < step:
            losses.append(self._one_step())
            if self.step == self.recipe.choose_at and self.recipe.attempts > 1:
                kept = self._choose()
                losses = [found[kept] for found in losses]
        return torch.stack(losses).mean(0).tolist()

    def _one_step(self) -> Tensor:
        recipe, weights = self.recipe, list(self.students.parameters.values())
        chance = Generator().manual_seed(self.step)
        cuts = draw(recipe, self.lesson, self.students.graph, recipe.batch_size, chance)
        found = loss(self.students, self.lesson, cuts, chance)
        self.optimizer.zero_grad()
        found.sum().backward()
        length = sum(weight.grad.flatten(1).square().sum(1) for weight in weights).sqrt()
        for weight in weights:
            weight.grad.mul_((recipe.gradient_norm / length).clamp(max=1).view(-1, *[1] * (weight.dim() - 1)))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate_of_ensemble(self.step, recipe)
        self.optimizer.step()
        self.step += 1
        return found.detach()

    def _choose(self) -> Tensor:
        """Goes on with the attempt of each seed that is nearest to its targets; returns their numbers."""
        chance = Generator().manual_seed(self.recipe.steps)  # of no step
        with torch.no_grad():
            cuts = draw(self.recipe, self.lesson, self.students.graph, _TRIAL_ROWS, chance)
            found = loss(self.students, self.lesson, cuts, chance).view(len(self.seeds), -1)
        kept = found.argmin(1) + self.recipe.attempts * torch.arange(len(self.seeds))
        moments = {name: {key: part[kept] for key, part in parts.items()} for name, parts in self._moments().items()}
        self.best = {name: weight[kept] for name, weight in self.best.items()}
        self.scores = self.scores[kept]
        self._start({name: weight[kept] for name, weight in self.students.parameters.items()}, moments)
        return kept

    def _moments(self) -> dict[str, dict[str, Tensor]]:
        return {
            name: {key: self.optimizer.state[weight][key] for key in _MOMENTS}
            for name, weight in self.students.parameters.items()
        }

    def check(self) -> dict[str, Tensor]:
        """The largest deviations of each model [M]; remembers the weights that are better than any before."""
        found = worst(self.students, self.lesson, self.recipe.strict)
        score = torch.stack(list(found.values())).amax(0)
        better = score < self.scores
        self.scores = torch.where(better, score, self.scores)
        for name, weight in self.students.parameters.items():
            self.best[name][better] = weight.detach()[better]
        return found

    @property
    def ended(self) -> bool:
        enough = self.step >= self.recipe.choose_at and bool((self.scores <= self.recipe.enough).all())
        return enough or self.step >= self.recipe.steps

    def save(self, path: Path) -> None:
        """Writes a checkpoint in one piece: the old one is there until the new one is whole."""
        parts = {f"best.{name}": weight for name, weight in self.best.items()} | {"scores": self.scores}
        for name, weight in self.students.parameters.items():
            parts[f"model.{name}"] = weight.detach()
        for name, moments in self._moments().items():
            parts |= {f"{key}.{name}": part for key, part in moments.items()}
        about = {"step": self.step, "seeds": self.seeds, "recipe": asdict(self.recipe)}
        new = path.with_suffix(".new")
        save_file(parts, new, metadata={key: json.dumps(value) for key, value in about.items()})
        os.replace(new, path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint. Raises ModelError when it is of another recipe or of other seeds."""
        with safe_open(path, "pt") as file:
            about = {key: json.loads(value) for key, value in file.metadata().items()}
            known = json.loads(json.dumps(asdict(self.recipe)))
            if about["seeds"] != self.seeds or about["recipe"] != known:
                raise ModelError(f"{path} is of another recipe or of seeds {about['seeds']}; choose another --out.")
            self.step, self.scores, names = about["step"], file.get_tensor("scores"), self.students.parameters
            moments = {name: {key: file.get_tensor(f"{key}.{name}") for key in _MOMENTS} for name in names}
            self.best = {name: file.get_tensor(f"best.{name}") for name in names}
            self._start({name: file.get_tensor(f"model.{name}") for name in names}, moments)


def rate_of_ensemble(step: int, recipe: Recipe) -> float:
    """The learning rate's share at a step: a linear rise, then a cosine down to ``last_rate``."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.last_rate + (1 - recipe.last_rate) * (1 + math.cos(math.pi * done)) / 2


def train_ensemble(recipe: Recipe, seeds: Sequence[int], out: Path, tell=lambda line: None) -> EnsembleTraining:
    """Trains until every model is good enough or the steps are used up, and keeps a checkpoint in ``out``.

    Args:
        tell: told, line by line, how far it is.
    """
    training, checkpoint = EnsembleTraining(recipe, seeds), out / ENSEMBLE_CHECKPOINT
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint.is_file():
        training.load(checkpoint)
        tell(f"goes on from step {training.step}")
    while not training.ended:
        start = time.process_time()
        losses = training.train_to(min(recipe.steps, training.step + recipe.check_every))
        found = training.check()
        training.save(checkpoint)
        words = "; ".join(f"{name} " + " ".join(f"{x:.3f}" for x in value.tolist()) for name, value in found.items())
        losses = " ".join(f"{x:.4f}" for x in losses)
        tell(f"step {training.step}: loss {losses}; {words}; {time.process_time() - start:.1f} s of CPU")
    return training


@mistakes_in_one_line
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m circuitmeter.ground_truth.trained.train", description=__doc__)
    parser.add_argument("program", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--norm", action="store_true", help="with layer norm, as GPT-2")
    parser.add_argument("--node", action="store_true", help="node-strict, as published, instead of edge-strict")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = recipe_of(options.program, options.norm, "node" if options.node else "edge")
    train_ensemble(recipe, options.seeds, options.out, lambda line: print(line, file=sys.stderr, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
