"""A truth folder's certificates computed again and compared; where all hold, the folder is sealed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..suite.errors import ModelError
from .certificate import listed_as
from .certify import certify
from .files import file_name, variants
from .minimal_circuits import minimal_circuits
from .sealed import seal
from .truth import GroundTruth, load

_CLOSE = 1e-4  # of effects and errors: how much other machines may round otherwise


def recertify(directory: Path, on_ablation: Callable[[str], None] = lambda ablation: None) -> list[GroundTruth]:
    """Certifies every domain of a folder again and compares; where all hold, seals the folder and returns its truths.

    Raises:
        ModelError: a certificate that does not hold, with the first thing that it says otherwise.
    """
    found = [load(f"{directory}@{variant}" if variant else directory, sealed=False) for variant in variants(directory)]
    if not found:
        raise ModelError(f"{directory} holds no certificate; `circuitmeter truth FILE.py:FUNCTION` makes one.")
    for truth in found:
        said = truth.certificate
        # A file about another model is refused first.
        listed = {name: truth.minimal(name) for name in dict.fromkeys(map(listed_as, said.ablations))}
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
        for name, kept in listed.items():
            if kept is not None and kept.circuits != minimal_circuits(truth, name, largest=kept.largest).circuits:
                path = directory / file_name("minimal", truth.variant, "json")
                raise ModelError(
                    f"{path} does not hold: under {name} there are other minimal circuits; delete it, and "
                    f"`circuitmeter truth {truth.name} --enumerate` makes it anew."
                )
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
    same = math.isclose(said, computed, rel_tol=_CLOSE, abs_tol=_CLOSE) if number else said == computed
    return None if same else f"{where}it says {str(said)[:60]}, and {str(computed)[:60]} was computed"
