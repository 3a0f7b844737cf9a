"""Enumerates the minimal circuits of shipped truths and writes them beside the certificates.

    python -m circuitmeter.ground_truth.ship_minimal NAME ...

Run again it writes the same bytes. An ablation whose enumeration is refused is named and left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from ..suite.errors import ModelError, mistakes_in_one_line
from .files import read_truth_json, write_manifest
from .minimal_circuits import minimal_circuits, write_minimal_circuits
from .truth import SHIPPED, load


@mistakes_in_one_line
def main(names: Sequence[str]) -> int:
    """Enumerates the named truths under every ablation that they are certified for. Returns the exit status."""
    for name in names:
        truth, found = load(name), {}
        for ablation in truth.ablations:
            if ablation == "resample":
                continue
            try:
                found[ablation] = minimal_circuits(truth, ablation)
            except ModelError as refused:
                print(f"{name}, {ablation}: {refused}", flush=True)
        if found:
            write_minimal_circuits(truth, found)
            print(name, {ablation: [len(c) for c in kept.circuits] for ablation, kept in found.items()}, flush=True)
        root = SHIPPED[name.partition("/")[0]]
        write_manifest(root, read_truth_json(root / "manifest.json")["compiler"])
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that files are the same bytes every time
    sys.exit(main(sys.argv[1:]))
