"""What methods declare that they cost is what the engine counts, and sums of finished batches are gone on from."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite.data import Data
from circuitmeter.suite.methods import METHODS, _sweeps
from circuitmeter.suite.methods.cost import Cost, edge_passes
from circuitmeter.suite.methods.partial import kept_by
from circuitmeter.suite.model import in_parts
from circuitmeter.suite.model import passes as model_passes
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.model.load.by_name import load_model, on_model
from circuitmeter.suite.model.passes import count_passes
from circuitmeter.suite.plan.names import ablation, objective
from circuitmeter.suite.plan.speed import Speed, computing_clock

# Exactly what runs. The others run what is needed to decide (acdc), or as many prompts as share a length (masks).
EXACT = (
    "eap",
    "eap-gp",
    "eap-hvp",
    "eap-ig",
    "eap-path",
    "exact",
    "gate-aware",
    "gim",
    "hisp",
    "ifr",
    "magnitude",
    "peap",
    "random",
    "relp",
)


@pytest.fixture(scope="module")
def problem():
    model = load_model("mini", device="cpu")
    return model, on_model(tasks.load("ioi"), "mini").data().select(torch.arange(8))


def counted(method, problem, **parameters) -> float:
    model, data = problem
    with count_passes() as passes:
        method.discover(
            model, data, ablation=ablation("patch"), objective=objective("logit-difference"), seed=0, **parameters
        )
    return passes.forward + passes.backward


@pytest.mark.parametrize("direct", [False, True])
def test_what_acdc_does_not_need_of_its_bound_is_spared_as_it_goes_on(direct, problem, monkeypatch):
    model, data = problem
    thresholds, shares = [1e-3, 1e-1], []
    method = METHODS.get("acdc")
    declared = method.cost_of(model.graph, data.n, {"thresholds": thresholds, "direct": direct}).passes

    def share() -> float:
        return (passes.forward + passes.backward + passes.spared) / declared

    def spare(found: float) -> None:
        model_passes.spare(found)
        shares.append(share())

    monkeypatch.setattr(_sweeps, "spare", spare)
    with count_passes() as passes:
        counted(method, problem, thresholds=thresholds, direct=direct)
    assert passes.forward + passes.backward < 0.85 * declared  # so that it ends at 1 by what is spared
    assert shares == sorted(shares) and len(shares) > 10 and 0.3 < shares[len(shares) // 2] < 0.9
    assert share() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("name", EXACT)
def test_the_declared_cost_is_what_the_engine_counts(name, problem):
    model, data = problem
    method = METHODS.get(name)
    parameters = method.resolve({})
    declared = method.cost_of(model.graph, data.n, parameters)
    assert declared.passes == pytest.approx(counted(method, problem, **parameters))


def test_acdc_spends_no_more_than_it_declares(problem):
    model, data = problem
    parameters = METHODS.get("acdc").resolve({"thresholds": [0.01]})
    declared = METHODS.get("acdc").cost_of(model.graph, data.n, parameters)
    assert 0.5 * declared.passes < counted(METHODS.get("acdc"), problem, **parameters) <= declared.passes


@pytest.mark.parametrize("name", ["edge-pruning", "ibcircuit", "subnetwork-probing", "ugs"])
def test_trained_masks_spend_what_is_forecast(name, problem, monkeypatch):
    """In whole epochs, over prompts of several lengths, whose batches are smaller than declared."""
    model, data = problem
    several = {"edge-pruning": "targets", "ibcircuit": "strengths"}.get(name, "regularisations")
    method, n_lengths = METHODS.get(name), len(data.lengths.unique())
    assert n_lengths > 1
    given = method.resolve({"steps": 2 * n_lengths, "batch_size": data.n, several: [0.5]})
    by = objective("kl" if method.objectives == "divergence" else "logit-difference")
    with count_passes() as passes:
        method.discover(model, data, ablation=ablation("patch"), objective=by, seed=0, **given)
    speed = Speed(model, data)
    monkeypatch.setattr(speed, "seconds", lambda cost: 0.0)
    declared = method.cost_of(model.graph, data.n, given)
    assert speed.forecast(declared).passes == pytest.approx(passes.forward + passes.backward)
    assert declared.passes > passes.forward + passes.backward


def test_calls_take_time_beyond_their_passes(problem, monkeypatch):
    """On a clock that each call moves on by a second, and each pass by a hundredth."""
    clock = [0.0]
    speed = Speed(*problem, clock=lambda: clock[0])
    passes = {"trained": 0.01, "forward": 0.002}
    for kind, seconds in passes.items():

        def run(tokens, masks, seconds=seconds):
            clock[0] += 1.0 + seconds * masks * len(tokens)

        monkeypatch.setattr(speed, f"_{kind}", run)
    monkeypatch.setattr(speed, "kind", passes.__getitem__)
    training = Cost(forward=16, trained=600, masks=4, step=8)
    n_batches = len(problem[1].lengths.unique())  # of eight prompts, twice
    expected = 600 * 0.01 + 16 * 0.002 + 600 / (4 * 8) + 2 * n_batches
    assert speed.seconds(training) == pytest.approx(expected, rel=0.01)
    assert speed.seconds(Cost(forward=16)) == pytest.approx(16 * 0.002 + 2 * n_batches, rel=0.01)
    passes["gradient"], begun = 0.06, clock[0]  # of a large model: nothing is timed for what is little beside a pass
    assert speed.seconds(Cost(gradient=16)) == pytest.approx(16 * 0.06) and clock[0] == begun


@pytest.mark.parametrize("preset", ["activations", "clean-corrupted"])
def test_a_preset_has_its_own_cost(preset, problem):
    model, data = problem
    method = METHODS.get("eap-ig")
    parameters = method.resolve({"steps": 2}, preset)
    declared = method.cost_of(model.graph, data.n, parameters)
    assert declared.passes == pytest.approx(counted(method, problem, **parameters), rel=0.05)


def test_every_method_declares_its_cost(problem):
    model, data = problem
    for name in METHODS:
        cost = METHODS.get(name).cost_of(model.graph, data.n, METHODS.get(name).resolve({}))
        assert isinstance(cost, Cost), name


def test_edges_that_are_cut_alone_start_at_their_layer():
    graph = Graph(n_layers=2, n_heads=1)
    # logits: 5 edges at no layer; layer 1: 4 into the MLP, 3 x 3 into the head; layer 0: 2, 3 x 1.
    assert edge_passes(graph, at_once=1) == 13 * 0.5 + 5 * 1.0
    assert edge_passes(graph, at_once=100) == graph.n_edges == 23  # one call, from the lowest layer
    assert edge_passes(graph, at_once=5) == 0 * 5 + 0.5 * 10 + 1.0 * 8


def test_costs_add_up():
    both = Cost(forward=1, cut=2, stacks=3) + Cost(forward=2, gradient=1, weights=1)
    assert both == Cost(forward=3, gradient=1, cut=2, stacks=3, weights=1)
    assert both * 2 == Cost(forward=6, gradient=2, cut=4, stacks=3, weights=1)
    assert both.passes == 3 + 2 + 2
    assert Cost(trained=6, masks=2, step=3).with_runs(2.5) == Cost(trained=15, masks=2, step=8)


def test_a_forecast_is_the_declared_passes_at_the_speed_of_the_model(problem, monkeypatch):
    speed = Speed(*problem)
    taken = {"forward": 0.1, "gradient": 0.4, "cut": 0.2, "trained": 1.0}
    monkeypatch.setattr(speed, "kind", taken.__getitem__)
    monkeypatch.setattr(speed, "_a_call", lambda kind: 0.0)
    found = speed.forecast(Cost(forward=10, gradient=5, cut=1))
    assert found.seconds == pytest.approx(1.0 + 2.0 + 0.2) and found.passes == 21
    assert speed.forecast(Cost(stacks=1000)).peak_bytes > found.peak_bytes


@pytest.mark.parametrize("name", ["edge-pruning", "ibcircuit", "subnetwork-probing", "ugs", "discogp"])
def test_a_trained_mask_declares_what_a_step_holds(name, problem):
    """More masks or more prompts a step hold more, in proportion; the number of steps does not matter."""
    model, data = problem
    method, speed = METHODS.get(name), Speed(model, data)
    speed.seconds = lambda cost: 0.0

    def held(**given):
        cost = method.cost_of(model.graph, 64, method.resolve(given))
        return speed.forecast(cost).peak_bytes - speed.forecast(replace(cost, masks=0)).peak_bytes

    fixed = held(batch_size=1) - (held(batch_size=2) - held(batch_size=1))
    assert held(batch_size=16) - fixed == pytest.approx(16 * (held(batch_size=1) - fixed), rel=1e-3)
    strengths = dict.fromkeys(("subnetwork-probing", "ugs"), "regularisations")
    several = {"edge-pruning": "targets", "ibcircuit": "strengths", **strengths}.get(name)
    if several:
        one, three = (held(**{several: [0.5] * n}) - fixed for n in (1, 3))
        assert three == pytest.approx(3 * one, rel=1e-3)


def test_masks_that_are_run_in_parts_hold_one_part_and_take_a_pass_more(problem, monkeypatch):
    speed = Speed(*problem)
    monkeypatch.setattr(speed, "kind", {"trained": 3.0, "cut": 1.0}.__getitem__)
    training = Cost(trained=100, masks=8, step=4)
    whole = speed.forecast(training)
    tokens = 4 * speed._length
    monkeypatch.setattr(in_parts, "_BUDGET", 1)
    assert speed.model.masks_at_once(tokens) == 1
    parts = speed.forecast(training)
    assert (whole.seconds, parts.seconds) == (300, 400) and whole.passes == parts.passes
    assert parts.peak_bytes == speed.forecast(replace(training, masks=1)).peak_bytes < whole.peak_bytes
    copied = replace(training, streams=5.0)  # DiscoGP's, which run all masks at once
    assert speed.forecast(copied).seconds == 300
    assert speed.forecast(copied).peak_bytes > speed.forecast(replace(copied, masks=1)).peak_bytes


def test_what_a_step_saves_is_counted_and_grows_with_masks_and_tokens(problem):
    speed = Speed(*problem)
    a_token, fixed = speed._saved
    tokens = problem[1].clean[:6]
    assert speed._saved_bytes(tokens, 5) == pytest.approx(5 * tokens.numel() * a_token + fixed, rel=0.15)
    # Of every reader at least its input is saved, and of every MLP what its hidden units are before they act.
    model = problem[0]
    d_model, d_mlp = model.config.d_model, model.config.d_mlp
    assert a_token > 4 * (3 * model.config.n_heads * d_model + d_mlp) * model.config.n_layers


def test_each_kind_of_pass_can_be_timed(problem):
    speed = Speed(*problem)
    assert all(speed.kind(kind) > 0 for kind in ("forward", "gradient", "cut", "trained"))


@pytest.mark.parametrize("a_token", [0.001, 0.02, 3.0])
def test_timing_stays_within_its_budget_however_slow_a_pass_is(a_token, problem, monkeypatch):
    """On a clock that a pass moves on by so many seconds a token: what is timed is little, and scaled by tokens."""
    model, data = problem
    long = data.clean.repeat(20, 30)
    clock, tokens = [0.0], []
    speed = Speed(model, Data(long, None, torch.ones_like(long, dtype=torch.bool)), clock=lambda: clock[0])

    def forward(batch, _):
        tokens.append(batch.numel())
        clock[0] += a_token * batch.numel()

    monkeypatch.setattr(speed, "_forward", forward)
    assert speed.kind("forward") == pytest.approx(a_token * long.shape[1])
    assert tokens[0] == 32, "a prompt of hundreds of tokens is cut short"
    assert clock[0] <= max(1.0 * 4 / 3, 32 * a_token)
    assert tokens[-1] * 4 * a_token >= 1.0 or tokens[-1] >= long.numel() / 4, "short passes are timed over more"


def test_work_that_a_first_timing_finds_short_is_not_timed_further(problem, monkeypatch):
    clock, tokens = [0.0], []

    def forward(batch, _):
        tokens.append(batch.numel())
        clock[0] += 0.05 + 0.001 * batch.numel()

    model, data = problem
    one_length = data.select(torch.zeros(8, dtype=torch.long))  # and one batch
    speed = Speed(model, one_length, negligible=5.0, clock=lambda: clock[0])
    monkeypatch.setattr(speed, "_forward", forward)
    short = speed.seconds(Cost(forward=10))
    first = set(tokens)
    assert 0.0 < short < 5.0 and len(first) == 1 and max(first) <= 32
    long = speed.seconds(Cost(forward=10_000))
    assert set(tokens) > first and long >= 10_000 * speed.kind("forward")
    assert short / 10 > long / 10_000, "the first timing errs on the high side"
    timed = len(tokens)
    assert speed.seconds(Cost(forward=5_000)) < long and len(tokens) == timed, "another estimate needs no other timing"


def test_what_other_programs_do_is_no_part_of_an_estimate(problem, monkeypatch):
    """A pass takes three times as long as it computes: the estimate is of the computing, and says how busy it is."""
    computed, wall = [0.0], [0.0]

    def forward(batch, _):
        computed[0] += 0.01 * batch.numel()
        wall[0] += 0.03 * batch.numel()

    monkeypatch.setattr(time, "thread_time", lambda: computed[0])
    monkeypatch.setattr(time, "perf_counter", lambda: wall[0])
    model, data = problem
    speed = Speed(model, data)
    monkeypatch.setattr(speed, "_forward", forward)
    found = speed.forecast(Cost(forward=100))
    assert found.seconds == pytest.approx(100 * 0.01 * float(data.lengths.double().mean()))
    assert found.busy == pytest.approx(3)
    assert computing_clock(torch.device("cuda")) is time.perf_counter  # a GPU computes beside the thread


class Memory:
    """A keeper that stops the search behind a batch."""

    def __init__(self, stop_behind: int | None) -> None:
        self.sums, self.stop_behind, self.saved = {}, stop_behind, []

    def load(self, part):
        return self.sums.get(part, (0, None))

    def save(self, part, batches, total):
        self.sums[part] = (batches, total)
        self.saved.append(batches)
        if batches == self.stop_behind:
            raise KeyboardInterrupt


@pytest.mark.parametrize("value", ["patch", "noise", "mean"])
def test_a_search_goes_on_behind_the_last_batch_that_was_kept(value, problem):
    model, data = problem
    method = METHODS.get("eap-ig")
    given = {"ablation": ablation(value), "objective": objective("logit-difference"), "seed": 3}
    given |= {"steps": 2, "batch_size": 1}
    whole = method.discover(model, data, **given).scores.values
    keeper = Memory(stop_behind=4)
    with pytest.raises(KeyboardInterrupt), kept_by(keeper):
        method.discover(model, data, **given)
    keeper.stop_behind = None
    with kept_by(keeper), count_passes() as passes:
        found = method.discover(model, data, **given).scores.values
    assert keeper.saved == list(range(1, data.n + 1)), "no batch runs twice"
    assert torch.equal(whole.nan_to_num(), found.nan_to_num())
    if value == "patch":
        assert passes.backward == 2 * (data.n - 4)
