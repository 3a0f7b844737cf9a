"""The page of the documentation that says what a benchmark's file may hold, written from the models that read it.

``python -m circuitmeter.suite.plan.spec_page docs/benchmark-files.md`` writes it; a test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..intervention.levels import LEVELS
from .gate import TaskGate
from .spec import EvaluationChoice, Grid, LeftOut, MethodChoice, Spec
from .structure_choice import ControlsChoice, StabilityChoice

TABLES: dict[str, tuple[type[BaseModel], str]] = {
    "The top level": (Spec, "Keys above the first table."),
    "`[grid]`": (
        Grid,
        "All combinations of its values are run. Several `[[grid]]` tables are several products; a cell that "
        "two of them give is one cell.",
    ),
    "A method's entry": (
        MethodChoice,
        'An item of `method` is a name, or a table: `{ name = "eap-ig", steps = 30 }`. Every other key is a parameter '
        "of the method (`circuitmeter list methods NAME`), of the type of its default.",
    ),
    "`[[except]]`": (
        LeftOut,
        "Cells that are left out: those that match every key given, by a name or a glob. At least one of `task`, "
        "`method`, `ablation` and `objective` must be given.",
    ),
    "`[[gate]]`": (
        TaskGate,
        "What a model must do of a task: `run` measures it before anything is searched, on the first 16 of the prompts "
        "that circuits are evaluated on (of those that are searched on, without `[evaluation]`), and keeps it in the "
        "store. Where a model is below a gate, its cells on that task are not run, and plan, store and report say why. "
        "At least one of `accuracy` and `logit_difference` must be given.",
    ),
    "`[evaluation]`": (
        EvaluationChoice,
        "What is measured of every circuit that is found, for all combinations of these factors, at every size. "
        "Without this table only recovery of the truth is measured.",
    ),
    "`[evaluation.stability]`": (
        StabilityChoice,
        "For methods whose scores are means over prompts: how alike circuits from resamples of the prompts are, at the "
        "sizes of `[evaluation]`. How often single edges are in is told of the true size, or else of the first.",
    ),
    "`[evaluation.controls]`": (
        ControlsChoice,
        "What a circuit is compared with, and what is tried against it: of the circuit of the true size where it is "
        "among those of `[evaluation]`, else of the first, under the ablation and objective that it was found with.",
    ),
}
"""Heading -> the model of the table, and what the table is."""

_BEGIN = """# Benchmark files

A benchmark is a TOML file for `plan`, `run` and `validate --against`. A key that is not on this page is refused. All
faults of a file are reported at once, before anything is computed.

```toml
# file: mine.toml
description = "what it measures"

[grid]
task     = ["tracr/xproportion", "tracr/reverse@fixed"]
method   = ["eap", { name = "eap-ig", steps = 30, called = "eap-ig-30" }, { name = "random", seed = [0, 1, 2] }]
ablation = ["patch", "zero"]

[[except]]
method   = "eap"
ablation = "zero"
because  = "why is part of the file"

[evaluation]
ablation = ["patch", "zero"]
size     = ["true", 0.1]
```

```sh
circuitmeter plan mine.toml
```

For a key that takes one or more values, a single value stands for a list of one. A glob (`tracr/*`) stands for the
names that it matches; it matches variants (`tracr/reverse@fixed`) only if it contains an `@`. Paths are relative to the
folder in which the command runs.
"""


def spec_page() -> str:
    """The whole page, as Markdown."""
    return "\n".join([_BEGIN, *(_section(heading, *table) for heading, table in TABLES.items())])


def _section(heading: str, model: type[BaseModel], about: str) -> str:
    schema = Spec.model_json_schema()["$defs"].get(model.__name__) or Spec.model_json_schema()
    required = set(schema.get("required", ())) - (
        {"name"} if model is Spec else set()
    )  # a file's name is the benchmark's
    rows = [
        f"| `{key}` | {_kind(part)} | {'required' if key in required else _default(part)} | {_meaning(model, key)} |"
        for key, part in schema["properties"].items()
    ]
    return "\n".join(
        [f"## {heading}", "", about, "", "| key | takes | default | what it is |", "|---|---|---|---|", *rows, ""]
    )


def _kind(part: dict[str, Any]) -> str:
    """What values a key takes, in words, from its JSON schema."""
    if "$ref" in part:
        return {"MethodChoice": "name or table"}.get(part["$ref"].rpartition("/")[2], "table")
    if "anyOf" in part:
        return " or ".join(_kind(each) for each in part["anyOf"] if each.get("type") != "null")
    if "enum" in part:
        return " or ".join(f"`{level}`" for level in part["enum"])
    if part["type"] == "array":
        least = part.get("minItems", part.get("minLength", 0))  # pydantic's name for it depends on its version
        return f"{'one or more' if least else 'any number'}: {_kind(part['items'])}"
    name = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}[part["type"]]
    if "exclusiveMinimum" in part:
        return f"{name} above {part['exclusiveMinimum']}"
    if "minimum" not in part:
        return name
    return f"{name} from {part['minimum']}" + (f" to {part['maximum']}" if "maximum" in part else "")


def _default(part: dict[str, Any]) -> str:
    """The default as TOML has it; nothing where leaving the key out is a meaning of its own."""
    default = part.get("default")
    if default in (None, "", []):
        return ""
    default = default[0] if isinstance(default, list) and len(default) == 1 else default
    return f"`{json.dumps(default)}`"


def _meaning(model: type[BaseModel], key: str) -> str:
    """A key's description, and the levels that it takes where they are a fixed list."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    levels = LEVELS.get(key, ()) if model is EvaluationChoice else ()
    said = (fields[key].description or "").replace("\n", " ").rstrip(".")
    return f"{said} ({', '.join(f'`{level}`' for level in levels)})" if levels else said


def main(file: str) -> int:
    """Writes the page. Returns the exit status."""
    Path(file).write_text(spec_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
