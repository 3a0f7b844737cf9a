"""The published circuits of compiled models: derived again on the data they were made with, and where they are wrong,
why. Everything is computed by the plain forward pass."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from plain_forward import run, weights_of

from circuitmeter import ground_truth

TOLERANCE = 0.02


def needed(truth, tokens, read, alternative):
    """The edges whose cutting alone changes an output at the positions ``read``."""
    model = truth.model()
    weights = weights_of(model)
    clean, _ = run(weights, truth.config, tokens)
    found = set()
    for edge in map(str, model.graph.edges):
        outputs, _ = run(weights, truth.config, tokens, {edge}, alternative)
        if np.abs(outputs - clean)[:, read].max() > TOLERANCE:
            found.add(edge)
    return found


def zeros(truth, tokens):
    written = run(weights_of(truth.model()), truth.config, tokens)[1]
    return {writer: np.zeros_like(out) for writer, out in written.items()}


def merged(edges):
    """The edges in auto-circuit's graph, where token and position are one writer."""
    return {edge.replace("tok_embed", "embed").replace("pos_embed", "embed") for edge in edges}


REVERSE_OF_ACDC = """
    tok_embed->a0.h0<v> tok_embed->m0 tok_embed->m1 pos_embed->m1 a0.h0->m0 m0->m1 m1->m2 m2->a3.h0<q>
    pos_embed->a3.h0<k> tok_embed->a3.h0<v> a3.h0->logits
"""


def test_acdc_s_circuit_of_reverse_holds_at_length_three_only():
    """Conmy et al. 2023 use the six permutations of length 3: there all their 11 edges are needed under zero ablation.
    At the length the model was compiled for, the zeroed length head decodes to the right length, and two are not."""
    truth = ground_truth.load("tracr/reverse@permutations3")
    tokens = truth.domain.tokens
    theirs = set(REVERSE_OF_ACDC.split())
    assert needed(truth, tokens, slice(1, None), zeros(truth, tokens)) == theirs
    assert len(merged(theirs)) == 10  # "acdc" in auto-circuit
    longest = ground_truth.load("tracr/reverse@fixed").domain.tokens
    assert theirs - needed(truth, longest, slice(1, None), zeros(truth, longest)) == {
        "tok_embed->a0.h0<v>",
        "a0.h0->m0",
    }


def test_acdc_s_circuit_of_proportion_comes_from_wrongly_encoded_data():
    """Error 1. ACDC's loader numbers w, x, y, z from 0 and puts nothing in front: in the model's vocabulary these are
    BOS, padding, w and x. On such data all 7 structural edges are needed under zero ablation, which is the published
    circuit; on inputs of the model it is 5, since every query finds a match and the way out over BOS carries nothing.
    Under patching, too, their data need an edge more than the 3 of the truth: here BOS moves."""
    truth = ground_truth.load("tracr/xproportion@fixed")
    vocabulary = truth.description.vocabulary
    assert vocabulary.tokens[:4] == ["compiler_bos", "compiler_pad", "w", "x"]
    wrong = np.random.default_rng(0).integers(4, size=(100, 5))
    seven = needed(truth, wrong, slice(1, None), zeros(truth, wrong))
    assert seven == set(truth.certificate.structural) and len(seven) == 7

    right = truth.domain.tokens
    five = needed(truth, right, slice(1, None), zeros(truth, right))
    assert len(five) == 5 and seven - five == {"tok_embed->a1.h0<q>", "tok_embed->a1.h0<k>"}
    assert merged(five) == merged(seven) - {"tok_embed->a1.h0<q>"} and len(merged(five)) == 5  # auto-circuit's "acdc"

    written = {name: run(weights_of(truth.model()), truth.config, np.roll(x, 1, 0))[1] for name, x in
               {"wrong": wrong, "right": right}.items()}  # fmt: skip
    three = needed(truth, right, slice(1, None), written["right"])
    assert three == {"tok_embed->m0", "m0->a1.h0<v>", "a1.h0->logits"}
    assert needed(truth, wrong, slice(1, None), written["wrong"]) == three | {"tok_embed->a1.h0<k>"}


def test_auto_circuit_s_circuit_of_reverse_by_position_lacks_one():
    """Error 2. Its token positions are 1, 2, 4 and 5. The third is the middle of five tokens, its own mirror image:
    patching what the reversing head reads there changes the output there, and no other."""
    truth = ground_truth.load("tracr/reverse@fixed")
    weights, tokens = weights_of(truth.model()), truth.domain.tokens
    clean, written = run(weights, truth.config, tokens)
    other = run(weights, truth.config, np.roll(tokens, 1 + len(tokens) // 2, 0))[1]["tok_embed"]
    changes = {}
    for position in range(1, 6):
        embedded = written["tok_embed"].copy()
        embedded[:, position] = other[:, position]
        cut, _ = run(weights, truth.config, tokens, {"tok_embed->a3.h0<v>"}, written | {"tok_embed": embedded})
        changes[position] = np.abs(cut - clean).max((0, 2))
    for position, change in changes.items():
        assert (
            change[6 - position] == pytest.approx(1)
            and change[[i for i in range(1, 6) if i != 6 - position]].max() < 1e-6
        )


def test_interpbench_s_circuit_of_proportion_counts_an_edge_that_carries_a_constant():
    """Error 3. The circuit by declared labels, with heads whole and one input node, has 4 edges. The input to the head
    carries positions only, the same on every input: no patching can find it, and ACDC, which finds the other three,
    was scored .75."""
    truth = ground_truth.load("tracr/xproportion@fixed")
    labels = {"embed->m0", "embed->a1.h0", "m0->a1.h0", "a1.h0->logits"}

    def whole_heads(edges):
        return {edge.partition("<")[0] for edge in merged(edges)}

    # By label: what the compiler declares, without the constant `one` and the marker BOS, which are token dimensions.
    declared = {e for e in truth.certificate.structural if e not in ("tok_embed->a1.h0<q>", "tok_embed->a1.h0<k>")}
    assert whole_heads(declared) == labels
    found = whole_heads(truth.certificate.ablations["patch"].core)
    assert labels - found == {"embed->a1.h0"} and len(found & labels) / len(labels) == 0.75
    assert "embed->a1.h0" in whole_heads(truth.certificate.ablations["zero"].core)


def test_all_published_graphs_have_these_sizes():
    """2 of 77 and 3 of 23 edges in auto-circuit's graph (Miller et al. 2024, appendix C), 94 and 32 in the others."""
    for name, edges, of in (("tracr/reverse@fixed", 2, 77), ("tracr/xproportion@fixed", 3, 23)):
        truth = ground_truth.load(name)
        assert len(merged(truth.certificate.ablations["patch"].core)) == edges
        assert len(merged(map(str, truth.model().graph.edges))) == of
    assert [ground_truth.load(f"tracr/{name}@fixed").graph.n_edges for name in ("reverse", "xproportion")] == [94, 32]


@pytest.mark.slow
def test_edge_pruning_s_models_have_the_circuits_of_the_zero_truth():
    """Bhaskar et al. 2024 compile reverse for three tokens and proportion for four, and prune under zero ablation."""
    pytest.importorskip("tracr", reason="Tracr is not installed: pip install '.[tracr]'")
    pytest.importorskip("haiku", reason="Haiku is not installed: pip install '.[tracr]'")
    from circuitmeter.ground_truth.rasp.compile import compile_program
    from circuitmeter.ground_truth.rasp.programs import PROGRAMS

    for name, length in (("reverse", 3), ("xproportion", 4)):
        program = replace(PROGRAMS[name], max_len=length)
        compiled = compile_program(program)
        ids = [compiled.tokens.index(token) for token in program.vocabulary]
        tokens = np.array([(compiled.bos, *row) for row in itertools.product(ids, repeat=length)])
        model = compiled.model()
        weights = weights_of(model)
        clean, written = run(weights, compiled.config, tokens)
        cut_to = {writer: np.zeros_like(out) for writer, out in written.items()}
        found = {
            str(edge)
            for edge in model.graph.edges
            if np.abs(run(weights, compiled.config, tokens, {str(edge)}, cut_to)[0] - clean)[:, 1:].max() > TOLERANCE
        }
        assert found == set(ground_truth.load(f"tracr/{name}@fixed").certificate.ablations["zero"].core)
