"""The one door for files that a user gives: what it lets in, and the one line for everything else."""

from __future__ import annotations

import os

import pytest
from pydantic import BaseModel, Field

from circuitmeter.suite.errors import LONGEST_QUOTE, DataError, ModelError, SpecError, one_line
from circuitmeter.suite.reading import (
    Unreadable,
    checked,
    decoded,
    parse_json,
    read_bytes,
    read_json,
    read_toml,
    reading,
    shown,
    text_lines,
)

REFUSED = {
    "brackets without end": ("[" * 100_000, "more than 50 deep"),
    "braces without end": ('{"a":' * 60 + "1" + "}" * 60, "more than 50 deep"),
    "a key twice": ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
    "not a number": ('{"a": NaN}', "NaN is no number"),
    "infinity": ("[-Infinity]", "-Infinity is no number"),
    "a number beyond float64": ("[1e999]", "beyond the range of float64"),
    "a number of many digits": ("1" * 5000, "thousands of digits"),
    "half of a surrogate pair": (r'{"clean": "a \ud800 b"}', "clean is no Unicode text"),
    "half of a pair in a list": (r'{"answer": ["a", "\uDFFF"]}', "answer is no Unicode text"),
    "half of a pair in a key": (r'{"\ud800": 1}', "one of its keys is no Unicode text"),
    "half of a pair alone": (r'"\ud800"', "it is no Unicode text"),
    "no JSON": ("{not json", "not JSON: Expecting property name"),
    "a missing comma": ('{"clean": "a" "wrong": 1}', r"Expecting ',' delimiter: line 1 column 15 \(char 14\)"),
    "a missing colon": ('{"clean" "a"}', r"Expecting ':' delimiter: line 1 column 10"),
    "nothing": ("", "not JSON"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_json_that_has_no_one_meaning_is_refused(kind):
    text, reason = REFUSED[kind]
    with pytest.raises(Unreadable, match=reason) as error:
        parse_json(text)
    assert len(str(error.value)) < 300


def test_json_that_is_fine():
    assert parse_json(r'{"a": [1, 2.5, null, true, "😀é"]}') == {"a": [1, 2.5, None, True, "😀é"]}
    assert parse_json("[" * 50 + "]" * 50) and parse_json("7") == 7


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_read(mark, tmp_path):
    (tmp_path / "a.json").write_bytes(mark + '{"é": 1}'.encode())
    assert read_json(tmp_path / "a.json") == {"é": 1}
    (tmp_path / "a.toml").write_bytes(mark + b"a = 1")
    assert read_toml(tmp_path / "a.toml", error=SpecError) == {"a": 1}


def test_a_second_byte_order_mark_is_refused():
    mark = "\ufeff".encode()
    assert decoded(mark + b"{}") == "{}"
    with pytest.raises(Unreadable, match="more than one byte order mark"):
        decoded(mark + mark + b"{}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_are_named(encoding):
    marked = {"utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    with pytest.raises(Unreadable, match="save it as UTF-8"):
        decoded(marked + "é".encode(encoding))


def test_lines_end_where_files_end_them():
    assert text_lines("a\nb\r\nc\rd\u2028e\x0bf\x85g") == ["a", "b", "c", "d\u2028e\x0bf\x85g"]


def test_pipes_devices_folders_and_large_files_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 30)
    for name, reason in {"pipe": "a pipe or a device", "large": "more than 1 MiB", "": "it is a folder"}.items():
        with pytest.raises(DataError, match=reason):
            read_bytes(tmp_path / name, at_most=1 << 20)
    for name, reason in {
        "/dev/zero": "a pipe or a device",
        tmp_path / "none": "No such file",
        "a" * 5000: "too long",
    }.items():
        with pytest.raises(ModelError, match=reason):
            read_bytes(name, error=ModelError)


def test_a_file_that_says_it_is_empty_is_read_to_its_bound_only():
    with pytest.raises(DataError, match="more than 10 bytes"):
        read_bytes("/proc/self/status", at_most=10)


@pytest.mark.parametrize("text", ["a = " + "[" * 2000, "a." * 2000 + "b = 1", "a = 1\na = 2", "a", "a = '\\ud800"])
def test_toml_that_cannot_be_read_is_one_line(text, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SpecError, match="not TOML"):
        read_toml(tmp_path / "a.toml", error=SpecError)


class _Pair(BaseModel):
    n: int = Field(ge=1, strict=True)
    names: list[str] = []


def test_what_a_model_says_is_one_line():
    assert checked(_Pair, {"n": 2}, "x.json").n == 2
    with pytest.raises(DataError) as error:
        checked(_Pair, {"n": "2", "names": [1, 2, 3, "a" * 10_000]}, "x.json")
    message = str(error.value)
    assert message.startswith(
        "x.json: n is '2' and should be a valid integer; names.0 is 1 and should be a valid string"
    )
    assert message.endswith("(1 more like it).") and "\n" not in message
    with pytest.raises(DataError, match="x.json: it is 7 and should be a JSON object"):
        checked(_Pair, 7, "x.json")


@pytest.mark.parametrize(
    "raised", [KeyError("a"), TypeError("x\ny"), OSError(5, "Input/output error"), RecursionError()]
)
def test_whatever_a_reader_raises_is_the_file_s_one_line(raised):
    with pytest.raises(ModelError, match="^(cannot read )?here") as error, reading("here", ModelError):
        raise raised
    assert "\n" not in str(error.value)


def test_errors_for_people_and_the_end_of_the_program_pass():
    for raised in (SpecError("as it is"), KeyboardInterrupt()):
        with pytest.raises(type(raised)), reading("here"):
            raise raised


@pytest.mark.parametrize(
    "raised", [ValueError("no " * 10**5), OSError("no " * 10**5), RuntimeError("size\n\t" * 10**5)]
)
def test_another_program_s_message_is_quoted_in_part(raised):
    with pytest.raises(DataError) as error, reading("here"):
        raise raised
    assert len(str(error.value)) < LONGEST_QUOTE + 100


def test_lines_of_messages_are_printable_and_short():
    assert one_line("a\x1b[31m\x00\n\tb") == "a [31m b"
    assert len(one_line("x" * 10**6)) == 101 and len(one_line("x " * 10**6)) == 4000
    assert one_line(KeyError()) == "KeyError" and str(DataError("a\nb")) == "a b"
    assert len(shown({"a": "b" * 10**6})) <= 60
