"""The graph of a transformer in which features replace components as nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ...errors import ModelError
from ..graph import Graph, NodeGroup
from .site import Site


@dataclass(frozen=True)
class SiteNodes:
    """The nodes at one site: some features of a dictionary, and an error node that writes all the rest.

    Args:
        site: the site; ``resid_post`` of a layer is ``resid_pre`` of the next one.
        features: the numbers of the dictionary's features that are nodes, ascending.
        dictionary: the dictionary's hash.
    """

    site: Site
    features: tuple[int, ...]
    dictionary: str

    @property
    def stem(self) -> str:
        """The beginning of the nodes' names: ``a3``, ``m3``, or ``r3`` for the stream that enters block 3."""
        letter = {"attn_out": "a", "z": "a", "mlp_out": "m", "transcoder": "m"}.get(self.site.place, "r")
        return f"{letter}{self.site.layer + (self.site.place == 'resid_post')}"

    @property
    def kind(self) -> str:
        return {"a": "attention", "m": "mlp"}.get(self.stem[0], "residual")


@dataclass(frozen=True)
class FeatureGraph(Graph):
    """A graph with features and error nodes at some sites.

    A feature ``m3.f17`` reads the residual stream with a reader of its own, as the component that it replaces would,
    and writes its activation times its decoder row. ``m3.error`` writes the difference between what the component
    writes and what the features that are nodes write. At a site of the residual stream, ``r3.f17`` reads the stream,
    and every later reader sees features and error instead of the writers before them.

    Raises:
        ModelError: a layer that does not exist, two dictionaries at one place, an MLP site of a model without MLPs.
    """

    sites: tuple[SiteNodes, ...] = ()

    def __post_init__(self) -> None:
        for at in self.sites:
            at.site.check_layers(self.n_layers)
            if at.kind == "mlp" and not self.mlps:
                raise ModelError(f"site {at.site}: this model has no MLPs.")
        if len({at.stem for at in self.sites}) < len(self.sites):
            named = ", ".join(str(at.site) for at in self.sites)
            raise ModelError(f"two dictionaries stand at one place ({named}); give one for each place.")

    @cached_property
    def at(self) -> dict[str, SiteNodes]:
        """The sites by the stem of their nodes' names."""
        return {at.stem: at for at in self.sites}

    @cached_property
    def groups(self) -> tuple[NodeGroup, ...]:
        """As ``Graph.groups``; features and error of a site are two groups that see the same writers."""
        found: list[NodeGroup] = []
        first = 0  # the first writer that is not hidden behind a site of the residual stream

        def add(kind: str, layer: int, nodes: tuple[str, ...], parts: tuple[str, ...], sees: slice) -> None:
            writers = found[-1].writers.stop if found else 0
            readers = found[-1].readers.stop if found else 0
            own = slice(writers, writers + (len(nodes) if kind != "logits" else 0))
            found.append(
                NodeGroup(kind, layer, nodes, own, slice(readers, readers + len(parts) * len(nodes)), parts, sees)
            )

        def add_site(at: SiteNodes, layer: int, sees: slice) -> None:
            add(f"{at.kind} feature", layer, tuple(f"{at.stem}.f{k}" for k in at.features), ("",), sees)
            add(f"{at.kind} error", layer, (f"{at.stem}.error",), ("",), sees)

        add("input", 0, self.input_nodes, (), slice(0, 0))
        for layer in range(self.n_layers + 1):
            if f"r{layer}" in self.at:
                start = found[-1].writers.stop
                add_site(self.at[f"r{layer}"], layer, slice(first, start))
                first = start
            sees = slice(first, found[-1].writers.stop)
            if layer == self.n_layers:
                add("logits", layer, ("logits",), ("",), sees)
                break
            if f"a{layer}" in self.at:
                add_site(self.at[f"a{layer}"], layer, sees)
            else:
                add("head", layer, tuple(f"a{layer}.h{head}" for head in range(self.n_heads)), ("q", "k", "v"), sees)
            if not self.parallel:
                sees = slice(first, found[-1].writers.stop)
            if f"m{layer}" in self.at:
                add_site(self.at[f"m{layer}"], layer, sees)
            elif self.mlps:
                add("mlp", layer, (f"m{layer}",), ("",), sees)
        return tuple(found)

    @cached_property
    def writers(self) -> tuple[str, ...]:
        """Node names in the order in which they write."""
        return tuple(node for group in self.groups if group.writes for node in group.nodes)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Reader names, group by group."""
        return tuple(
            f"{node}<{part}>" if part else node for group in self.groups for part in group.parts for node in group.nodes
        )
