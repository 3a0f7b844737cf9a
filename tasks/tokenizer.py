"""Tokenizers as tasks use them: the place of each token in the text, and the words that are one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..suite.errors import DataError, TaskUnaskable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOUNDARY = "\x1f"  # in a prompt: the texts before and after it are tokenized apart


@dataclass(frozen=True)
class Tokens:
    """A tokenized text. ``spans[i]``: the first character of token i, and the one after its last."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def last(self, start: int, stop: int) -> int:
        """Index of the last token that covers any of the characters from ``start`` to before ``stop``."""
        return max(i for i, (begin, end) in enumerate(self.spans) if begin < stop and end > start)


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A Hugging Face tokenizer, with what tasks need of it.

    Args:
        source: a fast tokenizer, which knows the place of each token in the text.

    Raises:
        DataError: a slow tokenizer.
    """

    source: PreTrainedTokenizerBase

    def __post_init__(self) -> None:
        if not self.source.is_fast:
            raise DataError(
                f"{type(self.source).__name__} does not tell where in a text its tokens are; save the model with its "
                "fast tokenizer (tokenizer.json)."
            )

    def __call__(self, text: str, special: bool = False) -> list[int]:
        """Token ids, with the model's special tokens added (as before a prompt) or not."""
        return self.source.encode(text, add_special_tokens=special)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text's tokens, without special ones. Parts divided by ``BOUNDARY`` are tokenized apart, without it."""
        parts = [text.split(BOUNDARY) for text in texts]
        flat = [part for split in parts for part in split]
        encoded = self.source(flat, add_special_tokens=False, return_offsets_mapping=True)
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [_joined(split, [next(pairs) for _ in split]) for split in parts]

    def one(self, text: str) -> int | None:
        """The id of a text that is one known token; None for any other text."""
        if text not in self._known:
            ids = self(text)
            self._known[text] = ids[0] if len(ids) == 1 and ids[0] != self.source.unk_token_id else None
        return self._known[text]

    def words(self, words: Sequence[str], least: int = 0, what: str | None = None) -> list[str]:
        """Those of the words that are one token after a space.

        Args:
            least: how many such words the task needs.
            what: the kind of word, such as ``names``, under which ``vocabulary`` lists how many are known.

        Raises:
            TaskUnaskable: the tokenizer knows fewer than ``least``.
        """
        known = [word for word in words if self.one(f" {word}") is not None]
        if what is not None:
            self.asked(what, len(known), len(words))
        if len(known) < least:
            raise TaskUnaskable(
                f"of {words[0]}, {words[1]} and {len(words) - 2} more words, {len(known)} are single tokens of this "
                f"model, and the task needs {least}; choose another model."
            )
        return known

    def word(self, word: str) -> int:
        """The id of a word with its leading space. Raises TaskUnaskable when that is not one token."""
        found = self.one(f" {word}")
        if found is None:
            raise TaskUnaskable(f"' {word}' is {len(self(f' {word}'))} tokens and not one known token.")
        return found

    def knows(self, text: str) -> bool:
        """Whether every token of the text is known."""
        return self.unknown(text) is None

    def unknown(self, text: str) -> str | None:
        """The first part of the text that the vocabulary lacks; None when it has all of it."""
        plain = text.replace(BOUNDARY, "")
        if self.source.unk_token_id is None or self.source.unk_token_id not in self(plain):
            return None
        [found] = self.tokens([plain])
        parts = [
            plain[start:end].strip()
            for i, (start, end) in zip(found.ids, found.spans, strict=True)
            if i == self.source.unk_token_id
        ]
        # Byte-level vocabularies name the end of a text as the unknown token; a text that has it by name is known.
        return next((part for part in parts if part != self.source.unk_token), None)

    @property
    def bos(self) -> int:
        """The id that begins a text. Raises DataError for a tokenizer without one."""
        if self.source.bos_token_id is None:
            raise DataError("this tokenizer has no token that begins a text (BOS); choose the task without +bos.")
        return self.source.bos_token_id

    def asked(self, what: str, known: int, of: int) -> None:
        """Notes how many of a task's words could be used."""
        self.vocabulary[what] = (known, of)

    @cached_property
    def vocabulary(self) -> dict[str, tuple[int, int]]:
        """Kind of word -> (known, of how many), for the kinds that tasks have asked for."""
        return {}

    @cached_property
    def _known(self) -> dict[str, int | None]:
        return {}


def _joined(parts: list[str], encoded: list[tuple[list[int], list[tuple[int, int]]]]) -> Tokens:
    """Parts that were tokenized apart, joined to one text; spans count characters, boundaries included."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    start = 0
    for part, (its_ids, its_spans) in zip(parts, encoded, strict=True):
        ids += its_ids
        spans += [(start + begin, start + end) for begin, end in its_spans]
        start += len(part) + len(BOUNDARY)
    return Tokens(tuple(ids), tuple(spans))
