"""A truth folder of a user is sealed when it is certified; an edited one is refused until it is certified anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..suite.errors import ModelError
from .files import file_hash, file_name, read_truth_json

_SUMS = "SHA256SUMS"  # readable by sha256sum -c


def seal(directory: Path) -> None:
    """Writes the checksums of what was certified: model, domains and certificates."""
    names = sorted(path.name for path in directory.iterdir() if path.suffix in (".json", ".safetensors"))
    (directory / _SUMS).write_text("".join(f"{file_hash(directory / name)}  {name}\n" for name in names))


def check_seal(directory: Path, variant: str, shipped: Callable[[], set[str]]) -> None:
    """Raises ModelError when ``model.json``, the variant's certificate or its minimal circuits were edited.

    Args:
        shipped: gives the SHA-256 of every shipped file; a copy of one needs no seal.
    """
    try:
        lines = (directory / _SUMS).read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
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


def shipped_hashes(roots: Mapping[str, Path]) -> set[str]:
    """The SHA-256 of every shipped file."""
    return {digest for root in roots.values() for digest in read_truth_json(root / "manifest.json")["files"].values()}
