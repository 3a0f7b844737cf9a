"""The shipped trained models: what their certificates say, derived again by a plain program of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_forward import layer_of, run, weights_of

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.cuts import CutTest
from circuitmeter.ground_truth.rasp.programs import PROGRAMS
from circuitmeter.ground_truth.trained.gap import NUMBER_TOLERANCE, OUTPUT_CHANGE, RATIO
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.convert import from_huggingface
from circuitmeter.suite.scoring.recovery import recovery

NAMES = [name for name in ground_truth.names() if name.startswith("trained/")]
QUICK = ["trained/trend-seed1", "trained/xproportion-norm-seed2", "trained/shift1-norm"]
N_PAIRS = 40  # of the quick tests, beside the witnesses


def program_of(name):
    return ground_truth.load(name).description.program


def all_pairs(truth):
    n = len(truth.domain)
    return np.array([(i, j) for i in range(n) for j in range(n) if i != j])


def largest_changes(truth, pairs, cuts):
    """Largest change of an output by cutting each of several sets of edges, over pairs of inputs, by the plain program.

    Every input is run once; a cut run begins at the lowest layer into which an edge is cut.
    """
    domain, config, weights = truth.domain, truth.config, weights_of(truth.model())
    clean, written = run(weights, config, domain.tokens)
    largest = np.zeros(len(cuts))
    for part in np.array_split(pairs, -(-len(pairs) // 2048)):
        here, there = ({writer: out[rows] for writer, out in written.items()} for rows in part.T)
        tokens, read, whole = domain.tokens[part[:, 0]], domain.read[part[:, 0]], clean[part[:, 0]]
        for i, cut in enumerate(cuts):
            first = min(layer_of(edge, config) for edge in cut)
            moved = run(weights, config, tokens, cut, there, here, first)[0] - whole
            largest[i] = max(largest[i], np.abs(moved)[read].max())
    return largest.tolist()


def largest_change(truth, pairs, cut):
    """Of one set of edges (see ``largest_changes``)."""
    return largest_changes(truth, pairs, [cut])[0]


def changes_by_edge(truth, pairs):
    """Largest change of cutting each edge alone, by name."""
    edges = [str(edge) for edge in truth.graph.edges]
    return dict(zip(edges, largest_changes(truth, pairs, [{edge} for edge in edges]), strict=True))


def test_what_is_shipped():
    programs = {program_of(name) for name in NAMES}
    assert set(NAMES) == {
        f"trained/{program}{norm}{seed}"
        for program in programs
        for norm in ("", "-norm")
        for seed in ("", "-seed1", "-seed2")
    }
    assert len(programs) >= 12
    assert set(NAMES) < set(tasks.names())


@pytest.mark.parametrize("name", [name for name in ground_truth.names() if name.startswith("trained")])
def test_behaviour_is_the_specification_on_the_whole_domain(name):
    truth = ground_truth.load(name)
    about, values = truth.description, truth.description.vocabulary.tokens
    specification, labels = PROGRAMS[about.program].specification, about.outputs.labels
    outputs, _ = run(weights_of(truth.model()), truth.config, truth.domain.tokens)
    assert len({tuple(row) for row in truth.domain.tokens.tolist()}) == len(truth.domain)
    for tokens, read, row in zip(truth.domain.tokens, truth.domain.read, outputs, strict=True):
        expected = [None, *specification([values[i] for i in tokens[1:] if i != about.vocabulary.pad])]
        for position in read.nonzero()[0]:
            if labels:
                assert labels[int(row[position].argmax())] == expected[position]
            else:
                assert row[position, 0] == pytest.approx(expected[position], abs=NUMBER_TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_the_certificate_keeps_the_rule(name):
    truth = ground_truth.load(name)
    claim, training = truth.certificate.ablations["patch"], truth.certificate.training
    assert truth.certificate.tolerance == OUTPUT_CHANGE
    assert claim.pairs == "exhaustive" and claim.n_pairs == len(truth.domain) * (len(truth.domain) - 1)
    assert claim.unique and claim.sufficient and sorted(claim.core) == training.intended
    assert training.gap.smallest_true_effect >= RATIO * training.gap.largest_inert_effect > 0
    assert training.gap.joint_error <= OUTPUT_CHANGE
    assert truth.certificate.n_structural == truth.certificate.n_edges  # dense: no edge is known by its weights
    assert ("layer norm" in truth.description.description) == (truth.config.norm == "layer") == ("-norm" in name)


@pytest.mark.parametrize("name", NAMES)
def test_joint_removal_of_all_inert_edges(name):
    truth = ground_truth.load(name)
    core = set(truth.certificate.ablations["patch"].core)
    inert = {str(edge) for edge in truth.graph.edges} - core
    generator = np.random.default_rng(3)
    pairs = all_pairs(truth)
    found = largest_change(truth, pairs[generator.permutation(len(pairs))[:200]], inert)
    assert found <= truth.certificate.training.gap.joint_error + 1e-9


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NAMES])
def test_edge_for_edge_on_a_sample_of_pairs(name):
    """True edges are seen on the witnesses; inert ones are inert on these and on the sample."""
    truth = ground_truth.load(name)
    claim, pairs = truth.certificate.ablations["patch"], all_pairs(truth)
    gap = truth.certificate.training.gap
    sample = pairs[np.random.default_rng(7).permutation(len(pairs))[:N_PAIRS]]
    pairs = np.concatenate([sample, np.array(list(claim.witnesses.values()))])
    found = changes_by_edge(truth, pairs)
    assert {edge for edge, effect in found.items() if effect > OUTPUT_CHANGE} == set(claim.core)
    assert min(found[edge] for edge in claim.core) == pytest.approx(gap.smallest_true_effect, abs=1e-9)
    inert = max(effect for edge, effect in found.items() if edge not in claim.core)
    assert inert <= claim.largest_inert_effect + 1e-9  # the sample may hold the very pair


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_edge_for_edge_on_every_pair(name):
    truth = ground_truth.load(name)
    claim, pairs = truth.certificate.ablations["patch"], all_pairs(truth)
    gap = truth.certificate.training.gap
    found = changes_by_edge(truth, pairs)
    inert = [edge for edge in found if edge not in claim.core]
    assert {edge for edge, effect in found.items() if effect > OUTPUT_CHANGE} == set(claim.core)
    assert min(found[edge] for edge in claim.core) == pytest.approx(gap.smallest_true_effect, abs=1e-9)
    assert max(found[edge] for edge in inert) == pytest.approx(claim.largest_inert_effect, abs=1e-9)
    assert largest_change(truth, pairs, set(inert)) == pytest.approx(claim.error_of_necessary, abs=1e-9)


@pytest.mark.parametrize("name", QUICK)
def test_exact_patching_finds_the_truth(name):
    task, truth = tasks.load(name), ground_truth.load(name)
    method = METHODS.get("exact")
    found = method.discover(
        truth.model(),
        task.data(),
        ablation=Ablation.parse("patch"),
        objective=OBJECTIVES.get(task.objective),
        seed=0,
        **method.resolve({}),
    )
    assert recovery(found.scores, truth.reference("patch"))["auroc"] == 1


@pytest.mark.parametrize("name", ["trained/remove_consec_dups-norm", "trained/shift1-norm-seed2"])
def test_a_model_with_layer_norm_is_a_gpt2(name):
    """The same function from transformers' GPT-2, whose heads are d_model / n_heads wide: the rest is zeros."""
    transformers = pytest.importorskip("transformers")
    truth = ground_truth.load(name)
    model, config = truth.model(dtype=torch.float64), truth.config
    wide = config.d_model // config.n_heads
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.d_vocab,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_embd=config.d_model,
            n_inner=config.d_mlp,
            n_positions=config.n_positions,
            tie_word_embeddings=False,
        )
    )
    gpt2 = gpt2.double().eval()

    def padded(part, axis):
        """Heads of d_head dimensions made ``wide`` ones, along an axis on which they follow each other."""
        heads = part.unflatten(axis, (-1, config.d_head)).movedim(axis + 1, -1)
        return torch.nn.functional.pad(heads, (0, wide - config.d_head)).movedim(-1, axis + 1).flatten(axis, axis + 1)

    with torch.no_grad():
        gpt2.transformer.wte.weight.copy_(model.embed)
        gpt2.transformer.wpe.weight.copy_(model.pos_embed)
        gpt2.lm_head.weight.zero_()[: config.d_out] = model.unembed.T
        for block, layer in zip(model.blocks, gpt2.transformer.h, strict=True):
            packed, bias = padded(block.W_QKV, 1), padded(block.b_QKV, 0)
            scale = torch.ones(len(bias), dtype=torch.float64)
            # Scores: GPT-2 divides by the root of the width.
            scale[: wide * config.n_heads] = (wide / config.d_head) ** 0.5
            layer.attn.c_attn.weight.copy_(packed * scale)
            layer.attn.c_attn.bias.copy_(bias * scale)
            layer.attn.c_proj.weight.copy_(padded(block.W_O, 0))
            layer.attn.c_proj.bias.copy_(block.b_O)
            for ours, theirs in (("in", layer.mlp.c_fc), ("out", layer.mlp.c_proj)):
                theirs.weight.copy_(getattr(block, f"W_{ours}"))
                theirs.bias.copy_(getattr(block, f"b_{ours}"))
            for ours, theirs in ((block.norm_attention, layer.ln_1), (block.norm_mlp, layer.ln_2)):
                theirs.weight.copy_(ours.weight)
                theirs.bias.copy_(ours.bias)
        gpt2.transformer.ln_f.weight.copy_(model.norm_final.weight)
        gpt2.transformer.ln_f.bias.copy_(model.norm_final.bias)
        tokens = torch.from_numpy(truth.domain.tokens)
        assert (gpt2(tokens).logits[..., : config.d_out] - model(tokens)).abs().max() < 1e-10
        converted = from_huggingface(gpt2, inputs="split")
        assert (converted(tokens)[..., : config.d_out] - model(tokens)).abs().max() < 1e-10
    core = truth.graph.matrix(truth.certificate.ablations["patch"].core)
    assert converted.graph == truth.graph
    test = CutTest(converted, tasks.load(name).data("test"), Ablation.parse("patch"))
    assert float(test.error(core[None])) < OUTPUT_CHANGE
