"""Certificates of feature circuits, derived again by a plain program in numpy that shares nothing with the engine."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from plain_forward import weights_of

from circuitmeter import ground_truth
from circuitmeter.ground_truth.certificate import FeatureCertificate
from circuitmeter.ground_truth.features.directions import CERTIFICATES, FEATURE_PROGRAMS, with_directions

SMALL = ("fraction_a", "hist", "seen_a", "xproportion")
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in SMALL)) for name in FEATURE_PROGRAMS]


def attention(weights, config, layer, x):
    """What all heads of a layer make of one input [B, P, D]: [B, P, D]."""
    d, block = config.d_head, f"blocks.{layer}"
    packed, output = weights[f"{block}.W_QKV"], weights[f"{block}.W_O"]
    total = np.zeros_like(x) + weights[f"{block}.b_O"]
    for head in range(config.n_heads):
        q, k, v = (x @ packed[:, (i * config.n_heads + head) * d :][:, :d] for i in range(3))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(d)
        if config.causal:
            scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
        pattern = np.exp(scores - scores.max(-1, keepdims=True))
        total = total + (pattern / pattern.sum(-1, keepdims=True)) @ v @ output[head * d : (head + 1) * d]
    return total


def mlp(weights, config, layer, x):
    block = f"blocks.{layer}"
    hidden = np.maximum(x @ weights[f"{block}.W_in"] + weights[f"{block}.b_in"], 0)
    return hidden @ weights[f"{block}.W_out"] + weights[f"{block}.b_out"]


def dimensions_written(weights, config, letter, layer):
    """Dimensions of the residual stream that a component can write to."""
    block = f"blocks.{layer}"
    if letter == "m":
        rows = np.concatenate([weights[f"{block}.W_out"], weights[f"{block}.b_out"][None]])
    else:
        d, heads = config.d_head, config.n_heads
        values = weights[f"{block}.W_QKV"][:, 2 * heads * d :]
        rows = [values[:, h * d : (h + 1) * d] @ weights[f"{block}.W_O"][h * d : (h + 1) * d] for h in range(heads)]
        rows = np.concatenate([*rows, weights[f"{block}.b_O"][None]])
    return np.flatnonzero(np.abs(rows).max(0) > 0)


def run(weights, config, tokens, cut=frozenset(), alternative=None):
    """(outputs, what each node wrote): each dimension that a component writes is a node, with an input of its own."""
    shape = (*tokens.shape, config.d_model)
    written = {
        "tok_embed": weights["embed"][tokens],
        "pos_embed": np.broadcast_to(weights["pos_embed"][: tokens.shape[1]], shape),
    }

    def read(reader):
        return sum(alternative[w] if f"{w}->{reader}" in cut else out for w, out in written.items())

    for layer in range(config.n_layers):
        for letter, component in (("a", attention), ("m", mlp)):
            where, new = dimensions_written(weights, config, letter, layer), {}
            for i, dimension in enumerate(where):
                out = np.zeros(shape)
                out[..., dimension] = component(weights, config, layer, read(f"{letter}{layer}.f{i}"))[..., dimension]
                new[f"{letter}{layer}.f{i}"] = out
            if len(where):
                rest = component(weights, config, layer, read(f"{letter}{layer}.error"))
                rest[..., where] = 0
                new[f"{letter}{layer}.error"] = rest
            elif letter == "a":
                new = {f"a{layer}.h{head}": np.zeros(shape) for head in range(config.n_heads)}
            else:
                new = {f"m{layer}": np.zeros(shape)}
            written |= new
    return read("logits") @ weights["unembed"], written


def necessary(model, weights, config, tokens, read, alternative, tolerance):
    """Edges whose cutting alone moves an output, and the largest effect of the others."""
    clean = run(weights, config, tokens)[0]
    found = {}
    for edge in map(str, model.graph.edges):
        found[edge] = float(np.abs(run(weights, config, tokens, {edge}, alternative)[0] - clean)[read].max())
    return {e for e, effect in found.items() if effect > tolerance}, max(e for e in found.values() if e <= tolerance)


def subject(name):
    truth = ground_truth.load(f"tracr/{name}")
    plain = truth.model()
    claims = FeatureCertificate(**json.loads((CERTIFICATES / f"{name}.json").read_text()))
    return truth, with_directions(plain, plain, truth.description.dimensions), weights_of(plain), claims


VALUES = {
    "zero": lambda out: np.zeros_like(out),
    "mean": lambda out: np.broadcast_to(out.mean((0, 1)), out.shape),
    "mean-positional": lambda out: np.broadcast_to(out.mean(0), out.shape),
}


@pytest.mark.parametrize("ablation", VALUES)
@pytest.mark.parametrize("name", EVERY)
def test_zero_and_means(name, ablation):
    truth, model, weights, claims = subject(name)
    tokens, config = truth.domain.tokens, truth.config
    alternative = {w: VALUES[ablation](out) for w, out in run(weights, config, tokens)[1].items()}
    found, inert = necessary(model, weights, config, tokens, truth.domain.read, alternative, claims.tolerance)
    claim = claims.ablations[ablation]
    assert found == set(claim.necessary)
    assert inert == pytest.approx(claim.largest_inert_effect, abs=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_patch(name):
    truth, model, weights, claims = subject(name)
    claim, domain, config = claims.ablations["patch"], truth.domain, truth.config
    sampled = np.random.default_rng(7).integers(len(domain), size=(100, 2))
    pairs = np.concatenate([sampled, np.array(list(claim.witnesses.values()))])
    alternative = run(weights, config, domain.tokens[pairs[:, 1]])[1]
    rows = pairs[:, 0]
    found, inert = necessary(model, weights, config, domain.tokens[rows], domain.read[rows], alternative, 0.02)
    assert found == set(claim.necessary)
    assert inert < 1e-9


@pytest.mark.parametrize("basis", [None, 0])
@pytest.mark.parametrize("name", SMALL)
def test_nothing_is_left_for_the_error_nodes(name, basis):
    """With the compiled directions as dictionary, in the basis of the program and in a random one."""
    truth = ground_truth.load(f"tracr/{name}" if basis is None else f"tracr-rotated/{name}")
    stored = truth.stored.model()
    model = with_directions(truth.model(), stored, truth.description.dimensions, basis)
    tokens = torch.from_numpy(truth.domain.tokens)
    logits, wrote = model.run(model.input_nodes(tokens))
    torch.testing.assert_close(logits, stored(tokens), atol=2e-5, rtol=0)
    for (kind, _), part in wrote.items():
        if kind.endswith("error"):
            assert float(part.abs().max()) < 2e-6
