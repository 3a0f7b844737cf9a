"""Hypothesis tests of a circuit: whether it is equivalent to the model, complete, minimal, and better than chance.

Five tests of Shi et al. 2024 (arXiv:2410.13032), each a ``HypothesisTest``. Three take the circuit to be ideal until
the prompts speak against it (equivalence, independence, minimality): one that does not reject says no more than its
power does. Two take it to be no better than random connected circuits of its size until it shows that it is
(sufficiency, partial necessity). All five are corrected together for being several (Holm), and minimality for its edges
before that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..errors import DataError
from ..intervention.evaluator import Evaluator
from ..intervention.faithfulness import CircuitValues, evaluator_of, measure_circuits
from ..intervention.objective import Objective
from ..intervention.setting import Cut
from ..model.device import send
from ..model.transformer import Transformer
from . import hypotheses_statistics as statistics
from .agreement import holm
from .hypotheses_statistics import ALPHA
from .null import inflated_circuits, random_circuits, size_of

_TIE = 1e-3
"""Scores are the same when they differ by no more than this share of what cutting everything changes on average."""
MOST_PROMPTS = 500
"""HSIC compares all pairs of prompts: of more prompts, so many are drawn by the seed."""
N_TESTS = 5
# The true state of affairs that each test's power is stated for.
BETTER, WINS = 0.8, 0.99


@dataclass(frozen=True)
class HypothesisTest:
    """One test, and what it says of the circuit.

    Args:
        name: the name of the test.
        null: the hypothesis that is held until the p-value is small.
        statistic: a share of prompts (equivalence) or of comparisons won, or HSIC (independence).
        n: the number of prompts, or of comparisons, that the test rests on.
        p_value: the p-value of this test alone. That of minimality is the worst edge's, corrected for the number of
            edges.
        corrected: the p-value corrected for all tests that were made (Holm).
        verdict: ``fails`` or ``holds`` when the null was rejected; ``not refuted`` or ``not shown`` when it was not.
        power: the chance of rejecting, at the level that the strictest correction leaves, if ``alternative`` were true;
            None for a test without a formula for it.
        alternative: the state of affairs that the power is stated for.
        edges: of minimality, the edges that do no more than random ones.
        undefined: why the test has no meaning here, or None.
    """

    name: str = ""
    null: str = ""
    statistic: float | None = None
    n: int = 0
    p_value: float | None = None
    corrected: float | None = None
    verdict: str | None = None
    power: float | None = None
    alternative: str | None = None
    edges: tuple[str, ...] = ()
    undefined: str | None = None

    def row(self) -> dict[str, Any]:
        """The test as one row of a table or of JSON."""
        return {**asdict(self), "edges": list(self.edges)}


# name: (the null, the verdict when it is rejected, the verdict when it is not)
TESTS = {
    "equivalence": ("circuit and model are better equally often", "fails", "not refuted"),
    "independence": ("what is left without the circuit does not depend on the model's output", "fails", "not refuted"),
    "minimality": ("every edge matters more than most edges that could be added", "fails", "not refuted"),
    "sufficiency": ("the circuit is no closer to the model than most random ones of its size", "holds", "not shown"),
    "partial necessity": ("cutting it harms no more than cutting most random ones of its size", "holds", "not shown"),
}


def hypotheses(
    model: Transformer,
    data: Data,
    circuit: Circuit,
    cut: Cut,
    objective: Objective,
    *,
    seed: int = 0,
    epsilon: float = 0.1,
    quantile: float = 0.9,
    n_random: int = 100,
    permutations: int = 1000,
    batch_size: int | None = None,
) -> list[HypothesisTest]:
    """All five tests.

    Args:
        circuit: a circuit of the graph of ``model``.
        cut: how circuits are run; its ``set`` is set here.
        objective: the score of a run, in all tests but independence.
        seed: the seed of random circuits, of permutations, and of the ablation's draws.
        epsilon: circuit and model are equivalent when the circuit is better on a share of prompts that is closer than
            this to one half.
        quantile: the share of random circuits, or random edges, that has to be beaten.
        n_random: how many random circuits, and random edges, are drawn.
        permutations: the number of permutations of the independence test.
        batch_size: prompts at a time; chosen from the model's size when omitted. It changes the result where a mean is
            over the batch.

    A test without a meaning has ``undefined``, the reason. Comparisons count ties for the circuit, but a circuit that
    does nothing at all wins none. Independence compares the outputs themselves (of tokens that are a right or wrong
    answer somewhere; all, where there are none): two scores against one and the same answer may depend on each other
    although the outputs do not.

    Raises:
        Undefined: a cut or objective that has no meaning on this data.
    """
    scores = _Scores(model, data, circuit, cut, objective, seed, batch_size)
    if scores.scale:
        found = {
            "equivalence": _equivalence(scores, epsilon),
            "independence": _independence(scores, permutations),
            "minimality": _minimality(scores, quantile, n_random),
            "sufficiency": _against_random(scores, quantile, n_random, knocked_out=False),
            "partial necessity": _against_random(scores, quantile, n_random, knocked_out=True),
        }
    else:
        found = dict.fromkeys(TESTS, _undefined("cutting everything changes no score"))
    known = {name: test.p_value for name, test in found.items() if test.p_value is not None}
    corrected = dict(zip(known, holm(list(known.values())).tolist(), strict=True))
    return [_judged(name, test, corrected.get(name)) for name, test in found.items()]


def _judged(name: str, test: HypothesisTest, corrected: float | None) -> HypothesisTest:
    null, rejected, not_rejected = TESTS[name]
    verdict = None if corrected is None else rejected if corrected <= ALPHA else not_rejected
    return replace(test, name=name, null=null, corrected=corrected, verdict=verdict)


class _Scores:
    """The scores that the tests share: float64 arrays, one row per circuit, one column per prompt."""

    def __init__(
        self,
        model: Transformer,
        data: Data,
        circuit: Circuit,
        cut: Cut,
        objective: Objective,
        seed: int,
        batch_size: int | None,
    ) -> None:
        self.model, self.data, self.circuit, self.objective, self.seed = model, data, circuit, objective, seed
        self.batch_size = batch_size
        self.cuts = {False: replace(cut, set="complement"), True: replace(cut, set="circuit")}
        measured = self._measured([circuit], self.cuts[False])
        self.full, self.empty, self.alone = (
            values.numpy() for values in (measured.full, measured.empty, measured.circuits[0])
        )
        self.scale = float(np.abs(self.full - self.empty).mean())
        self.tie = _TIE * self.scale

    def of(self, circuits: list[Circuit], knocked_out: bool = False) -> np.ndarray:
        """Scores of circuits or, when they are ``knocked_out``, of the rest of the graph: [C, N]."""
        return self._measured(circuits, self.cuts[knocked_out]).circuits.numpy()

    def evaluator(self) -> Evaluator:
        """Runs with edges cut on the prompts of the scores."""
        return evaluator_of(
            self.model, self.data, self.cuts[False], self.objective, seed=self.seed, batch_size=self.batch_size
        )

    def _measured(self, circuits: list[Circuit], cut: Cut) -> CircuitValues:
        return measure_circuits(
            self.model, self.data, circuits, cut, self.objective, seed=self.seed, batch_size=self.batch_size
        )

    def distance(self, scores: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The mean over prompts of the absolute difference of two scores: [C]."""
        return np.abs(scores - other).mean(-1)


def _undefined(reason: str) -> HypothesisTest:
    return HypothesisTest(undefined=reason)


def _equivalence(scores: _Scores, epsilon: float) -> HypothesisTest:
    if scores.objective.divergence:
        return _undefined(f"{scores.objective.name} is the distance from the model: nothing is better than the model")
    found = statistics.equivalence_test(scores.alone - scores.full, epsilon=epsilon, tie=scores.tie)
    n = len(scores.full)
    power = statistics.equivalence_power(n, BETTER, epsilon=epsilon, level=ALPHA / N_TESTS)
    alternative = f"one is better on {BETTER:.0%} of prompts"
    return HypothesisTest(statistic=found.proportion, n=n, p_value=found.p_value, power=power, alternative=alternative)


def _independence(scores: _Scores, permutations: int) -> HypothesisTest:
    whole = Circuit(scores.circuit.graph, torch.ones_like(scores.circuit.edges))
    evaluator = scores.evaluator()
    masks = torch.cat([scores.cuts[False].masks([whole]), scores.cuts[True].masks([scores.circuit])])
    outputs = evaluator.outputs(masks)
    rows = torch.cat([ready.batch.rows[ready.batch.example_of_read] for ready in evaluator.prepared()])
    model, rest = (_by_prompt(output, rows, scores.data) for output in outputs)
    if not (np.ptp(model, axis=0) > 0).any():
        return _undefined("the model's output is the same on every prompt")
    if len(model) > MOST_PROMPTS:
        drawn = np.random.default_rng(scores.seed).permutation(len(model))[:MOST_PROMPTS]
        model, rest = model[drawn], rest[drawn]
    found = statistics.independence_test(model, rest, permutations=permutations, seed=scores.seed)
    return HypothesisTest(statistic=found.statistic, n=len(model), p_value=found.p_value)


def _by_prompt(outputs: Tensor, rows: Tensor, data: Data) -> np.ndarray:
    """One vector per prompt, [N, d], from outputs [n_read, d_out] read on prompts ``rows`` [n_read].

    The vector is the outputs at all read positions one after the other; or their mean, when prompts are read at
    different numbers of positions.
    """
    if data.answers is not None and data.wrong is not None:
        tokens = torch.cat([data.answers.flatten(), data.wrong.flatten()]).unique()
        outputs = outputs[:, send(tokens[tokens >= 0], outputs.device)]
    outputs = outputs.double().cpu()
    counts = rows.bincount(minlength=data.n)
    if bool((counts == counts[0]).all()):  # prompt after prompt, batch after batch: which comes first does not matter
        return outputs.reshape(data.n, -1).numpy()
    total = torch.zeros(data.n, outputs.shape[1], dtype=outputs.dtype).index_add(0, rows, outputs)
    return (total / counts[:, None]).numpy()


def _minimality(scores: _Scores, quantile: float, n_random: int) -> HypothesisTest:
    circuit, component = scores.circuit, scores.cuts[False].component
    if component != "edge":
        return _undefined(f"edges are not cut one by one when the component is {component}")
    if not circuit.n_edges:
        return _undefined("the circuit has no edges")
    try:
        inflated = inflated_circuits(circuit, n_random, seed=scores.seed)
    except DataError as error:
        return _undefined(str(error).rstrip("."))
    generator = np.random.default_rng(scores.seed)
    where = circuit.edges.nonzero()
    effects = scores.distance(scores.of([_without(circuit, edge) for edge in where]), scores.alone)
    added = [(grown.edges & ~circuit.edges).nonzero() for grown in inflated]
    fewer = [
        _without(grown, edges[generator.integers(len(edges))]) for grown, edges in zip(inflated, added, strict=True)
    ]
    random = scores.distance(scores.of(fewer), scores.of(inflated))
    wins = (effects[:, None] > random[None] + scores.tie).sum(1)
    p_values = holm([statistics.less_often(int(won), n_random, quantile) for won in wins])
    worst = int(wins.argmin())
    level = ALPHA / (N_TESTS * len(where))
    return HypothesisTest(
        statistic=float(wins[worst] / n_random),
        n=n_random,
        p_value=float(p_values[worst]),
        power=statistics.less_often_power(n_random, 0.5, quantile, level=level),
        alternative="an edge matters as much as a random one",
        edges=tuple(circuit.names[i] for i in np.flatnonzero(p_values <= ALPHA)),
    )


def _without(circuit: Circuit, edge: Tensor) -> Circuit:
    edges = circuit.edges.clone()
    edges[tuple(edge)] = False
    return Circuit(circuit.graph, edges)


def _against_random(scores: _Scores, quantile: float, n_random: int, *, knocked_out: bool) -> HypothesisTest:
    """The test of sufficiency or, with ``knocked_out``, that of partial necessity."""
    component = scores.cuts[False].component
    try:
        size = size_of(scores.circuit, component)
        random = random_circuits(scores.circuit.graph, size, n_random, component=component, seed=scores.seed)
    except DataError as error:
        return _undefined(str(error).rstrip("."))
    others = scores.distance(scores.of(random, knocked_out), scores.full)
    if knocked_out:
        harm = float(scores.distance(scores.of([scores.circuit], True), scores.full)[0])
        wins = int((harm >= others - scores.tie).sum()) if harm > scores.tie else 0
    else:
        loss = float(scores.distance(scores.alone, scores.full))
        does_something = loss < float(scores.distance(scores.empty, scores.full)) - scores.tie
        wins = int((loss <= others + scores.tie).sum()) if does_something else 0
    power = statistics.more_often_power(n_random, WINS, quantile, level=ALPHA / N_TESTS)
    p_value = statistics.more_often(wins, n_random, quantile)
    alternative = f"it beats {WINS:.0%} of random circuits"
    return HypothesisTest(statistic=wins / n_random, n=n_random, p_value=p_value, power=power, alternative=alternative)
