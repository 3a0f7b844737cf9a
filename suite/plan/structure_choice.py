"""What a benchmark may ask of the structure of circuits: their stability."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..store.record import StabilityAsked


class StabilityChoice(BaseModel):
    """Whether circuits stay when prompts change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    over: Annotated[tuple[Literal["prompts", "templates"], ...], Field(min_length=1)] = ("prompts",)
    """What is resampled; templates are drawn whole, with all their prompts."""
    resamples: Annotated[int, Field(ge=2, strict=True)] = 300
    """How often."""

    def asked(self) -> StabilityAsked:
        """The same, as it stands in an evaluation's identity."""
        return StabilityAsked(over=tuple(dict.fromkeys(self.over)), resamples=self.resamples)
