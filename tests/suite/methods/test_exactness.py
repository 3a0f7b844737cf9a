"""What each method must equal: exact patching on a linear model, plain loops, sums that are known beforehand."""

import tracemalloc

import pytest
import torch
from oracles import ARCHITECTURES, linear_model, plain_acdc, plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.circuit import Reference
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import MethodError, SpecError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation, ablation_names
from circuitmeter.suite.intervention.cut_candidates import ByMasks
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS, _sweeps, acdc, method
from circuitmeter.suite.methods._sweeps import sweep_thresholds
from circuitmeter.suite.methods.acdc import visiting_order
from circuitmeter.suite.model.passes import count_passes

PATCH = Ablation.parse("patch")
LINEAR = ("answer-difference", "logit-difference")
EXACT = dict(rtol=1e-9, atol=1e-11)


def discover(name, model, data, *, ablation=PATCH, objective="logit-difference", seed=0, **parameters):
    chosen = METHODS.get(name)
    return chosen.discover(
        model, data, ablation=ablation, objective=OBJECTIVES.get(objective), seed=seed, **chosen.resolve(parameters)
    )


def scores(*given, **options):
    return discover(*given, **options).scores.values.nan_to_num()


@pytest.mark.parametrize("ablation", [name for name in ablation_names() if name != "optimal"])
@pytest.mark.parametrize("objective", LINEAR)
@pytest.mark.parametrize("inputs", ["token", "split"])
def test_on_a_linear_model_every_method_is_exact_patching(ablation, objective, inputs):
    model, data = linear_model(inputs), small_data()
    options = dict(ablation=Ablation.parse(ablation), objective=objective)
    exact = scores("exact", model, data, **options)
    assert exact.abs().max() > 1e-3
    queries_and_keys = [r for r, name in enumerate(model.graph.readers) if name.endswith(("<q>", "<k>"))]
    close = dict(rtol=1e-9, atol=1e-11 * float(exact.abs().max()))
    assert exact[:, queries_and_keys].abs().max() < close["atol"]
    assert_close(scores("eap", model, data, **options), exact, **close)
    for endpoint in ("left", "midpoint", "right"):
        assert_close(scores("eap-ig", model, data, steps=3, endpoint=endpoint, **options), exact, **close)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exact_is_one_plain_cut_at_a_time(architecture):
    model, data = small_model(**ARCHITECTURES[architecture]), small_data(n=2)
    found = discover("exact", model, data, masks_at_once=7).scores
    answer, wrong = data.answers[:, 0], data.wrong[:, 0]

    def loss(kept):
        logits = torch.stack(
            [plain_cut(model, data.clean[i], written(model, data.counterfactual[i]), kept)[-1] for i in range(2)]
        )
        return (logits[torch.arange(2), wrong] - logits[torch.arange(2), answer]).mean()

    plain = loss(model.graph.exists.double())
    for edge in model.graph.edges[:: max(1, model.graph.n_edges // 10)]:
        w, r = model.graph.index(edge)
        kept = model.graph.exists.double()
        kept[w, r] = 0
        assert_close(found.values[w, r], (loss(kept) - plain).double(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_exact_is_one_masked_pass_an_edge(ablation, architecture):
    model, data = small_model(**ARCHITECTURES[architecture]), small_data()
    objective = OBJECTIVES.get("logit-difference")
    evaluator = Evaluator(model, data, Ablation.parse(ablation), objective)
    where = model.graph.exists.nonzero()
    masks = model.graph.exists.repeat(len(where) + 1, 1, 1)
    masks[torch.arange(len(where)), where[:, 0], where[:, 1]] = False
    losses = evaluator.loss(masks)
    found = scores("exact", model, data, ablation=Ablation.parse(ablation), masks_at_once=5)
    assert_close(found[model.graph.exists], losses[:-1] - losses[-1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["eap", "eap-ig", "exact", "magnitude"])
@pytest.mark.parametrize("ablation", ["patch", "zero", "mean", "resample", "mean-positional-counterfactual"])
def test_neither_batch_size_nor_row_order_changes_a_score(name, ablation):
    model, data = small_model(), small_data(n=7)
    options = dict(ablation=Ablation.parse(ablation))
    whole = scores(name, model, data, batch_size=7, **options)
    assert_close(scores(name, model, data, batch_size=2, **options), whole, **EXACT)
    if ablation != "resample":  # whose pairing goes by row
        shuffled = data.select(torch.tensor([3, 0, 6, 2, 5, 1, 4]))
        assert_close(scores(name, model, shuffled, batch_size=3, **options), whole, **EXACT)


@pytest.mark.parametrize("name", ["eap", "eap-ig", "exact", "acdc", "magnitude"])
@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_right_padding_changes_nothing(name, ablation):
    model, data = small_model(), small_data()
    padding = torch.full((6, 3), 10)
    tokens = [torch.cat([part, padding], 1) for part in (data.clean, data.counterfactual)]
    read = torch.cat([data.read, torch.zeros(6, 3, dtype=torch.bool)], 1)
    ragged = Data(*tokens, read, data.lengths, data.answers, data.wrong)
    options = dict(ablation=Ablation.parse(ablation))
    assert_close(scores(name, model, ragged, **options), scores(name, model, data, **options), **EXACT)


def test_really_padded_rows_equal_rows_of_their_own_length():
    model, data = small_model(), small_data()
    tokens = torch.cat([data.clean, torch.full((6, 3), 10)], 1)
    with torch.no_grad():
        assert_close(model(tokens)[:, :5], model(data.clean), **EXACT)


def test_rows_of_many_lengths_score_as_their_weighted_mean():
    model, data = small_model(), small_data()
    lengths = torch.tensor([3, 3, 3, 5, 5, 5])
    read = torch.zeros_like(data.read)
    read[torch.arange(6), lengths - 1] = True
    ragged = Data(data.clean, data.counterfactual, read, lengths, data.answers, data.wrong)
    rows = torch.arange(6)
    short = Data(
        *(part[:3, :3] for part in (data.clean, data.counterfactual, read)),
        answers=data.answers[:3],
        wrong=data.wrong[:3],
    )
    for name in ("eap", "exact"):
        halves = scores(name, model, short) + scores(name, model, ragged.select(rows[3:]))
        assert_close(scores(name, model, ragged), halves / 2, **EXACT)


def test_integrated_gradients_of_the_input_row_sum_to_the_loss_difference():
    model, data = small_model(), small_data()
    evaluator = Evaluator(model, data, PATCH, OBJECTIVES.get("logit-difference"))
    exists = model.graph.exists
    clean, corrupted = evaluator.loss(torch.stack([exists, torch.zeros_like(exists)])).tolist()
    errors = {}
    for endpoint in ("left", "midpoint"):
        for steps in (10, 40):
            row = scores("eap-ig", model, data, steps=steps, endpoint=endpoint)[0].sum()
            errors[endpoint, steps] = abs(float(row) - (corrupted - clean))
    assert errors["midpoint", 40] < 1e-3 * abs(corrupted - clean)
    assert errors["midpoint", 40] < errors["midpoint", 10] / 8  # second order
    assert errors["left", 40] < errors["left", 10] / 2  # first order


def test_the_endpoint_rules_differ_by_the_path_s_ends():
    model, data = small_model(), small_data()
    left, right = (scores("eap-ig", model, data, steps=4, endpoint=e) for e in ("left", "right"))
    at_clean = scores("eap", model, data)
    swapped = Data(data.counterfactual, data.clean, data.read, answers=data.answers, wrong=data.wrong)
    at_corrupted = -scores("eap", model, swapped)
    assert_close(4 * (right - left), at_clean - at_corrupted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("objective", ["kl", "l2"])
def test_eap_refuses_an_objective_whose_gradient_is_zero(objective):
    model, data = small_model(), small_data()
    with pytest.raises(Undefined, match="eap-ig"):
        discover("eap", model, data, objective=objective)
    assert scores("eap-ig", model, data, objective=objective, endpoint="left").abs().max() > 1e-4
    # The refusal is right: at the clean point alone, which is the right end of one step, every score is zero.
    assert scores("eap-ig", model, data, objective=objective, steps=1).abs().max() < 1e-12


# Every order meets every architecture and both objectives, and every architecture both objectives.
ORDERS = [("reverse", False), ("forward", False), ("random", True), ("released", True)]
LOOPS = [
    (architecture, ("kl", "logit-difference")[(i + j) % 2], *order)
    for i, architecture in enumerate(["gpt2", "one head", "attention only", "parallel blocks", "llama"])
    for j, order in enumerate(ORDERS)
]


@pytest.mark.parametrize(("architecture", "objective", "order", "direct"), LOOPS)
def test_acdc_is_the_plain_loop_edge_for_edge(architecture, objective, order, direct):
    model, data = small_model(**{"n_layers": 2, **ARCHITECTURES[architecture]}), small_data(n=3)
    graph, thresholds = model.graph, [0.0, 1e-4, 1e-2, 0.3]
    found = discover(
        "acdc", model, data, objective=objective, thresholds=thresholds, order=order, direct=direct, seed=3
    )
    evaluator = Evaluator(model, data, PATCH, OBJECTIVES.get(objective))

    def dead(kept, r):
        node = graph.node_of_reader(graph.readers[r])
        return node in graph.writers and not kept[graph.writers.index(node)].any()

    edges = [edge for group in visiting_order(graph, order, 3, direct) for edge in group]
    single = [edge for edge in edges if isinstance(edge[0], int)]
    assert sorted(single) == sorted(map(tuple, graph.exists.nonzero().tolist()))
    assert len(edges) - len(single) == (3 * graph.n_heads * graph.n_layers if direct else 0)
    for native in found.circuits:
        tau = native.label["threshold"]
        kept = plain_acdc(lambda mask: float(evaluator.loss(mask[None])[0]), graph.exists, edges, dead, tau)
        assert graph.named(native.circuit.edges) == graph.named(kept)


def test_acdc_released_order_is_the_class_s_default():
    """Layers from the last to the first, the heads of one from the first to the last; inputs: token, then position."""
    graph = small_model("split", n_layers=2).graph
    into_logits, into_mlp, whole, into_heads = visiting_order(graph, "released", 0, direct=True)[:4]
    assert [graph.writers[w] for w, _ in into_logits] == (
        ["m1", "a1.h0", "a1.h1", "m0", "a0.h0", "a0.h1", "tok_embed", "pos_embed"]
    )
    assert [graph.writers[w] for w, _ in into_mlp][:3] == ["a1.h0", "a1.h1", "m0"]
    assert [graph.readers[r] for _, r in whole] == [f"a1.h{h}<{part}>" for part in "vkq" for h in (1, 0)]
    assert [r for w, r in into_heads if w == 0] == [r for _, r in whole]


def test_acdc_scores_are_the_last_threshold_survived():
    model, data = small_model(), small_data(n=3)
    found = discover("acdc", model, data, objective="kl", thresholds=[1e-5, 1e-3, 1e-1])
    for edge, score in zip(model.graph.edges, found.scores.flat().tolist(), strict=True):
        survived = [c.label["threshold"] for c in found.circuits if c.circuit.edges[model.graph.index(edge)]]
        assert score == max(survived, default=0.0)


def test_acdc_at_extreme_thresholds():
    model, data = small_model(), small_data(n=3)
    found = {
        c.label["threshold"]: c.circuit
        for c in discover("acdc", model, data, objective="kl", thresholds=[-1e9, 0.0, 1e9]).circuits
    }
    assert found[-1e9].n_edges == model.graph.n_edges and found[1e9].n_edges == 0
    # Threshold 0 with KL: no removal lowers a KL of zero, so every edge is kept in exact arithmetic.
    assert found[0.0].n_edges == model.graph.n_edges


def test_acdc_spends_less_than_a_pass_an_edge_and_threshold():
    model, data = small_model(n_layers=4), small_data(n=3)
    with count_passes() as passes:
        found = discover("acdc", model, data, objective="kl")
    assert passes.forward / data.n < 0.75 * len(found.circuits) * model.graph.n_edges


@pytest.mark.parametrize("architecture", ["gemma-2", "qwen-3", "windows"])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_acdc_by_descendants_and_wrong_guesses_is_acdc_by_masks(architecture, ablation, monkeypatch):
    model, data = small_model(**{**ARCHITECTURES[architecture], "n_layers": 2}), small_data(n=3)
    searched = Evaluator(model, data, Ablation.parse(ablation), OBJECTIVES.get("kl"))
    groups, thresholds = visiting_order(model.graph, "released", 0, direct=True), [1e-4, 1e-2, 0.1, 0.3]
    wrong = {tuple(edge): (-1.0) ** i for i, edge in enumerate(model.graph.exists.nonzero().tolist())}
    found, _ = sweep_thresholds(searched, groups, thresholds, 64)
    guided, _ = sweep_thresholds(searched, groups, thresholds, 64, expected=wrong)
    monkeypatch.setattr(_sweeps, "candidates_of", lambda evaluator, n: ByMasks(evaluator))
    plain, _ = sweep_thresholds(searched, groups, thresholds, 64)
    assert len({tuple(model.graph.named(kept)) for kept in plain.values()}) > 1
    for tau in thresholds:
        assert model.graph.named(found[tau]) == model.graph.named(guided[tau]) == model.graph.named(plain[tau])


def test_acdc_s_thresholds_that_decide_alike_are_one_sweep():
    model, data = small_model(n_layers=3), small_data(n=3)
    searched = Evaluator(model, data, PATCH, OBJECTIVES.get("kl"))
    groups = visiting_order(model.graph, "reverse", 0)
    one, n_one = sweep_thresholds(searched, groups, [1e-2], 256)
    alike, n_alike = sweep_thresholds(searched, groups, [1e-2 * (1 + 1e-9 * i) for i in range(9)], 256)
    assert 0 < int(one[1e-2].sum()) < model.graph.n_edges
    assert all(torch.equal(kept, one[1e-2]) for kept in alike.values()) and len(alike) == 9
    assert n_alike <= 1.2 * n_one  # fewer guesses at a time where there are several thresholds, or more


def test_acdc_guesses_from_gradients_and_finds_the_same(monkeypatch):
    model, data, given = small_model(n_layers=3), small_data(n=3), {"objective": "kl", "thresholds": [1e-3, 0.1]}
    monkeypatch.setattr(acdc, "_GRADIENTS_PAY", 10**9)
    plain = discover("acdc", model, data, **given)
    monkeypatch.setattr(acdc, "_GRADIENTS_PAY", 0)
    guided = discover("acdc", model, data, **given)
    assert (plain.scores.flat() == guided.scores.flat()).all()
    assert guided.diagnostics["circuits_evaluated"] < plain.diagnostics["circuits_evaluated"]


def test_acdc_forgets_the_circuits_of_earlier_rounds():
    model, data = small_model(n_layers=4), small_data(n=3)
    evaluator = Evaluator(model, data, PATCH, OBJECTIVES.get("kl"))
    groups, thresholds = visiting_order(model.graph, "reverse", 0), [10.0**-i for i in range(8)]
    sweep_thresholds(evaluator, groups[:1], thresholds, 8)  # what the first call leaves behind is not counted
    tracemalloc.start()
    _, evaluated = sweep_thresholds(evaluator, groups, thresholds, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * evaluated * model.graph.exists.numel(), (peak, evaluated)


def test_baselines():
    model, data = small_model(), small_data()
    first, again, other = (scores("random", model, data, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    magnitude = scores("magnitude", model, data)
    with torch.no_grad():
        runs = [model.run(model.input_nodes(tokens))[1] for tokens in (data.counterfactual, data.clean)]
        expected = model.difference(*runs).norm(dim=-1).mean((1, 2))
    assert_close(magnitude, expected[:, None] * model.graph.exists, **EXACT)
    reference = Reference("r", model.graph, model.graph.matrix(["m0->logits"]), torch.zeros_like(model.graph.exists))
    truth = METHODS.get("truth").discover(model, data, ablation=PATCH, objective=None, truth=reference)
    assert model.graph.named(truth.scores.values == 1) == ["m0->logits"]
    with pytest.raises(Undefined, match="certified truth"):
        METHODS.get("truth").discover(model, data, ablation=PATCH, objective=None)


# Of methods that train: a few steps with all that is drawn in them.
FEW_STEPS = {
    "acdc": {"thresholds": [1e-3, 1e-1]},
    "edge-pruning": {"steps": 20, "warmup": 10},
    "ibcircuit": {"steps": 20},
    "subnetwork-probing": {"steps": 20},
    "ugs": {"steps": 20},
    "discogp": {"weight_epochs": 5, "edge_epochs": 5},
}


@pytest.mark.parametrize("name", [*METHODS])
def test_the_same_seed_gives_the_same_bits(name):
    model, data = small_model(), small_data()
    reference = Reference("r", model.graph, model.graph.matrix(["m0->logits"]), torch.zeros_like(model.graph.exists))
    method = METHODS.get(name)
    objective = OBJECTIVES.get("kl" if method.objectives == "divergence" else "logit-difference")
    given = method.resolve(FEW_STEPS.get(name, {}), "quick")
    first, again = (
        method.discover(
            model, data, ablation=PATCH, objective=objective, seed=5, truth=reference, **given
        ).scores.values
        for _ in range(2)
    )
    assert torch.equal(first.nan_to_num(), again.nan_to_num())


def test_parameters_are_checked_before_anything_runs():
    eap_ig = METHODS.get("eap-ig")
    resolved = eap_ig.resolve({"steps": 7}, "reference-code")
    assert resolved == {
        "path": "inputs",
        "steps": 7,
        "endpoint": "left",
        "level": "edge",
        "neurons": 100,
        "batch_size": 0,
    }
    for given, preset, hint in [
        ({"step": 5}, None, "'steps'"),
        ({"steps": "many"}, None, "not a whole number"),
        ({"steps": True}, None, "steps = True is not a whole number"),
        ({"steps": [7]}, None, "not a whole number"),
        ({"path": 3}, None, "not a text"),
        ({}, "papr", "'paper'"),
    ]:
        with pytest.raises(SpecError, match=hint):
            eap_ig.resolve(given, preset)


def test_what_a_method_returns_is_checked():
    model, data = small_model(), small_data()

    def run(returned):
        @method("returns-something", paper="none")
        def discover(model, data, *, ablation, objective, seed):
            return returned

        try:
            return METHODS.get("returns-something").discover(
                model, data, ablation=PATCH, objective=OBJECTIVES.get("kl")
            )
        finally:
            METHODS._items.pop("returns-something")

    assert run({"m0->logits": 2}).scores.values[model.graph.index("m0->logits")] == 2
    for returned, hint in [
        ({"m9->logits": 1.0}, "m9->logits"),
        ({"m0->logits": float("nan")}, "NaN"),
        ({"m0->logits": "high"}, "high"),
        ([1, 2], "list"),
        (torch.zeros(2, 2), "shape"),
    ]:
        with pytest.raises(MethodError, match=hint):
            run(returned)
