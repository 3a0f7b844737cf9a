"""A truth folder of a user is sealed when it is certified; an edited one is refused until it is certified anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..suite.errors import ModelError
from .files import file_hash, file_name, read_truth_json

_SUMS = "SHA256SUMS"  # readable by sha256sum -c
_SEALED = (".json", ".safetensors")


def seal(directory: Path) -> None:
    """Writes the checksums of what was certified: model, domains and certificates."""
    _write_sums(directory, {path.name: file_hash(path) for path in directory.iterdir() if path.suffix in _SEALED})


def seal_file(path: Path) -> None:
    """Writes the checksum of one file anew, beside those that its folder has: the other files were not computed."""
    _write_sums(path.parent, _sums(path.parent) | {path.name: file_hash(path)})


def check_seal(directory: Path, variant: str, shipped: Callable[[], set[str]]) -> None:
    """Raises ModelError when ``model.json``, the variant's certificate or its minimal circuits were edited.

    Args:
        shipped: gives the SHA-256 of every shipped file; a copy of one needs no seal.
    """
    sums = _sums(directory)
    minimal = file_name("minimal", variant, "json")
    enumerated = (minimal,) if (directory / minimal).is_file() else ()
    for name in ("model.json", file_name("certificate", variant, "json"), *enumerated):
        digest = file_hash(directory / name)
        if sums.get(name) == digest or (name not in sums and digest in shipped()):
            continue
        how = "was edited: its SHA-256 is not the one that" if name in sums else "is not covered: no line for it is in"
        says = f"{_SUMS} says" if name in sums else _SUMS
        raise ModelError(
            f"{directory / name} {how} {says}. `circuitmeter truth {directory} --recertify` computes whether it holds."
        )


def _sums(directory: Path) -> dict[str, str]:
    """Name -> SHA-256, as the folder's checksums have it; empty where there are none."""
    try:
        lines = (directory / _SUMS).read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def _write_sums(directory: Path, sums: Mapping[str, str]) -> None:
    (directory / _SUMS).write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def shipped_hashes(roots: Mapping[str, Path]) -> set[str]:
    """The SHA-256 of every shipped file."""
    return {digest for root in roots.values() for digest in read_truth_json(root / "manifest.json")["files"].values()}
