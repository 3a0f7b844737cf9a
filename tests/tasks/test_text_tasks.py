"""The tasks as text, on the mini models' vocabulary: lengths, answers, splits, positions, hashes."""

from __future__ import annotations

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite.errors import DataError, SpecError
from circuitmeter.tasks.family import split_of
from circuitmeter.tasks.pack import pack
from circuitmeter.tasks.prompt import Prompt, Text, fill
from circuitmeter.tasks.tokenizer import BOUNDARY

MINI = "ioi greater-than gendered-pronoun country-capital sva induction successor docstring".split()
# But for the variant that is for tokenizers that split numbers into digits (test_any_tokenizer.py).
NAMES = [name for family in MINI for name in tasks.TEXT_FAMILIES.get(family).names if not name.endswith("@digit")]


@pytest.fixture(scope="module")
def made(words):
    """Name -> the task in the mini models' tokens; each is made once."""
    return {name: tasks.load(name).on(words) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_well_formed(name, made, words):
    data = made[name].data("train")
    assert 100 <= data.n <= 200
    rows = zip(data.clean, data.counterfactual, data.lengths.tolist(), strict=True)
    for clean, other, length in rows:
        assert not torch.equal(clean, other)
        unknown = words.source.unk_token_id
        assert unknown not in clean and unknown not in other
        assert not clean[length:].any() and not other[length:].any()  # both end where the row says
        assert clean[:length].all() and other[:length].all()  # no padding before
    assert (data.read.long().argmax(1) == data.lengths - 1).all() and (data.read.sum(1) == 1).all()
    for right, wrong in zip(data.answers.tolist(), data.wrong.tolist(), strict=True):
        right, wrong = {i for i in right if i >= 0}, {i for i in wrong if i >= 0}
        assert right and wrong and not right & wrong
        assert words.source.unk_token_id not in right | wrong


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_prompt(name, made):
    splits = ("train", "validation", "test")
    rows = {split: {tuple(row) for row in made[name].data(split).clean.tolist()} for split in splits}
    assert not rows["train"] & rows["validation"] and not rows["train"] & rows["test"]
    assert not rows["validation"] & rows["test"]


def test_ioi_splits_share_no_pair_of_names(words):
    pairs = {
        split: {frozenset(p.answers + p.wrong) for p in tasks.load("ioi").prompts(words, split, 300)}
        for split in ("train", "validation", "test")
    }
    assert not pairs["train"] & pairs["test"] and not pairs["train"] & pairs["validation"]
    assert not pairs["validation"] & pairs["test"]


def test_the_fresh_variant_tests_on_templates_of_its_own(made):
    templates = {split: set(made["ioi@fresh"].data(split).templates.tolist()) for split in ("train", "test")}
    assert len(templates["test"]) == 4 and not templates["train"] & templates["test"]


def test_keys_are_split_eight_to_one_to_one():
    splits = [split_of(str(key)) for key in range(4000)]
    shares = [splits.count(split) / 4000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def decoded(words, data, row, name):
    at = data.positions[name][row].nonzero().flatten().tolist()
    return [words.source.decode([int(data.clean[row, i])]) for i in at]


def test_ioi_names_its_positions(made, words):
    data = made["ioi"].data("train")
    for row in range(40):
        io, subject = (words.source.decode([int(ids[row, 0])]) for ids in (data.answers, data.wrong))
        assert decoded(words, data, row, "IO") == [io]
        assert decoded(words, data, row, "S1") == decoded(words, data, row, "S2") == [subject]
        assert decoded(words, data, row, "end") == [" to"]
        first, second = (int(data.positions[name][row].long().argmax()) for name in ("S1", "S2"))
        assert int(data.positions["S1+1"][row].long().argmax()) == first + 1 < second


@pytest.mark.parametrize(("name", "changed"), [("ioi", 3), ("ioi@third-name", 1), ("ioi@flip", 1), ("ioi@fresh", 3)])
def test_ioi_variants_replace_the_names_that_they_say(name, changed, made, words):
    data = made[name].data("train")
    assert ((data.clean != data.counterfactual).sum(1) == changed).all()
    for row in range(40):
        at = [int(data.positions[position][row].long().argmax()) for position in ("IO", "S1", "S2")]
        io, first, second = data.counterfactual[row][at].tolist()
        own = {int(data.answers[row, 0]), int(data.wrong[row, 0])}
        if name == "ioi@flip":
            assert second == io
        elif name == "ioi@third-name":
            assert second not in own and {io, first} == own
        else:
            assert len({io, first, second}) == 3 and not own & {io, first, second}


def test_greater_than_answers_are_the_later_years(made, words):
    for name in ("greater-than", "greater-than@random-year"):
        data = made[name].data("train")
        for row in range(50):
            (year,) = decoded(words, data, row, "YY")
            (century,) = decoded(words, data, row, "XX1")
            later = [words.source.decode([i]) for i in data.answers[row].tolist() if i >= 0]
            assert later == [f"{n:02}" for n in range(int(year) + 1, 100)]
            assert (data.answers[row] >= 0).sum() + (data.wrong[row] >= 0).sum() == 100
            assert decoded(words, data, row, "end")[0] == century
            at = data.positions["YY"][row]
            other = words.source.decode(data.counterfactual[row][at])
            assert (other == "01") == (name == "greater-than")


@pytest.mark.parametrize("name", ["ioi@flip", "gendered-pronoun", "country-capital", "sva", "successor", "induction"])
def test_counterfactuals_with_an_answer_have_the_wrong_one(name, words):
    """What the mini models are trained on: the counterfactual's answer is the clean prompt's wrong one."""
    for prompt in tasks.load(name).prompts(words, "train", 30):
        assert prompt.then == prompt.wrong


def test_induction_is_answered_by_the_earlier_mention(words):
    for prompt in tasks.load("induction").prompts(words, "train", 60):
        *shown, cue = prompt.clean.text.split()
        assert f" {shown[shown.index(cue) + 1]}" == prompt.answers[0]
        *shown, cue = prompt.counterfactual.text.split()
        assert f" {shown[shown.index(cue) + 1]}" == prompt.wrong[0]
    for prompt in tasks.load("induction@fresh").prompts(words, "train", 60):
        *shown, cue = prompt.counterfactual.text.split()
        assert cue not in shown and cue == prompt.clean.text.split()[-1]


def test_docstring_wrong_names_are_all_the_others(words):
    for prompt in tasks.load("docstring").prompts(words, "train", 30):
        fields = {name: prompt.clean.text[slice(*where)] for name, where in prompt.clean.fields.items()}
        assert fields["A"] == fields["A2"] and fields["B"] == fields["B2"] and prompt.answers == (f" {fields['C']}",)
        assert f" {fields['C']}" not in prompt.wrong and len(set(prompt.wrong)) == len(prompt.wrong) >= 8
        others = {prompt.counterfactual.text[slice(*prompt.counterfactual.fields[name])] for name in "ABC"}
        assert not others & {fields[name] for name in "ABC"} and {f" {name}" for name in others} <= set(prompt.wrong)


def test_bos_is_put_first_and_changes_the_hash(made, words):
    with_bos, without = tasks.load("ioi@bos").on(words), made["ioi"]
    assert with_bos.name == "ioi@bos" and with_bos.hash != without.hash
    a, b = with_bos.data("train"), without.data("train")
    assert (a.clean[:, 0] == words.bos).all() and (a.counterfactual[:, 0] == words.bos).all()
    assert torch.equal(a.clean[:, 1:], b.clean) and torch.equal(a.positions["S2"][:, 1:], b.positions["S2"])
    assert tasks.load("ioi@flip+bos").name == "ioi@flip+bos"


@pytest.mark.parametrize(
    ("name", "expected"), [("successor", "54bfdc5400ba77de"), ("ioi@third-name", "b366987a0f0664e5")]
)
def test_hash_is_the_same_in_every_process_and_python_version(name, expected, made):
    """The numbers are golden: whoever changes a task changes its hash, and says so."""
    assert made[name].hash == expected


def test_hash_differs_between_tasks(made):
    assert len({made[name].data("train").hash for name in NAMES}) == len(NAMES)


def test_rows_as_a_dataset(made):
    dataset, data = made["ioi"].dataset("train"), made["ioi"].data("train")
    assert dataset.column_names == ["clean", "counterfactual", "read", "answer", "wrong", "template", "positions"]
    row = dataset[3]
    assert row["clean"] == data.clean[3, : int(data.lengths[3])].tolist() and row["template"] == int(data.templates[3])
    assert row["positions"]["end"] == [len(row["clean"]) - 1]


def test_unknown_variants_are_answered_with_the_nearest():
    with pytest.raises(SpecError, match="Did you mean 'flip'"):
        tasks.load("ioi@flop")
    with pytest.raises(SpecError, match="no variant of ioi 'flip.abc'"):
        tasks.load("ioi@flip+abc")
    with pytest.raises(SpecError, match="Did you mean 'greater-than'") as error:
        tasks.load("greater-then")
    assert "`circuitmeter list tasks` has all" in str(error.value) and len(str(error.value)) < 300


def test_words_that_a_tokenizer_lacks_are_left_out_or_said(words):
    names = {w for p in tasks.load("ioi").prompts(words, "train", 200) for w in p.answers}
    assert 20 < len(names) <= 48 and " Samuel" not in names  # the mini vocabulary has 48 of the 99


@pytest.mark.parametrize("name", ["colored-objects", "hypernymy", "gender-bias", "acronyms"])
def test_tasks_that_a_tokenizer_lacks_the_words_of(name, words):
    with pytest.raises(DataError, match="choose another model"):
        tasks.load(name).on(words).data("train")


def prompt_of(clean, counterfactual, answers=(" Paris",), wrong=(" Rome",)):
    return Prompt(Text(clean), Text(counterfactual), answers, wrong, "train", 0)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (prompt_of("The war", "The war of"), "2 tokens and its counterfactual 'The war of' 3"),
        (prompt_of("The war", "The riot", answers=(" Samuel",)), "the answer ' Samuel' is 1 tokens and not one known"),
        (prompt_of("The war", "The riot", answers=(" the war",)), "is 2 tokens"),
        (prompt_of("The war", "The riot", wrong=(" Paris",)), "' Paris' is both an answer and a wrong answer"),
    ],
)
def test_prompts_that_cannot_be_used(prompt, message, words):
    with pytest.raises(DataError, match=message):
        pack([prompt], words, {}, bos=False)


def test_fields_of_several_tokens_are_named_by_their_last(words):
    text = fill("The {what} began", what="war of the city")
    data = pack([Prompt(text, None, (" in",), (" on",), "train", 0)], words, {"what": ("what", 0)}, bos=True)
    assert decoded(words, data, 0, "what") == [" city"] and data.counterfactual is None


def test_a_boundary_tokenizes_its_sides_apart(words):
    joined, apart = words.tokens(["The war", f"The{BOUNDARY} war"])
    assert joined.ids == apart.ids
    (split,) = words.tokens([f" wa{BOUNDARY}r"])
    assert len(split.ids) == 2 and split.last(4, 5) == 1


@pytest.mark.parametrize("family", ["greater-than", "country-capital", "hypernymy"])
def test_the_papers_template_alone(family, words):
    task = tasks.load(f"{family}@bos+seed1+paper")
    assert task.name == f"{family}@paper+bos+seed1" and task.description.endswith("the paper's templates")
    if family == "hypernymy":  # no mini model speaks it
        return
    usual, own = (tasks.load(name).on(words).data("train") for name in (family, f"{family}@paper"))
    assert set(own.templates.tolist()) == {0} < set(usual.templates.tolist())
    assert own.n >= 100 and own.hash != usual.hash
    assert tasks.load(family).on(words).data("train").hash == usual.hash  # the usual prompts are what they were


def test_a_task_whose_templates_are_all_of_one_kind_has_no_paper_variant():
    with pytest.raises(SpecError, match="variant of ioi"):
        tasks.load("ioi@paper")
