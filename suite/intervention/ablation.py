"""What a cut edge carries.

An ablation is a value that prints as it parses: ``patch``, ``mean-positional``, ``mean[over=batch,prompts=both]``. Each
kind is a class in a file of its own in ``ablations/``, which is all that has to be written for another one.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar

from ..data import Data
from ..errors import SpecError, Undefined, unknown
from ..model.transformer import Activations, Transformer
from . import ablations
from .plain_runs import Runs

Carried = Callable[[Runs], Activations]


@dataclass(frozen=True)
class Ablation(ABC):
    """What replaces a writer's output on a cut edge. A kind with options has them as fields.

    Attributes:
        value: the kind's name.
        order: kinds are listed in this order.
        named: the names of its values, each with the options it stands for; the first is the default's.
        options: of each option the words that may be given, with what they stand for.
        stochastic: whether the seed changes what a cut edge carries.
        a_run: whether a cut edge carries what a whole run of the model writes, so that denoising can start from it.
        learned: whether it belongs to one circuit. Only a method that learns it together with its circuit can search
            under such an ablation.
    """

    value: ClassVar[str]
    order: ClassVar[int]
    named: ClassVar[Mapping[str, Mapping[str, Any]]]
    options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    stochastic: ClassVar[bool] = False
    a_run: ClassVar[bool] = False
    learned: ClassVar[bool] = False

    @abstractmethod
    def words(self) -> str:
        """What a cut edge carries, as a phrase that continues "a cut edge carries"."""

    @abstractmethod
    def of(self, model: Transformer, data: Data, *, seed: int, batch_size: int) -> Carried:
        """From the plain runs of a batch to what cut edges carry in it; see ``Alternatives`` for the arguments.

        Axes of size 1 in what it returns stand for all rows or positions.
        """

    @property
    def needs_counterfactuals(self) -> bool:
        return False

    @property
    def over_batch(self) -> bool:
        """Whether the size of a batch changes what cut edges carry."""
        return False

    @property
    def certified_as(self) -> Ablation:
        """The ablation whose certified circuit is this one's too, where the prompts are a model's whole domain."""
        return self

    def undefined(self, data: Data) -> str | None:
        """Why this ablation has no meaning on ``data``, or None."""
        if self.needs_counterfactuals and data.counterfactual is None:
            return f"{self} needs counterfactual prompts{data.without_pairs}"
        return None

    @staticmethod
    def parse(text: str) -> Ablation:
        """Reads a name (``mean-positional``) or a name with options (``mean[over=batch,position=yes,prompts=both]``).

        Raises:
            SpecError: unknown names or options, with what is allowed.
        """
        match = re.fullmatch(r"([a-z-]+)(?:\[([^\]]*)\])?", text.strip())
        name, written = match.groups() if match else (text, None)
        if name not in ablation_names():
            raise SpecError(unknown("ablation", name, ablation_names()))
        ablation = ablation_names()[name]
        options = {field.name: getattr(ablation, field.name) for field in fields(ablation)}
        for option in filter(None, (written or "").split(",")):
            key, _, word = option.strip().partition("=")
            if word not in ablation.options.get(key, {}):
                raise SpecError(f"ablation {text!r}: no option {option.strip()!r}; {_options_in_words()}.")
            options[key] = ablation.options[key][word]
        return type(ablation)(**options)

    def __str__(self) -> str:
        for name, ablation in ablation_names().items():
            if ablation == self:
                return name
        words = {
            key: next(word for word, meant in allowed.items() if meant == getattr(self, key))
            for key, allowed in self.options.items()
        }
        return f"{self.value}[{','.join(f'{key}={word}' for key, word in words.items())}]"


def _options_in_words() -> str:
    """What every kind takes: ``mean and noise take over=dataset|batch, ..., others none``."""
    kinds: dict[str, list[str]] = {}
    for kind in kinds_in_order():
        if kind.options:
            allowed = ", ".join(f"{key}={'|'.join(words)}" for key, words in kind.options.items())
            kinds.setdefault(allowed, []).append(kind.value)
    took = [f"{' and '.join(v)} take{'s' * (len(v) == 1)} {allowed}" for allowed, v in kinds.items()]
    return ", ".join([*took, "others none"])


@cache
def kinds_in_order() -> tuple[type[Ablation], ...]:
    """Every kind that has a file in ``ablations/``, in order. Raises SpecError where two share a name."""
    for module in iter_modules(ablations.__path__):
        import_module(f"{ablations.__name__}.{module.name}")
    base: Any = Ablation
    found = [kind for kind in _subclasses(base) if "value" in vars(kind)]
    kinds = sorted(found, key=lambda kind: (kind.order, kind.value))
    called = [name for kind in kinds for name in kind.named]
    for name in called:
        if called.count(name) > 1:
            raise SpecError(f"two ablations are called {name!r}; rename one of them.")
    return tuple(kinds)


def _subclasses(kind: type[Ablation]) -> list[type[Ablation]]:
    return [each for sub in kind.__subclasses__() for each in (sub, *_subclasses(sub))]


@cache
def ablation_names() -> Mapping[str, Ablation]:
    """Every ablation that has a name, in order."""
    return {name: kind(**options) for kind in kinds_in_order() for name, options in kind.named.items()}


def searchable() -> frozenset[str]:
    """The kinds that a method defines unless it says otherwise: all but those that are learned for one circuit."""
    return frozenset(kind.value for kind in kinds_in_order() if not kind.learned)


class Alternatives:
    """The activations that an ablation puts on cut edges, batch by batch.

    Args:
        model, data: what is cut, on which prompts. Data-set means are taken here, once, over ``data.reference`` when
            it has one and else over the rows themselves.
        ablation: the value.
        seed: of what ``resample`` and ``noise`` draw.
        batch_size: prompts at a time for data-set means; it does not change them.

    Raises:
        Undefined: the ablation has no meaning on this data.
    """

    def __init__(self, model: Transformer, data: Data, ablation: Ablation, *, seed: int, batch_size: int) -> None:
        if reason := ablation.undefined(data):
            raise Undefined(f"{reason}.")
        self.model, self.data, self.ablation, self.seed = model, data, ablation, seed
        self._of = ablation.of(model, data, seed=seed, batch_size=batch_size)

    def of(self, runs: Runs) -> Activations:
        """What cut edges carry for the prompts of ``runs``; axes of size 1 stand for all rows or positions."""
        return self._of(runs)
