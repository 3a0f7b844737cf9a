"""BLiMP, PARArel and MIB from small local files, and what is said where they are missing."""

from __future__ import annotations

import json
import socket

import pytest

from circuitmeter import tasks
from circuitmeter.suite.errors import DataError
from circuitmeter.tasks import hub


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(hub.FOLDER, str(tmp_path))
    return tmp_path


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def decoded(words, row):
    return [words.source.decode([i]) for i in row if i >= 0]


def every_row(task):
    """(clean text's ids, answers, wrong) of all splits together."""
    found = []
    for split in task.splits:
        try:
            data = task.data(split)
        except DataError:  # a few rows do not fill every split
            continue
        assert data.counterfactual is None
        lengths = data.lengths.tolist()
        rows = zip(data.clean.tolist(), lengths, data.answers.tolist(), data.wrong.tolist(), strict=True)
        found += [(clean[:length], right, wrong) for clean, length, right, wrong in rows]
    return found


def test_blimp_is_cut_at_the_first_difference(folder, words):
    """What follows the difference is in neither prompt nor answer, also where a later word differs again."""
    write(
        folder / "blimp" / "passive_1.jsonl",
        [
            {"sentence_good": "The keys are in the car", "sentence_bad": "The keys is in the car"},
            {"sentence_good": "The boy gets a book", "sentence_bad": "The boy get a cat"},
            {"sentence_good": "The boy was", "sentence_bad": "After boy was"},  # differs in the first token
        ],
    )
    rows = every_row(tasks.load("blimp/passive_1").on(words))
    texts = {
        (words.source.decode(clean), *decoded(words, right), *decoded(words, wrong)) for clean, right, wrong in rows
    }
    assert texts == {("The keys", " are", " is"), ("The boy", " gets", " get")}


def test_pararel_asks_for_the_object_among_all_of_the_relation(folder, words):
    row = {"relation": "P36.jsonl", "template": "", "candidates": []}
    write(
        folder / "pararel" / "default.jsonl",
        [
            {**row, "query": "The capital of Italy is [MASK] .", "subject": "Italy", "object": "Rome"},
            {**row, "query": "The capital of France is", "subject": "France", "object": "Paris"},
            {**row, "query": "[Y] is the capital of Egypt", "subject": "Egypt", "object": "Cairo"},  # object not last
            {**row, "relation": "P19.jsonl", "query": "Daniel was in", "subject": "Daniel", "object": "London"},
        ],
    )
    rows = every_row(tasks.load("pararel/P36").on(words))
    found = {
        words.source.decode(clean): (decoded(words, right), set(decoded(words, wrong))) for clean, right, wrong in rows
    }
    assert found == {
        "The capital of Italy is": ([" Rome"], {" Paris", " Cairo"}),
        "The capital of France is": ([" Paris"], {" Rome", " Cairo"}),
    }


def mib_row(prompt, other, **more):
    return {
        "prompt": prompt,
        "choices": [" Daniel", "Sarah"],
        "answerKey": 1,
        **more,
        "s2_io_flip_counterfactual": other,
    }


def test_mib_has_its_own_splits_and_counterfactuals(folder, words):
    flipped = {
        "prompt": "Later, Daniel and Sarah came to the store. Sarah gave a ring to",
        "choices": ["Daniel", "Sarah"],
    }
    longer = {**flipped, "prompt": "Later, Daniel and Sarah came to the store. Sarah gave a ring to a"}
    clean = "Later, Daniel and Sarah came to the store. Daniel gave a ring to"
    about = {"subject": "Daniel", "indirect_object": "Sarah"}
    for split in ("train", "test"):
        write(
            folder / "mib-ioi" / "default" / f"{split}.jsonl",
            [
                mib_row(clean, {**flipped, "answerKey": 0}, metadata=about),
                mib_row(clean + " ", {**longer, "answerKey": 0}, metadata=about),  # as long as each other, BOS or not
                mib_row(clean, {**longer, "answerKey": 0}, metadata=about),  # of unequal length
                mib_row(clean, None, metadata=about),
            ],
        )
    data = tasks.load("mib/ioi").on(words).data("train")
    assert data.n == 1
    assert words.source.decode(data.counterfactual[0]) == flipped["prompt"]
    assert decoded(words, data.answers[0].tolist()) == [" Sarah"]
    assert decoded(words, data.wrong[0].tolist()) == [" Daniel"]


def test_mib_multiple_choice_answers_are_letters(folder, words):
    choices = {"label": ["A", "B"], "text": ["red", "blue"]}
    other = {"prompt": "A:", "choices": {"label": ["C", "D"]}, "answerKey": 0}
    row = {"prompt": "B:", "choices": choices, "answerKey": 1, "symbol_counterfactual": other}
    write(folder / "mib-arc-easy" / "default" / "train.jsonl", [row])
    words_of = tasks.load("mib/arc-easy").prompts(words, "train", 5)
    assert [(p.answers, p.wrong) for p in words_of] == [((" B",), (" C",))]


@pytest.mark.parametrize(
    ("name", "repository"), [("blimp/wh_island", "nyu-mll/blimp"), ("mib/mcqa", "mib-bench/copycolors_mcqa")]
)
def test_what_is_missing_and_both_ways_to_provide_it(name, repository, monkeypatch, words):
    import huggingface_hub

    monkeypatch.delenv(hub.FOLDER, raising=False)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))

    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the hub\nand a second line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(DataError) as error:
        tasks.load(name).on(words).data()
    message = str(error.value)
    assert "\n" not in message
    for part in (repository, "Couldn't reach the hub", f"hf download --repo-type dataset {repository}", hub.FOLDER):
        assert part in message


def test_a_line_that_is_not_json(folder, words):
    (folder / "blimp").mkdir()
    (folder / "blimp" / "wh_island.jsonl").write_text(
        json.dumps({"sentence_good": "a", "sentence_bad": "b"}) + "\n{oops\n"
    )
    with pytest.raises(DataError, match="line 2: not JSON"):
        tasks.load("blimp/wh_island").on(words).data()
    write(folder / "blimp" / "wh_island.jsonl", [{"good": "a"}])
    with pytest.raises(DataError, match="a row without 'sentence_good'"):
        tasks.load("blimp/wh_island").on(words).data()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe{}", "UTF-16"),
        (b'{"a": "\xe9"}', "not UTF-8"),
        (b"[" * 5000, "50 deep"),
        (b"[1]\n", "no JSON object"),
        (b'{"a": 1, "a": 2}', "twice"),
    ],
)
def test_a_damaged_data_set_is_one_line(tmp_path, monkeypatch, content, reason):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "all.jsonl").write_bytes(content)
    monkeypatch.setenv(hub.FOLDER, str(tmp_path))
    with pytest.raises(DataError, match=reason):
        list(hub.rows("set", "nobody/set", "all", "train", ("a",)))


def test_a_snapshot_folder_is_opened_as_datasets_does(folder, words):
    import datasets

    rows = {"sentence_good": ["The keys are in the car"] * 3, "sentence_bad": ["The keys is in the car"] * 3}
    (folder / "blimp" / "wh_island").mkdir(parents=True)
    datasets.Dataset.from_dict(rows).to_parquet(folder / "blimp" / "wh_island" / "train-00000-of-00001.parquet")
    card = "---\nconfigs:\n- config_name: wh_island\n  data_files: wh_island/train-*.parquet\n---\n"
    (folder / "blimp" / "README.md").write_text(card)
    assert len(list(hub.rows("blimp", "nyu-mll/blimp", "wh_island", "train", ("sentence_good",)))) == 3


def test_all_paradigms_and_relations_are_tasks():
    names = tasks.names()
    assert sum(name.startswith("blimp/") for name in names) == 67
    assert sum(name.startswith("pararel/") for name in names) == 21
    assert {name for name in names if name.startswith("mib/")} >= {"mib/ioi", "mib/ioi@abc", "mib/arc-challenge"}
