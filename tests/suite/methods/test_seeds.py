"""The random numbers of trained masks: SplitMix64's published ones, the same on every device, and spread evenly."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from oracles import small_model
from second_device import count_waits, second_device

from circuitmeter.suite.methods import _seeds
from circuitmeter.suite.methods._masks import hard_concrete
from circuitmeter.suite.methods._seeds import Seeds, bits, starts

CPU = torch.device("cpu")


def split_mix(seed):
    """SplitMix64 as it is printed in Java's and in the generator's own public-domain code: one number after another."""
    state = seed % 2**64
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        yield z ^ (z >> 31)


def halves(seed, n):
    """The 23 upper bits of the lower half of each number, then of the upper half."""
    numbers = list(islice(split_mix(seed), -(-n // 2)))
    return [half >> 9 for number in numbers for half in (number % 2**32, number >> 32)][:n]


def small(dtype=torch.float32):
    return small_model(n_layers=1).to(dtype)


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        # The first five of 1234567 are Rosetta Code's; those of 0 are in the tests of several libraries.
        (1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]),
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]),
    ],
)
def test_numbers_are_the_published_ones(seed, published):
    assert [number % 2**64 for number in bits(starts([seed], CPU), 0, 4)[0].tolist()] == published


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 + 5, 2**64 - 1, -3])
def test_any_part_of_a_stream_is_that_of_the_plain_loop(seed):
    plain = list(islice(split_mix(seed), 120))
    begin = starts([5, seed], CPU)
    assert [number % 2**64 for number in bits(begin, 0, 120)[1].tolist()] == plain
    assert [number % 2**64 for number in bits(begin, 77, 40)[1].tolist()] == plain[77:117]


@pytest.mark.parametrize("at_a_time", [1, 3, 2**14])
def test_uniform_numbers_are_the_stream_s_halves_in_order(at_a_time, monkeypatch):
    """An odd number of them leaves half of a number unused; how many are computed at a time changes none."""
    monkeypatch.setattr(_seeds, "_ON_CPU", at_a_time)
    chance, plain = Seeds([11, 4], small()), [halves(seed, 4 + 6 + 2) for seed in (11, 4)]
    first, second = chance.uniform(3), chance.uniform(2, 3)
    assert first.shape == (2, 3) and second.shape == (2, 2, 3)
    for row, numbers in enumerate(plain):
        exact = (np.array(numbers, dtype=np.float32) + np.float32(0.5)) * np.float32(2**-23)
        inside = exact * np.float32(1 - 2e-6) + np.float32(1e-6)
        assert first[row].tolist() == inside[:3].tolist()
        assert second[row].flatten().tolist() == inside[4:10].tolist()


def test_normal_numbers_are_box_and_muller_s_of_the_same_stream():
    plain = (np.array(halves(9, 4 + 4), dtype=np.float64) + 0.5) / 2**23
    expected = np.sqrt(-2 * np.log(plain[:3])) * np.cos(2 * math.pi * plain[4:7])
    torch.testing.assert_close(
        Seeds([9], small()).normal(3)[0].double(), torch.from_numpy(expected), rtol=2e-6, atol=2e-6
    )
    started = Seeds([9], small()).starting_at(2.0, 3)[0].double()
    torch.testing.assert_close(started, 2 + 0.01 * torch.from_numpy(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_dtype_rounds_the_same_numbers(dtype):
    drawn = Seeds([3], small(dtype)).uniform(1000)
    assert drawn.dtype == dtype and torch.equal(drawn, Seeds([3], small()).uniform(1000).to(dtype))


def test_a_second_device_draws_the_same_bits_without_a_wait():
    near = Seeds([5, 8], small(), masks=2)
    expected = near.uniform(7), near.normal(3, 5), near.uniform(2, 2)
    with second_device() as far:
        there = Seeds([5, 8], small().to(far), masks=2)
        with count_waits() as waits:
            found = there.uniform(7), there.normal(3, 5), there.uniform(2, 2)
        assert not waits, str(waits)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.cpu(), other)


def test_uniform_numbers_never_reach_the_ends(monkeypatch):
    model = small_model()
    drawn = Seeds([3], model).uniform(1000, 50)
    assert drawn.min() > 0 and drawn.max() < 1
    monkeypatch.setattr(_seeds, "bits", lambda begin, first, n: torch.tensor([[0, -1]]).repeat(1, n)[:, :n])
    ends = Seeds([3], small()).uniform(4)
    assert ends[0].tolist() == pytest.approx([1e-6, 1e-6, 1 - 1e-6, 1 - 1e-6], rel=0.07) and ends.max() < 1
    for each in (drawn, ends.to(drawn)):
        assert hard_concrete(torch.zeros(1, dtype=torch.float64), each).isfinite().all()
    assert Seeds([3], small()).normal(4).isfinite().all()


def test_a_seed_s_numbers_are_its_own_whichever_seeds_are_beside_it():
    model = small_model()
    together, alone = Seeds([5, 3, 9], model, masks=2), Seeds([3], model)
    for draw in (lambda seeds: seeds.starting_at(1.0, 4), lambda seeds: seeds.uniform(2, 3), lambda s: s.normal(5)):
        many, one = draw(together), draw(alone)
        assert len(many) == 6 and torch.equal(many[2], one[0]) and torch.equal(many[3], one[0])
        assert not torch.equal(many[0], many[2])
    assert together.every([0.1, 0.2]).tolist() == [0.1, 0.2] * 3
    assert [part.tolist() for part in together.split(torch.arange(6))] == [[0, 1], [2, 3], [4, 5]]
    curve = {"step": [0, 7], "loss": [[1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]]}
    assert together.curves(curve)[1] == {"step": [0, 7], "loss": [[3, 4], [13, 14]]}


N = 2**18


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_uniform_numbers_are_uniform(seed):
    """Pearson's statistic over 1,024 equal parts; every bit is set half of the time; pairs fill the square evenly."""
    chance = Seeds([seed], small())
    drawn = chance.uniform(N)[0].double().numpy()

    def surplus(counts):  # Pearson's statistic, in standard deviations from its mean under uniformity
        statistic, parts = float(((counts - counts.mean()) ** 2 / counts.mean()).sum()), counts.size
        return (statistic - (parts - 1)) / math.sqrt(2 * (parts - 1))

    assert abs(surplus(np.histogram(drawn, 1024, (0, 1))[0])) < 4
    assert abs(surplus(np.histogram2d(drawn[:-1], drawn[1:], 32, ((0, 1), (0, 1)))[0])) < 4
    numbers = bits(starts([seed], CPU), 0, N)[0]
    for place in range(64):
        ones = int((numbers >> place).bitwise_and(1).sum())
        assert abs(ones - N / 2) < 5 * math.sqrt(N) / 2, place


def test_neither_steps_nor_neighbouring_seeds_are_correlated():
    chance = Seeds(range(8), small())
    drawn = torch.stack([chance.uniform(N // 8), chance.uniform(N // 8)]).flatten(0, 1).double()  # [step x seed, n]
    correlations = torch.corrcoef(drawn).fill_diagonal_(0)
    assert float(correlations.abs().max()) < 5 / math.sqrt(N // 8)


def test_normal_numbers_are_normal():
    drawn = Seeds([0], small()).normal(N)[0].double()
    shares = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    below = torch.searchsorted(drawn.sort().values, torch.special.ndtri(shares)) / N
    assert float(((below - shares).abs() / (shares * (1 - shares) / N).sqrt()).max()) < 5
    assert float(drawn.abs().max()) < 6
