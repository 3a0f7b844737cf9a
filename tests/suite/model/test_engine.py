"""The cut model: equal to the plain one, to the counterfactual one, and to a loop over readers in between."""

import weakref
from dataclasses import replace

import pytest
import torch
from oracles import ARCHITECTURES, INPUTS, plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.model import gradient_stream, in_parts
from circuitmeter.suite.model.block import Norm
from circuitmeter.suite.model.gradient_stream import BufferedStream
from circuitmeter.suite.model.passes import count_passes
from circuitmeter.suite.model.stream import ConcatenatedStream
from circuitmeter.suite.model.transformer import Transformer

EXACT = dict(rtol=1e-10, atol=1e-10)
everything = pytest.mark.parametrize("architecture", ARCHITECTURES)
every_input = pytest.mark.parametrize("inputs", INPUTS)


def prepared(architecture, inputs):
    model, data = small_model(inputs, **ARCHITECTURES[architecture]), small_data()
    with torch.no_grad():
        clean_logits, clean = model.run(model.input_nodes(data.clean))
        other_logits, other = model.run(model.input_nodes(data.counterfactual))
        return model, data, clean, clean_logits, other, other_logits, model.alternative(other, data.clean.shape[1])


def some_masks(model, n, keep=0.6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, *model.graph.exists.shape, generator=generator) < keep).double()


@everything
@every_input
@torch.no_grad()
def test_keeping_every_edge_is_the_plain_model_and_cutting_every_edge_the_counterfactual(architecture, inputs):
    model, _, clean, clean_logits, _, other_logits, alternative = prepared(architecture, inputs)
    masks = torch.stack([torch.ones(model.graph.exists.shape), torch.zeros(model.graph.exists.shape)])
    found = model.run_cut(masks, alternative, inputs=clean.inputs)
    assert_close(found[0], clean_logits, **EXACT)
    assert_close(found[1], other_logits, **EXACT)


@everything
@every_input
@torch.no_grad()
def test_equal_to_a_loop_over_readers(architecture, inputs):
    model, data, clean, _, _, _, alternative = prepared(architecture, inputs)
    masks = some_masks(model, 2)
    masks[1] *= torch.rand(masks[1].shape, generator=torch.Generator().manual_seed(5))  # shares between 0 and 1
    found = model.run_cut(masks, alternative, inputs=clean.inputs)
    for row in (0, 3):
        cut = written(model, data.counterfactual[row])
        for mask, logits in zip(masks, found, strict=True):
            assert_close(logits[row], plain_cut(model, data.clean[row], cut, mask), **EXACT)


@everything
@pytest.mark.parametrize("carried", ["run", "zero"])
@pytest.mark.parametrize("keep", [0.03, 0.2])
@torch.no_grad()
def test_few_edges_are_equal_to_a_loop_over_readers(architecture, carried, keep):
    """Readers without an edge, nodes that nothing reaches, and writers that nobody reads are left out."""
    model, data, clean, _, other, _, alternative = prepared(architecture, "split")
    if carried == "zero":
        other = other.map(torch.zeros_like)
        alternative = model.alternative(other, data.clean.shape[1])
    prefix = model.difference(clean, other)
    masks = some_masks(model, 3, keep, seed=int(100 * keep))
    masks[:, :, -1] = 1  # into the logits, so that something is left
    masks[1] *= 0.5
    cut = written(model, data.counterfactual[0])
    cut = cut if carried == "run" else {name: torch.zeros_like(value) for name, value in cut.items()}
    expected = torch.stack([plain_cut(model, data.clean[0], cut, mask) for mask in masks])
    given = {"inputs": clean.inputs, "prefix": prefix}
    assert_close(model.run_cut(masks[:1], alternative, **given)[:, 0], expected[:1], **EXACT)
    for a_run in {False, carried == "run"}:
        assert_close(model.run_cut(masks, replace(alternative, a_run=a_run), **given)[:, 0], expected, **EXACT)


@everything
@torch.no_grad()
def test_masks_together_and_alone_from_the_first_layer_and_from_a_later_one_are_equal(architecture):
    model, _, clean, _, other, _, alternative = prepared(architecture, "token")
    masks = some_masks(model, 4)
    late = model.graph.qkv(model.graph.n_layers - 1).start
    masks[2:, :, :late] = 1  # cut in the last layer only
    together = model.run_cut(masks, alternative, inputs=clean.inputs)
    prefix = model.difference(clean, other)
    for i, mask in enumerate(masks):
        assert_close(
            model.run_cut(mask[None], alternative, inputs=clean.inputs, prefix=prefix)[0], together[i], **EXACT
        )
    read = torch.zeros(clean.inputs.shape[1:3], dtype=torch.bool)
    read[:, 1], read[0, 3] = True, True
    assert_close(model.run_cut(masks, alternative, inputs=clean.inputs, read=read), together[:, read], **EXACT)


@torch.no_grad()
def test_a_late_cut_costs_a_part_of_a_pass():
    model, _, clean, _, other, _, alternative = prepared("gpt2", "token")
    prefix, mask = model.difference(clean, other), torch.ones(1, *model.graph.exists.shape)
    mask[0, 0, model.graph.mlp_reader(2)] = 0
    with count_passes() as passes:
        model.run_cut(mask, alternative, inputs=clean.inputs, prefix=prefix)
    assert passes.forward == pytest.approx(clean.inputs.shape[1] / 3)


@torch.no_grad()
def test_nodes_that_lead_nowhere_are_not_computed():
    model, _, clean, _, _, _, alternative = prepared("gpt2", "token")
    kept = model.graph.matrix(["input->a0.h1<v>", "a0.h1->m1", "m1->logits", "input->a2.h0<q>"])
    live = model.live_writers(kept)
    assert [name for name, is_live in zip(model.graph.writers, live.tolist(), strict=True) if is_live] == [
        "input",
        "a0.h1",
        "m1",
    ]
    for block in model.blocks:  # a dead head of a computed layer, and a dead MLP: NaN would spread if they were used
        block.W_out.data[:] = float("nan") if block is not model.blocks[1] else block.W_out
    found = model.run_cut(kept[None].double(), alternative, inputs=clean.inputs)
    assert found.isfinite().all()


@torch.no_grad()
def test_nodes_that_nothing_reaches_write_what_the_run_of_the_alternative_wrote():
    """m0 and a1.h0 have no edge from the input: under a run they are not computed; under zeros they write something."""
    model, _, clean, _, other, _, alternative = prepared("gpt2", "token")
    kept = model.graph.matrix(["m0->a1.h0<v>", "a1.h0->logits", "input->m2", "m2->logits"])
    fed = model.fed_writers(kept)
    assert [name for name, is_fed in zip(model.graph.writers, fed.tolist(), strict=True) if is_fed] == ["input", "m2"]
    zeros = model.alternative(other.map(torch.zeros_like), clean.inputs.shape[2])
    model.blocks[0].W_out.data[:] = float("nan")
    masks = kept[None].double()
    assert model.run_cut(masks, replace(alternative, a_run=True), inputs=clean.inputs).isfinite().all()
    assert model.run_cut(masks, zeros, inputs=clean.inputs).isnan().all()


@torch.no_grad()
def test_readers_without_an_edge_are_projected_once_from_the_same_input(monkeypatch):
    model, _, clean, _, _, _, alternative = prepared("gpt2", "token")
    masks = model.graph.matrix(["input->a0.h0<q>", "input->a0.h1<v>", "a0.h0->logits", "a0.h1->logits"])[None].double()
    normed, plain = [], Norm.forward
    monkeypatch.setattr(Norm, "forward", lambda self, x: normed.append(x.shape) or plain(self, x))
    model.run_cut(masks, alternative, inputs=clean.inputs)
    batch = clean.inputs.shape[1:]
    assert normed == [(2, 1, *batch), tuple(batch), (1, *batch)]  # two readers, the other four together, the logits


@everything
def test_differentiable_in_the_masks_and_equal_with_and_without_gradients(architecture):
    model, _, clean, _, _, _, alternative = prepared(architecture, "split")
    masks = some_masks(model, 2).requires_grad_()
    logits = model.run_cut(masks, alternative, inputs=clean.inputs)
    with torch.no_grad():
        assert_close(model.run_cut(masks, alternative, inputs=clean.inputs), logits.detach(), **EXACT)
    (gradient,) = torch.autograd.grad(logits.square().sum(), masks)
    w, r = model.graph.index("tok_embed->logits")
    with torch.no_grad():
        up, down = masks.detach().clone(), masks.detach().clone()
        up[0, w, r] += 1e-5
        down[0, w, r] -= 1e-5
        slope = [model.run_cut(m, alternative, inputs=clean.inputs).square().sum() for m in (up, down)]
    assert_close(gradient[0, w, r], (slope[0] - slope[1]) / 2e-5, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_cutting_all_edges_out_of_a_node_is_replacing_its_output():
    model, data, clean, _, _, _, alternative = prepared("gpt2", "token")
    mask = torch.ones(1, *model.graph.exists.shape)
    mask[0, model.graph.writers.index("a1.h1")] = 0
    found = model.run_cut(mask, alternative, inputs=clean.inputs)[0]
    # The plain model with the head's output before projection replaced by hand.
    taken = alternative.activations["head", 1][1]
    original = model.blocks[1].attend

    def replaced(q, k, v):
        z = original(q, k, v).clone()
        z[:, 1] = taken
        return z

    model.blocks[1].attend = replaced
    assert_close(found, model(data.clean), **EXACT)


@everything
@torch.no_grad()
def test_cutting_all_edges_out_of_the_input_node_is_running_the_other_prompt(architecture):
    model, _, clean, _, _, other_logits, alternative = prepared(architecture, "sum")
    mask = torch.ones(1, *model.graph.exists.shape)
    mask[0, 0] = 0
    assert_close(model.run_cut(mask, alternative, inputs=clean.inputs)[0], other_logits, **EXACT)


@torch.no_grad()
def test_token_and_position_under_equal_masks_are_one_input_node():
    merged, split = small_model("sum"), small_model("split")
    data = small_data()
    results = []
    mask = some_masks(merged, 1)
    for model in (merged, split):
        _, clean = model.run(model.input_nodes(data.clean))
        _, other = model.run(model.input_nodes(data.counterfactual))
        own = mask if model is merged else torch.cat([mask[:, :1], mask], 1)
        results.append(model.run_cut(own, model.alternative(other, 5), inputs=clean.inputs))
    assert_close(results[0], results[1], **EXACT)


@everything
@torch.no_grad()
def test_the_same_weights_under_another_choice_of_input_nodes(architecture):
    model = small_model("token", **ARCHITECTURES[architecture])
    tokens = small_data().clean
    for inputs in INPUTS:
        twin = model.with_inputs(inputs)
        assert twin.graph.inputs == inputs and model.graph.inputs == "token"
        assert_close(twin(tokens), model(tokens), **EXACT)
    assert twin.weights_hash == model.weights_hash


@everything
@pytest.mark.parametrize("cut_positions", [False, True])
def test_one_buffer_gives_the_values_and_gradients_of_the_plain_way(architecture, cut_positions):
    model, data, clean, *_, alternative = prepared(architecture, "split")
    generator = torch.Generator().manual_seed(3)
    start = torch.rand(2, *model.graph.exists.shape, generator=generator, dtype=torch.float64)
    shift = 0.1 * torch.randn(2, len(model.graph.readers), 12, generator=generator, dtype=torch.float64)
    cut_at = torch.rand(data.clean.shape, generator=generator) < 0.6 if cut_positions else None
    found = []
    for stream in (ConcatenatedStream, BufferedStream):
        masks, offset = start.clone().requires_grad_(), shift.clone().requires_grad_()
        logits = model.run_cut(
            masks, alternative, inputs=clean.inputs, offset=offset, cut_at=cut_at, gradient_stream=stream
        )
        value = logits.square().sum()
        once = torch.autograd.grad(value, (masks, offset), retain_graph=True)
        found.append([logits, *once, *torch.autograd.grad(value, (masks, offset))])
    plain, fast = found
    assert_close(fast[0], plain[0], **EXACT)
    for expected, own, again in zip(plain[1:3], fast[1:3], fast[3:], strict=True):
        assert_close(own, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
        assert_close(again, own, **EXACT)  # a second backward pass starts from nothing


@pytest.mark.parametrize("shared_offset", [False, True])
@pytest.mark.parametrize("at_once", [1, 2])
def test_masks_a_part_at_a_time_give_the_values_and_gradients_of_all_at_once(at_once, shared_offset, monkeypatch):
    model, data, clean, *_, alternative = prepared("gpt2", "token")
    generator = torch.Generator().manual_seed(3)
    start = torch.rand(5, *model.graph.exists.shape, generator=generator, dtype=torch.float64)
    shift = torch.randn(1 if shared_offset else 5, len(model.graph.readers), 12, generator=generator).double()
    cut_at = torch.rand(data.clean.shape, generator=generator) < 0.6
    found, ran = [], []
    run = Transformer._run_cut
    monkeypatch.setattr(
        Transformer, "_run_cut", lambda self, masks, given: ran.append(len(masks)) or run(self, masks, given)
    )
    for numbers in (
        in_parts._BUDGET,
        at_once * data.clean.numel() * 12 * (2 * len(model.graph.writers) + len(model.graph.readers)),
    ):
        monkeypatch.setattr(in_parts, "_BUDGET", numbers)
        masks, offset = start.clone().requires_grad_(), shift.clone().requires_grad_()
        with count_passes() as passes:
            logits = model.run_cut(masks, alternative, inputs=clean.inputs, offset=offset, cut_at=cut_at)
            gradients = torch.autograd.grad(logits.square().sum(), (masks, offset))
        found.append([logits, *gradients, torch.tensor([passes.forward, passes.backward])])
        ran.append(None)
    one_part = [at_once] * (5 // at_once) + [5 % at_once] * (5 % at_once > 0)
    assert ran == [5, None, *one_part, *one_part[::-1], None], "each part twice, and the whole once"
    for whole, own in zip(*found, strict=True):
        assert_close(own, whole, rtol=1e-9, atol=1e-9 * float(whole.detach().abs().max()))


def test_gradients_of_what_cut_edges_carry_are_not_lost_where_masks_would_be_run_in_parts(monkeypatch):
    model, _, clean, *_, alternative = prepared("gpt2", "token")
    carried, found = alternative.activations["head", 1].requires_grad_(), []
    for budget in (in_parts._BUDGET, 1):
        monkeypatch.setattr(in_parts, "_BUDGET", budget)
        logits = model.run_cut(some_masks(model, 3), alternative, inputs=clean.inputs)
        found.append(torch.autograd.grad(logits.square().sum(), carried)[0])
    assert_close(*found, **EXACT)


def test_a_pass_leaves_nothing_behind(monkeypatch):
    """Nothing refers to itself by way of autograd's functions, where no collector would find it."""
    left, begin = [], gradient_stream._Buffers.__init__

    def noted(buffers, *given):
        begin(buffers, *given)
        left.append(weakref.ref(buffers))

    monkeypatch.setattr(gradient_stream._Buffers, "__init__", noted)
    model, _, clean, *_, alternative = prepared("gpt2", "token")
    masks = some_masks(model, 3).requires_grad_()
    for budget, passes in ((in_parts._BUDGET, 1), (1, 6)):
        monkeypatch.setattr(in_parts, "_BUDGET", budget)
        left.clear()
        torch.autograd.grad(model.run_cut(masks, alternative, inputs=clean.inputs).sum(), masks)
        assert len(left) == passes and not any(each() for each in left)
    model.run_cut(masks, alternative, inputs=clean.inputs)  # and without a backward pass
    assert not any(each() for each in left)


def test_what_a_training_step_keeps_is_linear_in_the_layers():
    """Numbers that autograd holds beside the layers' own: one copy of what was written, not one per layer."""
    kept = []
    for layers in (2, 4, 8):
        model, data = small_model(n_layers=layers, d_mlp=0), small_data()
        _, clean = model.run(model.input_nodes(data.clean))
        alternative = model.alternative(clean.map(torch.zeros_like), 5)
        masks, sizes = model.graph.exists.double()[None].requires_grad_(), {}

        def packed(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
            model.run_cut(masks, alternative, inputs=clean.inputs)
        kept.append(sum(sizes.values()) - masks.untyped_storage().nbytes())
    assert kept[2] - kept[1] < 2.3 * (kept[1] - kept[0])
