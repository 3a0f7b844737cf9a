"""``--dictionary DIR@SITE``: features of dictionaries as nodes of the model's graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, SpecError
from .arguments import Container, add_several, positive_number

if TYPE_CHECKING:
    from ..interchange.circuit_file import EdgeList
    from ..intervention.ablation import Ablation
    from ..intervention.objective import Objective
    from ..model.features.dictionary import FeatureDictionary
    from ..model.features.site import Site
    from ..plan.subject import Subject

Dictionaries = Mapping["Site", "FeatureDictionary"]
TOP_FEATURES = 64


def add_dictionary(parser: Container, *, choosing: bool) -> None:
    """The dictionaries; with ``choosing``, how many of their features become nodes, too."""
    add_several(
        parser,
        "--dictionary",
        "DIR[@SITE]",
        "features of a dictionary as nodes, such as sae@mlp_out.3: a folder of SAELens or a .safetensors file, at "
        "resid_pre, resid_post, attn_out, z, mlp_out or transcoder of a layer (its own site when left out); several "
        "for several sites",
    )
    if choosing:
        parser.add_argument(
            "--top-features",
            type=positive_number,
            metavar="N",
            help="how many features become nodes, those whose ablation is estimated to matter most (default: "
            f"{TOP_FEATURES}); the rest stays in each site's error node",
        )


def read_dictionaries(given: Sequence[str] | None, top: int | None = None) -> Dictionaries:
    """The dictionaries of ``--dictionary``, by site; none where it is not given.

    Args:
        top: ``--top-features``.

    Raises:
        SpecError: two at one site, or no site; ``top`` without a dictionary.
        ModelError: a dictionary that cannot be read.
    """
    from ..model.features.site import Site
    from ..model.load.dictionary import load_dictionary

    found: dict[Site, FeatureDictionary] = {}
    for text in given or ():
        folder, at, named = text.rpartition("@") if "@" in text and not Path(text).exists() else (text, "", "")
        dictionary, site = load_dictionary(folder)
        site = Site.parse(named) if at else site
        if site is None:
            raise SpecError(f"--dictionary {text}: its files do not say where it stands; write {text}@mlp_out.3.")
        if site in found:
            raise SpecError(f"--dictionary: two dictionaries at {site}; give one for each site.")
        found[site] = dictionary
    if top is not None and not found:
        raise SpecError("--top-features goes with --dictionary DIR@SITE; give one.")
    return found


def choosing(
    on: Subject,
    dictionaries: Dictionaries,
    top: int | None,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
) -> Subject:
    """The subject on a graph whose nodes are the features that matter most (see intervention/feature_nodes.py)."""
    from ..intervention.feature_nodes import choose_features, feature_scores
    from ..model.features.transformer import FeatureTransformer

    if not dictionaries:
        return on
    scores = feature_scores(on.model, on.data, dictionaries, ablation=ablation, objective=objective, seed=seed)
    n_features = sum(len(values) for values in scores.values())
    chosen = choose_features(scores, min(top or TOP_FEATURES, n_features))
    nodes = {site: (dictionaries[site], chosen[site]) for site in dictionaries}
    return replace(on, model=FeatureTransformer.of(on.model, nodes), truth=None)


def of_circuits(on: Subject, dictionaries: Dictionaries, files: Sequence[EdgeList]) -> Subject:
    """The subject on the graph of circuit files, whose features are in the dictionaries.

    Raises:
        DataError: a circuit of features and no dictionary, one of other dictionaries, circuits of different features,
            or dictionaries and a circuit of heads and MLPs.
    """
    from ..model.features.transformer import FeatureTransformer

    if isinstance(on.model, FeatureTransformer) and not dictionaries:
        return on  # a model whose nodes are features, which its circuits are compared with
    file, stated = files[0], files[0].sites
    for other in files[1:]:
        if other.sites != stated:
            raise DataError(f"{other.source} and {file.source} have other features as nodes; measure them one by one.")
    if not stated:
        if dictionaries:
            raise DataError(f"{file.source} is a circuit of heads and MLPs; leave out --dictionary.")
        return on
    named = {at.site: at for at in stated}
    if set(named) != set(dictionaries):
        wanted = " ".join(f"DIR@{site}" for site in named)
        raise DataError(f"{file.source} is a circuit of features; give --dictionary {wanted}, those it was found with.")
    for site, at in named.items():
        if at.dictionary != dictionaries[site].hash:
            raise DataError(f"{file.source} was found with another dictionary at {site}; give that one.")
    nodes = {site: (dictionaries[site], at.features) for site, at in named.items()}
    return replace(on, model=FeatureTransformer.of(on.model, nodes), truth=None)
