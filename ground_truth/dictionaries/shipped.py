"""The shipped dictionaries: files of weights, and what is said of each in ``weights/manifest.json``.

A file holds the dictionaries of one model at all its sites: tensors ``SITE/W_enc``, ``SITE/b_enc``, ``SITE/W_dec`` and
``SITE/b_dec``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ...suite.errors import ModelError, unknown
from ...suite.json_model import Kept, Number
from ...suite.model.features.dictionary import FeatureDictionary
from ...suite.model.features.site import Site
from ...suite.model.features.training import TrainingRecipe
from ...suite.reading import checked, read_bytes, read_json, reading

DICTIONARY_FILES = Path(__file__).parent / "weights"
_PARTS = ("W_enc", "b_enc", "W_dec", "b_dec")
_LARGEST = 1 << 24  # bytes


class ShippedSite(Kept):
    """The dictionary at one site: how it was trained, and its ``DictionaryScores`` on what it was trained on.

    directions: how many true ones there are, where they are known.
    """

    recipe: TrainingRecipe
    directions: int | None = None
    unexplained: Number
    l0: Number
    dead: Number
    found: Number = None
    mean_cosine: Number = None


class ShippedDictionaries(Kept):
    """The dictionaries of one model.

    Args:
        model: the name of the model that they are about.
        task: whose prompts they were trained on.
        width: a name of ``recipe.DICTIONARY_WIDTHS``.
        seed: of the training.
        sites: by site.
        features_keep, errors_keep: ablation -> ``FeatureShares`` on the training prompts.
        sha256: of the file.
    """

    model: str
    task: str
    width: str
    seed: int
    sites: dict[str, ShippedSite]
    features_keep: dict[str, Number]
    errors_keep: dict[str, Number]
    sha256: str


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, ShippedDictionaries]:
    """What is said of every shipped set of dictionaries, by name."""
    return dictionary_manifest(DICTIONARY_FILES)


def dictionary_manifest(weights: Path) -> dict[str, ShippedDictionaries]:
    """What a folder's manifest says of its sets of dictionaries, by name."""
    path = weights / "manifest.json"
    contents = read_json(path, error=ModelError) if path.is_file() else {}
    return {name: checked(ShippedDictionaries, entry, path, ModelError) for name, entry in contents.items()}


def names(*families: str) -> list[str]:
    """The shipped ones of families (``OF_PROGRAMS``, ``OF_MINI``, ...): ``mini-dictionaries/ioi-wide-0``, ..."""
    return sorted(name for name in shipped() if name.partition("/")[0] in families)


def read_shipped(name: str) -> dict[Site, FeatureDictionary]:
    """The dictionaries of a name, by site. Raises ModelError for an unknown name, or a file that is damaged."""
    known = shipped()
    if name not in known:
        raise ModelError(unknown("set of dictionaries", name, known))
    path = file_of(DICTIONARY_FILES, name)
    content = read_bytes(path, at_most=_LARGEST, error=ModelError) if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != known[name].sha256:
        raise ModelError(f"{path} is missing or damaged (its SHA-256 differs from the manifest); reinstall.")
    with reading(path, ModelError):
        return dictionaries_of(load_tensors(content), known[name].sites)


def file_of(weights: Path, name: str) -> Path:
    """Where the weights of a name are."""
    return weights / f"{name}.safetensors"


def dictionaries_of(
    tensors: Mapping[str, torch.Tensor], sites: Mapping[str, ShippedSite]
) -> dict[Site, FeatureDictionary]:
    """Dictionaries of a file's tensors."""
    found = {}
    for text, about in sites.items():
        parts = (tensors[f"{text}/{part}"] for part in _PARTS)
        k = about.recipe.k
        found[Site.parse(text)] = FeatureDictionary(*parts, "topk" if k else "relu", k=k, centred=True)
    return found


def bytes_of(dictionaries: Mapping[Site, FeatureDictionary]) -> bytes:
    """The content of a file with these dictionaries."""
    tensors = {
        f"{site}/{part}": getattr(dictionary, part).contiguous()
        for site, dictionary in dictionaries.items()
        for part in _PARTS
    }
    return save_tensors(dict(sorted(tensors.items())))
