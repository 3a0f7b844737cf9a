"""Prompts of your own: ``Data`` from the rows of a file (``prompt_files.py`` has its formats).

    {"clean": [5, 6, 7], "counterfactual": [5, 9, 7], "answer": 3, "wrong": [4, 8]}

``clean`` and ``counterfactual`` are both text or both lists of token ids. When they differ in token length, ablations
that pair positions (such as patch) are undefined; zero ablation, and means and noise over all positions, are defined.

``answer`` and ``wrong`` are a string, a token id, or a list of either. An answer of several tokens is a text, or a list
of ids inside that list (``[[5, 6]]``); it is scored by the sum of its tokens' log-probabilities. ``position`` is where
the output is read (default: the last token; negative numbers count from the end). ``template`` names the template that
a prompt was made from; intervals are computed by resampling the prompts of a template together. ``split`` is train,
validation or test: methods search on train, and circuits are measured on test; without it every prompt is for both.

``counterfactual``, ``template``, ``split``, and ``answer`` with ``wrong``, may be left out of all rows, but not of
some. What needs them is then undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..suite.data import Data
from ..suite.errors import DataError, one_line
from ..suite.reading import shown
from .prompt_files import KEYS, read_rows
from .task import Task
from .tokenizer import Tokenizer

_SPLITS = ("train", "validation", "test")
LARGEST_ID = 1 << 31
LONGEST_ANSWER = 100  # tokens; characters of a text that may be meant to be one token
# (text, special) -> token ids: with the model's special tokens, as for prompts, or without them, as for answers.
Tokenize = Callable[[str, bool], list[int]]


@dataclass(frozen=True)
class Row:
    """One row of the file, as token ids."""

    clean: list[int]
    counterfactual: list[int] | None
    answers: list[list[int]]
    wrong: list[list[int]]
    position: int
    template: str | None
    split: str | None


def load(path: str | Path, *, d_vocab: int, n_positions: int, tokenize: Tokenize | None = None) -> Data:
    """The prompts of a file, of all splits together.

    Args:
        path: the file.
        d_vocab: size of the model's vocabulary; every token id is below it.
        n_positions: length in tokens of the longest prompt that the model takes.
        tokenize: ``(text, special) -> token ids`` for files that hold text; ``None`` for a model without a tokenizer.

    Returns:
        ``Data`` with one row per prompt, in the file's order, padded on the right with token 0.

    Raises:
        DataError: a row is wrong; the message has the place of the first one and the number of the others.
    """
    return _pack(_rows(path, d_vocab, n_positions, tokenize))


def load_task(path: str | Path, *, d_vocab: int, n_positions: int, tokenize: Tokenize | None = None) -> Task:
    """A prompt file as a task on one model, with its splits and the objective that its answers allow.

    The arguments and errors are those of ``load``.
    """
    rows = _rows(path, d_vocab, n_positions, tokenize)
    splits = {split: [row for row in rows if row.split == split] for split in _SPLITS}
    splits = {split: chosen for split, chosen in splits.items() if chosen} or {"train": rows}
    return Task(
        name=Path(path).name,
        description=f"{len(rows)} prompts of {Path(path).name}",
        model=None,
        truth=None,
        objective=_objective(rows),
        splits={split: partial(_pack, chosen, _several(rows)) for split, chosen in splits.items()},
    )


@dataclass(frozen=True)
class PromptFile:
    """A prompt file as a task of a benchmark, for any model that takes its tokens or whose tokenizer takes its text."""

    path: Path
    model: None = None
    truth: None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def description(self) -> str:
        return f"the prompts of {self.path.name}"

    @property
    def objective(self) -> str:
        """The objective that the answers allow, as far as this is known without a tokenizer."""
        answers = [
            content["answer"]
            for _, content in read_rows(self.path)
            if isinstance(content, dict) and "answer" in content
        ]
        if any(isinstance(answer, list) and any(isinstance(each, list) for each in answer) for answer in answers):
            return "log-probability-difference"
        return "logit-difference" if answers else "kl"

    def on(self, tokenizer: Tokenizer | None) -> Task:
        """The task in a model's tokens. Whether they fit the model is checked when the task is run on it.

        Raises:
            DataError: the file is wrong, or it holds text and the model has no tokenizer.
        """
        return load_task(self.path, d_vocab=LARGEST_ID, n_positions=LARGEST_ID, tokenize=tokenizer)


def _rows(path: str | Path, d_vocab: int, n_positions: int, tokenize: Tokenize | None) -> list[Row]:
    rows: list[Row] = []
    places: list[str] = []
    wrong: list[str] = []
    for place, content in read_rows(path):
        try:
            if isinstance(content, DataError):
                raise content
            rows.append(_row(content, d_vocab, n_positions, tokenize))
            places.append(place)
        except DataError as error:
            wrong.append(f"{place}: {error}")
    for key, filled in _optional(rows):
        if any(filled) and not all(filled):
            missing = places[filled.index(False)]
            wrong.append(f"{missing}: no {key!r}, which other lines have; give it in all or in none.")
    if wrong:
        others = f" ({len(wrong) - 1} more like it.)" if len(wrong) > 1 else ""
        raise DataError(f"{path}, {wrong[0]}{others}")
    return rows


def _row(line: dict[str, Any], d_vocab: int, n_positions: int, tokenize: Tokenize | None) -> Row:
    """One row, checked on its own."""
    for key in line:
        if key not in KEYS:
            raise DataError(f"no key {shown(key)}; the keys are {', '.join(KEYS)}.")
    if "clean" not in line:
        raise DataError("no 'clean' prompt.")
    if ("answer" in line) != ("wrong" in line):
        raise DataError("'answer' and 'wrong' go together; give both or neither.")
    if not isinstance(line.get("template", ""), str):
        raise DataError(f"'template' is a name, not {shown(line['template'])}.")
    if line.get("split", "train") not in _SPLITS:
        raise DataError(f"'split' is {' or '.join(_SPLITS)}, not {shown(line['split'])}.")
    clean, counterfactual = _prompts(line, d_vocab, tokenize)
    for prompt in (clean, counterfactual or []):
        if len(prompt) > n_positions:
            raise DataError(f"{len(prompt)} tokens, and the model takes {n_positions}.")
    answers = _choices("answer", line, d_vocab, tokenize)
    wrong = _choices("wrong", line, d_vocab, tokenize)
    if both := [answer for answer in answers if answer in wrong]:
        which = f"token {both[0][0]}" if len(both[0]) == 1 else f"{both[0]}"
        raise DataError(f"{which} is both an answer and a wrong answer; the two may not overlap.")
    position = _position(line.get("position", -1), len(clean))
    longest = max(map(len, answers + wrong), default=1)
    if longest > 1 and position != len(clean) - 1:
        raise DataError("'position' is not the last token, and an answer of several tokens follows the prompt.")
    if len(clean) + longest - 1 > n_positions:
        raise DataError(f"{len(clean)} tokens and {longest - 1} of an answer, and the model takes {n_positions}.")
    return Row(clean, counterfactual, answers, wrong, position, line.get("template"), line.get("split"))


def _prompts(line: dict[str, Any], d_vocab: int, tokenize: Tokenize | None) -> tuple[list[int], list[int] | None]:
    clean = _tokens("clean", line["clean"], d_vocab, tokenize)
    if "counterfactual" not in line:
        return clean, None
    if isinstance(line["clean"], str) != isinstance(line["counterfactual"], str):
        raise DataError("'clean' and 'counterfactual' are both text or both lists of token ids.")
    return clean, _tokens("counterfactual", line["counterfactual"], d_vocab, tokenize)


def _tokens(key: str, value: Any, d_vocab: int, tokenize: Tokenize | None) -> list[int]:
    """The token ids of a prompt given as text or as ids."""
    if isinstance(value, str):
        tokens = _encoded(tokenize, value, True)
    elif isinstance(value, list):
        tokens = value
    else:
        raise DataError(f"{key!r} is text or a list of token ids, not {shown(value)}.")
    if not tokens:
        raise DataError(f"{key!r} holds no token.")
    return [_token(key, token, d_vocab) for token in tokens]


def _choices(key: str, line: dict[str, Any], d_vocab: int, tokenize: Tokenize | None) -> list[list[int]]:
    """The tokens of each ``answer`` or ``wrong``: a string, an id, or a list of either or of lists of ids."""
    if key not in line:
        return []
    values = line[key] if isinstance(line[key], list) else [line[key]]
    if not values:
        raise DataError(f"{key!r} is an empty list.")
    answers = []
    for value in values:
        if isinstance(value, str):
            value = _answer(key, value, tokenize)
        tokens = value if isinstance(value, list) else [value]
        if not 0 < len(tokens) <= LONGEST_ANSWER:
            raise DataError(f"{key!r} has an answer of {len(tokens)} tokens; give 1 to {LONGEST_ANSWER}.")
        answers.append([_token(key, token, d_vocab) for token in tokens])
    if any(answer in answers[:i] for i, answer in enumerate(answers)):
        raise DataError(f"{key!r} names an answer twice.")
    return answers


def _answer(key: str, text: str, tokenize: Tokenize | None) -> list[int]:
    """The tokens of an answer. Raises DataError for one that would be a single token with a leading space."""
    ids, spaced = _encoded(tokenize, text, False), f" {text}"
    if 1 < len(ids) and len(text) < LONGEST_ANSWER and len(_encoded(tokenize, spaced, False)) == 1:
        raise DataError(
            f"{key!r} {shown(text)} is {len(ids)} tokens; {spaced!r}, with a leading space, is one. Give that, or the "
            f"ids of several as a list in the list."
        )
    return ids


def _token(key: str, value: Any, d_vocab: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{shown(value)} in {key!r} is not a token id.")
    if not 0 <= value < d_vocab:
        raise DataError(f"token id {shown(value)} in {key!r} is outside the model's vocabulary (0 to {d_vocab - 1}).")
    return value


def _encoded(tokenize: Tokenize | None, text: str, special: bool) -> list[int]:
    if tokenize is None:
        raise DataError(
            "text, and this model has no tokenizer; give token ids, or a model folder that holds tokenizer files."
        )
    try:
        ids = tokenize(text, special)
    except Exception as error:  # whatever a tokenizer raises, it cannot take this text
        raise DataError(f"{shown(text)} cannot be tokenized: {one_line(error, 200)}.") from error
    # Prompts that differ in words which the model cannot tell apart would be one prompt, and their circuit of nothing.
    if isinstance(tokenize, Tokenizer) and (part := tokenize.unknown(text)) is not None:
        raise DataError(
            f"{shown(text)} has {shown(part)}, which the model's tokenizer does not know; use words that it knows, "
            f"such as those of the prompts that `circuitmeter show ioi --model MODEL --prompts 5` prints."
        )
    return ids


def _position(value: Any, length: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -length <= value < length:
        raise DataError(
            f"'position' {shown(value)} is outside the {length} tokens (0 to {length - 1}; -1 is the last)."
        )
    return value % length


def _optional(rows: Sequence[Row]) -> list[tuple[str, list[bool]]]:
    """For each key that must be in all lines or in no line: which rows have it."""
    return [
        ("counterfactual", [row.counterfactual is not None for row in rows]),
        ("answer", [bool(row.answers) for row in rows]),
        ("template", [row.template is not None for row in rows]),
        ("split", [row.split is not None for row in rows]),
    ]


def _several(rows: Sequence[Row]) -> bool:
    """Whether an answer has several tokens."""
    return any(len(answer) > 1 for row in rows for answer in row.answers + row.wrong)


def _objective(rows: Sequence[Row]) -> str:
    """The objective that the rows' answers allow."""
    if not rows[0].answers:
        return "kl"
    return "log-probability-difference" if _several(rows) else "logit-difference"


def _pack(rows: Sequence[Row], several: bool = False) -> Data:
    """The rows as ``Data``.

    Args:
        several: whether answers are lists of tokens even when each answer of these rows has one token.
    """
    lengths = [len(row.clean) for row in rows]
    read = torch.zeros(len(rows), max(lengths), dtype=torch.bool)
    read[torch.arange(len(rows)), torch.tensor([row.position for row in rows])] = True
    names = list(dict.fromkeys(row.template for row in rows))
    others = [row.counterfactual for row in rows if row.counterfactual is not None]
    paired = all(len(row.counterfactual or row.clean) == len(row.clean) for row in rows)
    several = several or _several(rows)
    return Data(
        clean=_padded([row.clean for row in rows], 0),
        counterfactual=_padded(others, 0) if paired else None,
        read=read,
        lengths=torch.tensor(lengths),
        answers=_answers([row.answers for row in rows], several),
        wrong=_answers([row.wrong for row in rows], several),
        templates=None if None in names else torch.tensor([names.index(row.template) for row in rows]),
        unpaired=None if paired else _padded(others, 0),
        unpaired_lengths=None if paired else torch.tensor([len(prompt) for prompt in others]),
    )


def _answers(rows: Sequence[list[list[int]]], several: bool) -> torch.Tensor | None:
    """The answers, long [N, A], or [N, A, T] token by token, padded with -1; ``None`` when the rows have no answers."""
    if not any(rows):
        return None
    if not several:
        return _padded([[answer[0] for answer in answers] for answers in rows], -1)
    most = max(map(len, rows))
    length = max(len(answer) for answers in rows for answer in answers)
    padded = [[*answers, *[[]] * (most - len(answers))] for answers in rows]
    return torch.tensor([[[*answer, *[-1] * (length - len(answer))] for answer in answers] for answers in padded])


def _padded(lists: Sequence[list[int]], padding: int) -> torch.Tensor | None:
    """The lists as long [n_lists, longest], padded on the right; ``None`` when all are empty."""
    if not any(lists):
        return None
    longest = max(map(len, lists))
    return torch.tensor([[*ids, *[padding] * (longest - len(ids))] for ids in lists])
