"""What JSON files have in common: frozen pydantic models, read by attribute, written as they were made."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from .errors import LONGEST_LINE


def _finite(value: float | None) -> float | None:
    """NaN and the infinities as None: JSON has no word for them, and they say "no number"."""
    return None if value is None or not math.isfinite(value) else value


Number = Annotated[float | None, AfterValidator(_finite)]
"""A number, or None where it is not defined."""


def _line(text: str) -> str:
    if not text.isprintable() or len(text) > LONGEST_LINE:
        raise ValueError(f"a name or a reason is not one line of up to {LONGEST_LINE:,} printable characters")
    return text


Line = Annotated[str, AfterValidator(_line)]
"""A text that terminals show: whoever wrote the file, no escape sequence is in it, and it does not flood the screen."""

Values = dict[str, JsonValue]
"""Names that a method or a benchmark chose, with values that JSON can hold: parameters, labels, diagnostics."""


class Kept(BaseModel):
    """A part of a file: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_json(self) -> dict[str, Any]:
        """The fields that were given, as JSON can hold them: what is written, and what hashes are made of.

        Fields that were left out are left out here, too, so that a model which gains a field with a default reads and
        hashes older files as before.
        """
        return self.model_dump(mode="json", exclude_unset=True)


class File(Kept):
    """A whole file, which says its format."""

    format: int

    @model_validator(mode="before")
    @classmethod
    def _says_its_format(cls, contents: Any) -> Any:
        default = cls.model_fields["format"].default
        return {"format": default, **contents} if isinstance(contents, dict) else contents

    def but(self, **changes: Any) -> Self:
        """A copy with other values in these fields, checked again."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)


def json_hash(contents: Mapping[str, Any]) -> str:
    """16 hex digits of a JSON object's content: the name of a certificate, and of an environment."""
    text = json.dumps(contents, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def fault_of(error: ValidationError) -> str:
    """The first thing that is wrong with a file's content, in a line.

    >>> try: Kept(x=1)
    ... except ValidationError as error: fault_of(error)
    "'x': extra inputs are not permitted"
    """
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{place!r} is missing"
    if first["type"] == "value_error" or not place:
        return message[:1].lower() + message[1:] if first["type"] != "value_error" else message
    return f"{place!r}: {message[:1].lower()}{message[1:]}"[:300]


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numbers of numpy and torch as Python's, tuples as lists, no-number as null."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # a tensor or an array, of any rank
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
