"""The tasks in GPT-2's byte-pair vocabulary: single tokens, lengths and counts of the papers' data."""

from __future__ import annotations

import pytest

from circuitmeter import tasks
from circuitmeter.tasks import acronyms, country_capital, gender_bias, greater_than, hypernymy, ioi, sva
from circuitmeter.tasks.greater_than import years
from circuitmeter.tasks.names import HE_NAMES, NAMES, SHE_NAMES

FAMILIES = [name for name in tasks.TEXT_FAMILIES if "/" not in name]
VARIANTS = [name for family in FAMILIES for name in tasks.TEXT_FAMILIES.get(family).names]


@pytest.fixture(scope="module")
def made(gpt2):
    return {name: tasks.load(name).on(gpt2) for name in VARIANTS}


def test_ioi_names_are_single_tokens_only_with_their_space(gpt2):
    assert len(NAMES) == len(set(NAMES)) == 99
    assert len(gpt2.words(NAMES)) == 99
    assert sum(gpt2.one(name) is None for name in NAMES) == 46
    assert not set(SHE_NAMES) & set(HE_NAMES) and set(SHE_NAMES) | set(HE_NAMES) <= set(NAMES)


def test_ioi_templates_have_the_papers_lengths(gpt2):
    """Tokens with the answer and without BOS, templates 0 to 14, for each order of the names."""
    fields = {"S2": "Mary", "place": "store", "object": "ring"}
    for x, y in (("Mary", "John"), ("John", "Mary")):
        found = [len(gpt2(template.format(X=x, Y=y, **fields))) + 1 for template in ioi.TEMPLATES]
        assert found == [16, 20, 19, 21, 16, 15, 18, 19, 16, 16, 18, 17, 15, 16, 16]
    assert len(gpt2.words(ioi.PLACES)) == len(gpt2.words(ioi.OBJECTS)) == 8


def test_years_of_two_tokens(gpt2):
    """Of each century from 1000 to 2099 but 1900, which has none, without its first and last: Hanna et al.'s lists."""
    found = {century: len(years(gpt2, century)) for century in (*range(10, 19), 20)}
    assert list(found.values()) == [74, 53, 96, 89, 96, 89, 97, 97, 77, 70]
    assert years(gpt2, 19) == []
    assert sum(found[century] for century in greater_than.CENTURIES) == 617
    assert all(min(years(gpt2, century)) > "01" for century in greater_than.CENTURIES)


def test_years_and_nouns_are_single_tokens(gpt2):
    assert len(greater_than.EVENTS) == len(set(greater_than.EVENTS)) == len(gpt2.words(greater_than.EVENTS)) == 120
    assert all(gpt2.one(digits) is not None for digits in greater_than.DIGITS)
    assert [gpt2.one(digits) for digits in ("00", "01", "02", "99")] == [405, 486, 2999, 2079]
    # The counterfactual 01 is two tokens, too; 1901 is one, and no century's list has it.
    assert all(len(gpt2(f" {century}01")) == 2 for century in range(11, 19)) and len(gpt2(" 1901")) == 1


def test_greater_than_has_the_papers_length(gpt2):
    prompt = greater_than.TEMPLATES[0].format(noun="war", century="17", year="32", end="17")
    assert len(gpt2(prompt)) == 12


def test_word_lists_are_usable(gpt2):
    assert len(gpt2.words(gender_bias.SHE_PROFESSIONS)) >= 12 and len(gpt2.words(gender_bias.HE_PROFESSIONS)) >= 30
    assert len(gpt2.words(acronyms.WORDS)) == len(acronyms.WORDS)
    assert len(gpt2.words([noun for pair in sva.NOUN_FORMS for noun in pair])) == 2 * len(sva.NOUN_FORMS)
    assert len(gpt2.words([verb for pair in sva.VERB_FORMS for verb in pair])) == 2 * len(sva.VERB_FORMS)
    countries = list(country_capital.COUNTRIES.values())
    assert len(set(countries)) == len(countries)  # no two capitals have one answer
    assert all(gpt2.words(kind.split()) for kind in hypernymy.HYPERNYMS)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_made(name, made, gpt2):
    task = made[name]
    data = {split: task.data(split) for split in ("train", "validation", "test")}
    assert data["train"].n >= 150
    clean = [{tuple(row) for row in part.clean.tolist()} for part in data.values()]
    assert not clean[0] & clean[1] and not clean[0] & clean[2] and not clean[1] & clean[2]
    for part in data.values():
        assert part.counterfactual.shape == part.clean.shape and (part.clean != part.counterfactual).any(1).all()
        for right, wrong in zip(part.answers.tolist(), part.wrong.tolist(), strict=True):
            assert not ({i for i in right if i >= 0} & {i for i in wrong if i >= 0})
    words = gpt2.source.batch_decode([[i] for i in data["test"].answers[:, 0].tolist()])
    continuing = name.startswith(("acronyms", "greater-than"))
    assert all(word.startswith(" ") != continuing for word in words)


def test_acronyms_letters_are_tokens_of_their_own(made, gpt2):
    for row in range(30):
        data = made["acronyms"].data("train")
        pieces = [gpt2.source.decode([i]) for i in data.clean[row, : int(data.lengths[row])].tolist()]
        words, letters = [p.strip() for p in pieces[1:4]], pieces[-2:]
        assert letters == [words[0][0], words[1][0]] and pieces[-3] == " ("
        assert gpt2.source.decode(data.answers[row][:1]) == words[2][0]


def test_hashes_are_the_same_in_every_process_and_python_version(made):
    assert {name: made[name].hash for name in ("ioi", "greater-than")} == {
        "ioi": "4c5d3d045f1973f0",
        "greater-than": "8393b24eab30b8b0",
    }
