"""A program's certified feature circuit, carried over to the features of a trained dictionary.

At each site every true direction is matched with a decoder row, one to one, by cosine. Where the cosine is
``FOUND_FROM`` or more the feature is the direction's counterpart; an edge between two nodes that have counterparts has
one, too. A true edge that has none is missed whatever a method finds: it counts as a true edge of score zero.

The dictionary's own graph is not certified: all parts of a claim but its edges are about the program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...suite.model.features.dictionary import FeatureDictionary
from ...suite.model.features.graph import FeatureGraph
from ...suite.model.features.scores import FOUND_FROM, match
from ...suite.model.features.site import Site
from ...suite.model.graph import Edge
from ...suite.model.stated_graph import StatedGraph
from ..certificate import Certificate, Claim


def counterparts(
    graph: FeatureGraph, true: Mapping[str, FeatureDictionary], trained: Mapping[Site, FeatureDictionary]
) -> dict[str, str | None]:
    """The name of every feature of the truth's graph -> that of its counterpart, None where it has none.

    Args:
        graph: the truth's, all of whose features are nodes.
        true: its dictionaries, by site as text.
        trained: those at the same sites, of which all features are nodes.
    """
    found: dict[str, str | None] = {}
    for at in graph.sites:
        feature, cosine = match(trained[at.site].W_dec, true[str(at.site)].W_dec)
        for i, (f, value) in enumerate(zip(feature.tolist(), cosine.tolist(), strict=True)):
            found[f"{at.stem}.f{i}"] = f"{at.stem}.f{f}" if value >= FOUND_FROM else None
    return found


def carried_over(certificate: Certificate, names: Mapping[str, str | None], graph: FeatureGraph) -> Certificate:
    """The certificate with its edges between counterparts.

    Args:
        certificate: of the program's features.
        names: ``counterparts``.
        graph: with the trained features as nodes.
    """
    claims = {ablation: _carried(claim, names) for ablation, claim in certificate.ablations.items()}
    return certificate.model_copy(
        update={
            "n_edges": graph.n_edges,
            "n_structural": graph.n_edges,  # what a trained feature reads, no weight rules out
            "structural": [str(edge) for edge in graph.edges],
            "graph": StatedGraph.of(graph),
            "ablations": claims,
        }
    )


def _carried(claim: Claim, names: Mapping[str, str | None]) -> Claim:
    core, optional, necessary = (_edges(edges, names) for edges in (claim.core, claim.optional, claim.necessary))
    witnesses = {new: claim.witnesses[old] for old, new in necessary.items() if new is not None}
    missed = [names.get(writer, writer) or f"{writer} of the truth" for writer in _writers(core)]
    return claim.model_copy(
        update={
            "core": [edge for edge in core.values() if edge],
            "optional": [edge for edge in optional.values() if edge],
            "necessary": [edge for edge in necessary.values() if edge],
            "witnesses": witnesses,
            "circuits": None,
            "missed": missed,
        }
    )


def _edges(edges: Sequence[str], names: Mapping[str, str | None]) -> dict[str, str | None]:
    """Each edge -> the same edge between counterparts, None where it has none."""
    found: dict[str, str | None] = {}
    for text in edges:
        edge = Edge.parse(text)
        ends = names.get(edge.writer, edge.writer), names.get(edge.reader, edge.reader)
        found[text] = None if None in ends else f"{ends[0]}->{ends[1]}"
    return found


def _writers(edges: Mapping[str, str | None]) -> list[str]:
    """The writers of the edges without a counterpart."""
    return [Edge.parse(old).writer for old, new in edges.items() if new is None]
