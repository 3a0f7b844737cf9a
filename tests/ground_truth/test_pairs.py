"""Which pairs of a domain are tried."""

from __future__ import annotations

import numpy as np

from circuitmeter.ground_truth.pairs import EXHAUSTIVE, SAMPLED, all_pairs, choose_pairs


def test_small_domains_are_tried_exhaustively():
    pairs, how = choose_pairs(np.arange(20) % 3, seed=0)
    assert how == "exhaustive" and len({tuple(pair) for pair in pairs.tolist()}) == 20 * 19 <= EXHAUSTIVE
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_large_domains_are_sampled_evenly_over_output_classes():
    classes = np.zeros(1000, dtype=int)
    classes[:10] = 1  # one input in a hundred
    pairs, how = choose_pairs(classes, seed=0)
    assert "stratified" in how and len({tuple(pair) for pair in pairs.tolist()}) == len(pairs) == SAMPLED
    assert (pairs[:, 0] != pairs[:, 1]).all()
    rare = (classes[pairs[:, 0]] == 1).mean()
    assert 0.4 < rare < 0.6
    assert (choose_pairs(classes, seed=0)[0] == pairs).all() and (choose_pairs(classes, seed=1)[0] != pairs).any()


def test_all_pairs_are_all_pairs_once():
    pairs = np.concatenate(list(all_pairs(30, seed=0, chunk=64)))
    assert len(pairs) == 30 * 29 == len({tuple(pair) for pair in pairs.tolist()})
    assert (pairs[:, 0] != pairs[:, 1]).all()
