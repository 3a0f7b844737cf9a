"""Prompts of your own: a file with one JSON object a line becomes ``Data``.

    {"clean": [5, 6, 7], "counterfactual": [5, 9, 7], "answer": 3, "wrong": [4, 8]}

``clean`` and ``counterfactual`` are both text or both lists of token ids, of equal token length. ``answer`` and
``wrong`` are a string, a token id, or a list of either. ``position`` (default: the last token; negative counts from
the end) is where the output is read, ``template`` names the template that a prompt was made from: prompts of
one are resampled together where intervals are computed. ``counterfactual``, ``template``, and ``answer`` with
``wrong``, may be left out of every line, never of some: what needs them is then undefined.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..suite.data import Data
from ..suite.errors import DataError

KEYS = ("clean", "counterfactual", "answer", "wrong", "position", "template")
# What a tokenizer must do: text -> token ids, with (for prompts) or without (for answers) the model's special tokens.
Tokenize = Callable[[str, bool], list[int]]


@dataclass(frozen=True)
class Row:
    """One line of the file, as token ids."""

    clean: list[int]
    counterfactual: list[int] | None
    answers: list[int]
    wrong: list[int]
    position: int
    template: str | None


def load(path: str | Path, *, d_vocab: int, n_positions: int, tokenize: Tokenize | None = None) -> Data:
    """The prompts of a JSONL file.

    Args:
        path: the file.
        d_vocab: size of the model's vocabulary; every token id is below it.
        n_positions: the longest prompt the model takes, in tokens.
        tokenize: ``(text, special) -> token ids`` for files that hold text; ``None`` where the model has no tokenizer.

    Returns:
        ``Data`` with one row a line, in the file's order, padded on the right with token 0.

    Raises:
        DataError: for the first line that is wrong, with its number and how many others are wrong too.
    """
    lines = _lines(Path(path))
    rows: list[Row] = []
    wrong: list[str] = []
    for number, text in lines:
        try:
            rows.append(_row(text, d_vocab, n_positions, tokenize))
        except DataError as error:
            wrong.append(f"line {number}: {error}")
    for key, filled in _optional(rows):
        if any(filled) and not all(filled):
            wrong.append(
                f"line {lines[filled.index(False)][0]}: no {key!r}, which other lines have; give it in all or in none."
            )
    if wrong:
        others = f" ({len(wrong) - 1} more like it.)" if len(wrong) > 1 else ""
        raise DataError(f"{path}, {wrong[0]}{others}")
    return _pack(rows)


def _lines(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of every line that is not blank."""
    if not path.is_file():
        raise DataError(f"no file {str(path)!r}; --data takes a JSONL file, one object a line with {', '.join(KEYS)}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8."
        ) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; give it one JSON object a line with {', '.join(KEYS)}.")
    return lines


def _row(text: str, d_vocab: int, n_positions: int, tokenize: Tokenize | None) -> Row:
    """One line, checked on its own."""
    try:
        line = json.loads(text)
    except ValueError as error:
        raise DataError(f"not JSON ({error}).") from error
    if not isinstance(line, dict):
        raise DataError(f"a {type(line).__name__} and not an object with {', '.join(KEYS)}.")
    for key in line:
        if key not in KEYS:
            raise DataError(f"no key {key!r}; the keys are {', '.join(KEYS)}.")
    if "clean" not in line:
        raise DataError("no 'clean' prompt.")
    if ("answer" in line) != ("wrong" in line):
        raise DataError("'answer' and 'wrong' go together; give both or neither.")
    if not isinstance(line.get("template", ""), str):
        raise DataError(f"'template' is a name, not {line['template']!r}.")
    clean, counterfactual = _prompts(line, d_vocab, tokenize)
    if len(clean) > n_positions:
        raise DataError(f"{len(clean)} tokens, and the model takes {n_positions}.")
    answers = _choices("answer", line, d_vocab, tokenize)
    wrong = _choices("wrong", line, d_vocab, tokenize)
    both = sorted(set(answers) & set(wrong))
    if both:
        raise DataError(f"token {both[0]} is both an answer and a wrong answer; the two may not overlap.")
    position = _position(line.get("position", -1), len(clean))
    return Row(clean, counterfactual, answers, wrong, position, line.get("template"))


def _prompts(line: dict[str, Any], d_vocab: int, tokenize: Tokenize | None) -> tuple[list[int], list[int] | None]:
    clean = _tokens("clean", line["clean"], d_vocab, tokenize)
    if "counterfactual" not in line:
        return clean, None
    if isinstance(line["clean"], str) != isinstance(line["counterfactual"], str):
        raise DataError("'clean' and 'counterfactual' are both text or both lists of token ids.")
    counterfactual = _tokens("counterfactual", line["counterfactual"], d_vocab, tokenize)
    if len(clean) != len(counterfactual):
        raise DataError(
            f"'clean' has {len(clean)} tokens and 'counterfactual' {len(counterfactual)}; they must have the same "
            "length, because activations are exchanged position by position."
        )
    return clean, counterfactual


def _tokens(key: str, value: Any, d_vocab: int, tokenize: Tokenize | None) -> list[int]:
    """The token ids of a prompt given as text or as ids."""
    if isinstance(value, str):
        tokens = _tokenizer(tokenize)(value, True)
    elif isinstance(value, list):
        tokens = value
    else:
        raise DataError(f"{key!r} is text or a list of token ids, not {value!r}.")
    if not tokens:
        raise DataError(f"{key!r} holds no token.")
    return [_token(key, token, d_vocab) for token in tokens]


def _choices(key: str, line: dict[str, Any], d_vocab: int, tokenize: Tokenize | None) -> list[int]:
    """The token ids of ``answer`` or ``wrong``: a string, an id, or a list of either."""
    if key not in line:
        return []
    values = line[key] if isinstance(line[key], list) else [line[key]]
    if not values:
        raise DataError(f"{key!r} is an empty list.")
    tokens = []
    for value in values:
        if isinstance(value, str):
            ids = _tokenizer(tokenize)(value, False)
            if len(ids) != 1:
                spaced = " " + value
                hint = (
                    f" {spaced!r}, with a leading space, is one."
                    if len(_tokenizer(tokenize)(spaced, False)) == 1
                    else ""
                )
                raise DataError(f"{key!r} {value!r} is {len(ids)} tokens and not one.{hint}")
            value = ids[0]
        tokens.append(_token(key, value, d_vocab))
    if len(set(tokens)) != len(tokens):
        raise DataError(f"{key!r} names a token twice.")
    return tokens


def _token(key: str, value: Any, d_vocab: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{value!r} in {key!r} is not a token id.")
    if not 0 <= value < d_vocab:
        raise DataError(f"token id {value} in {key!r} is outside the model's vocabulary (0 to {d_vocab - 1}).")
    return value


def _tokenizer(tokenize: Tokenize | None) -> Tokenize:
    if tokenize is None:
        raise DataError(
            "text, and this model has no tokenizer; give token ids, or a model folder that holds tokenizer files."
        )
    return tokenize


def _position(value: Any, length: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -length <= value < length:
        raise DataError(f"'position' {value!r} is none of the {length} tokens (0 to {length - 1}; -1 is the last).")
    return value % length


def _optional(rows: Sequence[Row]) -> list[tuple[str, list[bool]]]:
    """For each key that is in every line or in none: which rows have it."""
    return [
        ("counterfactual", [row.counterfactual is not None for row in rows]),
        ("answer", [bool(row.answers) for row in rows]),
        ("template", [row.template is not None for row in rows]),
    ]


def _pack(rows: Sequence[Row]) -> Data:
    lengths = [len(row.clean) for row in rows]
    read = torch.zeros(len(rows), max(lengths), dtype=torch.bool)
    read[torch.arange(len(rows)), torch.tensor([row.position for row in rows])] = True
    names = list(dict.fromkeys(row.template for row in rows))
    return Data(
        clean=_padded([row.clean for row in rows], 0),
        counterfactual=_padded([row.counterfactual for row in rows if row.counterfactual is not None], 0),
        read=read,
        lengths=torch.tensor(lengths),
        answers=_padded([row.answers for row in rows], -1),
        wrong=_padded([row.wrong for row in rows], -1),
        templates=None if None in names else torch.tensor([names.index(row.template) for row in rows]),
    )


def _padded(lists: Sequence[list[int]], padding: int) -> torch.Tensor | None:
    """long [n_lists, longest], padded on the right; ``None`` when there is nothing in them."""
    if not any(lists):
        return None
    longest = max(map(len, lists))
    return torch.tensor([[*ids, *[padding] * (longest - len(ids))] for ids in lists])
