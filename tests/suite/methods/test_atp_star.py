"""AtP*: exact through the softmax, and one frozen layer at a time."""

import pytest
import torch
from discovering import scores
from oracles import ARCHITECTURES, linear_model, plain_cut, small_data, small_model, written
from torch.testing import assert_close

CLOSE = dict(rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "changes", [{}, {"causal": False}, {"n_heads": 4, "n_kv_heads": 2, "d_head": 3}, {"n_heads": 1}]
)
@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_behind_the_pattern_a_linear_model_makes_the_qk_fix_exact(changes, ablation):
    """One layer of attention without norm: all that is not linear is the softmax."""
    model = small_model(**{"n_layers": 1, "norm": "none", "d_mlp": 0, **changes})
    for i in range(2):
        data = small_data(n=3).select(torch.tensor([i]))
        if ablation == "mean":
            data = type(data)(
                data.clean,
                data.counterfactual,
                data.read,
                answers=data.answers,
                wrong=data.wrong,
                reference=small_data(seed=5).clean,
            )
        exact = scores("exact", model, data, ablation=ablation).abs()
        assert_close(scores("atp-star", model, data, ablation=ablation), exact, **CLOSE)
        keys = [r for r, name in enumerate(model.graph.readers) if name.endswith(("<q>", "<k>"))]
        without = scores("atp-star", model, data, ablation=ablation, qk_fix=False)
        assert (without - exact)[:, keys].abs().max() > 1e-4


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "olmo-2"])
@torch.no_grad()
def test_the_qk_fix_is_a_plain_recomputation_of_the_pattern(architecture):
    """A step so small that the rest is linear: with the fix and without, the derivative is the same."""
    model, data = small_model(**ARCHITECTURES[architecture]), small_data(n=2)
    near = data.clean.clone()
    model.embed.data[10] = model.embed.data[3] + 1e-5 * torch.randn(12, dtype=torch.float64)
    clean = torch.where(data.clean == 10, 3, data.clean)
    clean[:, 1] = 3
    near = clean.clone()
    near[:, 1] = 10
    close = type(data)(clean, near, data.read, answers=data.answers, wrong=data.wrong)
    with_fix, without = (scores("atp-star", model, close, qk_fix=fix) for fix in (True, False))
    assert without.abs().max() > 1e-8
    assert_close(with_fix, without, rtol=1e-2, atol=2e-4 * float(without.abs().max()))


def test_without_either_correction_it_is_the_mean_absolute_attribution():
    model, data = small_model(), small_data(n=3)
    one_by_one = sum(scores("eap", model, data.select(torch.tensor([i]))).abs() for i in range(3)) / 3
    assert_close(scores("atp-star", model, data, preset="attribution-patching"), one_by_one, **CLOSE)


@torch.no_grad()
def test_grad_drop_is_the_effect_with_one_layer_s_outputs_fixed():
    """On a linear model a dropped gradient is a fixed output, so that each term can be patched exactly."""
    model = linear_model()
    data = small_data(n=1)
    graph, n_layers = model.graph, model.config.n_layers
    clean, other = written(model, data.clean[0]), written(model, data.counterfactual[0])

    def loss(kept, fixed):
        logits = plain_cut(model, data.clean[0], other, kept, fixed)[-1]
        return logits[data.wrong[0, 0]] - logits[data.answers[0, 0]]

    found = scores("atp-star", model, data)
    ones = graph.exists.double()
    into_logits = [(w, len(graph.readers) - 1) for w in range(len(graph.writers))]
    for w, r in graph.exists.nonzero().tolist()[::5] + into_logits:
        total = 0.0
        for layer in range(n_layers):
            names = [*graph.writers[graph.heads(layer)], graph.writers[graph.mlp(layer)]]
            fixed = {name: clean[name] for name in names}
            kept = ones.clone()
            kept[w, r] = 0
            total += abs(float(loss(kept, fixed) - loss(ones, fixed)))
        count = n_layers if graph.readers[r] == "logits" else n_layers - 1
        assert abs(float(found[w, r]) - total / count) < 1e-8 * max(1, total)


def test_grad_drop_finds_an_edge_whose_paths_cancel():
    """An MLP that undoes another: the plain gradient at the input's edge into the first sees nothing of it."""
    model, data = linear_model(n_layers=3), small_data()
    first, second = model.blocks[1], model.blocks[2]
    for block in model.blocks:
        block.W_O.data.zero_()
        block.b_O.data.zero_()
    # m0 -> logits is undone by m0 -> m1 -> logits: W_in W_out = -identity.
    basis = torch.linalg.qr(torch.randn(20, 12, dtype=torch.float64))[0].T
    first.W_in.data, first.W_out.data = basis, -basis.T.clone()
    second.W_out.data.zero_()
    edge = model.graph.index("input->m0")
    assert scores("eap", model, data)[edge].abs() < 1e-9
    assert scores("atp-star", model, data)[edge] > 1e-2
