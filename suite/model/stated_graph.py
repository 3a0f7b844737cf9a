"""A graph as circuit files and certificates state it in JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import Field

from ..json_model import Kept
from .features.graph import FeatureGraph, SiteNodes
from .features.site import Place, Site
from .graph import Graph, InputNodes
from .position_graph import PositionGraph

Flag = Annotated[bool, Field(strict=True)]


class StatedPlace(Kept):
    """Where a dictionary stands."""

    layer: int = Field(ge=0, strict=True)
    place: Place


class StatedSite(Kept):
    """The features that are nodes at one site."""

    site: StatedPlace
    features: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(min_length=1)
    dictionary: str

    @property
    def nodes(self) -> SiteNodes:
        return SiteNodes(Site(self.site.layer, self.site.place), self.features, self.dictionary)


class StatedGraph(Kept):
    """A graph in full, with the hash of its nodes and edges.

    n_positions, causal: of a graph whose edges are told apart by position (see position_graph.py).
    """

    n_layers: int = Field(ge=1, strict=True)
    n_heads: int = Field(ge=1, strict=True)
    inputs: InputNodes
    mlps: Flag = True
    parallel: Flag = False
    hash: str | None = None
    sites: tuple[StatedSite, ...] = ()
    n_positions: int | None = Field(default=None, ge=1, strict=True)
    causal: Flag | None = None

    @classmethod
    def of(cls, graph: Graph) -> StatedGraph:
        """The graph in the form that files have."""
        return cls(**asdict(graph), hash=graph.hash)

    def build(self) -> Graph:
        """The graph that is stated."""
        fields = (self.n_layers, self.n_heads, self.inputs, self.mlps, self.parallel)
        sites = tuple(site.nodes for site in self.sites)
        if self.n_positions is not None:
            return PositionGraph(*fields, self.n_positions, self.causal is not False)
        return FeatureGraph(*fields, sites) if sites else Graph(*fields)
