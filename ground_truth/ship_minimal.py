"""Enumerates the minimal circuits of shipped truths and writes them beside the certificates.

    python -m circuitmeter.ground_truth.ship_minimal NAME ...

Run again it writes the same bytes. An ablation whose enumeration is refused is named and left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from ..suite.errors import ModelError
from .files import read_truth_json, write_manifest
from .minimal_circuits import minimal_circuits, write_minimal_circuits
from .truth import SHIPPED, load


def main(names: Sequence[str]) -> None:
    """Enumerates the named truths under every ablation that they are certified for."""
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


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that files are the same bytes every time
    main(sys.argv[1:])
