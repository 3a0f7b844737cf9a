"""The random numbers of masks: SplitMix64, computed on the model's own device, where nothing is copied to it.

Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": number i of a seed is a hash of
seed + i x an odd constant. It needs no state but a count, so that any device computes any part of a stream by itself,
and all of them the same bits. A generator of the CPU takes longer for the weights of GPT-2 small than a step of
training, and its numbers have to be copied; those of other devices differ from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..model.device import send
from ..model.transformer import Transformer

_MARGIN = 1e-6  # the least distance of uniform numbers from 0 and 1, where logarithms are infinite
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ON_CPU, _ELSEWHERE = 2**14, 2**22  # 64-bit numbers that are computed at a time: a CPU keeps them in its caches


def starts(seeds: Sequence[int], device: torch.device) -> Tensor:
    """Where the streams of seeds begin: int64 [S, 1]."""
    return send(torch.tensor([[_signed(seed)] for seed in seeds]), device)


def bits(begin: Tensor, first: int, n: int) -> Tensor:
    """The numbers ``first`` to ``first + n``, from 0 on, of SplitMix64 streams with these ``starts``: [S, n]."""
    z = torch.arange(first + 1, first + n + 1, device=begin.device).mul_(_signed(_STEP))  # products are modulo 2^64
    z = begin + z
    _fold(z, 30).mul_(_signed(_FIRST))
    _fold(z, 27).mul_(_signed(_SECOND))
    return _fold(z, 31)


def _fold(z: Tensor, by: int) -> Tensor:
    """z ^= z >> by, in place; zeros are shifted in."""
    return z.bitwise_xor_((z >> by).bitwise_and_((1 << 64 - by) - 1))


def _signed(number: int) -> int:
    """A number modulo 2^64, as the int64 of the same bits."""
    return (number + 2**63) % 2**64 - 2**63


class Seeds:
    """The random numbers of seeds that train together. Each seed has a stream of its own, whatever the other seeds.

    Uniform numbers have 23 bits, half of one of the stream's: first the lower, then the upper. They are the same on
    every device and in every dtype, but for the rounding to it; normal ones are too, but for the rounding of logarithm
    and cosine.

    Args:
        seeds: one or more.
        model: the numbers have the device and the dtype of this model.
        masks: how many masks each seed trains; they share the seed's numbers.
    """

    def __init__(self, seeds: Sequence[int], model: Transformer, masks: int = 1) -> None:
        self.seeds, self.masks = tuple(seeds), masks
        self._starts, self._used = starts(seeds, model.device), 0
        self._device, self._dtype = model.device, model.dtype

    def __len__(self) -> int:
        return len(self.seeds)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers inside (0, 1): [M, *shape]."""
        drawn = self._open(math.prod(shape)).mul_(1 - 2 * _MARGIN).add_(_MARGIN)
        return self._of_masks(drawn, shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers: [M, *shape]. Box and Muller's, one of two uniform ones each."""
        return self._of_masks(self._standard(math.prod(shape)), shape)

    def starting_at(self, value: float, *shape: int) -> Tensor:
        """Gates to train, starting at a value plus noise of standard deviation 0.01: [M, *shape]."""
        return self._of_masks(self._standard(math.prod(shape)).mul_(0.01).add_(value), shape)

    def _standard(self, n: int) -> Tensor:
        size, angle = self._open(n), self._open(n)
        return size.log_().mul_(-2).sqrt_().mul_(angle.mul_(2 * math.pi).cos_())

    def _open(self, n: int) -> Tensor:
        """The next (k + 1/2) / 2^23 of every seed, k from 0 to 2^23 - 1: float32 [seeds, n], exact."""
        pairs, at_once = -(-n // 2), _ON_CPU if self._device.type == "cpu" else _ELSEWHERE
        at_once = max(1, at_once // len(self))
        drawn = torch.empty(len(self), 2 * pairs, device=self._device)
        for start in range(0, pairs, at_once):
            part = drawn[:, 2 * start : 2 * (start + at_once)]
            halves = bits(self._starts, self._used + start, part.shape[1] // 2).view(torch.int32)
            part.copy_((halves >> 9).bitwise_and_(2**23 - 1)).add_(0.5).mul_(2.0**-23)
        self._used += pairs
        return drawn[:, :n]

    def _of_masks(self, drawn: Tensor, shape: Sequence[int]) -> Tensor:
        numbers = drawn.to(self._dtype).unflatten(1, shape)
        return numbers if self.masks == 1 else numbers.repeat_interleave(self.masks, 0)

    def every(self, values: Sequence[float]) -> Tensor:
        """The same values, one for each mask of a seed, for all seeds: [M]."""
        return send(torch.tensor(values, dtype=self._dtype), self._device).repeat(len(self))

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values [M, ...] cut into those of each seed."""
        return values.split(self.masks)

    def curves(self, curve: Mapping[str, list]) -> list[dict[str, list]]:
        """The part of each seed in a loss curve of ``train``."""
        parts = [slice(i * self.masks, (i + 1) * self.masks) for i in range(len(self))]
        terms = {name: points for name, points in curve.items() if name != "step"}
        return [
            {"step": curve["step"]} | {name: [point[part] for point in points] for name, points in terms.items()}
            for part in parts
        ]
