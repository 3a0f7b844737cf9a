"""Rotated models: another basis, the same outputs, the same truth, the same bytes everywhere."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.certify import certify
from circuitmeter.ground_truth.rotation import rotated_size, rotation

NAMES = [name for name in ground_truth.names() if name.startswith("tracr-rotated/")]


@pytest.mark.parametrize("size", [1, 13, 16, 41])
def test_rows_are_orthonormal_and_spread_over_all_dimensions(size):
    q = rotation(size, seed=3)
    assert q.shape == (size, rotated_size(size)) and torch.equal(q @ q.T, torch.eye(size, dtype=torch.float64))
    if size > 1:
        assert float((q != 0).float().mean()) > 0.5 and not torch.equal(q, rotation(size, seed=4))


def test_products_are_exact_so_that_the_bytes_are_the_same_on_every_machine():
    truth = ground_truth.load("tracr/hist")
    unembed = truth.model().unembed
    q = rotation(len(unembed), 0)
    for row, column in [(0, 0), (5, 2), (31, 3)]:
        terms = zip(q[:, row].tolist(), unembed[:, column].tolist(), strict=True)
        exact = sum(Fraction(a) * Fraction(b) for a, b in terms)
        assert Fraction(float((q.T @ unembed.double())[row, column])) == exact
    assert ground_truth.load("tracr-rotated/hist").weights_hash == "17d0b6d084bb1cbe"


@pytest.mark.parametrize("name", [name for name in NAMES if "@" not in name])
def test_outputs_are_those_of_the_model_as_compiled(name):
    turned, stored = ground_truth.load(name), ground_truth.load(name.replace("-rotated", ""))
    assert turned.domain.hash == stored.domain.hash and turned.graph == stored.graph
    tokens, read = (torch.from_numpy(part) for part in (stored.domain.tokens, stored.domain.read))
    before, after = stored.model()(tokens)[read], turned.model()(tokens)[read]
    assert float((before - after).abs().max()) < 5e-4
    if before.shape[-1] > 1:
        assert torch.equal(before.argmax(-1), after.argmax(-1))


@pytest.mark.parametrize("name", ["tracr-rotated/majority_a@fixed", "tracr-rotated/reverse@permutations3"])
def test_certifying_the_rotated_model_gives_the_same_truth(name):
    truth = ground_truth.load(name)
    again = certify(truth.model(), truth.domain, ablations=truth.ablations).ablations
    for ablation, claim in truth.certificate.ablations.items():
        for part in ("necessary", "core", "optional", "sufficient", "unique", "minimal_circuits", "sizes"):
            assert getattr(again[ablation], part) == getattr(claim, part), (ablation, part)
        assert again[ablation].largest_error_of_circuit < 1e-3


def test_noise_depends_on_the_basis_and_is_not_claimed():
    turned, stored = ground_truth.load("tracr-rotated/hist"), ground_truth.load("tracr/hist")
    assert set(turned.ablations) == set(stored.ablations) - {"noise"} and turned.reference("noise") is None
    assert turned.certificate_hash != stored.certificate_hash


def test_another_basis_is_another_model_with_the_same_truth():
    stored = ground_truth.load("tracr/hist")
    models = [stored.rotated("mine", basis) for basis in (0, 1)]
    assert models[0].weights_hash != models[1].weights_hash != stored.weights_hash
    assert torch.equal(models[0].reference("zero").core, models[1].reference("zero").core)


def test_a_rotated_model_has_the_prompts_of_the_compiled_one():
    assert tasks.load("tracr-rotated/reverse@fixed").hash == tasks.load("tracr/reverse@fixed").hash
    assert tasks.load("tracr-rotated/reverse@fixed").model == "tracr-rotated/reverse"
