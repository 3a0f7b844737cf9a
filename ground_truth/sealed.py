"""A truth folder of a user is sealed when it is certified; an edited one is refused until it is certified anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..suite.errors import ModelError
from .files import file_hash, file_name, read_json, variants

if TYPE_CHECKING:
    from .truth import GroundTruth

SUMS = "SHA256SUMS"  # readable by sha256sum -c
CLOSE = 1e-4  # of effects and errors: how much other machines may round otherwise


def seal(directory: Path) -> None:
    """Writes the checksums of what was certified: model, domains and certificates."""
    names = sorted(path.name for path in directory.iterdir() if path.suffix in (".json", ".safetensors"))
    (directory / SUMS).write_text("".join(f"{file_hash(directory / name)}  {name}\n" for name in names))


def check_seal(directory: Path, variant: str, shipped: Callable[[], set[str]]) -> None:
    """Raises ModelError when ``model.json`` or the variant's certificate is not what was certified.

    Args:
        shipped: gives the SHA-256 of every shipped file; a copy of one needs no seal.
    """
    try:
        lines = (directory / SUMS).read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in ("model.json", file_name("certificate", variant, "json")):
        digest = file_hash(directory / name)
        if sums.get(name) == digest or (name not in sums and digest in shipped()):
            continue
        how = "was edited: its SHA-256 is not the one that" if name in sums else "is not covered: no line for it is in"
        says = f"{SUMS} says" if name in sums else SUMS
        raise ModelError(
            f"{directory / name} {how} {says}. `circuitmeter truth {directory} --recertify` computes whether it holds."
        )


def recertify(directory: Path, on_ablation: Callable[[str], None] = lambda ablation: None) -> list[GroundTruth]:
    """Certifies every domain of a folder again and compares; where all hold, seals the folder and returns its truths.

    Raises:
        ModelError: a certificate that does not hold, with the first thing that it says otherwise.
    """
    from .certify import certify
    from .truth import load

    found = [load(f"{directory}@{variant}" if variant else directory, sealed=False) for variant in variants(directory)]
    if not found:
        raise ModelError(f"{directory} holds no certificate; `circuitmeter truth FILE.py:FUNCTION` makes one.")
    for truth in found:
        said = truth.certificate
        again = certify(
            truth.model(),
            truth.domain,
            ablations=tuple(said.ablations),
            tolerance=said.tolerance,
            at_once=2 if any(claim.circuits is not None for claim in said.ablations.values()) else 1,
            every_pair=said.training is not None,
            on_ablation=on_ablation,
        )
        computed, stated = again.as_json(), said.as_json()
        difference = _difference({name: stated.get(name) for name in computed}, computed)
        if difference:
            path = directory / file_name("certificate", truth.variant, "json")
            raise ModelError(f"{path} does not hold: {difference}. `circuitmeter truth` makes a new one.")
    seal(directory)
    return found


def _difference(said: Any, computed: Any, where: str = "") -> str | None:
    """The first thing that a certificate says otherwise than what was computed; effects only up to rounding."""
    if isinstance(computed, Mapping) and isinstance(said, Mapping):
        for name in computed:
            if name == "witnesses":  # of several inputs that show an edge's effect alike, rounding chooses one
                continue
            if name not in said:
                return f"{where}{name} is missing"
            found = _difference(said[name], computed[name], f"{where}{name}: ")
            if found:
                return found
        return None
    number = isinstance(computed, float) and isinstance(said, (int, float))
    same = math.isclose(said, computed, rel_tol=CLOSE, abs_tol=CLOSE) if number else said == computed
    return None if same else f"{where}it says {str(said)[:60]}, and {str(computed)[:60]} was computed"


def shipped_hashes(roots: Mapping[str, Path]) -> set[str]:
    """The SHA-256 of every shipped file."""
    return {digest for root in roots.values() for digest in read_json(root / "manifest.json")["files"].values()}
