"""Small certificates derived again, edge for edge, by an implementation that shares nothing with the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_forward import layer_of, run, weights_of

from circuitmeter import ground_truth

SMALL = [
    "tracr/xproportion@fixed",
    "tracr/hist@fixed",
    "tracr/count_a",
    "tracr/trend@fixed",
    "tracr/reverse@permutations3",
    "tracr/parity_ones@fixed",
    "tracr/equal_neighbours@fixed",
]
# All the others, too, which takes minutes.
COMPILED = [name for name in ground_truth.names() if name.startswith("tracr/")]
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in SMALL)) for name in COMPILED]


def effects(truth, tokens, read, alternative_of):
    """Largest output change of cutting each edge of the graph alone, over all rows."""
    model = truth.model()
    weights, config = weights_of(model), truth.config
    clean, written = run(weights, config, tokens)
    alternative = alternative_of(weights, config, written)
    found = {}
    for edge in model.graph.edges:
        outputs, _ = run(weights, config, tokens, {str(edge)}, alternative, written, layer_of(str(edge), config))
        found[str(edge)] = float(np.abs(outputs - clean)[read].max())
    return found


ALTERNATIVES = {
    "zero": lambda out: np.zeros_like(out),
    "mean": lambda out: np.broadcast_to(out.mean((0, 1)), out.shape),
    "mean-positional": lambda out: np.broadcast_to(out.mean(0), out.shape),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("ablation", ALTERNATIVES)
def test_zero_and_mean(name, ablation):
    truth = ground_truth.load(name)
    value = ALTERNATIVES[ablation]
    found = effects(
        truth,
        truth.domain.tokens,
        truth.domain.read,
        lambda weights, config, written: {writer: value(out) for writer, out in written.items()},
    )
    claim, tolerance = truth.certificate.ablations[ablation], truth.certificate.tolerance
    assert sorted(edge for edge, effect in found.items() if effect > tolerance) == sorted(claim.necessary)
    inert = max(effect for edge, effect in found.items() if edge not in claim.necessary)
    assert inert == pytest.approx(claim.largest_inert_effect, abs=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_patch(name):
    truth = ground_truth.load(name)
    claim, domain = truth.certificate.ablations["patch"], truth.domain
    generator = np.random.default_rng(7)
    sampled = generator.integers(len(domain), size=(150, 2))
    pairs = np.concatenate([sampled, np.array(list(claim.witnesses.values()))])
    other = domain.tokens[pairs[:, 1]]
    found = effects(
        truth,
        domain.tokens[pairs[:, 0]],
        domain.read[pairs[:, 0]],
        lambda weights, config, written: run(weights, config, other)[1],
    )
    assert sorted(edge for edge, effect in found.items() if effect > 0.02) == sorted(claim.necessary)
    assert max(effect for edge, effect in found.items() if edge not in claim.necessary) < 1e-9


def test_a_run_that_begins_above_is_the_whole_run():
    """What ``effects`` leaves out changes nothing: to the last digit, for an edge into every layer."""
    truth = ground_truth.load("tracr/majority_a@fixed")
    model = truth.model()
    weights, config, tokens = weights_of(model), truth.config, truth.domain.tokens
    _, written = run(weights, config, tokens)
    zero = {writer: np.zeros_like(out) for writer, out in written.items()}
    begins = {layer_of(str(edge), config): edge for edge in model.graph.edges}
    assert sorted(begins) == list(range(config.n_layers + 1))
    for first, edge in begins.items():
        whole, _ = run(weights, config, tokens, {str(edge)}, zero)
        above, _ = run(weights, config, tokens, {str(edge)}, zero, written, first)
        assert np.array_equal(whole, above)


def test_the_plain_forward_is_the_engine_s():
    truth = ground_truth.load("tracr/dyck1")
    model = truth.model().double()
    outputs, _ = run(weights_of(model), truth.config, truth.domain.tokens)
    assert np.abs(outputs - model(torch.from_numpy(truth.domain.tokens)).numpy()).max() < 1e-10
