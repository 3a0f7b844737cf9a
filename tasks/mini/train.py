"""Trains a mini model: ``python -m circuitmeter.tasks.mini.train six --seed 0 --out DIR``.

It takes one core, and the same seed gives the same weights. A training that was interrupted continues from its
checkpoint, and ends with the weights that it would have had without the interruption.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...suite.errors import ModelError, mistakes_in_one_line
from ..tokenizer import Tokenizer
from . import vocabulary
from .lessons import Class, generator, prepare_lessons
from .recipe import MINI_RECIPES, MiniRecipe
from .report import accuracies, examination

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

MINI_CHECKPOINT = "checkpoint.safetensors"


class Training:
    """A model, its optimizer, and the number of steps taken.

    Args:
        recipe: the settings of the training.
        seed: of the initial weights, the prompts and the batches.
        tokenizer: the tokenizer of the mini models.
    """

    def __init__(self, recipe: MiniRecipe, seed: int, tokenizer: Tokenizer) -> None:
        self.recipe, self.seed, self.tokenizer, self.step = recipe, seed, tokenizer, 0
        self.model = _initial(recipe, seed, len(tokenizer.source))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.classes = [prepare_lessons(course, recipe, tokenizer, seed) for course in recipe.courses]

    def train_to(self, step: int) -> float:
        """Takes steps until ``step`` have been taken in all; returns the mean loss of the new ones."""
        self.model.train()
        total = 0.0
        n_steps = step - self.step
        while self.step < step:
            total += self._one_step()
        return total / max(1, n_steps)

    def _one_step(self) -> float:
        recipe = self.recipe
        chance = generator(self.seed, self.step)
        chosen: Class = self.classes[int(torch.multinomial(self._weights(), 1, generator=chance))]
        lessons = chosen.lessons[int(torch.multinomial(chosen.shares, 1, generator=chance))]
        tokens, targets = lessons.batch(recipe.batch_size, self.step < recipe.beginner_steps, chance)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate_of_mini(self.step, recipe)
        learnt = targets >= 0
        hidden = self.model.transformer(tokens).last_hidden_state[learnt]
        loss = F.cross_entropy(self.model.lm_head(hidden), targets[learnt], label_smoothing=recipe.smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.gradient_norm)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def _weights(self) -> Tensor:
        """The weight of each course at this step: float [n_courses]."""
        drill = self.recipe.drill if drilled(self.step, self.recipe) else None
        return torch.tensor(
            [float(drill.weight if drill and drill.task == c.task else c.weight) for c in self.recipe.courses]
        )

    def save(self, path: Path) -> None:
        """Writes a checkpoint, which replaces the old one only when it is whole."""
        parts = {}
        for name, weight in self.model.named_parameters():
            parts[f"model.{name}"] = weight.detach()
            for key in ("exp_avg", "exp_avg_sq"):
                parts[f"{key}.{name}"] = self.optimizer.state[weight][key]
        about = {"step": str(self.step), "seed": str(self.seed), "recipe": json.dumps(asdict(self.recipe))}
        new = path.with_suffix(".new")
        save_file(parts, new, metadata=about)
        os.replace(new, path)

    def load(self, path: Path) -> None:
        """Continues from a checkpoint. Raises ModelError when it is of another recipe or seed."""
        with safe_open(path, "pt") as file:
            about = file.metadata()
            if (about["seed"], about["recipe"]) != (str(self.seed), json.dumps(asdict(self.recipe))):
                raise ModelError(f"{path} is of another recipe or seed ({about['seed']}); choose another --out.")
            self.step = int(about["step"])
            with torch.no_grad():
                for name, weight in self.model.named_parameters():
                    weight.copy_(file.get_tensor(f"model.{name}"))
                    self.optimizer.state[weight] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": file.get_tensor(f"exp_avg.{name}"),
                        "exp_avg_sq": file.get_tensor(f"exp_avg_sq.{name}"),
                    }


def drilled(step: int, recipe: MiniRecipe) -> bool:
    """Whether a step belongs to the recipe's drill."""
    return recipe.drill is not None and recipe.drill.start <= step < recipe.drill.end


def rate_of_mini(step: int, recipe: MiniRecipe) -> float:
    """The factor of the learning rate at a step: a linear rise, then a cosine to ``last_rate``; larger in a drill."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    share = recipe.last_rate + (1 - recipe.last_rate) * (1 + math.cos(math.pi * done)) / 2
    return share * (recipe.drill.rate if drilled(step, recipe) else 1.0)


def _initial(recipe: MiniRecipe, seed: int, n_tokens: int) -> GPT2LMHeadModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=n_tokens,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        n_embd=recipe.d_model,
        n_positions=recipe.n_positions,
        initializer_range=recipe.initial,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def train_mini(recipe: MiniRecipe, seed: int, out: Path, tell=lambda line: None) -> Training:
    """Trains until every task is learnt or the steps are used up; writes checkpoints, and the model at the end.

    Args:
        out: the folder to write to, which ``transformers`` opens afterwards.
        tell: called with lines that report the progress.
    """
    tokenizer = Tokenizer(vocabulary.build_tokenizer())
    out.mkdir(parents=True, exist_ok=True)
    training = Training(recipe, seed, tokenizer)
    checkpoint = out / MINI_CHECKPOINT
    if checkpoint.is_file():
        training.load(checkpoint)
        tell(f"goes on from step {training.step}")
    questions = examination(tokenizer, [course.task for course in recipe.courses], "validation")
    while training.step < recipe.steps:
        start = time.process_time()
        loss = training.train_to(min(recipe.steps, training.step + recipe.check_every))
        training.save(checkpoint)
        found = accuracies(training.model, questions)
        words = ", ".join(f"{task} {value:.3f}" for task, value in found.items())
        tell(f"step {training.step}: loss {loss:.3f}, {time.process_time() - start:.1f} s of CPU; validation {words}")
        if min(found.values()) >= recipe.enough:
            break
    training.model.eval().save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    vocabulary.save_tokenizer(tokenizer.source, out)
    return training


@mistakes_in_one_line
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m circuitmeter.tasks.mini.train", description=__doc__)
    parser.add_argument("recipe", choices=sorted(MINI_RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = MINI_RECIPES[options.recipe]
    training = train_mini(recipe, options.seed, options.out, lambda line: print(line, file=sys.stderr, flush=True))
    questions = examination(training.tokenizer, [course.task for course in recipe.courses], "test")
    for task, value in accuracies(training.model, questions).items():
        print(f"{task} {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
