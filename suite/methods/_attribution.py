"""What the gradient methods share: edge scores summed over batches, divided once by the number of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

import torch
from torch import Tensor

from ..circuit import EdgeScores
from ..data import Batch, Data
from ..errors import SpecError
from ..intervention.ablation import Ablation, Alternatives
from ..intervention.evaluator import default_batch_size
from ..intervention.objective import Objective, Targets
from ..intervention.plain_runs import Runs
from ..model.capture import Gradients, Written, contract, gradients
from ..model.device import send
from ..model.graph import Graph
from ..model.rules import EXACT, Rules
from ..model.transformer import Activations, Transformer
from .partial import summed

# Where in its interval, counted from the alternative (0) to the clean inputs (1), each step of a path looks.
ENDPOINTS = {"left": 0.0, "midpoint": 0.5, "right": 1.0}
BOTH = "both"  # k/m for k = 0 .. m, both ends among them

_KEPT: ContextVar[list[tuple[Tensor, Tensor]] | None] = ContextVar("scores of each prompt", default=None)


@contextmanager
def prompts_kept_apart() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yields a list. Inside the block ``mean_scores`` adds to it, for each batch, the rows [B] of its prompts in the
    data and the scores of each [B, W, R]."""
    kept: list[tuple[Tensor, Tensor]] = []
    token = _KEPT.set(kept)
    try:
        yield kept
    finally:
        _KEPT.reset(token)


def keep_prompts_apart() -> list[tuple[Tensor, Tensor]] | None:
    """The list of the ``prompts_kept_apart`` around the caller, for methods that do not use ``mean_scores``; None when
    no such block is open."""
    return _KEPT.get()


class Prompts:
    """One batch of prompts for a gradient method. Each run is made when it is first needed.

    Args:
        runs: the plain runs of the batch.
        alternatives: what cut edges carry.
        objective: whose loss has the gradients.
        by_example: whether ``contract``, ``products`` and ``products_at_clean`` return a value for each of the B
            examples [B, W, R], and not their sum [W, R].
    """

    def __init__(self, runs: Runs, alternatives: Alternatives, objective: Objective, by_example: bool = False) -> None:
        self.model, self.runs, self.by_example = runs.model, runs, by_example
        self._alternatives, self._objective = alternatives, objective

    @property
    def clean(self) -> Activations:
        """What every writer writes in the clean run."""
        return self.runs.clean[1]

    @cached_property
    def cut(self) -> Activations:
        """What cut edges carry (see ``Alternatives``)."""
        return self._alternatives.of(self.runs)

    @cached_property
    def _targets(self) -> Targets:
        return self._objective.targets(self.runs)

    def loss(self, logits: Tensor) -> Tensor:
        """The loss of logits [..., n_read, d_out], summed over examples: [...]."""
        return self.losses(logits).sum(-1)

    def losses(self, logits: Tensor) -> Tensor:
        """The loss of logits [..., n_read, d_out], of each example: [..., B]."""
        return self._objective.loss(logits, self._targets)

    @property
    def alternative_inputs(self) -> Tensor:
        """What cut edges from the input nodes carry, at every row and position: [n_inputs, B, P, D]."""
        return self.cut.inputs.expand_as(self.clean.inputs)

    @cached_property
    def damage(self) -> Tensor:
        """How a cut changes the output of each writer, alternative - clean: [W, B, P, D]."""
        return self.model.difference(self.cut, self.clean)

    def gradients(
        self,
        inputs: Tensor,
        *,
        rules: Rules = EXACT,
        written: Written | None = None,
        through_inputs: bool = True,
        of_writers: bool = False,
    ) -> Gradients:
        """Gradients of the loss in the run from ``inputs`` [n_inputs, B, P, D] (see ``capture.gradients``)."""
        return gradients(
            self.model,
            inputs,
            self.loss,
            self.runs.read,
            rules=rules,
            written=written,
            through_inputs=through_inputs,
            of_writers=of_writers,
        )

    def gradients_at_clean(self, *, rules: Rules = EXACT, of_writers: bool = False) -> Gradients:
        """Gradients of the loss in the clean run, which is kept, so that ``clean`` does not repeat it."""
        return gradients(
            self.model,
            self.model.input_nodes(send(self.runs.batch.clean, self.model.device)),
            self.loss,
            self.runs.read,
            rules=rules,
            of_writers=of_writers,
            ran=self.runs.keep_clean,
        )

    def products_at_clean(self, *, rules: Rules = EXACT) -> Tensor:
        """<damage, gradient in the clean run>, summed over examples: [W, R]."""
        return self.contract(self.gradients_at_clean(rules=rules))

    def products(self, inputs: Tensor, *, rules: Rules = EXACT, difference: Tensor | None = None) -> Tensor:
        """<difference, gradient in the run from ``inputs``>, summed over examples: [W, R]; ``damage`` by default."""
        return self.contract(self.gradients(inputs, rules=rules), difference)

    def integrated(self, shares: Sequence[float]) -> Tensor:
        """EAP-IG: ``products``, averaged over the runs from alternative + a (clean - alternative), a in ``shares``."""
        clean, far = self.clean.inputs, self.alternative_inputs
        return sum(self.products(far + a * (clean - far)) for a in shares) / len(shares)

    def contract(self, found: Gradients, difference: Tensor | None = None, writers: slice = slice(None)) -> Tensor:
        """<difference (default: ``damage``), gradients> of ``writers``, summed over examples: [W, R]; others are
        zero."""
        difference = self.damage if difference is None else difference
        return contract(self.model, found, difference, writers=writers, by_example=self.by_example)


def points_of_path(steps: int, endpoint: str) -> list[float]:
    """The shares a_k of ``Prompts.integrated`` for a path of so many steps and an end point of ``ENDPOINTS``."""
    if endpoint == BOTH:
        return [k / steps for k in range(steps + 1)]
    return [(k + ENDPOINTS[endpoint]) / steps for k in range(steps)]


def mean_scores(
    model: Transformer,
    data: Data,
    ablation: Ablation,
    objective: Objective,
    *,
    seed: int,
    batch_size: int,
    of_batch: Callable[[Prompts], Tensor],
) -> EdgeScores:
    """Edge scores [W, R], averaged over all examples.

    Args:
        batch_size: prompts at a time; 0 chooses it from the model's size. It does not change the scores.
        of_batch: returns the sum of the scores over a batch's examples, [W, R]; for prompts that are ``by_example``, it
            may return the scores of each, [B, W, R].
    """
    values = mean_values(model, data, ablation, objective, seed, batch_size, of_batch, _KEPT.get())
    return EdgeScores(model.graph, values)


def mean_values(
    model: Transformer,
    data: Data,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    batch_size: int,
    of_batch: Callable[[Prompts], Tensor],
    kept: list[tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """The mean over all examples of values of any shape, float64 on the CPU. Takes what ``mean_scores`` takes.

    Args:
        kept: a list to which (rows, values of each example) is added for each batch; None keeps the sum alone.
    """
    size = batch_size or default_batch_size(model, data.clean.shape[1])
    alternatives = Alternatives(model, data, ablation, seed=seed, batch_size=size)

    def of_rows(batch: Batch) -> Tensor:
        found = of_batch(Prompts(Runs(model, batch), alternatives, objective, kept is not None))
        if kept is None or found.ndim < 3:  # a sum over examples, where a method cannot keep them apart
            return found
        kept.append((batch.rows, batch.by_example(found.double().cpu())))
        return found.double().sum(0)

    total = summed(data.batches(size), of_rows)
    return total / data.n


def induced(graph: Graph, nodes: Tensor) -> EdgeScores:
    """The scores of edges from those of nodes: an edge stays in the circuit as long as both of its ends do.

    Args:
        nodes: scores of zero or more, one for each reader [R]; the score of the logits is ignored. A node stays as a
            writer as long as any of its readers stays. Nodes that read nothing, and the logits, always stay.

    Returns:
        The smaller score of the two ends; for an edge between two ends that always stay, the largest score of all.
    """
    infinite = float("inf")
    readers = nodes.double().clone()
    readers[-1] = infinite
    writers = torch.full((len(graph.writers),), infinite, dtype=torch.float64)
    for group in graph.groups:
        if group.reads and group.writes:
            writers[group.writers] = group.by_node(readers[group.readers]).amax(0)
    scores = torch.minimum(writers[:, None], readers[None])
    return EdgeScores(graph, scores.clamp_max(readers[:-1].max()))


def check_choices(method: str, **given: tuple[str, tuple[str, ...]]) -> None:
    """Raises SpecError for a parameter, given as ``name=(value, choices)``, whose value is not among its choices."""
    for name, (value, choices) in given.items():
        if value not in choices:
            raise SpecError(f"{method}: {name}={value!r}; it is one of {', '.join(choices)}.")
