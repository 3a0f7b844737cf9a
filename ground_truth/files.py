"""A ground-truth model on disk: one directory, the same for shipped models and for a user's own.

``model.safetensors`` (float32), ``model.json`` (architecture, vocabulary, output labels), and for every domain that
it is certified on ``domain[.VARIANT].safetensors`` (tokens, read positions, output classes) and
``certificate[.VARIANT].json``; where its minimal circuits were enumerated, ``minimal[.VARIANT].json``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ..suite.errors import ModelError
from ..suite.reading import check_file, read_bytes, reading, refuse_pointer
from ..suite.reading import read_json as parsed_file
from .certificate import Certificate, Findings, StatedDomain, TrainedFrom
from .description import ModelDescription
from .rasp.domain import Domain

TRUTH_FORMAT = 1
LARGEST_WEIGHTS = 1 << 30  # bytes; ground truths are small models


def file_name(stem: str, variant: str, extension: str) -> str:
    """``certificate.json`` for the default domain (variant "") and ``certificate.fixed.json`` for variant ``fixed``."""
    return f"{stem}.{variant}.{extension}" if variant else f"{stem}.{extension}"


def holds_model(directory: str | Path) -> bool:
    """Whether a folder holds a ground truth. A text that cannot be a path (too long, or with a NUL) gives False."""
    return os.path.isfile(os.path.join(directory, "model.json"))


def variants(directory: Path) -> list[str]:
    """The domains that a directory has certificates for; "" is the default one and comes first."""
    return sorted(
        path.name[len("certificate") : -len(".json")].lstrip(".") for path in directory.glob("certificate*.json")
    )


def write_model(directory: Path, state: Mapping[str, torch.Tensor], description: ModelDescription) -> str:
    """Writes weights and description; returns the SHA-256 of the weights file, which certificates name."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = save_tensors(dict(sorted(state.items())))
    (directory / "model.safetensors").write_bytes(weights)
    write_json(directory / "model.json", {"format": TRUTH_FORMAT} | description.as_json())
    return hashlib.sha256(weights).hexdigest()


def write_certificate(
    directory: Path, variant: str, domain: Domain, found: Findings, weights: str, training: TrainedFrom | None = None
) -> Certificate:
    """Writes a domain and what is certified on it, for the model whose weights file has the SHA-256 ``weights``."""
    arrays = {"tokens": domain.tokens.astype(np.int16), "read": domain.read, "classes": domain.classes.astype(np.int16)}
    (directory / file_name("domain", variant, "safetensors")).write_bytes(save_arrays(arrays))
    about = StatedDomain(
        kind=domain.kind,
        lengths=list(domain.lengths),
        n_inputs=len(domain),
        n_outputs=domain.n_outputs,
        enumerated=domain.enumerated,
        counterfactuals="every other input of the domain",
        hash=domain.hash,
    )
    trained = {} if training is None else {"training": training}
    certificate = Certificate(format=TRUTH_FORMAT, **dict(found), domain=about, weights=weights, **trained)
    write_json(directory / file_name("certificate", variant, "json"), certificate.as_json())
    return certificate


def read_domain(directory: Path, variant: str, certificate: Certificate) -> Domain:
    """Raises ModelError when it is missing, damaged, or not the one that was certified."""
    path, about = directory / file_name("domain", variant, "safetensors"), certificate.domain
    with reading(path, ModelError):
        check_file(path, error=ModelError)
        refuse_pointer(path, ModelError)
        arrays = load_arrays(path)
        arrays = {name: part if part.dtype == bool else part.astype(np.int64) for name, part in arrays.items()}
        domain = Domain(
            about.kind,
            tuple(about.lengths),
            *(arrays[name] for name in ("tokens", "read", "classes")),
            about.enumerated,
        )
    if domain.hash != about.hash:
        raise ModelError(f"{path} is not the domain that {file_name('certificate', variant, 'json')} is about.")
    return domain


def read_weights(directory: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Raises ModelError when the weights file is missing, damaged, or not the one with this hash."""
    path = directory / "model.safetensors"
    content = read_bytes(path, at_most=LARGEST_WEIGHTS, error=ModelError)
    refuse_pointer(path, ModelError)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(f"{path} is not the file that was certified (its SHA-256 differs); restore or rebuild it.")
    with reading(path, ModelError):
        return load_tensors(content)


def read_truth_json(path: Path) -> dict[str, Any]:
    """Raises ModelError when it is missing, no JSON, or written by a newer version."""
    content = parsed_file(path, error=ModelError)
    if not isinstance(content, dict) or content.get("format") != TRUTH_FORMAT:
        raise ModelError(f"{path} has not format {TRUTH_FORMAT}, the one that this version reads.")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The same bytes for the same content: sorted keys, one line an item of the upper levels."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def write_manifest(root: Path, source: str) -> None:
    """The SHA-256 of every file in the folders under ``root``, and what they were made by."""
    files = sorted(path for path in root.glob("*/*") if path.is_file())
    names = {path.relative_to(root).as_posix(): file_hash(path) for path in files}
    write_json(root / "manifest.json", {"format": TRUTH_FORMAT, "compiler": source, "files": names})


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
