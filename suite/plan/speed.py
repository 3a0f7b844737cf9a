"""How fast a model is here: each kind of pass timed on the model at hand, so that costs are known in advance."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ..data import Data
from ..intervention.evaluator import default_batch_size
from ..methods.cost import PASS_KINDS, Cost
from ..model.capture import contract, gradients
from ..model.device import send, wait_for
from ..model.passes import count_passes
from ..model.position_transformer import PositionTransformer
from ..model.transformer import Alternative, Transformer

# A pass is timed over so many tokens at first, and over more as long as that is expected to take no longer than the
# most; one that is short whatever is done is timed with more masks and again, as it will be run: it is all overhead.
_MOST_SECONDS, _SHORT_SECONDS, _LONG_PASS_SECONDS = 1.0, 0.2, 0.05
_FIRST_TOKENS, _GROWTH, _MANY_MASKS = 32, 4, 64
_SAVED_TOKENS = 64  # over which what a training step saves is counted
_PROGRAM = 0.5e9  # Python and the libraries, in bytes
_KEPT = 0.05  # of the edges, in the circuit that is timed


@dataclass(frozen=True)
class Forecast:
    """What a piece of work will take: seconds, passes as the engine counts them, and memory at its peak.

    busy: how many times as long it takes by the clock on the wall while the machine does what it did when passes were
    timed; 1 on a machine that does nothing else.
    """

    seconds: float
    passes: float
    peak_bytes: int
    busy: float = 1.0


def computing_clock(device: torch.device) -> Callable[[], float]:
    """Seconds of work on a device, whatever else the machine does: a clock whose differences can be repeated.

    On the CPU it is the processor time of this thread, which takes part in all that torch divides among threads: so
    long does the work take where nothing else runs. A GPU computes beside this thread; there it is the wall's clock.
    """
    return time.thread_time if device.type == "cpu" else time.perf_counter


class Speed:
    """Seconds that a pass over one example takes; each kind is timed when it is first asked for.

    Timing a kind takes a second or two, whatever the model and the prompts: long prompts are cut short, and what is
    timed is scaled by the number of tokens.

    Args:
        model, data: on which the work will run; a few of the prompts are used.
        negligible: seconds. Work that a first timing puts below this is not timed further: the first timing is over a
            few tokens, where every pass is mostly overhead, so that it errs on the high side.
        clock: tells the seconds; ``computing_clock`` of the model's device if there is none.
    """

    def __init__(
        self,
        model: Transformer,
        data: Data,
        negligible: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._by_position = isinstance(model, PositionTransformer)  # timed on the start of prompts, too: of any length
        model = model.whole if isinstance(model, PositionTransformer) else model
        self.model, self.negligible = model, negligible
        self._clock = clock or computing_clock(model.device)
        self._computed, self._elapsed = 0.0, 0.0  # in all that was timed, by this clock and by the wall's
        lengths = data.lengths.unique(return_counts=True)
        self._length = int(lengths[0][lengths[1].argmax()])
        self._tokens = data.clean[data.lengths == self._length, : self._length]  # the most prompts of one length
        self._mean_length = float(data.lengths.double().mean())
        self._shape, self._runs, self._of_each_length = (data.n, data.clean.shape[1]), data.n_runs, lengths[1]
        self._all_tokens = int(data.lengths.sum() * data.n_runs / data.n)
        self._batch_size = default_batch_size(model, data.clean.shape[1])
        self._seconds: dict[str, float] = {}
        self._calls: dict[str, float] = {}
        self._zeros: dict[tuple[int, ...], tuple[Tensor, Alternative]] = {}

    def kind(self, name: str) -> float:
        """Seconds that a pass of one of ``PASS_KINDS`` takes over one example."""
        if name not in self._seconds:
            self._seconds[name] = self._timed(name)
        return self._seconds[name]

    def seconds(self, cost: Cost) -> float:
        """The seconds that passes of this cost take on this machine."""
        cost = self._in_batches(cost)
        passes = {kind: getattr(cost, kind) for kind in PASS_KINDS if getattr(cost, kind)}
        if self._masks_at_once(cost) < cost.masks:  # their forward passes are run twice
            passes["cut"] = cost.cut + cost.trained
        if self.negligible and not passes.keys() <= self._seconds.keys():
            at_most = sum(n * self._roughly(kind) for kind, n in passes.items())
            if at_most < self.negligible:
                return at_most
        return sum(n * self.kind(kind) for kind, n in passes.items()) + self._starting(cost)

    def _in_batches(self, cost: Cost) -> Cost:
        """A cost whose training steps take the prompts of a mean batch, where they are declared to take those of a full
        one: prompts of several lengths are in batches of their own."""
        if not (cost.steps and cost.step):
            return cost
        full = max(1, round(cost.step * self._shape[0] / self._runs))
        share = self._shape[0] / self._n_batches(full) / min(full, self._shape[0])
        step = max(1, round(cost.step * share))
        return replace(cost, trained=cost.trained * share, backward=cost.backward * share, step=step, steps=0)

    def _n_batches(self, size: int) -> int:
        """How many batches of one length the prompts are in, of so many prompts at most."""
        return int(-(-self._of_each_length // size).sum())

    def _starting(self, cost: Cost) -> float:
        """Seconds that calls take beyond their passes, which on small models is most of the time. Calls with edges cut
        are not among them: how many masks share one is not known."""
        runs_of_batch = self._runs / self._n_batches(cost.step or self._batch_size)
        calls = {kind: getattr(cost, kind) / runs_of_batch for kind in ("forward", "gradient")}
        if cost.masks and cost.step:
            calls["trained"] = cost.trained / (cost.masks * cost.step)
        return sum(n * self._a_call(kind) for kind, n in calls.items() if n)

    def _a_call(self, kind: str) -> float:
        """Seconds that a call of one pass takes beyond what its pass takes in a call of many; 0 where a pass takes long
        enough to make that little, so that no second is spent on timing it."""
        if self.kind(kind) > _LONG_PASS_SECONDS:
            return 0.0
        if kind not in self._calls:
            one = self._tokens[:1]
            with count_passes():
                taken = min(self._clocked(getattr(self, f"_{kind}"), kind, one, 1) for _ in range(3))
            self._calls[kind] = max(0.0, taken - self.kind(kind) * self._length / self._mean_length)
        return self._calls[kind]

    def forecast(self, cost: Cost, batch_size: int = 0) -> Forecast:
        """The time and memory that a cost takes on this machine, with ``batch_size`` prompts at a time.

        0 chooses their number from the model's size.
        """
        seconds, passes = self.seconds(cost), self._in_batches(cost).passes
        return Forecast(seconds, passes, self.peak_bytes(cost, batch_size), self.busy)

    @property
    def busy(self) -> float:
        """How many times as long as it computed everything took that was timed so far; 1 at least."""
        return max(1.0, self._elapsed / self._computed) if self._computed > 0 else 1.0

    def peak_bytes(self, cost: Cost, batch_size: int = 0) -> int:
        """The memory that a piece of work needs at its peak, with so many prompts at a time; nothing is timed for it.

        Libraries, weights, what all writers write, and what training steps save for their backward pass.
        """
        n, positions = self._shape
        width = self.model.embed.element_size()
        a_token = len(self.model.graph.writers) * self.model.config.d_model * width  # what all writers write at it
        weights = sum(parameter.numel() for parameter in self.model.parameters()) * width
        batch = min(batch_size or self._batch_size, n)
        held = a_token * (batch * positions * cost.stacks + self._all_tokens * cost.prepared)
        if cost.masks:
            saved, fixed = self._saved
            held += fixed + self._masks_at_once(cost) * cost.step * self._length * (saved + a_token * cost.streams)
        return int(_PROGRAM + weights * (1 + cost.weights) + held)

    def _masks_at_once(self, cost: Cost) -> int:
        """How many of its masks a training step runs at once; all where it has a stream of another kind, which is not
        run in parts."""
        if not cost.masks or cost.streams != Cost().streams:
            return cost.masks
        return min(cost.masks, self.model.masks_at_once(cost.step * self._length))

    @cached_property
    def _saved(self) -> tuple[float, float]:
        """Bytes that a training step saves for its backward pass: a token of a mask, and whatever their number.

        Counted in two steps, of one mask and of two; what the stream holds is not among it.
        """
        tokens = self._first(min(self._length, _SAVED_TOKENS))
        one, two = (self._saved_bytes(tokens, masks) for masks in (1, 2))
        a_token = (two - one) / tokens.numel()
        return a_token, one - a_token * tokens.numel()

    def _saved_bytes(self, tokens: Tensor, masks: int) -> int:
        own = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        sizes: dict[int, int] = {}

        def saved(part: Tensor) -> Tensor:
            storage = part.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return part

        with count_passes(), torch.enable_grad(), saved_tensors_hooks(saved, lambda part: part):
            outputs = self._run_cut(tokens, self._masks(masks).float().requires_grad_())
            outputs.log_softmax(-1).sum()
        return sum(sizes.values())

    def _roughly(self, kind: str) -> float:
        """Seconds a pass of one example of a kind of Cost, from a first timing, once what it needs is loaded."""
        with count_passes():
            tokens = self._first(_FIRST_TOKENS)
            taken = min(self._clocked(getattr(self, f"_{kind}"), kind, tokens, 1) for _ in range(2))
        return taken / tokens.numel() * self._mean_length

    def _timed(self, kind: str) -> float:
        """Seconds a pass of one example of a kind of Cost."""
        run: Callable[[Tensor, int], object] = getattr(self, f"_{kind}")
        with count_passes():  # an own count: what is timed is no part of what is measured
            tokens, masks = self._first(_FIRST_TOKENS), 1
            taken = self._clocked(run, kind, tokens, masks)
            while taken * _GROWTH < _MOST_SECONDS:
                more = self._first(_GROWTH * tokens.numel())
                if more.numel() == tokens.numel():
                    break
                tokens, taken = more, self._clocked(run, kind, more, masks)
            if taken < _SHORT_SECONDS:
                masks = _MANY_MASKS if kind == "cut" else 1
                taken = self._clocked(run, kind, tokens, masks)
                if taken < _SHORT_SECONDS:
                    taken = min(taken, *(self._clocked(run, kind, tokens, masks) for _ in range(2)))
        return taken / (masks * tokens.numel()) * self._mean_length

    def _first(self, n: int) -> Tensor:
        """About ``n`` tokens of the prompts, at most a batch: whole prompts, or the start of one: long [B, P]."""
        return self._tokens[: min(max(1, n // self._length), self._batch_size), :n]

    def _clocked(self, run: Callable[[Tensor, int], object], kind: str, tokens: Tensor, masks: int) -> float:
        if kind in ("cut", "trained"):
            self._cut_to_zero(tokens)
        start, wall = self._clock(), time.perf_counter()
        run(tokens, masks)
        taken = self._clock() - start
        self._computed += taken
        self._elapsed += time.perf_counter() - wall
        return taken

    def _sent(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens on the device, and the last position of each prompt, where its output is read."""
        read = torch.zeros(tokens.shape, dtype=torch.bool)
        read[:, -1] = True
        return send(tokens, self.model.device), read

    @torch.no_grad()
    def _forward(self, tokens: Tensor, _: int) -> None:
        self.model(*self._sent(tokens))
        wait_for(self.model.device)

    def _gradient(self, tokens: Tensor, _: int) -> None:
        sent, read = self._sent(tokens)
        found = gradients(self.model, self.model.input_nodes(sent), lambda logits: logits.sum(), read)
        contract(self.model, found, self.model.outputs(found.run))
        wait_for(self.model.device)

    @torch.no_grad()
    def _cut(self, tokens: Tensor, masks: int) -> None:
        self._run_cut(tokens, self._masks(masks))
        wait_for(self.model.device)

    def _trained(self, tokens: Tensor, masks: int) -> None:
        chosen = self._masks(masks).float().requires_grad_()
        with torch.enable_grad():
            self._run_cut(tokens, chosen).sum().backward()
        wait_for(self.model.device)

    def _masks(self, n: int) -> Tensor:
        """Random circuits that lead to the logits from everywhere, as those that methods find nearly do: [n, W, R]."""
        graph, generator = self.model.graph, torch.Generator().manual_seed(0)
        kept = torch.rand(n, *graph.exists.shape, generator=generator) < _KEPT
        kept[:, :, -1] = True
        return kept & graph.exists

    def _run_cut(self, tokens: Tensor, masks: Tensor) -> Tensor:
        inputs, alternative = self._cut_to_zero(tokens)
        if self._by_position:
            masks = masks.unsqueeze(-1).expand(*masks.shape, tokens.shape[1])
        return self.model.run_cut(masks, alternative, inputs=inputs, read=self._sent(tokens)[1])

    @torch.no_grad()
    def _cut_to_zero(self, tokens: Tensor) -> tuple[Tensor, Alternative]:
        """What the input nodes write, and zeros for cut edges; made once, before passes are timed."""
        if tokens.shape not in self._zeros:
            inputs = self.model.input_nodes(self._sent(tokens)[0])
            _, run = self.model.run(inputs[:, :1, :1])  # of one token: its zeros stand for all
            self._zeros[tokens.shape] = inputs, self.model.alternative(run.map(torch.zeros_like), tokens.shape[1])
        return self._zeros[tokens.shape]
