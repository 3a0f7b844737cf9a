"""How fast a model is here: each kind of pass timed on the model at hand, so that costs are known in advance."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Data
from ..intervention.evaluator import default_batch_size
from ..methods.cost import KINDS, Cost
from ..model.capture import contract, gradients
from ..model.device import send, wait_for
from ..model.passes import count_passes
from ..model.transformer import Alternative, Transformer

# A pass that takes less is timed with more prompts, and one that is shorter still with more masks and again, as it will
# be run: most of it is overhead.
_ENOUGH_SECONDS, _SHORT_SECONDS = 0.7, 0.2
_FEW, _MANY_MASKS = 2, 64
_PROGRAM = 0.5e9  # Python and the libraries, in bytes
_KEPT = 0.05  # of the edges, in the circuit that is timed


@dataclass(frozen=True)
class Forecast:
    """What a piece of work will take: seconds, passes as the engine counts them, and memory at its peak."""

    seconds: float
    passes: float
    peak_bytes: int


class Speed:
    """Seconds that a pass over one example takes; each kind is timed when it is first asked for.

    Args:
        model, data: on which the work will run; a few of the prompts are used.
    """

    def __init__(self, model: Transformer, data: Data) -> None:
        self.model = model
        lengths = data.lengths.unique(return_counts=True)
        self._data = data.select((data.lengths == lengths[0][lengths[1].argmax()]).nonzero()[:, 0])
        self._seconds: dict[str, float] = {}
        self._zeros: dict[int, tuple[Tensor, Alternative]] = {}

    def kind(self, name: str) -> float:
        """Seconds that a pass of one of ``KINDS`` takes over one example."""
        if name not in self._seconds:
            self._seconds[name] = self._timed(name)
        return self._seconds[name]

    def seconds(self, cost: Cost) -> float:
        """What a cost comes to here."""
        return sum(getattr(cost, kind) * self.kind(kind) for kind in KINDS if getattr(cost, kind))

    def forecast(self, cost: Cost, batch_size: int = 0) -> Forecast:
        """What a cost comes to here, with so many prompts at a time; 0 chooses them from the model's size."""
        positions = self._data.clean.shape[1]
        batch = min(batch_size or default_batch_size(self.model, positions), self._data.n)
        width = self.model.embed.element_size()
        stack = len(self.model.graph.writers) * batch * positions * self.model.config.d_model * width
        weights = sum(parameter.numel() for parameter in self.model.parameters()) * width
        return Forecast(
            self.seconds(cost), cost.passes, int(_PROGRAM + weights * (1 + cost.weights) + stack * cost.stacks)
        )

    def _timed(self, kind: str) -> float:
        """Seconds a pass of one example of a kind of Cost."""
        run: Callable[[int, int], object] = getattr(self, f"_{kind}")
        most = min(self._data.n, default_batch_size(self.model, self._data.clean.shape[1]))
        few = min(_FEW, most)
        with count_passes():  # an own count: what is timed is no part of what is measured
            n, masks, taken = few, 1, self._clocked(run, kind, few, 1)
            while taken < _ENOUGH_SECONDS and n < most:
                n = min(4 * n, most)
                taken = self._clocked(run, kind, n, 1)
            if taken < _SHORT_SECONDS:
                masks = _MANY_MASKS if kind == "cut" else 1
                taken = min(self._clocked(run, kind, n, masks) for _ in range(3))
        return taken / (n * masks)

    def _clocked(self, run: Callable[[int, int], object], kind: str, n: int, masks: int) -> float:
        if kind in ("cut", "trained"):
            self._cut_to_zero(n)
        start = time.perf_counter()
        run(n, masks)
        return time.perf_counter() - start

    def _batch(self, n: int) -> tuple[Tensor, Tensor]:
        batch = self._data.batch(torch.arange(n))
        return send(batch.clean, self.model.device), batch.read

    @torch.no_grad()
    def _forward(self, n: int, _: int) -> None:
        tokens, read = self._batch(n)
        self.model(tokens, read)
        wait_for(self.model.device)

    def _gradient(self, n: int, _: int) -> None:
        tokens, read = self._batch(n)
        found = gradients(self.model, self.model.input_nodes(tokens), lambda logits: logits.sum(), read)
        contract(self.model, found, self.model.outputs(found.run))
        wait_for(self.model.device)

    @torch.no_grad()
    def _cut(self, n: int, masks: int) -> None:
        self._run_cut(n, self._masks(masks))
        wait_for(self.model.device)

    def _trained(self, n: int, masks: int) -> None:
        chosen = self._masks(masks).float().requires_grad_()
        with torch.enable_grad():
            self._run_cut(n, chosen).sum().backward()
        wait_for(self.model.device)

    def _masks(self, n: int) -> Tensor:
        """Random circuits that lead to the logits from everywhere, as those that methods find nearly do: [n, W, R]."""
        graph, generator = self.model.graph, torch.Generator().manual_seed(0)
        kept = torch.rand(n, *graph.exists.shape, generator=generator) < _KEPT
        kept[:, :, -1] = True
        return kept & graph.exists

    def _run_cut(self, n: int, masks: Tensor) -> Tensor:
        tokens, read = self._batch(n)
        inputs, alternative = self._cut_to_zero(n)
        return self.model.run_cut(masks, alternative, inputs=inputs, read=read)

    @torch.no_grad()
    def _cut_to_zero(self, n: int) -> tuple[Tensor, Alternative]:
        """What the input nodes write, and zeros for cut edges; made once, before passes are timed."""
        if n not in self._zeros:
            tokens, _ = self._batch(n)
            inputs = self.model.input_nodes(tokens)
            _, run = self.model.run(inputs)
            self._zeros[n] = inputs, self.model.alternative(run.map(torch.zeros_like), tokens.shape[1])
        return self._zeros[n]
