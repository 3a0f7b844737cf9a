"""The prompt files of the field: what each format becomes, and what is wrong with files of no known format."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite.errors import DataError
from circuitmeter.tasks.own_prompts import load, load_task
from circuitmeter.tasks.prompt_files import read_rows

SIZES = {"d_vocab": 300, "n_positions": 6}


def words(text: str, special: bool) -> list[int]:
    """A tokenizer: a token a word, its id the word's length, or the number it is plus 100; 9 begins every prompt."""
    return [9] * special + [100 + int(word) if word.isdecimal() else len(word) for word in text.split()]


@pytest.fixture
def file(tmp_path):
    def write(content, name="prompts.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_eap_ig_s_csv(file):
    path = file(
        'clean,corrupted,correct_idx,incorrect_idx,note\n"One, two","Six, two",5,"[6, 7]",x\n"a bb","c bb",8.0,9,\n'
    )
    data = load(path, tokenize=words, **SIZES)
    assert data.clean.tolist() == [[9, 4, 3], [9, 1, 2]] and data.counterfactual.tolist() == [[9, 4, 3], [9, 1, 2]]
    assert data.answers.tolist() == [[5], [8]] and data.wrong.tolist() == [[6, 7], [9, -1]]


def test_eap_ig_s_years(file):
    """``label`` is the year of Greater-Than: the later years minus those up to it, as its code has it."""
    data = load(file("clean,corrupted,label\na bb,c bb,97\n"), tokenize=words, **SIZES)
    assert data.answers.tolist() == [[198, 199]] and data.wrong.tolist() == [list(range(100, 198))]


def test_auto_circuit_s_json(file):
    prompts = [{"clean": "a bb", "corrupt": "c bb", "answers": ["dddd"], "wrong_answers": ["ee", 7]}]
    for text in (json.dumps({"prompts": prompts}), json.dumps({"prompts": prompts, "seq_labels": []}, indent=2)):
        data = load(file(text, "a.json"), tokenize=words, **SIZES)
        assert data.clean.tolist() == [[9, 1, 2]] and data.counterfactual.tolist() == [[9, 1, 2]]
        assert data.answers.tolist() == [[4]] and data.wrong.tolist() == [[2, 7]]


def test_lists_single_rows_marks_and_line_ends(file):
    row = {"clean": [1, 2], "counterfactual": [3, 2]}
    text = json.dumps(row)
    for content in (
        json.dumps([row, row]),
        b"\xef\xbb\xbf" + f"{text}\n{text}\n".encode(),
        f"{text}\r\n{text}\r\n",
        f"{text}\r{text}",
        f"\n\n{text}\n \n{text}",
    ):
        assert load(file(content, "p.jsonl"), **SIZES).clean.tolist() == [[1, 2], [1, 2]]
    assert load(file(text, "p.json"), **SIZES).n == 1
    odd = json.dumps({"clean": "a\u2028b\x85c d"}, ensure_ascii=False)
    assert len(read_rows(file(f"{odd}\n{odd}", "p.jsonl"))) == 2


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_of_any_spreadsheet(file, separator, end):
    rows = [["clean", "corrupted", "correct_idx", "incorrect_idx"], ["a; bb", "c; bb", "5", "6"]]
    text = end.join(separator.join(f'"{field}"' for field in row) for row in rows)
    ((place, row),) = read_rows(file(text, "p.csv"))
    assert row == {"clean": "a; bb", "counterfactual": "c; bb", "answer": 5, "wrong": 6}
    ((_, row),) = read_rows(file("\ufeff" + text, "p.csv"))
    assert row["clean"] == "a; bb"


def test_splits(file):
    rows = [{"clean": [1, i], "split": split} for i, split in enumerate(("train", "test", "train"))]
    task = load_task(file("\n".join(map(json.dumps, rows)), "p.jsonl"), **SIZES)
    assert {split: task.data(split).clean.tolist() for split in task.splits} == {
        "train": [[1, 0], [1, 2]], "test": [[1, 1]],
    }  # fmt: skip
    whole = load_task(file('{"clean": [1, 2]}', "p.jsonl"), **SIZES)
    assert list(whole.splits) == ["train"] and whole.objective == "kl"
    assert task.hash != whole.hash and task.name == "p.jsonl"


REFUSED = {
    "a surrogate": (r'{"clean": "The \ud800 year"}' + "\n{}", "line 1: .*clean is no Unicode text"),
    "nested": ("[" * 100_000, "line 1: not JSON: its brackets are more than 50 deep"),
    "a nested line": ('{"clean": [1]}\n{"clean": ' + "[" * 5000 + "]" * 5000 + "}", "line 2: not JSON: its brackets"),
    "a key twice": ('{"clean": [1], "clean": [2]}', "'clean' is there twice"),
    "a split of another name": ('{"clean": [1], "split": "dev"}', "'split' is train or validation or test, not 'dev'"),
    "a split in some rows": ('{"clean": [1], "split": "test"}\n{"clean": [1]}', "line 2: no 'split'"),
    "a number": ("5", "line 1: a int and not an object"),
    "columns of another tool": ("clean,answer\na,b\n", "columns 'clean, answer'; EAP-IG's are clean, corrupted"),
    "other names": ("Clean,Corrupted\na,b\n", "columns 'Clean, Corrupted'; EAP-IG's are clean, corrupted"),
    "another separator": ("clean:corrupted\na:b\n", "columns 'clean:corrupted'; EAP-IG's are"),
    "other quotes": ("'clean','corrupted'\na,b\n", "EAP-IG's are clean, corrupted"),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    "a column twice": ("clean,clean,corrupted,label\na,b,c,1\n", "a column is there twice"),
    "a header alone": ("clean,corrupted,label\n", "is empty below its header"),
    "too many fields": ("clean,corrupted,label\na,b,c,1\n", "line 2: 4 fields, and the header names 3"),
    "an index as text": ("clean,corrupted,correct_idx,incorrect_idx\na,b,c,1\n", "line 2: not JSON"),
    "no index": ("clean,corrupted,correct_idx,incorrect_idx\na,b,,1\n", "line 2: no token id"),
    "a year of four digits": ("clean,corrupted,label\na,b,1732\n", "label 1732 is no year"),
    "the last year": ("clean,corrupted,label\na,b,99\n", "label 99 is no year"),
    "a field without end": ('clean,corrupted,label\n"' + "a" * (1 << 21), "not CSV"),
    "a circuit": ('{"cfg": {"n_layers": 1}, "edges": {}}', "is a circuit file, and a file of prompts is needed"),
    "a list of edges": ('["Resid Start->MLP 0"]', "is a circuit file"),
    "a missing comma": ('{"clean": [1]}\n{"clean": [1] "split": "test"}', "line 2: .*Expecting ',' .* column 15"),
    "prompts that are text": ('{"prompts": "none"}', "'prompts' is 'none'; give a list"),
    "no prompts": ('{"prompts": []}', "give a list of one or more"),
    "a prompt that is a list": ('{"prompts": [[]]}', "prompt 1: a list and not an object"),
    "a prompt with our keys": (
        '{"prompts": [{"clean": "a", "counterfactual": "b"}]}',
        "no key 'counterfactual' in prompts of auto-circuit .*corrupt is our counterfactual",
    ),
    "a position that is a list": ('{"clean": [1], "position": [0]}', r"'position' \[0\] is outside the 1 tokens"),
    "an id of thirty digits": ('{"clean": [' + "1" * 30 + "]}", "outside the model's vocabulary"),
    "UTF-16": ('{"clean": [1]}'.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_wrong_is_one_line(kind, file):
    content, reason = REFUSED[kind]
    with pytest.raises(DataError, match=reason) as error:
        load(file(content), tokenize=words, **SIZES)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_tokenizer_that_fails_is_the_text_s_fault(file):
    def fails(text, special):
        raise TypeError("TextEncodeInput must be\nUnion[...]")

    with pytest.raises(DataError, match="line 1: 'a b' cannot be tokenized: TextEncodeInput must be Union"):
        load(file('{"clean": "a b"}'), tokenize=fails, **SIZES)
