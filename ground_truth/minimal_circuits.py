"""All minimal circuits of a certified model under one ablation, on the inputs that its certificate tried.

A circuit is sufficient when cutting all edges outside of it changes no output by more than the tolerance, and minimal
when it is sufficient and no smaller part of it is. A larger circuit need not be sufficient, because another edge can
destroy what a circuit does (two heads that cancel), so that one circuit says nothing about those that contain it. The
search uses that a model computes node after node. If two choices of the edges into the first nodes leave the same
values for later nodes to read, on every row, they can be completed in the same ways; if one of them has all edges of
the other and more, it is part of no minimal circuit. So nodes are taken in the order in which they run, every set of
edges into each is tried, and of the choices that leave the same values only the smallest are kept (dynamic programming
over the values that nodes can have, which node_values.py computes).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..suite.errors import ModelError
from ..suite.intervention.ablation import Ablation
from ..suite.model.graph import Node
from ..suite.model.transformer import Transformer
from ..suite.reading import checked
from .certificate import CertifiedOf, MinimalCircuits, MinimalCircuitsFile, listed_as
from .certify import every_input, paired_inputs, pairs_of
from .cuts import CutTest
from .files import TRUTH_FORMAT, file_name, read_truth_json, write_json
from .node_values import NodeValues, Signature
from .structure import inert_in_all_circuits
from .truth import GroundTruth

MOST_CANDIDATES = 40
MOST_CHOICES = 500_000  # of edges, over all nodes, before an enumeration is given up
_ROWS = 24  # rows to begin with, besides those on which single cuts have the largest effects

WriterValues = tuple[int, ...]
"""Which value each writer has that later nodes can read; 0: no edge out of the writer is kept."""


def minimal_circuits(
    truth: GroundTruth, ablation: str, *, largest: int | None = None, most_candidates: int = MOST_CANDIDATES
) -> MinimalCircuits:
    """All minimal circuits of a certified model under an ablation that its certificate is about.

    All circuits are found that are minimal on the rows that the certificate tried: every input of its domain; under
    ``patch`` every pair of them, or the sample of pairs that the certificate is about. Circuits are found on some of
    these rows and tested on all. While a circuit fails on some row, the row is added. When none fails, the list is
    complete: a minimal circuit is sufficient on the chosen rows, so that it contains a circuit that was found. That
    circuit is sufficient on all rows, so that it is the minimal circuit itself.

    Args:
        largest: only those of at most so many edges; then the number of candidates does not matter.
        most_candidates: edges that may matter, above which the enumeration of all circuits is refused.

    Raises:
        ModelError: an ablation without a certificate, features as nodes or edges at single positions, more candidates,
            more choices than fit, or an effect so near to the tolerance that rounding decides whether a circuit is
            sufficient.
    """
    claims = truth.certificate.ablations
    if ablation not in claims:
        raise ModelError(f"{truth.name} is not certified under {ablation}; it is under {', '.join(claims)}.")
    model = truth.model(dtype=torch.float64)
    if type(model) is not Transformer:
        raise ModelError(
            f"minimal circuits are enumerated of heads and MLPs at all positions; {truth.name} has features as nodes, "
            f"or edges at single positions."
        )
    candidates = truth.graph.matrix(truth.certificate.structural)
    if ablation in ("patch", "resample"):
        candidates &= ~inert_in_all_circuits(model, torch.from_numpy(truth.domain.tokens), candidates)
    n = int(candidates.sum())
    if largest is None and n > most_candidates:
        raise ModelError(
            f"{truth.name} has {n} edges that may matter under {ablation}; all minimal circuits are enumerated of at "
            f"most {most_candidates}, or those of a size: --largest N."
        )
    test, chosen = _test(truth, model, ablation)
    while True:
        search = Enumeration(test, chosen, candidates, truth.certificate.tolerance, largest, truth.name)
        circuits = search.minimal()
        effects = test.effects(circuits) if len(circuits) else torch.zeros(0, test.data.n)
        if bool((effects <= truth.certificate.tolerance).all()):
            break
        failed = effects[(effects > truth.certificate.tolerance).any(1)]
        chosen = test.more_rows(chosen, failed, truth.certificate.tolerance)
    return MinimalCircuits(
        candidates=n,
        largest=largest,
        circuits=sorted((truth.graph.named(circuit) for circuit in circuits), key=lambda names: (len(names), names)),
        largest_error=float(effects.max()) if len(circuits) else 0.0,
        rows=test.data.n,
    )


def write_minimal_circuits(truth: GroundTruth, found: Mapping[str, MinimalCircuits]) -> Path:
    """Writes ``minimal.json`` into the truth's folder and returns its path.

    Ablations that it has already stay as they are there; those of a file about another certificate are dropped.

    Args:
        found: by ablation; the circuits of ``resample`` are written as those of ``patch``.
    """
    path = truth.directory / file_name("minimal", truth.variant, "json")
    ablations: dict[str, MinimalCircuits] = {}
    if path.is_file():
        before = checked(MinimalCircuitsFile, read_truth_json(path), path, ModelError)
        if before.is_about(truth.certificate):
            certified = {listed_as(name) for name in truth.ablations}
            ablations = {name: kept for name, kept in before.ablations.items() if name in certified}
    content = MinimalCircuitsFile(
        format=TRUTH_FORMAT,
        of=CertifiedOf(weights=truth.certificate.weights, domain=truth.certificate.domain),
        tolerance=truth.certificate.tolerance,
        ablations=ablations | {listed_as(name): circuits for name, circuits in found.items()},
    )
    write_json(path, content.as_json())
    return path


def _test(truth: GroundTruth, model: Transformer, ablation: str) -> tuple[CutTest, Tensor]:
    """The rows of the certificate: every input, or under patch its pairs and its witnesses beyond them; and those to
    begin with: the witnesses, and some spread evenly."""
    claim, domain = truth.certificate.ablations[ablation], truth.domain
    witnesses = sorted(map(tuple, claim.witnesses.values()))
    if ablation in ("patch", "resample"):
        pairs, _ = pairs_of(domain, every_pair=truth.certificate.training is not None)
        pairs = np.unique(np.concatenate([pairs, np.array(witnesses, dtype=pairs.dtype).reshape(-1, 2)]), axis=0)
        test = CutTest(model, paired_inputs(domain, pairs), Ablation.parse("patch"))
        first = [int(np.flatnonzero((pairs == each).all(1))[0]) for each in witnesses]
    else:
        test = CutTest(model, every_input(domain, Ablation.parse(ablation))[0], Ablation.parse(ablation))
        first = [row for (row,) in witnesses]
    spread = torch.linspace(0, test.data.n - 1, _ROWS).long()
    return test, torch.cat([torch.tensor(first, dtype=torch.long), spread]).unique()


class Enumeration:
    """The minimal circuits that are sufficient on some rows of a test.

    Args:
        test: the outputs that may not change.
        rows: long [B], the chosen rows.
        candidates: bool [W, R], the edges that circuits consist of; all others are cut.
        tolerance: the largest change of an output that counts as none.
        largest: the most edges of a circuit; None: any number.
        name: of the truth, for errors.
    """

    def __init__(
        self, test: CutTest, rows: Tensor, candidates: Tensor, tolerance: float, largest: int | None, name: str
    ) -> None:
        self.values = NodeValues(test, rows)
        self.graph, self.tolerance, self.name = test.graph, tolerance, name
        self.largest = int(candidates.sum()) if largest is None else largest
        self.edges = [tuple(edge) for edge in candidates.nonzero().tolist()]
        self.bit = {edge: 1 << i for i, edge in enumerate(self.edges)}
        self.writers_of = {r: [w for w, reader in self.edges if reader == r] for r in range(len(self.graph.readers))}
        self.bits_from = {w: 0 for w in range(len(self.graph.writers))}
        for (w, _), bit in self.bit.items():
            self.bits_from[w] |= bit
        self.n_choices = 0

    @torch.no_grad()
    def minimal(self) -> Tensor:
        """The minimal circuits: bool [n, W, R]."""
        nodes = self.graph.nodes
        after = [
            {w for later in nodes[i + 1 :] for r in later.readers for w in self.writers_of[r]}
            for i in range(len(nodes))
        ]
        open_writers: tuple[int, ...] = ()
        states: dict[WriterValues, list[int]] = {(): [0]}
        for i, node in enumerate(nodes[:-1]):
            states = self._with_node(node, states, open_writers)
            written = (*open_writers, node.writers.start)
            keep = [place for place, w in enumerate(written) if w in after[i]]
            closed = [place for place in range(len(written)) if place not in keep]
            states = self._without(states, written, keep, closed)
            open_writers = tuple(written[place] for place in keep)
        found = self._sufficient(nodes[-1], states, open_writers)
        circuits = torch.zeros(len(found), *self.graph.exists.shape, dtype=torch.bool)
        for circuit, mask in zip(circuits, found, strict=True):
            for edge in self._edges_of(mask):
                circuit[edge] = True
        return circuits

    def _edges_of(self, mask: int) -> Iterator[tuple[int, int]]:
        return (edge for edge in self.edges if self.bit[edge] & mask)

    def _with_node(
        self, node: Node, states: dict[WriterValues, list[int]], writers: tuple[int, ...]
    ) -> dict[WriterValues, list[int]]:
        """Every state of the writers, followed by each value that the node can have."""
        w = node.writers.start
        if node.kind == "input":
            value = self.values.of_input(w)
            return {(*state, value): masks for state, masks in states.items()}
        if not self.bits_from[w]:
            return {(*state, 0): masks for state, masks in states.items()}
        place = [i for i, other in enumerate(writers) if any(other in self.writers_of[r] for r in node.readers)]
        choices = self._choices(node, {tuple((writers[i], state[i]) for i in place) for state in states})
        following: dict[WriterValues, list[int]] = {}
        for state, masks in states.items():
            following.setdefault((*state, 0), []).extend(masks)
            for value, added in choices[tuple((writers[i], state[i]) for i in place)].items():
                self._count(len(masks) * len(added))
                more = [m | a for m in masks for a in added if (m | a).bit_count() < self.largest]
                if more:
                    following.setdefault((*state, value), []).extend(more)
        return {state: smallest(masks) for state, masks in following.items()}

    def _choices(self, node: Node, seen: set[Signature]) -> dict[Signature, dict[int, list[int]]]:
        """For each state of the writers that a node can read: value of the node -> the smallest sets of edges into it
        that give it this value."""
        given: list[dict[Signature, dict[int, list[int]]]] = []
        for reader in node.readers:
            subsets = {state: list(self._subsets(reader, state)) for state in seen}
            self._count(sum(map(len, subsets.values())))
            read = self.values.read(reader, {signature for found in subsets.values() for signature, _ in found})
            given.append({state: _by_value((read[s], mask) for s, mask in found) for state, found in subsets.items()})
        self._count(sum(math.prod(len(each[state]) for each in given) for state in seen))
        wanted = {parts for state in seen for parts in itertools.product(*(each[state] for each in given))}
        value_of = self.values.of_node(node, wanted)
        choices = {}
        for state in seen:
            found = []
            for parts in itertools.product(*(each[state] for each in given)):
                if value_of[parts]:  # 0 is what a cut edge carries: no edge of the node need be kept
                    sets = itertools.product(*(each[state][part] for each, part in zip(given, parts, strict=True)))
                    found += [(value_of[parts], sum(masks)) for masks in sets]
            choices[state] = _by_value(found)
        return choices

    def _subsets(self, reader: int, state: Signature) -> Iterator[tuple[Signature, int]]:
        """What a reader may be given: sets of edges that carry something, by signature and as a mask."""
        live = [(w, value) for w, value in state if value and (w, reader) in self.bit]
        for size in range(min(len(live), self.largest) + 1):
            for chosen in itertools.combinations(live, size):
                yield chosen, sum(self.bit[w, reader] for w, _ in chosen)

    def _without(
        self,
        states: dict[WriterValues, list[int]],
        writers: tuple[int, ...],
        keep: Sequence[int],
        closed: Sequence[int],
    ) -> dict[WriterValues, list[int]]:
        """States without the writers that nobody reads any more; what such a writer computed must have been read."""
        inputs = len(self.graph.input_nodes)
        following: dict[WriterValues, list[int]] = {}
        for state, masks in states.items():
            must = [self.bits_from[writers[i]] for i in closed if state[i] and writers[i] >= inputs]
            owed = [self.bits_from[writers[i]] for i in keep if state[i] and writers[i] >= inputs]
            # Each writer that is computed and not yet read costs an edge more.
            left = [
                mask
                for mask in masks
                if all(mask & bits for bits in must)
                and mask.bit_count() + sum(not mask & bits for bits in owed) <= self.largest
            ]
            if left:
                following.setdefault(tuple(state[i] for i in keep), []).extend(left)
        return {state: smallest(masks) for state, masks in following.items()} if closed else following

    def _sufficient(self, logits: Node, states: dict[WriterValues, list[int]], writers: tuple[int, ...]) -> list[int]:
        """The smallest masks whose outputs are the whole model's."""
        (reader,), inputs = logits.readers, len(self.graph.input_nodes)
        tried: dict[Signature, list[int]] = {}
        for state, masks in states.items():
            signature = tuple(zip(writers, state, strict=True))
            for kept, last in self._subsets(reader, signature):
                must = [self.bits_from[w] for w, value in signature if value and w >= inputs and (w, value) not in kept]
                whole = [
                    mask | last
                    for mask in masks
                    if mask.bit_count() + len(kept) <= self.largest and all(mask & bits for bits in must)
                ]
                self._count(1)
                if whole:
                    tried.setdefault(kept, []).extend(whole)
        fits = self.values.fits(tried, self.tolerance)
        return smallest([mask for kept, masks in tried.items() if fits[kept] for mask in masks])

    def _count(self, n: int) -> None:
        self.n_choices += n
        if self.n_choices > MOST_CHOICES:
            raise ModelError(
                f"{self.name}: more than {MOST_CHOICES:,} choices of edges come to different values; enumerate the "
                f"minimal circuits of a smaller size: --largest N."
            )


def smallest(masks: Iterable[int]) -> list[int]:
    """Those that contain no other, each once.

    >>> smallest([0b111, 0b011, 0b101, 0b011])
    [3, 5]
    """
    kept: list[int] = []
    for mask in sorted(set(masks), key=lambda mask: (mask.bit_count(), mask)):
        if not any(mask & other == other for other in kept):
            kept.append(mask)
    return kept


def _by_value(found: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Value -> the smallest masks that come to it."""
    masks: dict[int, list[int]] = {}
    for value, mask in found:
        masks.setdefault(value, []).append(mask)
    return {value: smallest(of_value) for value, of_value in masks.items()}
