"""The JSON schemas of the files that are written, generated from the models that read and write them.

``python -m circuitmeter.suite.store.schemas docs/schemas`` writes them; a test compares them with what is there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ...ground_truth.certificate import Certificate, FeatureCertificate, MinimalCircuitsFile, PositionCertificate
from ...ground_truth.description import ModelDescription
from ...ground_truth.dictionaries.shipped import ShippedDictionaries
from ...tasks.mini.shipped import ShippedModel
from ..interchange.benchmark_model import Labels
from ..interchange.origin import OurKey
from ..json_model import Kept
from ..scoring.sensitivity.card_model import SensitivityCard
from ..scoring.structure.stability_card import StabilityCard
from .older import Record1
from .record import BehaviourRecord, Benchmark, Environment, EvaluationRecord, Record, StoreFile

FILES: dict[str, type[Kept]] = {
    "record.2": Record,
    "record.1": Record1,
    "evaluation.1": EvaluationRecord,
    "behaviour.1": BehaviourRecord,
    "benchmark.1": Benchmark,
    "store.1": StoreFile,
    "environment.1": Environment,
    "certificate.1": Certificate,
    "feature-certificate.1": FeatureCertificate,
    "position-certificate.1": PositionCertificate,
    "minimal-circuits.1": MinimalCircuitsFile,
    "model.1": ModelDescription,
    "mini-model.1": ShippedModel,
    "dictionaries.1": ShippedDictionaries,
    "circuit-key.1": OurKey,
    "labels.1": Labels,
    "sensitivity-card.1": SensitivityCard,
    "stability-card.1": StabilityCard,
}
"""Name of a schema -> the model of the file; the number is the format."""


def schemas() -> dict[str, str]:
    """The text of each schema, by file name."""
    return {
        f"{name}.schema.json": json.dumps(model.model_json_schema(), indent=2) + "\n" for name, model in FILES.items()
    }


def main(folder: str) -> int:
    """Writes the schemas to a folder. Returns the exit status."""
    for name, text in schemas().items():
        (Path(folder) / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
