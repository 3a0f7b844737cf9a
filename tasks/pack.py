"""``Data`` from prompts that are text: padded token ids, answers of one token, named positions, templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..suite.data import Data
from ..suite.errors import DataError
from .prompt import Prompt, Text
from .tokenizer import Tokenizer, Tokens


def pack(
    prompts: Sequence[Prompt], tokenizer: Tokenizer, positions: Mapping[str, tuple[str, int]], *, bos: bool
) -> Data:
    """Tokenizes prompts; the output is read at the last token of each.

    Args:
        positions: name -> (field, shift): the named position is the last token of the field, plus the shift. A prompt
            whose template lacks the field has no such position. ``end`` is always the last token.
        bos: whether each prompt begins with the token that begins a text.

    Raises:
        DataError: a counterfactual has another length, an answer is not one token, or is both right and wrong.
    """
    first = [tokenizer.bos] if bos else []
    clean = tokenizer.tokens([prompt.clean.text for prompt in prompts])
    paired = [prompt.counterfactual for prompt in prompts if prompt.counterfactual is not None]
    others = tokenizer.tokens([text.text for text in paired]) if paired else []
    if paired:
        _check_lengths(prompts, clean, others)
    lengths = torch.tensor([len(first) + len(tokens.ids) for tokens in clean])
    ends = lengths - 1
    at = torch.arange(int(lengths.max()))
    named = {
        name: at
        == torch.tensor([_place(p.clean, t, *where, len(first)) for p, t in zip(prompts, clean, strict=True)])[:, None]
        for name, where in positions.items()
    }
    return Data(
        clean=padded([[*first, *tokens.ids] for tokens in clean], 0),
        counterfactual=padded([[*first, *tokens.ids] for tokens in others], 0) if others else None,
        read=at == ends[:, None],
        lengths=lengths,
        answers=_answers([prompt.answers for prompt in prompts], tokenizer),
        wrong=_disjoint(prompts, tokenizer),
        positions=named | {"end": at == ends[:, None]},
        templates=torch.tensor([prompt.template for prompt in prompts]),
    )


def padded(lists: Sequence[Sequence[int]], padding: int) -> Tensor:
    """The lists as long [n_lists, longest], padded on the right."""
    longest = max(map(len, lists))
    return torch.tensor([[*ids, *[padding] * (longest - len(ids))] for ids in lists])


def _check_lengths(prompts: Sequence[Prompt], clean: Sequence[Tokens], others: Sequence[Tokens]) -> None:
    for prompt, tokens, other in zip(prompts, clean, others, strict=True):
        if len(tokens.ids) != len(other.ids):
            raise DataError(
                f"{prompt.clean.text!r} is {len(tokens.ids)} tokens and its counterfactual "
                f"{prompt.counterfactual.text!r} {len(other.ids)}; they must have the same length."
            )


def _place(text: Text, tokens: Tokens, field: str, shift: int, first: int) -> int:
    """The index of a named position, or -1 when the template lacks the field."""
    return first + tokens.last(*text.fields[field]) + shift if field in text.fields else -1


def _answers(words: Sequence[Sequence[str | int]], tokenizer: Tokenizer) -> Tensor | None:
    if not any(words):
        return None
    return padded([[_single(word, tokenizer) for word in row] for row in words], -1)


def _disjoint(prompts: Sequence[Prompt], tokenizer: Tokenizer) -> Tensor | None:
    for prompt in prompts:
        both = sorted(set(prompt.answers) & set(prompt.wrong))
        if both:
            raise DataError(f"{both[0]!r} is both an answer and a wrong answer of {prompt.clean.text!r}.")
    return _answers([prompt.wrong for prompt in prompts], tokenizer)


def _single(text: str | int, tokenizer: Tokenizer) -> int:
    if isinstance(text, int):
        return text
    found = tokenizer.one(text)
    if found is None:
        raise DataError(f"the answer {text!r} is {len(tokenizer(text))} tokens and not one known token.")
    return found
