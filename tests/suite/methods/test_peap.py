"""Scores by position against gradients of masks, exact cuts and loops over queries and keys, and circuits that grow."""

import pytest
import released
import torch
from discovering import discover, scores
from oracles import ARCHITECTURES, linear_model, plain_cut, small_data, small_model, written
from second_device import second_device
from torch.testing import assert_close

from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.intervention.ablation import Ablation, Alternatives
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.plain_runs import Runs
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods._attribution import Prompts
from circuitmeter.suite.methods.partial import kept_by
from circuitmeter.suite.methods.peap import _crossing
from circuitmeter.suite.model.position_transformer import PositionTransformer

EXACT = dict(rtol=1e-9, atol=1e-11)
N = 4


def problem(n=3, **changes):
    model, data = small_model(**{"n_layers": 2, **changes}), small_data(n=n, positions=N)
    return model, PositionTransformer.of(model, N), data


# ---- the scores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in ("one layer", "olmo-2")])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_scores_are_slopes_of_the_loss_along_each_edges_mask_at_each_position(architecture, ablation):
    _, twin, data = problem(**{**ARCHITECTURES[architecture], "n_layers": 2})
    objective = OBJECTIVES.get("logit-difference")
    (ready,) = Evaluator(twin, data, Ablation.parse(ablation), objective).prepared()
    masks = torch.ones(1, *twin.graph.exists.shape, dtype=torch.float64, requires_grad=True)
    logits = twin.run_cut(masks, ready.alternative, inputs=ready.inputs, read=ready.runs.read)
    (slope,) = torch.autograd.grad(objective.loss(logits, ready.targets).mean(), masks)
    found = scores("peap", twin, data, ablation=ablation)
    assert_close(found, -slope[0].where(twin.graph.exists, 0.0), **EXACT)
    assert found.count_nonzero() > 40


@pytest.mark.parametrize("ablation", ["patch", "resample", "zero", "mean", "mean-positional", "noise"])
def test_positions_add_up_to_eap_and_a_graph_without_them_has_eaps_scores(ablation):
    model, twin, data = problem()
    expected = scores("eap", model, data, ablation=ablation)
    assert_close(twin.graph.by_position(scores("peap", twin, data, ablation=ablation)).sum(-1), expected, **EXACT)
    assert_close(scores("peap", model, data, ablation=ablation), expected, **EXACT)


def test_exact_patching_cuts_each_edge_at_each_position_alone():
    model, twin, data = problem(n=1, n_layers=1)
    cut, kept = written(model, data.counterfactual[0]), twin.graph.exists.double()

    def loss(mask):
        logits = plain_cut(model, data.clean[0], cut, twin.graph.by_position(mask))[-1]
        return float(logits[data.wrong[0, 0]] - logits[data.answers[0, 0]])

    expected = torch.zeros_like(kept)
    for w, r in twin.graph.exists.nonzero().tolist():
        without = kept.clone()
        without[w, r] = 0
        expected[w, r] = loss(without) - loss(kept)
    assert_close(scores("exact", twin, data), expected, rtol=1e-8, atol=1e-10)


def test_equal_to_exact_cuts_where_the_model_is_linear():
    model, data = linear_model(n_layers=2), small_data(n=3, positions=N)
    twin = PositionTransformer.of(model, N)
    expected = scores("exact", twin, data)
    assert_close(scores("peap", twin, data), expected, rtol=1e-8, atol=1e-10)
    assert expected.count_nonzero() > 50


def test_with_the_softmax_again_equal_to_exact_cuts_where_all_behind_attention_is_linear():
    """One layer of attention without norm: a query or key with one writer cut at one position, and its pattern anew."""
    model, data = small_model(n_layers=1, d_mlp=0, norm="none"), small_data(n=3, positions=N)
    twin = PositionTransformer.of(model, N)
    expected = scores("exact", twin, data)
    assert_close(scores("peap", twin, data, attention="softmax"), expected, rtol=1e-8, atol=1e-10)
    of_queries_and_keys = [r for r, name in enumerate(twin.graph.readers) if "<q>" in name or "<k>" in name]
    slopes = scores("peap", twin, data)
    assert (slopes - expected)[:, of_queries_and_keys].abs().max() > 1e-3, "the slope alone is not the cut"


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma-2", "qwen-3", "windows"])
def test_with_the_softmax_again_a_key_changes_one_column_and_a_query_its_row(architecture):
    model, twin, data = problem(n=2, **{**ARCHITECTURES[architecture], "n_layers": 2})
    found = twin.graph.by_position(scores("peap", twin, data, attention="softmax"))
    prompts, at = prompts_of(model, data)
    layer, block = 1, model.blocks[1]
    tap, gradient = at.taps[layer], at.layers[layer]["mixed"]
    for writer in (0, 3):
        q, k, _ = block.qkv(block.norm_attention(tap["residual"] + prompts.damage[writer]))
        for place in range(N):
            for part, with_part in (("q", q), ("k", k)):
                its = {"q": tap["q"].clone(), "k": tap["k"].clone()}
                its[part][:, :, place] = with_part[:, :, place]
                change = block.attend(its["q"], its["k"], tap["v"]) - tap["mixed"]
                expected = (change * gradient).sum((2, 3)).mean(0)  # [H]
                readers = model.graph.group["head", layer].part(part)
                assert_close(found[writer, readers, place], expected, **EXACT)


# ---- crossing edges -------------------------------------------------------------------------------------------------


def prompts_of(model, data, ablation="patch"):
    (batch,) = data.batches(data.n)
    runs, objective = Runs(model, batch), OBJECTIVES.get("logit-difference")
    prompts = Prompts(runs, Alternatives(model, data, Ablation.parse(ablation), seed=0, batch_size=data.n), objective)
    return prompts, prompts.gradients_at_clean(of_writers=True)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma-2", "no layer norm, ReLU, bidirectional"])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_crossing_edges_are_a_loop_over_queries_and_keys(architecture, ablation):
    model, _, data = problem(n=2, **{**ARCHITECTURES[architecture], "n_layers": 2})
    prompts, at = prompts_of(model, data, ablation)
    found = _crossing(prompts, at)  # [L, B, 3, H, P, P]
    before = model.alternative(prompts.cut, N).before
    for layer, block in enumerate(model.blocks):
        tap, gradient = at.taps[layer], at.layers[layer]["mixed"]
        q, k, v = tap["q"], tap["k"], tap["v"]
        other = block.qkv(block.norm_attention(before["head", layer].expand_as(tap["residual"])))
        for j in range(N):
            with_k, with_v = k.clone(), v.clone()
            with_k[:, :, j], with_v[:, :, j] = other[1][:, :, j], other[2][:, :, j]
            column = block.scores(q, k).clone()
            column[..., j] = block.scores(other[0], k)[..., j]
            results = (column.softmax(-1) @ v, block.attend(q, with_k, v), block.attend(q, k, with_v))
            for part, result in enumerate(results):
                expected = ((result - tap["mixed"]) * gradient).sum(-1)  # [B, H, query]
                assert_close(found[layer, :, part, ..., j], expected, **EXACT)


def test_a_value_at_a_position_crosses_to_the_queries_that_see_it():
    """The crossing edges of a value add up to the edges into that value: both replace it whole."""
    model, twin, data = problem(norm="none")
    prompts, at = prompts_of(model, data)
    by_key = _crossing(prompts, at)[:, :, 2].sum(-2).mean(1)  # [L, H, key]
    into = twin.graph.by_position(scores("peap", twin, data)).sum(0)  # [R, P]
    for layer in range(2):
        assert_close(into[model.graph.group["head", layer].part("v")], by_key[layer], **EXACT)


def test_scores_and_crossing_edges_are_the_released_code_s():
    """To the float32 in which it hands them over."""
    twin, data = released.peap_problem()
    assert_close(scores("peap", twin, data), released.peap_scores(), rtol=1e-6, atol=1e-7)
    prompts, at = prompts_of(twin.whole, data)
    found = _crossing(prompts, at).mean(1)
    assert_close(found, released.peap_crossing(), rtol=1e-6, atol=1e-7)
    assert found.count_nonzero() > 100


# ---- spans and circuits ---------------------------------------------------------------------------------------------


def test_positions_of_a_span_share_its_aggregate():
    _, twin, data = problem(n=1)
    alone = twin.graph.by_position(scores("peap", twin, data))
    for how, of in {
        "sum": lambda part: part.sum(-1),
        "mean": lambda part: part.mean(-1),
        "largest": lambda part: part.gather(-1, part.abs().argmax(-1, keepdim=True))[..., 0],
    }.items():
        found = twin.graph.by_position(scores("peap", twin, data, spans=[1, 3], aggregate=how))
        expected = torch.stack([of(alone[..., a:b]) for a, b in ((0, 1), (1, 3), (1, 3), (3, 4))], -1)
        assert_close(found, expected, **EXACT)


def test_circuits_grow_from_the_logits_and_have_no_edge_that_leads_nowhere():
    _, twin, data = problem()
    found = discover("peap", twin, data, sizes=[0.02, 0.1, 1.0])
    sizes = [native.circuit.n_edges for native in found.circuits]
    assert sizes[:2] == [round(0.02 * twin.graph.n_edges), round(0.1 * twin.graph.n_edges)]
    assert [native.label["fraction"] for native in found.circuits][:2] == [0.02, 0.1]
    small, large = (native.circuit for native in found.circuits[:2])
    assert not (small.edges & ~large.edges).any()
    graph = twin.graph
    readers = large.edges.nonzero().tolist()
    leads = {(graph.writers[w], int(graph.position[r])) for w, r in readers}
    for _, r in readers:  # the reader's node writes, at a position that sees it, into the circuit
        node, place = graph.node_of_reader(graph.readers[r]), int(graph.position[r])
        later = range(place, N) if "<k>" in graph.readers[r] or "<v>" in graph.readers[r] else [place]
        assert node == "logits" or any((node, p) in leads for p in later)


def test_the_strongest_crossing_edge_decides_which_position_is_reached_first():
    """Two positions are copied to the last one, with equal scores of all edges; the pattern says which comes first."""
    model = small_model(n_layers=1, n_heads=1, d_mlp=0, norm="none")
    block, size = model.blocks[0], model.config.d_head
    block.W_QKV.data[:, : 2 * size] = 0
    block.b_QKV.data[:] = 0
    data, twin = small_data(n=1, positions=N), PositionTransformer.of(model, N)
    found = discover("peap", twin, data, sizes=[round(3 / twin.graph.n_edges, 9)])
    (native,) = found.circuits
    values = twin.graph.by_position(found.scores.values.abs())[0, 2]  # of input->a0.h0<v>, by position
    best = int(values.argmax())
    assert f"input->a0.h0<v>@{best}" in native.circuit.names and "a0.h0->logits@3" in native.circuit.names
    assert found.diagnostics["crossing_edges_taken"] >= 1


def test_methods_without_positions_give_an_edge_its_score_at_every_position():
    model, twin, data = problem()
    for name, options in (("eap", {}), ("eap-ig", {"steps": 2}), ("magnitude", {}), ("acdc", {"thresholds": [0.01]})):
        whole, found = discover(name, model, data, **options), discover(name, twin, data, **options)
        assert torch.equal(
            found.scores.values.nan_to_num(), twin.graph.at_every_position(whole.scores.values).nan_to_num()
        )
        assert found.diagnostics["positions"] == "alike" and len(found.circuits) == len(whole.circuits)
        for native, one in zip(found.circuits, whole.circuits, strict=True):
            assert native.circuit.names == Lifted(twin.graph).names(one.circuit)
    method, given = (
        METHODS.get("eap"),
        {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("logit-difference")},
    )
    by_prompt = method.scores_by_prompt(twin, data, **given)
    assert_close(by_prompt.mean(0), scores("eap", twin, data)[twin.graph.exists], **EXACT)


class Lifted:
    def __init__(self, graph):
        self.graph = graph

    def names(self, circuit):
        kept = {f"{name}@{p}" for name in circuit.names for p in range(N)}
        return [str(edge) for edge in self.graph.edges if str(edge) in kept]


def test_random_orders_tell_positions_apart():
    _, twin, data = problem()
    found = twin.graph.by_position(scores("random", twin, data))
    assert (found[0, 0] != found[0, 0, 0]).any()


def test_scores_do_not_depend_on_batches_prompts_add_up_and_kept_sums_go_on():
    _, twin, data = problem()
    whole = discover("peap", twin, data)
    parts = discover("peap", twin, data, batch_size=1)
    assert_close(parts.scores.values, whole.scores.values, equal_nan=True, **EXACT)
    assert [each.circuit.names for each in parts.circuits] == [each.circuit.names for each in whole.circuits]
    given = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("logit-difference")}
    by_prompt = METHODS.get("peap").scores_by_prompt(twin, data, **given)
    assert_close(by_prompt.mean(0), whole.scores.values[twin.graph.exists], **EXACT)

    class Kept:
        batches, total = 0, None

        def load(self, part):
            return self.batches, self.total

        def save(self, part, batches, total):
            self.batches, self.total = batches, total.clone()

    keeper = Kept()
    with kept_by(keeper):
        discover("peap", twin, data, batch_size=1)
    assert keeper.batches == 3
    with kept_by(keeper):  # all batches are kept, so that nothing is run: crossing edges are in the sums, too
        again = discover("peap", twin, data, batch_size=1)
    assert [each.circuit.names for each in again.circuits] == [each.circuit.names for each in whole.circuits]


@pytest.mark.parametrize("options", [{}, {"attention": "softmax"}])
def test_on_a_second_device(options):
    _, twin, data = problem()
    near = discover("peap", twin, data, **options)
    with second_device() as far:
        found = discover("peap", PositionTransformer.of(small_model(n_layers=2).to(far), N), data, **options)
    assert_close(found.scores.values, near.scores.values, equal_nan=True, rtol=1e-7, atol=1e-9)
    assert [each.circuit.names for each in found.circuits] == [each.circuit.names for each in near.circuits]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spans": [0, 2]}, "ascending, between 1 and 3"),
        ({"spans": [2, 1]}, "ascending, between 1 and 3"),
        ({"spans": [4]}, "ascending, between 1 and 3"),
        ({"sizes": [0.0]}, "give shares of all edges"),
        ({"aggregate": "most"}, "it is one of sum, mean, largest"),
        ({"attention": "linear"}, "it is one of gradient, softmax"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    model, twin, data = problem()
    with pytest.raises(SpecError, match=message):
        discover("peap", twin, data, **options)
    with pytest.raises(SpecError, match="this graph has none"):
        discover("peap", model, data, spans=[1])
