"""Trains a sparse autoencoder on activations, with a seed. A dict of tensors holds all that is needed to continue.

    loss = mean over rows of |x - reconstruction|^2 / D  +  sparsity * mean over rows of sum_f activation_f |decoder_f|

``topk`` has no second term, because k sets its sparsity (Gao et al. 2024, arXiv:2406.04093). Dead features are not
revived; how many there are is one of the dictionary's scores. Decoder rows keep norm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import SpecError
from .dictionary import FeatureDictionary

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class TrainingRecipe:
    """How a dictionary is trained.

    Args:
        n_features: how many features the dictionary has.
        k: how many features are active at once, for ``topk``; 0 trains a ``relu`` dictionary with ``sparsity``.
        sparsity: weight of the L1 term of a ``relu`` dictionary.
        steps: steps of Adam.
        rows: how many random activations each step takes.
        rate: learning rate, which falls linearly to zero in the last fifth of the steps.
        seed: of the first weights and of the choice of activations.

    Raises:
        SpecError: a number that is out of its range.
    """

    n_features: int
    k: int = 0
    sparsity: float = 3e-3
    steps: int = 4000
    rows: int = 512
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.n_features <= 1_000_000 and 0 <= self.k <= self.n_features):
            raise SpecError(
                f"{self.n_features} features with k={self.k}; give 1 to 1,000,000, and k up to their number."
            )
        if self.steps < 1 or self.rows < 1 or not self.rate > 0 or self.sparsity < 0:
            raise SpecError(
                "steps and rows of 1 or more, a rate above 0 and a sparsity of 0 or more train a dictionary."
            )


class DictionaryTraining:
    """Training that can be stopped and continued: ``state`` holds all that is needed for that."""

    def __init__(self, activations: Tensor, recipe: TrainingRecipe, state: dict[str, Tensor] | None = None) -> None:
        """Takes activations [N, D], and the ``state`` of an earlier training on the same activations to continue it."""
        self.activations, self.recipe = activations.float(), recipe
        self.state = dict(state) if state else self._fresh()

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)

    def _fresh(self) -> dict[str, Tensor]:
        width, features = self.activations.shape[1], self.recipe.n_features
        rows = torch.randn(features, width, generator=self._generator(-1))
        rows = rows / rows.norm(dim=1, keepdim=True)
        mean = self.activations.mean(0)
        weights = {"W_enc": rows.T.contiguous(), "b_enc": torch.zeros(features), "W_dec": rows, "b_dec": mean}
        moments = {f"{moment}.{name}": torch.zeros_like(part) for moment in "mv" for name, part in weights.items()}
        return weights | moments | {"step": torch.zeros((), dtype=torch.int64)}

    def run(self) -> Iterator[tuple[int, float]]:
        """Takes the remaining steps one by one and yields (steps done, loss before the step). ``state`` follows."""
        recipe, names = self.recipe, ("W_enc", "b_enc", "W_dec", "b_dec")
        while self.step < recipe.steps:
            step = self.step
            chosen = torch.randint(len(self.activations), (recipe.rows,), generator=self._generator(step))
            parts = [self.state[name].detach().requires_grad_() for name in names]
            loss = self._loss(FeatureDictionary(*parts, *self._form), self.activations[chosen])
            gradients = torch.autograd.grad(loss, parts)
            left = (recipe.steps - step) / recipe.steps
            rate = recipe.rate * min(1.0, left / 0.2)
            for name, gradient in zip(names, gradients, strict=True):
                self._adam(name, gradient, rate, step + 1)
            self.state["W_dec"] /= self.state["W_dec"].norm(dim=1, keepdim=True).clamp_min(1e-8)
            self.state["step"] = torch.tensor(step + 1)
            yield step + 1, float(loss.detach())

    @property
    def _form(self) -> tuple:
        """The arguments of FeatureDictionary after the weights: activation, threshold, k, centred."""
        return ("topk", None, self.recipe.k, True) if self.recipe.k else ("relu", None, 0, True)

    def _loss(self, dictionary: FeatureDictionary, x: Tensor) -> Tensor:
        active = dictionary.encode(x)
        error = (x - dictionary.decode(active) - dictionary.b_dec).square().mean()
        if self.recipe.k:
            return error
        return error + self.recipe.sparsity * (active * dictionary.W_dec.norm(dim=1)).sum(-1).mean()

    def _adam(self, name: str, gradient: Tensor, rate: float, step: int) -> None:
        first, second = self.state[f"m.{name}"], self.state[f"v.{name}"]
        first.mul_(_BETAS[0]).add_(gradient, alpha=1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        scale = (second / (1 - _BETAS[1] ** step)).sqrt() + _EPS
        self.state[name] = self.state[name] - rate * first / (1 - _BETAS[0] ** step) / scale

    def dictionary(self) -> FeatureDictionary:
        """The dictionary after the steps taken so far."""
        return FeatureDictionary(*(self.state[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")), *self._form)
