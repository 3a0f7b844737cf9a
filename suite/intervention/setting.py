"""The choices an analyst makes when measuring a circuit: a full grid, and which of its cells have no meaning.

How a circuit is run is a ``Cut``; a ``Setting`` adds what is measured and how it is summed up (Miller, Chughtai and
Saunders 2024, arXiv:2407.08734, table 1). Both print as they parse.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..circuit import Circuit, on_inputs
from ..data import Data
from ..errors import SpecError, unknown
from ..model.graph import Graph
from ..model.transformer import Transformer
from .ablation import Ablation, kinds_in_order
from .levels import (
    LEVELS,
    VALUE_FACTORS,
    Aggregation,
    Component,
    Direction,
    Embedding,
    Pruning,
    ReferencePoint,
    Set,
)
from .objective import OBJECTIVES


@dataclass(frozen=True)
class Cut:
    """How a circuit is run.

    Args:
        ablation: what a cut edge carries.
        component: what is cut as one: an ``edge``; a ``node``, with all edges out of it, which is kept when the circuit
            has one of them; ``head-qkv``, with all edges into one head's queries, keys or values, kept likewise, while
            edges into MLPs and logits are never cut.
        embedding: which input nodes the graph has (see ``Graph.inputs``): the circuit's ``own``, or another choice, to
            which the circuit is carried over; ``kept``: edges out of the circuit's own input nodes are never cut.
        set: what is cut: the ``complement`` of the circuit, which measures faithfulness, or the ``circuit`` itself,
            the knock-out, which measures completeness.
        direction: ``noising``: a clean run in which cut edges carry the ablation's activations; ``denoising``: a
            corrupted run in which the edges that are not cut carry the clean run's.
        pruning: ``pruned``: the circuit is measured without dead ends, edges on no path of kept edges from an input
            node to the logits; ``unpruned``: with them. Under ``patch`` both are the same, because what such an edge
            carries is what a cut edge does; under other ablations they are not (a head without inputs still writes
            its biases).
        positions: where edges are cut: ``all``, or names of the task's, joined by ``+``.
    """

    ablation: Ablation
    component: Component = "edge"
    embedding: Embedding = "own"
    set: Set = "complement"
    direction: Direction = "noising"
    pruning: Pruning = "pruned"
    positions: str = "all"

    def __str__(self) -> str:
        """The ablation, then what is not the default: ``mean/node/denoising/at S2+end``."""
        default = Cut(self.ablation)
        parts = [getattr(self, name) for name in _PLAIN if getattr(self, name) != getattr(default, name)]
        return "/".join([str(self.ablation), *parts, *([f"at {self.positions}"] if self.positions != "all" else [])])

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Reads what ``str`` prints. Raises SpecError for an unknown part, or one that is given twice."""
        first, *parts = (part.strip() for part in text.split("/"))
        found: dict[str, Any] = {}  # each checked: it is among the levels
        for part in parts:
            name = next((name for name in _PLAIN if part in LEVELS[name]), "positions" if part[:3] == "at " else None)
            if name is None or name in found:
                allowed = [level for name in _PLAIN for level in LEVELS[name]]
                raise SpecError(
                    unknown("part of a cut", part, allowed, "Each dimension once; `at NAME` for positions.")
                )
            found[name] = part.removeprefix("at ") if name == "positions" else part
        return cls(Ablation.parse(first), **found)

    def undefined(self, data: Data, model: Transformer) -> str | None:
        """Why this cut has no meaning for this data and model, or None."""
        if reason := self.ablation.undefined(data):
            return reason
        if self.direction == "denoising" and not self.ablation.a_run:
            runs = " or ".join(kind.value for kind in kinds_in_order() if kind.a_run)
            return f"denoising starts from a corrupted run, and {self.ablation} does not run the model; use {runs}"
        if self.embedding in ("sum", "split") and model.config.positions != "learned":
            return f"embedding={self.embedding} is about a position embedding, which the model does not have"
        if self.positions == "all":
            return None
        if self.ablation.learned:
            return "optimal constants are learned for all positions"
        named = data.positions or {}
        missing = [name for name in self.positions.split("+") if name not in named]
        if missing and not named:
            return "the task names no positions"
        return f"the task names no position {missing[0]!r} (it has {', '.join(named)})" if missing else None

    def graph(self, graph: Graph) -> Graph:
        """The graph whose edges are cut, of a circuit of ``graph``."""
        if self.embedding == "own" or self.embedding == "kept":
            return graph
        return replace(graph, inputs=self.embedding)

    def cut_at(self, data: Data) -> Tensor | None:
        """bool [N, P]: where edges are cut; None for everywhere."""
        if self.positions == "all" or data.positions is None:
            return None
        return torch.stack([data.positions[name] for name in self.positions.split("+")]).any(0)

    def masks(self, circuits: Sequence[Circuit]) -> Tensor:
        """Which edges are not cut when each circuit is measured: bool [C, W, R] on ``self.graph``."""
        carried = [on_inputs(circuit, self.graph(circuit.graph).inputs) for circuit in circuits]
        graph = carried[0].graph
        chosen = torch.stack([self._measured_edges(circuit) for circuit in carried])
        return self._never_cut(graph) | (~chosen if self.set == "circuit" else chosen) & graph.exists

    def cuts_nothing(self, circuit: Circuit) -> bool:
        """Whether measuring the circuit cuts no edge, so that what runs is the whole model."""
        return bool((self.masks([circuit])[0] | ~self.graph(circuit.graph).exists).all())

    def empty(self, graph: Graph) -> Tensor:
        """The mask in which everything that can be cut is: bool [W, R], for circuits of ``graph``."""
        return self._never_cut(self.graph(graph))

    def _measured_edges(self, circuit: Circuit) -> Tensor:
        """The edges of its components, without dead ends where they are pruned: bool [W, R]."""
        edges = self._components(circuit)
        if self.pruning == "unpruned":
            return edges
        # What is never cut may feed a component, and is no dead end's fault.
        return edges & Circuit(circuit.graph, edges | self._never_cut(circuit.graph)).pruned().edges

    def _components(self, circuit: Circuit) -> Tensor:
        """The edges of every component that the circuit has an edge of: bool [W, R]."""
        match self.component:
            case "node":
                return circuit.edges.any(1, keepdim=True) & circuit.graph.exists
            case "head-qkv":
                return circuit.edges.any(0, keepdim=True) & circuit.graph.exists
        return circuit.edges

    def _never_cut(self, graph: Graph) -> Tensor:
        fixed = torch.zeros_like(graph.exists)
        if self.embedding == "kept":
            fixed[graph.group["input", 0].writers] = True
        if self.component == "head-qkv":
            for group in graph.groups:
                fixed[:, group.readers] |= group.kind != "head"
        return fixed & graph.exists


_PLAIN = tuple(field.name for field in fields(Cut) if field.name not in ("ablation", "positions"))


@dataclass(frozen=True)
class Setting:
    """One cell of the grid.

    Args:
        cut: how the circuit is run.
        objective: what is measured.
        aggregation: how prompts are summed up: the ratio of their means, the median of their ratios, or the mean of
            their ratios, which has no finite expectation where denominators come near zero and is there to reproduce
            papers.
        reference: what counts as nothing: ``none`` (0), the ``corrupted-run`` (the plain model on the counterfactual
            prompts), or the ``cut-graph`` (everything cut that can be).
    """

    cut: Cut
    objective: str
    aggregation: Aggregation = "ratio-of-means"
    reference: ReferencePoint = "cut-graph"

    def __str__(self) -> str:
        return f"{self.cut} | {self.objective} | {self.aggregation} | {self.reference}"

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Reads what ``str`` prints; the last two may be left out. Raises SpecError."""
        cut, *rest = (part.strip() for part in text.split("|"))
        if not 1 <= len(rest) <= 3:
            raise SpecError(f"setting {text!r}: write CUT | OBJECTIVE | AGGREGATION | REFERENCE.")
        (setting,) = grid(cuts=[Cut.parse(cut)], **dict(zip(VALUE_FACTORS, ([part] for part in rest), strict=False)))
        return setting

    def level(self, factor: str) -> str:
        """The level of one of ``FACTORS``, as text."""
        return str(getattr(self if factor in VALUE_FACTORS else self.cut, factor))

    def undefined(self, data: Data, model: Transformer) -> str | None:
        """Why this setting has no meaning for this data and model, or None."""
        objective = OBJECTIVES.get(self.objective)
        if reason := self.cut.undefined(data, model) or objective.undefined(data, model.config):
            return reason
        if self.reference == "none" and objective.divergence:
            return f"{self.objective} of the full model is 0, so that a share of it needs a reference point"
        if self.reference == "corrupted-run" and data.counterfactual is None:
            return f"the corrupted run needs counterfactual prompts{data.without_pairs}"
        return None


def grid(
    *,
    ablation: Sequence[str] = (),
    component: Sequence[str] = ("edge",),
    embedding: Sequence[str] = ("own",),
    set: Sequence[str] = ("complement",),
    direction: Sequence[str] = ("noising",),
    pruning: Sequence[str] = ("pruned",),
    positions: Sequence[str] = ("all",),
    objective: Sequence[str],
    aggregation: Sequence[str] = ("ratio-of-means",),
    reference: Sequence[str] = ("cut-graph",),
    cuts: Sequence[Cut] = (),
) -> tuple[Setting, ...]:
    """Every combination of the given levels, in the order of ``FACTORS``, the last changing fastest.

    Args:
        cuts: taken besides those that ``CUT_FACTORS`` make.

    Raises:
        SpecError: a level that does not exist.
    """
    given: Mapping[str, Sequence[str]] = {
        "component": component,
        "embedding": embedding,
        "set": set,
        "direction": direction,
        "pruning": pruning,
        "aggregation": aggregation,
        "reference": reference,
    }
    for factor, levels in given.items():
        for level in levels:
            if level not in LEVELS[factor]:
                raise SpecError(unknown(factor, level, LEVELS[factor]))
    for name in objective:
        OBJECTIVES.get(name)
    ablations = [Ablation.parse(text) for text in ablation]
    factors: tuple[Sequence[Any], ...] = (ablations, component, embedding, set, direction, pruning, positions)
    made = [Cut(*levels) for levels in itertools.product(*factors)]
    others: tuple[Sequence[Any], ...] = ([*cuts, *made], objective, aggregation, reference)
    return tuple(Setting(*levels) for levels in itertools.product(*others))
