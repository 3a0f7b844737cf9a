"""Prompt files of several formats, read as rows with our keys: JSON Lines, EAP-IG's CSV, auto-circuit's JSON.

    JSON Lines     {"clean": ..., "counterfactual": ..., "answer": ..., "wrong": ..., "position": ..., "template": ...,
                   "split": ...} on each line; a JSON list of such objects is read, too
    EAP-IG's CSV   clean, corrupted, correct_idx, incorrect_idx (token ids, or lists of them); or clean, corrupted,
                   label, where label is the two-digit year of its Greater-Than data: later years are right, this year
                   and earlier ones wrong, each as the token of its two digits; columns are separated by , ; | or tabs
    auto-circuit   {"prompts": [{"clean": ..., "corrupt": ..., "answers": [...], "wrong_answers": [...]}, ...]}

The content of a file shows which format it has.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from ..suite.errors import DataError
from ..suite.reading import Unreadable, parse_json, read_text, reading, shown, text_lines

KEYS = ("clean", "counterfactual", "answer", "wrong", "position", "template", "split")
_EAP_IG = {"clean": "clean", "corrupted": "counterfactual", "correct_idx": "answer", "incorrect_idx": "wrong"}
_AUTO_CIRCUIT = {"clean": "clean", "corrupt": "counterfactual", "answers": "answer", "wrong_answers": "wrong"}
_SEPARATORS = ",;\t|"
_YEARS = 100
_LONGEST_FIELD = 1 << 20  # characters of a field of a CSV

# (where the row is in its file, its content or what is wrong with it)
FileRow = tuple[str, dict[str, Any] | DataError]


def read_rows(path: str | Path) -> list[FileRow]:
    """The rows of a prompt file, in its order. In place of a row that cannot be read stands the error that says why.

    Raises:
        DataError: no such file, a file that is empty or not text, or an unknown format.
    """
    with reading(path):
        text = read_text(path)
        numbered = [(number, line) for number, line in enumerate(text_lines(text), 1) if line.strip()]
        if not numbered:
            raise DataError(f"{path} is empty; give it one JSON object per line with {', '.join(KEYS)}.")
        first = numbered[0][1].lstrip()
        if first[0] not in "[{" and "clean" in first.lower():
            return _csv(text, path, _separator(first))
        if len(numbered) > 1 and first[0] == "{" and _is_object(first):
            return [(f"line {number}", _object(line)) for number, line in numbered]
        if first[0] not in "[{" or Path(path).suffix == ".jsonl" and len(numbered) > 1:
            return [(f"line {number}", _object(line)) for number, line in numbered]
        return _document(text, path, numbered[0][0])


def _is_object(line: str) -> bool:
    """Whether a line is a JSON object, perhaps a damaged one, as its end shows."""
    return line.rstrip().endswith("}")


def _object(line: str) -> dict[str, Any] | DataError:
    try:
        return _row(parse_json(line))
    except Unreadable as problem:
        return DataError(f"{problem}.")


def _row(value: Any) -> dict[str, Any] | DataError:
    if not isinstance(value, dict):
        return DataError(f"a {type(value).__name__} and not an object with {', '.join(KEYS)}.")
    return value


def _document(text: str, path: str | Path, number: int) -> list[FileRow]:
    """The rows of a file that is one JSON value: auto-circuit's, a list of rows, or a single row."""
    try:
        content = parse_json(text)
    except Unreadable as problem:
        raise DataError(f"{path}, line {number}: {problem}.") from None
    if is_circuit(content):
        raise DataError(f"{path} is a circuit file, and a file of prompts is needed here.")
    if isinstance(content, dict) and "prompts" in content:
        prompts = content["prompts"]
        if not isinstance(prompts, list) or not prompts:
            raise DataError(f"{path}: 'prompts' is {shown(prompts)}; give a list of one or more.")
        return [(f"prompt {i}", _renamed(prompt, _AUTO_CIRCUIT, "auto-circuit")) for i, prompt in enumerate(prompts, 1)]
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return [(f"prompt {i}", _row(prompt)) for i, prompt in enumerate(content, 1)]
    return [(f"line {number}", _row(content))]


def is_circuit(content: Any) -> bool:
    """Whether the JSON value of a file is a circuit: it has ``edges``, or is a list of their names, as other tools'."""
    if isinstance(content, list) and content:
        return isinstance(content[0], str) and "->" in content[0]
    return isinstance(content, dict) and "clean" not in content and isinstance(content.get("edges"), list | dict)


def _renamed(value: Any, names: dict[str, str], tool: str) -> dict[str, Any] | DataError:
    """Another tool's row with our keys."""
    row = _row(value)
    if isinstance(row, DataError):
        return row
    for key in row:
        if key not in names:
            mapped = ", ".join(f"{theirs} is our {ours}" for theirs, ours in names.items())
            return DataError(f"no key {shown(key)} in prompts of {tool} ({mapped}).")
    return {names[key]: value for key, value in row.items()}


def _separator(header: str) -> str:
    """The separator of the columns: a comma, or what spreadsheets write instead in some countries."""
    for separator in _SEPARATORS:
        try:
            names = next(csv.reader([header[:10_000]], delimiter=separator), [])
        except csv.Error:
            continue
        if "clean" in map(str.strip, names):
            return separator
    return _SEPARATORS[0]


def _csv(text: str, path: str | Path, separator: str) -> list[FileRow]:
    """The rows of EAP-IG's CSV. Columns of other names are ignored, as EAP-IG's reader does."""
    csv.field_size_limit(_LONGEST_FIELD)
    found: list[FileRow] = []
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = [name.strip() for name in next(table)]
        for fields in table:
            if fields:
                found.append((f"line {table.line_num}", _fields(names, fields)))
    except csv.Error as problem:
        raise DataError(f"{path}, line {table.line_num}: not CSV: {problem}.") from None
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a column is there twice ({', '.join(names)}); name each once.")
    if not {"clean", "corrupted"} <= set(names) or not (
        {"correct_idx", "incorrect_idx"} <= set(names) or "label" in names
    ):
        raise DataError(
            f"{path} has the columns {shown(', '.join(names), 200)}; EAP-IG's are clean, corrupted and "
            f"either correct_idx with incorrect_idx or label."
        )
    if not found:
        raise DataError(f"{path} is empty below its header; give it one prompt per line.")
    return found


def _fields(names: list[str], fields: list[str]) -> dict[str, Any] | DataError:
    if len(fields) != len(names):
        return DataError(f"{len(fields)} fields, and the header names {len(names)}; put a text with commas in quotes.")
    by_name = dict(zip(names, fields, strict=True))
    row: dict[str, Any] = {"clean": by_name.get("clean"), "counterfactual": by_name.get("corrupted")}
    try:
        if "correct_idx" in by_name and "incorrect_idx" in by_name:
            return row | {ours: _ids(by_name[theirs]) for theirs, ours in list(_EAP_IG.items())[2:]}
        return row | _greater_than(_ids(by_name.get("label", "")))
    except Unreadable as problem:
        return DataError(f"{problem}.")


def _ids(field: str) -> Any:
    """A token id, or a list of them: ``5``, ``5.0`` (as pandas writes a column with gaps), ``[5, 6]``."""
    value = parse_json(field.strip() or "null")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None:
        raise Unreadable("no token id in correct_idx, incorrect_idx or label")
    return value


def _greater_than(year: Any) -> dict[str, Any]:
    """The right and the wrong years of EAP-IG's Greater-Than data, as text of two digits."""
    if isinstance(year, bool) or not isinstance(year, int) or not 0 <= year < _YEARS - 1:
        raise Unreadable(f"label {shown(year)} is no year of EAP-IG's Greater-Than data (0 to {_YEARS - 2})")
    return {
        "answer": [f"{later:02d}" for later in range(year + 1, _YEARS)],
        "wrong": [f"{until:02d}" for until in range(year + 1)],
    }
