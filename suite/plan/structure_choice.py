"""What a benchmark may ask of the structure of circuits: their stability, and controls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..scoring.structure.controls_found import NULLS, Null
from ..store.record import ControlsAsked, StabilityAsked


class StabilityChoice(BaseModel):
    """Whether circuits stay when prompts change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    over: Annotated[tuple[Literal["prompts", "templates"], ...], Field(min_length=1)] = ("prompts",)
    """What is resampled; templates are drawn whole, with all their prompts."""
    resamples: Annotated[int, Field(ge=2, strict=True)] = 300
    """How often."""

    def asked(self) -> StabilityAsked:
        """These choices as they stand in the identity of an evaluation."""
        return StabilityAsked(over=tuple(dict.fromkeys(self.over)), resamples=self.resamples)


class ControlsChoice(BaseModel):
    """Nulls, adversaries and exact patching."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    nulls: tuple[Null, ...] = NULLS
    """What the method is run on as well: weights in a random order, answers of other prompts, prompts whose tokens are
    in a random order."""
    subsets: Annotated[int, Field(ge=0, strict=True)] = 64
    """Random subsets of the complement that are cut; the search for the worst begins with the worst of them and of the
    whole. 0: neither."""
    edges: Annotated[int, Field(ge=0, strict=True)] = 100
    """Edges, drawn by chance, that are cut one by one to compare scores with. 0: none."""

    def asked(self) -> ControlsAsked:
        """These choices as they stand in the identity of an evaluation."""
        return ControlsAsked(nulls=tuple(dict.fromkeys(self.nulls)), subsets=self.subsets, edges=self.edges)
