"""Tasks on tokenizers that know some of their words, or split numbers into digits; and other draws of prompts."""

from __future__ import annotations

import pytest
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Fast
from transformers import PreTrainedTokenizerFast

from circuitmeter import tasks
from circuitmeter.suite.errors import SpecError, TaskUnaskable
from circuitmeter.tasks import greater_than
from circuitmeter.tasks.draw import Draw
from circuitmeter.tasks.names import NAMES
from circuitmeter.tasks.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def digits() -> Tokenizer:
    """Words by spaces, numbers by digits: a tokenizer like those of Llama-3's and SmolLM2's kind."""
    texts = [*greater_than.TEMPLATES, *greater_than.EVENTS[:20]]
    known = sorted({word for text in texts for word in text.replace("{", " ").replace("}", " ").split()})
    tokens = ["<unk>", "Ġ", *map(str, range(10)), "The", *(f"Ġ{word}" for word in known)]
    backend = Fast(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = pre_tokenizers.Split(Regex(r"\d|Ġ(?=\d)|Ġ?[^Ġ\d]+"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([bytes_, pieces])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))


def test_greater_than_by_digit(digits):
    task = tasks.load("greater-than@digit")
    data = task.on(digits).data("train")
    for prompt in task.prompts(digits, "train", 50):
        decade = prompt.clean.text[slice(*prompt.clean.fields["year"])][0]
        assert all(int(answer) > int(decade) for answer in prompt.answers) and prompt.answers
        assert all(int(wrong) < int(decade) for wrong in prompt.wrong) and prompt.wrong
        assert prompt.clean.text.endswith(prompt.clean.text[slice(*prompt.clean.fields["century"])])
    changed = (data.clean != data.counterfactual) & data.valid
    assert bool((changed.sum(1) <= 2).all()) and bool(changed.any(1).all())


def test_a_tokenizer_that_splits_years_is_told_of_the_digits(digits):
    with pytest.raises(TaskUnaskable, match="ask greater-than@digit instead"):
        tasks.load("greater-than").on(digits).data("train")


def test_a_task_says_how_many_of_its_words_it_could_use(words):
    usable = tasks.load("ioi").vocabulary(words)
    assert set(usable) == {"names", "places", "objects"}
    known, of = usable["names"]
    assert of == 99 and known == len(words.words(NAMES))


def test_another_seed_draws_other_prompts_of_the_same_split(words):
    task, other = tasks.load("ioi"), tasks.load("ioi@seed1")
    assert other.name == "ioi@seed1" and tasks.load("ioi@flip+bos+seed2").name == "ioi@flip+bos+seed2"
    drawn = [{p.clean.text for p in each.prompts(words, "train", 40, each.seed)} for each in (task, other)]
    assert drawn[0] != drawn[1]
    held_out = {p.clean.text for p in other.prompts(words, "test", 40, 1)}
    assert not held_out & (drawn[0] | drawn[1])
    with pytest.raises(SpecError, match="seed1, seed2"):
        tasks.load("ioi@seed1+seed2")


@pytest.mark.parametrize("known", [0, 1, 2])
def test_more_words_than_there_are_are_not_drawn_for_ever(known):
    with pytest.raises(TaskUnaskable, match=f"draws 3 different words, and this model's tokenizer has {known}"):
        Draw("three").some(["a", "b"][:known], 3)
    assert sorted(Draw("three").some(["a", "b", "c"], 3)) == ["a", "b", "c"]
