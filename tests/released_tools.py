"""What released tools gave through their adapters: edge scores on certified models, recorded once.

``benchmarks/conformance.py`` runs the tools that are installed and writes ``released_records/tools.json``; tests
compare our methods with it, with no tool at hand. Here is what was run, and beside which method of ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from circuitmeter.suite.circuit import EdgeScores
from circuitmeter.suite.interchange.external import load_external
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.subject import Subject, subject

RECORDS = Path(__file__).parent / "released_records" / "tools.json"
OBJECTIVE = "answer-difference"
COMPILED = ("tracr/hist", "tracr/xproportion", "tracr/reverse", "gates/or", "gates/and")
MODELS = (*COMPILED, "trained/seen_a-norm", "trained/shift1")
# TransformerLens 4 has edges for GPT-2s, which have no attention that looks ahead.
CAUSAL = ("gates/and", "gates/saturation", "gates/backup", "trained/seen_a-norm", "trained/shift1")


class Run(NamedTuple):
    """A tool with its parameters, under an ablation, on some models; and what it should equal.

    Args:
        ours, its: the method of ours, and its parameters.
        differs: why the scores are others, or "" where they are equal.
    """

    adapter: str
    parameters: dict[str, Any]
    ablation: str
    ours: str
    its: dict[str, Any]
    tasks: tuple[str, ...]
    differs: str = ""

    @property
    def name(self) -> str:
        """Adapter, parameters and ablation: ``eap-ig method=EAP patch``."""
        return " ".join([self.adapter, *(f"{key}={value}" for key, value in self.parameters.items()), self.ablation])


KINK = "a ReLU gets exactly 0, where rounding decides its slope"
EAP, IG = {"method": "EAP"}, {"method": "EAP-IG-inputs"}
RUNS = (
    Run("eap-ig", EAP, "patch", "eap", {}, MODELS),
    Run("eap-ig", EAP, "zero", "eap", {}, ("tracr/hist", "tracr/reverse", "trained/seen_a-norm")),
    Run("eap-ig", EAP, "mean-positional", "eap", {}, ("tracr/hist", "tracr/xproportion", "trained/seen_a-norm")),
    Run(
        "eap-ig",
        EAP,
        "mean",
        "eap",
        {},
        ("tracr/hist", "trained/seen_a-norm"),
        "every writer has one and the same mean",
    ),
    Run("eap-ig", IG, "patch", "eap-ig", {"endpoint": "left"}, MODELS),
    Run(
        "eap-ig",
        {"method": "EAP-IG-activations"},
        "patch",
        "eap-ig",
        {"path": "activations-all"},
        ("tracr/hist", "tracr/xproportion", "trained/seen_a-norm"),
    ),
    Run("eap-ig", {"method": "exact"}, "patch", "exact", {}, ("tracr/hist", "tracr/xproportion", "gates/or")),
    Run("auto-circuit", {}, "patch", "eap", {}, MODELS),
    Run("auto-circuit", {}, "zero", "eap", {}, ("tracr/hist", "gates/or", "trained/seen_a-norm")),
    Run(
        "auto-circuit",
        {"samples": 5},
        "patch",
        "eap-ig",
        {"path": "masks", "endpoint": "both"},
        ("tracr/hist", "tracr/xproportion", "trained/seen_a-norm"),
    ),
    Run(
        "auto-circuit",
        {"samples": 5},
        "patch",
        "eap-ig",
        {"path": "masks", "endpoint": "both"},
        ("gates/or",),
        KINK,
    ),
    Run("gim-explain", {}, "patch", "gim", {}, MODELS),
    Run("gim-explain", {}, "zero", "gim", {}, ("tracr/hist", "trained/seen_a-norm")),
    Run("transformer-lens", {"gradient_at": "clean"}, "patch", "eap", {}, CAUSAL),
    Run("transformer-lens", {"gradient_at": "clean"}, "patch", "eap", {}, ("gates/or",), KINK),
    Run("transformer-lens", {}, "patch", "eap", {}, CAUSAL, "the gradient is that of the counterfactual run"),
)


def by_tool(run: Run, task: str) -> EdgeScores:
    """What the tool gives, now: it has to be installed."""
    return _discover(load_external(f"external:{run.adapter}"), run.parameters, run, subject(task, None))


def by_us(run: Run, task: str, on: Subject | None = None) -> Tensor:
    """Scores [E] of our method, of the edges as the tool has them."""
    on = on or subject(task, None)
    return as_the_tool_has_them(run, _discover(METHODS.get(run.ours), run.its, run, on))


def _discover(method: Any, parameters: dict[str, Any], run: Run, on: Subject) -> EdgeScores:
    asked = {"ablation": names.ablation(run.ablation), "objective": names.objective(OBJECTIVE)}
    return method.discover(on.model, on.data, **asked, **parameters).scores


def as_the_tool_has_them(run: Run, scores: EdgeScores) -> Tensor:
    """Our scores [E] where the tool has other input nodes than tokens and positions.

    EAP-IG and TransformerLens have no node for positions; auto-circuit has one for both, whose edges its adapter gives
    to both unless under patch, which changes no position.
    """
    values, writers = scores.values.clone(), scores.graph.writers
    if "pos_embed" in writers and run.adapter != "gim-explain":
        tokens, positions = writers.index("tok_embed"), writers.index("pos_embed")
        if run.adapter == "auto-circuit" and run.ablation != "patch":
            values[tokens] = values[positions] = values[tokens] + values[positions]
        else:
            values[positions] = 0
    return values[scores.graph.exists]


def recorded(run: Run, task: str) -> Tensor:
    """What the tool gave: scores [E] in the order of ``graph.edges``."""
    return torch.tensor(read()["scores"][run.name][task], dtype=torch.float64)


def read() -> dict[str, Any]:
    return json.loads(RECORDS.read_text())


def difference(theirs: Tensor, ours: Tensor) -> float:
    """The largest difference, as a share of the largest score, after the factor that fits best.

    Tools sum over prompts where we average, and some count what is gained where we count what is lost.
    """
    factor = (theirs @ ours) / (ours @ ours)
    return float((theirs - factor * ours).abs().max() / theirs.abs().max())
