"""The tokenizer of the mini models, whose tokens are whole words.

As in GPT-2's tokenizer, a word after a space is one token, different from the word without the space, and a year is two
tokens, the century and the rest. So the code of a task is the same for GPT-2 and the mini models. Tasks leave out words
that are not in the vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import country_capital, docstring, gendered_pronoun, greater_than, induction, ioi, successor, sva
from ..names import HE_NAMES, NAMES, SHE_NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"  # begins a text, ends it and pads it, as GPT-2's does
UNKNOWN = "<|unknown|>"
# Python's `re` splits the templates below by this pattern, and the tokenizer's engine splits prompts by it.
PATTERN = r" ?[A-Za-z]+'t| ?[A-Za-z]+| ?\d\d| ?[^\sA-Za-z\d]| +(?= )|\s"

# How many words of each list the models learn; the others are unknown to them.
N_NAMES, N_NOUNS, N_CAPITALS, N_SUBJECTS, N_VERBS, N_VARIABLES, N_DESCRIPTIONS = 24, 40, 24, 16, 20, 24, 24


def tokens() -> list[str]:
    """The vocabulary in the order of its ids, which is the same in every process."""
    found = dict.fromkeys([END_OF_TEXT, UNKNOWN])
    for text in _texts():
        found |= dict.fromkeys(re.findall(PATTERN, text))
    return list(found)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, made in memory."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens())}, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the tokenizer so that every supported version of ``transformers`` opens it.

    ``save_pretrained`` of version 5 names a class that version 4 does not have.
    """
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "unk_token": UNKNOWN}
    about |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _texts() -> Iterator[str]:
    """Texts that contain every token."""
    names = [name for name in NAMES if name in {*SHE_NAMES[:N_NAMES], *HE_NAMES[:N_NAMES]}]
    nouns = greater_than.EVENTS[:N_NOUNS]
    capitals = list(country_capital.COUNTRIES.items())[:N_CAPITALS]
    subjects = [word for pair in sva.NOUN_FORMS[:N_SUBJECTS] for word in pair]
    verbs = [word for pair in sva.VERB_FORMS[:N_VERBS] for word in pair]
    members = [member for order in successor.ORDERS.values() for member in order]
    lists = [names, ioi.PLACES, ioi.OBJECTS, nouns, subjects, verbs, sva.PREPOSITIONS, members, ["she", "he"]]
    lists += [docstring.VARIABLES[:N_VARIABLES], docstring.DESCRIPTIONS[:N_DESCRIPTIONS]]
    for words in (*lists, *capitals):
        yield from (f" {word}" for word in words)
    yield from (f" {century}" for century in greater_than.CENTURIES)
    yield from greater_than.DIGITS
    written = [ioi, greater_than, gendered_pronoun, country_capital, sva, successor, induction, docstring]
    for template in (template for module in written for template in module.TEMPLATES):
        yield re.sub(r" ?\{\w+\}", "", template)
    yield from ("So", "That", " person")
