"""Which truths are certified by position, and which truth each is about.

Their inputs have one length, so that a position is the same place in all of them.
"""

from __future__ import annotations

from pathlib import Path

_CERTIFICATES = Path(__file__).parent / "certificates"
_PROGRAMS = (
    "count_a",
    "first_token",
    "fraction_a",
    "hist",
    "identity",
    "majority_a",
    "next_token",
    "pointer",
    "prefix_parity",
    "rank",
    "shift2",
    "trend",
)
_GATES = ("adder", "and", "backup", "cancelling", "distractors", "or", "position", "redundant", "saturation", "xor")

AT_POSITIONS: dict[str, str] = {f"tracr-positions/{name}": f"tracr/{name}@fixed" for name in _PROGRAMS} | {
    f"gates-positions/{name}": f"gates/{name}" for name in _GATES
}
"""The names of truths by position, each with the truth without positions whose model and inputs it has."""


def certificate_file(name: str) -> Path:
    """The file with the certificate of one of ``AT_POSITIONS``."""
    family, _, program = name.partition("/")
    return _CERTIFICATES / family / f"{program}.json"
