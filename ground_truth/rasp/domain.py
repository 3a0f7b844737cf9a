"""The inputs of a claim, all of them or a sample, and the positions at which outputs are compared."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .programs import Value

SHORTEST = 2  # a sequence of one token has no structure to compute on


@dataclass(frozen=True, eq=False)
class Domain:
    """Every input that a claim is about.

    Args:
        kind: ``variable``: all sequences of the lengths given, padded on the right with Tracr's pad token to one
            length, so that length and positions vary from input to input; ``fixed``: all sequences of one length;
            ``permutations``: the orderings of the vocabulary.
        lengths: the lengths in tokens, without BOS.
        tokens: long [N, P], BOS first.
        read: bool [N, P], where outputs are compared: at the tokens (never BOS or padding) where the program defines
            an output. An input without such a position is not in the domain.
        classes: int [N], equal for inputs of equal length with equal specified outputs.
        enumerated: whether these are all inputs of the kind; false for a sample of them.
    """

    kind: str
    lengths: tuple[int, ...]
    tokens: np.ndarray
    read: np.ndarray
    classes: np.ndarray
    enumerated: bool = True

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_outputs(self) -> int:
        """How many different outputs the domain's inputs have."""
        return int(self.classes.max()) + 1

    @cached_property
    def hash(self) -> str:
        """16 hex digits of tokens and read positions."""
        digest = hashlib.sha256(f"{self.kind}{self.lengths}{self.tokens.shape}".encode())
        digest.update(self.tokens.astype("<i8").tobytes())
        digest.update(np.packbits(self.read).tobytes())
        return digest.hexdigest()[:16]


def enumerate_domain(
    kind: str,
    max_len: int,
    vocabulary: Sequence[Value],
    tokens: Sequence[Value],
    bos: int,
    pad: int,
    specification: Callable[[list[Value]], Sequence[Value]],
) -> Domain:
    """The domain of a compiled program.

    Args:
        kind: ``variable`` (lengths 2 to ``max_len``), ``fixed`` (``max_len``) or ``permutations`` (of the vocabulary).
        vocabulary: the program's tokens; ``tokens``: all values by token id; ``bos``, ``pad``: ids.
        specification: list of tokens -> list of outputs, None where undefined.
    """
    if kind == "permutations":
        sequences = list(itertools.permutations(vocabulary))
    else:
        lengths = range(SHORTEST, max_len + 1) if kind == "variable" else (max_len,)
        sequences = [x for length in lengths for x in itertools.product(vocabulary, repeat=length)]
    return domain_of(kind, sequences, [tuple(specification(list(x))) for x in sequences], tokens, bos, pad)


def domain_of(
    kind: str,
    sequences: Sequence[tuple[Value, ...]],
    outputs: Sequence[tuple[Value, ...]],
    tokens: Sequence[Value],
    bos: int,
    pad: int,
    *,
    enumerated: bool = True,
) -> Domain:
    """The domain of the sequences that have an output somewhere.

    Args:
        outputs: of each sequence, at its tokens; None where undefined.
        enumerated: whether the sequences are all there are.
    """
    ids = {value: i for i, value in enumerate(tokens)}
    lengths = tuple(sorted({len(sequence) for sequence in sequences}))
    rows = np.full((len(sequences), 1 + max(lengths)), pad, dtype=np.int64)
    rows[:, 0] = bos
    read = np.zeros(rows.shape, dtype=bool)
    for row, mask, sequence, output in zip(rows, read, sequences, outputs, strict=True):
        row[1 : 1 + len(sequence)] = [ids[value] for value in sequence]
        mask[1 : 1 + len(sequence)] = [value is not None for value in output]
    kept = read.any(1)
    number: dict[tuple, int] = {}
    classes = [number.setdefault(output, len(number)) for output, keep in zip(outputs, kept, strict=True) if keep]
    return Domain(kind, lengths, rows[kept], read[kept], np.array(classes), enumerated)
