"""What the shipped certificates say: the counts measured once and for all, and what every certificate must satisfy."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.ground_truth import claim as claim_module
from circuitmeter.ground_truth.certify import certify
from circuitmeter.ground_truth.cuts import CutTest, single_cuts
from circuitmeter.ground_truth.gates import build
from circuitmeter.ground_truth.rasp.domain import Domain
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.intervention.ablation import Ablation

# Fixed length: edges, structural edges, and edges necessary under zero, mean-positional and patch.
FIXED = {
    "xproportion": (32, 7, 5, 3, 3),
    "reverse": (94, 15, 9, 2, 2),
    "hist": (13, 6, 6, 4, 4),
    "count_a": (13, 6, 6, 3, 3),
    "sort": (59, 15, 13, 7, 7),
    "sort_freq": (137, 22, 20, 11, 11),
    "pair_balance": (61, 14, 10, 6, 6),
    "dyck1": (431, 36, 24, 8, 12),
    "detect_abc": (122, 18, 14, 8, 8),
    "count_less_freq2": (32, 13, 13, 6, 6),
    "palindrome": (188, 25, 19, 7, 7),
    "trend": (13, 8, 6, 4, 4),
    "majority_a": (61, 12, 8, 4, 4),
    "induction": (307, 32, 28, 16, 16),
    "set_dups_to_0": (59, 12, 12, 7, 7),
    "identity": (13, 2, 2, 2, 2),
    "detect_ab": (32, 10, 8, 5, 5),
    "shift1": (13, 6, 4, 2, 2),
    "first_occurrence": (59, 11, 11, 6, 6),
    "remove_consec_dups": (13, 8, 6, 4, 4),
    "parity_ones": (32, 7, 7, 4, 4),
    "check_increasing": (59, 15, 13, 7, 7),
    "last_token": (59, 12, 6, 2, 2),
    "shuffle_dyck2": (2102, 51, 35, 18, 18),
    "sort_unique": (32, 11, 9, 6, 6),
}
# Lengths 2 to n: edges necessary under patch.
VARIABLE = {
    "xproportion": 3,
    "reverse": 8,
    "hist": 4,
    "count_a": 4,
    "sort": 7,
    "palindrome": 14,
    "majority_a": 8,
    "dyck1": 17,
    "trend": 4,
    "induction": 16,
    "set_dups_to_0": 7,
    "last_token": 7,
    "parity_ones": 5,
    "detect_ab": 5,
}
# Two edges matter under zero only if outputs are compared where the program defines none; see the test about it.
UNDEFINED = [
    ("trend", 5, 6, 8),
    ("detect_abc", 2, 14, 16),
    pytest.param("induction", 2, 28, 30, marks=pytest.mark.slow),  # the largest of the six, for the same claim
    ("shift1", 1, 4, 6),
    ("detect_ab", 1, 8, 10),
    ("remove_consec_dups", 1, 6, 8),
]
# An edge that varies and yet has no effect, on any pair of inputs: its token tells padding from tokens, and at a fixed
# length there is no padding.
VARIES_WITHOUT_EFFECT = {"tracr/count_distinct@fixed": "tok_embed->m2"}
COMPILED = [name for name in ground_truth.names() if name.startswith("tracr/")]


def necessary(claims, ablation):
    return len(claims.ablations[ablation].necessary)


@pytest.mark.parametrize("program", FIXED)
def test_fixed_length_counts(program):
    certificate = ground_truth.load(f"tracr/{program}@fixed").certificate
    counts = [necessary(certificate, ablation) for ablation in ("zero", "mean-positional", "patch")]
    assert (certificate.n_edges, certificate.n_structural, *counts) == FIXED[program]


@pytest.mark.parametrize("program", VARIABLE)
def test_variable_length_counts(program):
    assert necessary(ground_truth.load(f"tracr/{program}").certificate, "patch") == VARIABLE[program]


def test_published_circuits_of_reverse_and_xproportion():
    """Miller et al. 2024 under patching; Conmy et al. 2023 under zero ablation on the six permutations."""
    reverse = ground_truth.load("tracr/reverse@fixed").certificate.ablations["patch"]
    assert reverse.core == ["tok_embed->a3.h0<v>", "a3.h0->logits"]
    xproportion = ground_truth.load("tracr/xproportion@fixed").certificate.ablations["patch"]
    assert xproportion.core == ["tok_embed->m0", "m0->a1.h0<v>", "a1.h0->logits"]
    zero = {
        variant: set(ground_truth.load(f"tracr/reverse@{variant}").certificate.ablations["zero"].core)
        for variant in ("fixed", "permutations3")
    }
    # At full length the zeroed length head happens to decode to the right length, so two edges more are not needed.
    assert len(zero["permutations3"]) == 11
    assert zero["permutations3"] - zero["fixed"] == {"tok_embed->a0.h0<v>", "a0.h0->m0"}


def test_dyck1_has_no_single_truth_under_zero_and_mean():
    claims = ground_truth.load("tracr/dyck1@fixed").certificate.ablations
    mean = claims["mean-positional"]
    assert len(mean.necessary) == 8 and not mean.sufficient and mean.error_of_necessary > 0.9
    assert min(mean.sizes) == 10
    zero = claims["zero"]
    assert len(zero.necessary) == 24 and zero.minimal_circuits > 1 and len(set(zero.sizes)) > 1
    patch = claims["patch"]
    assert len(patch.core) == 12 and patch.sufficient and patch.unique


def test_shuffle_dyck2_has_no_single_truth_under_zero():
    for name in ("tracr/shuffle_dyck2", "tracr/shuffle_dyck2@fixed"):
        zero = ground_truth.load(name).certificate.ablations["zero"]
        assert not zero.unique and zero.minimal_circuits == 2 and zero.sizes == [32, 33]
        assert len(zero.core) == 30 and len(zero.optional) == 7


# Carried over from a program's features to trained ones, which test_dictionaries.py looks at.
CERTIFIED = [name for name in ground_truth.names() if not name.startswith("tracr-rotated-dictionaries/")]


@pytest.mark.parametrize("name", CERTIFIED)
def test_every_certificate_is_consistent(name):
    truth = ground_truth.load(name)
    certificate, graph = truth.certificate, truth.graph
    structural = set(certificate.structural)
    assert certificate.n_edges == graph.n_edges and certificate.graph.hash == truth.model().graph.hash
    assert certificate.domain.n_inputs == len(truth.domain) and certificate.domain.n_outputs > 1
    # Noise depends on the basis, and takes very long on the largest program and by position. Trained models claim only
    # what they were trained for.
    hidden = name.startswith(("tracr-rotated/", "tracr-features/", "tracr-rotated-features/")) or "-positions/" in name
    noise = set() if hidden or "induction" in name else {"noise"}
    others = set() if name.startswith("trained") else {"zero", "mean", "mean-positional"} | noise
    assert set(truth.ablations) == {"patch", "resample"} | others
    for ablation, claim in certificate.ablations.items():
        core, optional = set(claim.core), set(claim.optional)
        assert core <= structural and optional <= structural and not core & optional and core
        assert set(claim.necessary) <= core | optional
        assert set(claim.witnesses) == set(claim.necessary)
        assert claim.unique == (claim.minimal_circuits == 1 and core == set(claim.necessary))
        assert claim.largest_error_of_circuit <= certificate.tolerance
        assert claim.sufficient == (claim.error_of_necessary <= certificate.tolerance)
        # The gap that makes the tolerance a matter of indifference. Node-strict models promise none.
        if claim.unique and ablation != "noise" and not name.startswith("trained-node/"):
            smallest, largest = claim.smallest_core_effect, claim.largest_inert_effect
            # An edge of one feature carries a part of what its component's edge does.
            least = 0.05 if "features/" in name else 0.1
            assert smallest > max(least, 20 * largest) and (largest < 0.005 or name.startswith("trained/"))
    assert certificate.ablations["resample"] == certificate.ablations["patch"]


@pytest.mark.parametrize("name", COMPILED)
def test_patching_is_unique_and_what_it_excludes_is_proved(name):
    claim = ground_truth.load(name).certificate.ablations["patch"]
    structural = ground_truth.load(name).certificate.n_structural
    assert claim.unique and claim.sufficient
    without_effect = VARIES_WITHOUT_EFFECT.get(name, "")
    assert claim.excluded_by_proof + len(claim.core) + bool(without_effect) == structural
    assert without_effect not in claim.core
    whole = bool(ground_truth.load(name).description.outputs.labels)  # a number may change by a part of one
    assert claim.largest_inert_effect < 1e-9 and claim.smallest_core_effect > (0.99 if whole else 0.1)
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in claim.witnesses.values())


@pytest.mark.parametrize(
    "name", ["tracr/hist@fixed", "tracr/majority_a@fixed", "tracr/reverse@permutations3", "gates/cancelling"]
)
def test_certifying_again_gives_the_shipped_certificate(name):
    _certify_again(name)


# Not in a random basis, where rounding fills weights that are zero, so that more edges could carry something. Those by
# position are made again in test_position_circuits.py.
AGAIN = [name for name in CERTIFIED if not name.startswith("tracr-rotated") and "-positions/" not in name]


@pytest.mark.slow
@pytest.mark.parametrize("name", AGAIN)
def test_certifying_all_again_gives_the_shipped_certificates(name):
    _certify_again(name)


@pytest.mark.parametrize("first", [None, 0])
@pytest.mark.parametrize("name", ["tracr/majority_a@fixed", "tracr/parity_ones@fixed"])
def test_deletion_that_begins_with_few_pairs_ends_at_the_same_circuits(name, first, monkeypatch):
    """Even with one pair, on which nothing may matter: the pairs that a circuit fails on are added until none is."""
    truth = ground_truth.load(name)
    if first is not None:
        monkeypatch.setattr(claim_module, "_spread", lambda effects, n, seed: torch.tensor([first]))
    found = certify(truth.model(), truth.domain, ablations=["patch"], every_pair=True).ablations["patch"]
    known = truth.certificate.ablations["patch"]
    assert found.pairs == "exhaustive" and found.n_pairs == len(truth.domain) * (len(truth.domain) - 1)
    for name in ("core", "optional", "necessary", "unique", "sizes"):
        assert getattr(found, name) == getattr(known, name)
    assert found.largest_error_of_circuit <= truth.certificate.tolerance


def test_a_circuit_that_fails_on_rows_tried_already_is_an_error_and_no_endless_loop(monkeypatch):
    calls = []

    def minimal_circuits(search, orders):
        assert len(calls) < 99, "the certification goes on for ever"
        calls.append(search)
        return torch.zeros(1, *search.possible.shape, dtype=torch.bool)  # of no edge, and not sufficient

    monkeypatch.setattr(claim_module.Deletion, "minimal_circuits", minimal_circuits)
    truth = ground_truth.load("gates/redundant")
    with pytest.raises(ModelError, match=r"under patch a circuit that was sufficient .*, and 0.02 is tolerated"):
        certify(truth.model(), truth.domain, ablations=["patch"], every_pair=True)


def _certify_again(name):
    truth = ground_truth.load(name)
    at_once = build.DELETED_TOGETHER if name.startswith("gates/") else 1
    again = certify(
        truth.model(),
        truth.domain,
        ablations=truth.ablations,
        tolerance=truth.certificate.tolerance,
        at_once=at_once,
        every_pair=name.startswith("trained"),
    )
    _assert_equal(again, truth.certificate)


def _assert_equal(again, shipped):
    """Sets and counts exactly, effects to the last digits, in which machines differ; witnesses of equal effect may."""
    assert again.structural == shipped.structural
    for ablation, claim in again.ablations.items():
        known = shipped.ablations[ablation].as_json()
        for key, value in claim.as_json().items():
            if isinstance(value, float):
                assert value == pytest.approx(known[key], abs=1e-9), (ablation, key)
            elif key == "witnesses":
                assert value.keys() == known[key].keys()
            else:
                assert value == known[key], (ablation, key)


@pytest.mark.parametrize(("program", "position", "defined", "compared"), UNDEFINED)
def test_what_is_compared_decides_the_truth(program, position, defined, compared):
    """A head that finds no match attends to BOS, by an edge into its queries and one into its keys. Some heads have
    no match only where the program defines nothing: trend's at the last position, one of detect_abc's at the second,
    those that look one token back at the first, induction's last where nothing came earlier. Were outputs compared
    there as well, as an earlier measurement of these programs did, these two edges would be needed under zero
    ablation, too."""
    truth = ground_truth.load(f"tracr/{program}@fixed")
    assert necessary(truth.certificate, "zero") == defined
    assert not truth.domain.read[:, position].all()
    read = torch.from_numpy(truth.domain.read.copy())
    read[:, position] = True
    tokens, model = torch.from_numpy(truth.domain.tokens), truth.model(dtype=torch.float64)
    test = CutTest(model, Data(tokens, None, read), Ablation.parse("zero"))
    effects = test.error(single_cuts(truth.graph.matrix(truth.certificate.structural)))
    assert int((effects > truth.certificate.tolerance).sum()) == compared


def test_sort_unique_needs_two_edges_more_on_inputs_that_it_is_not_for():
    """With a token twice, some place is nobody's and its query finds no match: then the way out over BOS is needed
    under zero ablation. An earlier measurement, of 11 edges, was of all inputs; the truth is of those without doubles.
    """
    truth = ground_truth.load("tracr/sort_unique@fixed")
    domain = truth.domain
    rows = itertools.product(np.unique(domain.tokens[:, 1:]).tolist(), repeat=4)
    tokens = torch.tensor([(domain.tokens[0, 0], *row) for row in rows])
    read = torch.from_numpy(domain.read[:1]).expand_as(tokens).contiguous()
    test = CutTest(truth.model(dtype=torch.float64), Data(tokens, None, read), Ablation.parse("zero"))
    effects = test.error(single_cuts(truth.graph.matrix(truth.certificate.structural)))
    needed = {edge for edge, effect in zip(truth.certificate.structural, effects, strict=True) if effect > 0.02}
    assert len(needed) == 11
    assert needed - set(truth.certificate.ablations["zero"].necessary) == {
        "tok_embed->a1.h0<q>",
        "tok_embed->a1.h0<k>",
    }


def test_the_certificate_follows_the_weights():
    """With the queries of the reversing head at zero it attends evenly, and what made its queries is not structural."""
    truth = ground_truth.load("tracr/reverse@permutations3")
    model = truth.model()
    model.blocks[3].W_QKV[:, : truth.config.d_head] = 0
    claims = certify(model, truth.domain, ablations=["zero"])
    assert claims.structural == ["tok_embed->a3.h0<v>", "a3.h0->logits"]
    model.blocks[3].W_O.zero_()
    with pytest.raises(ModelError, match="no path"):
        certify(model, truth.domain, ablations=["zero"])


def test_a_domain_on_which_the_output_is_constant_certifies_nothing():
    truth = ground_truth.load("tracr/hist@fixed")
    with pytest.raises(ModelError, match="same on every input"):
        certify(truth.model(), replace(truth.domain, classes=np.zeros_like(truth.domain.classes)))


def test_domain_hash_covers_tokens_and_read_positions():
    domain = ground_truth.load("tracr/hist@fixed").domain
    read = domain.read.copy()
    read[0, 1] = False
    assert Domain(domain.kind, domain.lengths, domain.tokens, read, domain.classes).hash != domain.hash
