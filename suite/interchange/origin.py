"""Where the circuit of a file comes from: what the file's key ``circuitmeter`` says of how it was found."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from ..json_model import Kept, Values
from ..model.stated_graph import StatedGraph

KEY_FORMAT = 1
Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Origin(Kept):
    """How a circuit was found. A field is None where the file does not say; what other tools add is kept as it is.

    Args:
        method, method_version, parameters: what found it, the hash of its code, and what it was given.
        ablation, objective, seed: of the search.
        task, split, data_hash: the prompts, and the hash of their content.
        model, model_hash: its name, and the hash of its weights.
        positions: ``learned`` where position embeddings are added to the residual stream.
        rule: how its edges were chosen, in words.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    method: str | None = None
    method_version: str | None = None
    parameters: Values | None = None
    ablation: str | None = None
    objective: str | None = None
    seed: int | None = None
    task: str | None = None
    model: str | None = None
    model_hash: str | None = None
    split: str | None = None
    data_hash: str | None = None
    positions: str | None = None
    rule: str | None = None

    @property
    def learned_positions(self) -> bool:
        """Whether the model adds position embeddings to the residual stream; so where the file does not say."""
        return self.positions in (None, "learned")


class OurKey(Origin):
    """What we add to a file of any format: the graph in full, where the circuit comes from, and scores in a list of
    edges, which has no other place for them."""

    format: int = Field(default=KEY_FORMAT, ge=1, le=KEY_FORMAT)
    graph: StatedGraph | None = None
    scores: dict[str, Score] | None = None

    @property
    def origin(self) -> Origin:
        """The key without graph and scores."""
        return Origin(**self.model_dump(exclude={"format", "graph", "scores"}, exclude_unset=True))
