"""The JSON schemas of a store's files, generated from the models that read and write them.

``python -m circuitmeter.suite.store.schemas docs/schemas`` writes them; a test compares them with what is there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .model import File
from .older import Record1
from .record import Benchmark, EvaluationRecord, Record, StoreFile

FILES: dict[str, type[File]] = {
    "record.2": Record,
    "record.1": Record1,
    "evaluation.1": EvaluationRecord,
    "benchmark.1": Benchmark,
    "store.1": StoreFile,
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
