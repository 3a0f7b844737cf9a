"""Every minimal circuit of a certified model under one ablation: not those that some deletions end at, but all.

A circuit is sufficient when cutting all edges outside of it changes no output by more than the tolerance, and minimal
when it is sufficient and no smaller part of it is. To be sufficient is not handed up: an edge more can destroy it (two
heads that cancel), so that nothing can be concluded from a circuit about those around it. What can be used is that a
model computes node after node. Two choices of the edges into the first nodes after which all that later nodes can read
is the same, on every row, can be completed in the same ways; where one has all edges of the other and more, it is part
of no minimal circuit. So nodes are taken in the order in which they run, every set of edges into each is tried, and of
choices that come to the same only the smallest are kept (dynamic programming over the values that nodes can have).

Letters in the shape comments: B rows, P positions, D d_model, n = B * P * D.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from ..suite.errors import ModelError
from ..suite.intervention.ablation import Ablation
from ..suite.model.block import ACTIVATIONS, Block
from ..suite.model.features.transformer import FeatureTransformer
from ..suite.model.graph import Node
from ..suite.model.transformer import Transformer
from .certificate import CertifiedOf, MinimalCircuits, MinimalCircuitsFile
from .certify import every_input, paired_inputs, pairs_of
from .cuts import CutTest
from .files import TRUTH_FORMAT, file_name, write_json
from .structure import inert_in_all_circuits
from .truth import GroundTruth

MOST_CANDIDATES = 40
MOST_CHOICES = 500_000  # of edges, over all nodes, before an enumeration is given up
_ROWS = 24  # rows to begin with, beside those on which single cuts move most
_SAME = 1e-8  # values nearer than this are the same; the rest is rounding
_AT_ONCE = 2_000_000  # numbers in a chunk of values that are computed together

Signature = tuple[tuple[int, int], ...]
"""What a reader is given: of every kept edge the writer, and which of the writer's values it carries."""
WriterValues = tuple[int, ...]
"""Of every writer that later nodes can read, which value it has; 0: no edge of it is kept."""


def minimal_circuits(
    truth: GroundTruth, ablation: str, *, largest: int | None = None, most_candidates: int = MOST_CANDIDATES
) -> MinimalCircuits:
    """All minimal circuits of a certified model under an ablation that its certificate is about.

    They are found on some of the certificate's rows and tried on all; while one fails on a row, the row is added. When
    none fails, none is missing: a minimal circuit is sufficient on the rows at hand, so it contains one that was found,
    which is sufficient on all rows, so it is that one.

    Args:
        largest: only those of at most so many edges; then the number of candidates does not matter.
        most_candidates: edges that may matter, above which the enumeration of all circuits is refused.

    Raises:
        ModelError: an ablation without a certificate, features as nodes, more candidates, or more choices than fit.
    """
    claims = truth.certificate.ablations
    if ablation not in claims:
        raise ModelError(f"{truth.name} is not certified under {ablation}; it is under {', '.join(claims)}.")
    model = truth.model(dtype=torch.float64)
    if isinstance(model, FeatureTransformer):
        raise ModelError(f"the nodes of {truth.name} are features; minimal circuits are enumerated of heads and MLPs.")
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
        chosen = torch.cat([chosen, failed.argmax(1)]).unique()
    return MinimalCircuits(
        candidates=n,
        largest=largest,
        circuits=sorted((truth.graph.named(circuit) for circuit in circuits), key=lambda names: (len(names), names)),
        largest_error=float(effects.max()) if len(circuits) else 0.0,
        rows=test.data.n,
    )


def write_minimal_circuits(truth: GroundTruth, found: Mapping[str, MinimalCircuits]) -> None:
    """Writes ``minimal.json`` into the truth's folder; ablations that it has already stay as they are there.

    Args:
        found: by ablation, without ``resample``, whose circuits are those of ``patch``.
    """
    known = {name: kept for name in truth.ablations if name != "resample" and (kept := truth.minimal(name))}
    of = CertifiedOf(weights=truth.certificate.weights, domain=truth.certificate.domain)
    content = MinimalCircuitsFile(
        format=TRUTH_FORMAT, of=of, tolerance=truth.certificate.tolerance, ablations={**known, **found}
    )
    write_json(truth.directory / file_name("minimal", truth.variant, "json"), content.as_json())


def _test(truth: GroundTruth, model: Transformer, ablation: str) -> tuple[CutTest, Tensor]:
    """All rows that the certificate was made on; and those to begin with: its witnesses, and some spread evenly."""
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
        test: what may not change.
        rows: long [B], the rows at hand.
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


class NodeValues:
    """What readers and nodes can be given and can write on some rows, each different value computed once and numbered.

    Value 0 of a writer is what a cut edge carries.
    """

    def __init__(self, test: CutTest, rows: Tensor) -> None:
        self.model: Transformer = test.model
        self.ready = test.prepared(rows)
        self.clean = self.model.run(self.ready.inputs, read=self.ready.runs.read)[0]
        self.shape = tuple(self.ready.inputs.shape[1:])  # B, P, D
        n, config = int(np.prod(self.shape)), self.model.config
        # Without norms a reader's input is linear in what it is given, up to its projection.
        self._linear = config.norm == "none" and not (config.gated or config.unembed_bias or config.logit_cap)
        self._written = {w: Numbered(torch.zeros(1, n).double()) for w in range(len(self.model.graph.writers))}
        graph = self.model.graph
        self._group = {r: group for group in graph.groups for r in range(group.readers.start, group.readers.stop)}
        self._base = {r: self._seen(r, self._before(r).flatten()[None])[0] for r in self._group}
        self._carried: dict[tuple[int, int], Tensor] = {}
        self._read: dict[int, tuple[dict[Signature, int], Numbered]] = {}
        self._of_node: dict[str, dict[tuple[int, ...], int]] = {}

    def of_input(self, writer: int) -> int:
        """The value of an input node: what it writes, or 0 where a cut edge carries the same."""
        difference = self.ready.inputs[writer] - self.ready.alternative.activations.inputs[writer]
        return self._written[writer].number(difference.expand(self.shape).flatten()[None])[0]

    def read(self, reader: int, signatures: Iterable[Signature]) -> dict[Signature, int]:
        """What a reader makes of each signature, by number: a head's query, key or value; of an MLP, what it writes."""
        known, table = self._read.setdefault(reader, ({}, Numbered()))
        new = [signature for signature in signatures if signature not in known]
        for part in _chunks(new, self._base[reader].numel()):
            known.update(zip(part, table.number(self._made(reader, self._given(reader, part))), strict=True))
        return known

    def of_node(self, node: Node, wanted: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
        """The value of a node for each choice of what its readers read, by number."""
        known, w = self._of_node.setdefault(node.name, {}), node.writers.start
        new = [parts for parts in wanted if parts not in known]
        for part in _chunks(new, int(np.prod(self.shape))):
            given = [self._read[reader][1].rows([parts[i] for parts in part]) for i, reader in enumerate(node.readers)]
            known.update(zip(part, self._written[w].number(self._difference(node, given)), strict=True))
        return known

    def fits(self, signatures: Iterable[Signature], tolerance: float) -> dict[Signature, bool]:
        """Whether the outputs are the whole model's, for each choice of what the logits read."""
        found, reader = {}, len(self.model.graph.readers) - 1
        for part in _chunks(list(signatures), self._base[reader].numel()):
            outputs = self._made(reader, self._given(reader, part))
            found.update(zip(part, ((outputs - self.clean.flatten()).abs().amax(1) <= tolerance).tolist(), strict=True))
        return found

    def _before(self, reader: int) -> Tensor:
        return self.ready.alternative.before[self._group[reader].key].expand(self.shape)

    def _given(self, reader: int, signatures: Sequence[Signature]) -> Tensor:
        """What a reader sees of its input, [c, ?]: added up of what each kept edge carries."""
        total = self._base[reader].repeat(len(signatures), 1)
        by_writer: dict[int, tuple[list[int], list[int]]] = {}
        for i, signature in enumerate(signatures):
            for w, value in signature:
                rows, values = by_writer.setdefault(w, ([], []))
                rows.append(i)
                values.append(value)
        for w, (rows, values) in by_writer.items():
            total.index_add_(0, torch.tensor(rows), self._of_writer(reader, w)[torch.tensor(values)])
        return total

    def _of_writer(self, reader: int, w: int) -> Tensor:
        """What a reader sees of each value of a writer: [m, ?]."""
        values = self._written[w].all
        known = self._carried.get((reader, w))
        if known is None or len(known) < len(values):
            new = self._seen(reader, values if known is None else values[len(known) :], constant=False)
            self._carried[reader, w] = known = new if known is None else torch.cat([known, new])
        return known

    def _seen(self, reader: int, x: Tensor, constant: bool = True) -> Tensor:
        """Of the residual stream [m, n], what a reader works with: its linear part, where no norm comes before it."""
        if not self._linear:
            return x
        group, x = self._group[reader], x.unflatten(1, self.shape)
        if group.kind == "logits":
            return x[:, self.ready.runs.read].matmul(self.model.unembed).flatten(1)
        block = self.model.blocks[group.layer]
        if group.kind == "mlp":
            return (x @ block.W_in + (block.b_in if constant else 0)).flatten(1)
        weight, bias = (part[0] for part in block.reader_weights(torch.tensor([reader - group.readers.start])))
        return (x @ weight + (bias if constant else 0)).flatten(1)

    def _made(self, reader: int, seen: Tensor) -> Tensor:
        """What a node makes of what one of its readers sees [c, ?]: a projection, an MLP's output, the logits."""
        group = self._group[reader]
        if not self._linear:
            x = seen.unflatten(1, self.shape)
            if group.kind == "logits":
                return self.model.to_logits(x, self.ready.runs.read).flatten(1)
            block = self.model.blocks[group.layer]
            if group.kind == "mlp":
                return block(Block.mlp_of, x).flatten(1)
            which = torch.tensor([reader - group.readers.start])
            return block(Block.project_apart, x[None], which)[0].flatten(1)
        if group.kind == "mlp":
            block = self.model.blocks[group.layer]
            hidden = ACTIVATIONS[self.model.config.activation](seen.unflatten(1, (*self.shape[:2], -1)))
            return (hidden @ block.W_out + block.b_out).flatten(1)
        return seen

    def _difference(self, node: Node, given: Sequence[Tensor]) -> Tensor:
        """What a node writes less what a cut edge carries [c, n], from what its readers made of their inputs."""
        alternative = self.ready.alternative.activations[node.kind, node.layer]
        if node.kind == "mlp":
            return given[0] - alternative[0].expand(self.shape).flatten()
        head = node.readers[0] - self._group[node.readers[0]].readers.start
        block, d_head = self.model.blocks[node.layer], self.model.config.d_head
        q, k, v = (each.unflatten(1, (*self.shape[:2], d_head)) for each in given)
        z = block.attending(Block.attend, q, k, v) - alternative[head]
        return (z @ block.W_O_by_head[head]).flatten(1)


class Numbered:
    """Different values, numbered from 0 in the order in which they came; ``start`` [m, n] are the first."""

    def __init__(self, start: Tensor | None = None) -> None:
        self._number: dict[bytes, int] = {}
        self._parts: list[Tensor] = []
        if start is not None:
            self.number(start)

    def number(self, values: Tensor) -> list[int]:
        """The number of each of some values [c, n]; equal ones share theirs."""
        numbers, added = [], []
        for i, row in enumerate((values / _SAME).round().to(torch.int64).numpy()):
            key = blake2b(row.data, digest_size=16).digest()
            if key not in self._number:
                self._number[key] = len(self._number)
                added.append(i)
            numbers.append(self._number[key])
        if added:
            self._parts.append(values[added])
        return numbers

    @property
    def all(self) -> Tensor:
        """The values in the order of their numbers: [m, n]."""
        self._parts = [torch.cat(self._parts)] if len(self._parts) > 1 else self._parts
        return self._parts[0]

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """The values with these numbers: [c, n]."""
        return self.all[torch.tensor(numbers)]


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


def _chunks(items: list, size: int) -> Iterator[list]:
    step = max(1, _AT_ONCE // size)
    return (items[start : start + step] for start in range(0, len(items), step))
