"""Prompts from a JSONL file: what they become, and what each mistake is called."""

from __future__ import annotations

import json

import pytest

from circuitmeter.suite.errors import DataError
from circuitmeter.tasks.mini.vocabulary import build_tokenizer
from circuitmeter.tasks.own_prompts import load, load_task
from circuitmeter.tasks.tokenizer import Tokenizer

GOOD = {"clean": [1, 2, 3], "counterfactual": [1, 5, 3], "answer": 4, "wrong": [6, 7]}
SIZES = {"d_vocab": 10, "n_positions": 6}


def words(text: str, special: bool) -> list[int]:
    """A tokenizer: a token a word, its id the word's length; 9 begins every prompt. One word needs its space."""
    return [9] * special + [
        len(word) for word in text.replace("glued", "gl ued" if text == "glued" else "glued").split()
    ]


def write(path, *lines) -> str:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "prompts.jsonl"


def test_token_ids_become_data(file):
    data = load(
        write(file, GOOD, {**GOOD, "clean": [1, 2], "counterfactual": [3, 2], "wrong": 6, "answer": [4, 5]}), **SIZES
    )
    assert data.clean.tolist() == [[1, 2, 3], [1, 2, 0]]
    assert data.counterfactual.tolist() == [[1, 5, 3], [3, 2, 0]]
    assert data.lengths.tolist() == [3, 2]
    assert data.read.tolist() == [[False, False, True], [False, True, False]]  # the last token, not the padding
    assert data.answers.tolist() == [[4, -1], [4, 5]]
    assert data.wrong.tolist() == [[6, 7], [6, -1]]


@pytest.mark.parametrize(("position", "read"), [(0, 0), (1, 1), (-1, 2), (-3, 0)])
def test_position_counts_from_either_end(file, position, read):
    data = load(write(file, {**GOOD, "position": position}), **SIZES)
    assert data.read.nonzero().tolist() == [[0, read]]


def test_text_is_tokenized_with_special_tokens_in_prompts_only(file):
    line = {"clean": "a bb ccc", "counterfactual": "a bb dddd", "answer": "ee", "wrong": ["f", 7], "template": "t"}
    data = load(write(file, line), tokenize=words, **SIZES)
    assert data.clean.tolist() == [[9, 1, 2, 3]]
    assert data.answers.tolist() == [[2]]
    assert data.wrong.tolist() == [[1, 7]]


def test_answers_of_several_tokens_are_lists_in_a_list_or_text_of_several(file):
    lines = (
        {"clean": [1, 2], "answer": [[4, 5], 3], "wrong": [[6, 7, 8]]},
        {"clean": [1], "answer": "a bb", "wrong": "c"},
    )
    data = load(write(file, *lines), tokenize=words, **SIZES)
    assert data.answers.tolist() == [[[4, 5], [3, -1]], [[1, 2], [-1, -1]]]
    assert data.wrong.tolist() == [[[6, 7, 8]], [[1, -1, -1]]]
    assert data.read.tolist() == [[False, True], [True, False]]
    task = load_task(write(file, *lines), tokenize=words, **SIZES)
    assert task.objective == "log-probability-difference"
    assert task.dataset()["answer"] == [[[4, 5], [3]], [[1, 2]]]


def test_a_split_of_single_tokens_has_the_shape_of_the_others(file):
    lines = [{"clean": [1], "answer": [[2, 3]], "wrong": 4, "split": "train"}]
    lines += [{"clean": [1], "answer": 2, "wrong": 4, "split": "test"}]
    assert load_task(write(file, *lines), **SIZES).data("test").answers.tolist() == [[[2]]]


def test_prompts_of_unequal_length_are_not_paired(file):
    lines = {"clean": [1, 2, 3], "counterfactual": [4, 5]}, {"clean": [1], "counterfactual": [6]}
    data = load(write(file, *lines), **SIZES)
    assert data.counterfactual is None
    assert data.unpaired.tolist() == [[4, 5], [6, 0]] and data.unpaired_lengths.tolist() == [2, 1]
    assert load_task(write(file, *lines), **SIZES).dataset()["counterfactual"] == [[4, 5], [6]]
    assert load(write(file, lines[1]), **SIZES).counterfactual.tolist() == [[6]]


def test_optional_parts_may_be_absent_everywhere(file):
    data = load(write(file, {"clean": [1, 2]}, {"clean": [2, 1]}), **SIZES)
    assert data.counterfactual is None and data.answers is None and data.wrong is None


def test_templates_are_told_apart_by_name(file):
    lines = [{**GOOD, "template": name} for name in ("b", "a", "b")]
    assert load(write(file, *lines), **SIZES).templates.tolist() == [0, 1, 0]
    assert load(write(file, GOOD), **SIZES).templates is None
    with pytest.raises(DataError, match="line 2: no 'template', which other lines have"):
        load(write(file, lines[0], GOOD), **SIZES)


def test_blank_lines_do_not_shift_line_numbers(file):
    with pytest.raises(DataError, match="line 3: not JSON"):
        load(write(file, GOOD, "\n", "{oops\n"), **SIZES)


MISTAKES = {
    "an unknown key": ({**GOOD, "wrongs": 3}, "no key 'wrongs'; the keys are clean, counterfactual, answer, wrong"),
    "a list": ([1, 2], "a list and not an object"),
    "no clean": ({"answer": 1, "wrong": 2}, "no 'clean' prompt"),
    "answer alone": ({"clean": [1], "answer": 2}, "'answer' and 'wrong' go together"),
    "an id beyond the vocabulary": (
        {**GOOD, "clean": [1, 2, 10]},
        "token id 10 in 'clean' is outside the model's vocabulary (0 to 9)",
    ),
    "a negative answer": ({**GOOD, "answer": -1}, "token id -1 in 'answer' is outside"),
    "a float for an id": ({**GOOD, "answer": 1.5}, "1.5 in 'answer' is not a token id"),
    "a truth value for an id": ({**GOOD, "answer": True}, "True in 'answer' is not a token id"),
    "overlap": ({**GOOD, "wrong": [3, 4]}, "token 4 is both an answer and a wrong answer"),
    "an answer twice": ({**GOOD, "answer": [4, 4]}, "'answer' names an answer twice"),
    "no answers": ({**GOOD, "answer": []}, "'answer' is an empty list"),
    "an answer without its space": (
        {**GOOD, "answer": "glued"},
        "'answer' 'glued' is 2 tokens; ' glued', with a leading",
    ),
    "an answer without a token": ({**GOOD, "answer": [[]]}, "'answer' has an answer of 0 tokens"),
    "an answer beyond the model": ({**GOOD, "answer": [[4, 4, 4, 4, 4]]}, "3 tokens and 4 of an answer, and the model"),
    "several tokens in the middle": ({**GOOD, "answer": [[4, 5]], "position": 0}, "'position' is not the last token"),
    "an overlap of several tokens": ({**GOOD, "answer": [[4, 5]], "wrong": [[4, 5]]}, "[4, 5] is both an answer and a"),
    "mixed prompts": ({**GOOD, "clean": "a bb"}, "'clean' and 'counterfactual' are both text or both lists"),
    "an empty prompt": ({"clean": []}, "'clean' holds no token"),
    "a prompt too long": ({"clean": [1] * 7}, "7 tokens, and the model takes 6"),
    "a prompt of another kind": ({"clean": 3}, "'clean' is text or a list of token ids, not 3"),
    "a position beyond the prompt": ({**GOOD, "position": 3}, "'position' 3 is outside the 3 tokens"),
    "a template that is no name": ({**GOOD, "template": 1}, "'template' is a name, not 1"),
    "not JSON": ("{\n", "not JSON"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_line(file, mistake):
    line, message = MISTAKES[mistake]
    with pytest.raises(DataError) as error:
        load(write(file, {"clean": [1]} if mistake == "no clean" else GOOD, line), tokenize=words, **SIZES)
    assert message in str(error.value)
    assert "line 2:" in str(error.value)


def test_how_many_other_lines_are_wrong(file):
    with pytest.raises(DataError, match=r"line 1: .*\(2 more like it\.\)"):
        load(write(file, "{\n", "{\n", GOOD, "{\n"), **SIZES)


def test_a_counterfactual_in_some_lines_only(file):
    with pytest.raises(DataError, match="line 2: no 'counterfactual', which other lines have"):
        load(write(file, GOOD, {key: GOOD[key] for key in ("clean", "answer", "wrong")}), **SIZES)


def test_text_without_a_tokenizer(file):
    with pytest.raises(DataError, match="this model has no tokenizer"):
        load(write(file, {"clean": "a b"}), **SIZES)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file(file, content):
    with pytest.raises(DataError, match="is empty; give it one JSON object per line"):
        load(write(file, content), **SIZES)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot read .*No such file"):
        load(tmp_path / "none.jsonl", **SIZES)


def test_a_file_that_is_not_text(file):
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="not UTF-8"):
        load(file, **SIZES)


def test_text_that_the_tokenizer_does_not_know(file):
    mini = Tokenizer(build_tokenizer())
    unknown, named = mini.source.unk_token, f"When Amy and{mini.source.unk_token}"
    good = {"clean": "Today Amy gave a ring to", "answer": " Amy", "wrong": " Robert"}
    for key, value in (("clean", "Today Zebulon gave a ring to"), ("wrong", " Zebulon")):
        with pytest.raises(DataError, match="has 'Zebulon', which .* `circuitmeter show ioi --model MODEL"):
            load(write(file, {**good, key: value}), d_vocab=5000, n_positions=32, tokenize=mini)
    assert unknown and mini.unknown(named) is None  # the token by its name is no unknown word
    assert load(write(file, good), d_vocab=5000, n_positions=32, tokenize=mini).clean.shape[0] == 1
