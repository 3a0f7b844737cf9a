"""The wrapped methods of docs/wrapping.md score nodes as they say."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from circuitmeter.suite.interchange.external import load_external
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.subject import subject

PAGE = Path(__file__).parents[3] / "docs" / "wrapping.md"
ASKED = {"ablation": names.ablation("patch"), "objective": names.objective("answer-difference")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in re.findall(r"^```python\n# file: (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def found_by(folder, adapter, on):
    """What the adapter returns: a score a node, summed over prompts."""
    return load_external(f"{folder}/external:{adapter}").function(on.model, on.data, **ASKED, seed=0)


def of_edges(method, on):
    """Our scores of edges [W, R], summed over prompts."""
    return METHODS.get(method).discover(on.model, on.data, **ASKED).scores.values * on.data.n


def test_each_class_is_ten_lines():
    classes = re.findall(r"^class .*?(?=^```$)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(classes) == 3 and all(len([line for line in text.splitlines() if line]) <= 10 for text in classes)


@pytest.mark.parametrize("adapter", ["with_transformers:ModuleEffects", "with_transformer_lens:HookEffects"])
@pytest.mark.parametrize("task", ["gates/and", "trained/seen_a-norm"])
def test_a_node_s_effect_is_the_sum_of_eap_over_its_edges(folder, adapter, task):
    if "lens" in adapter and not (find_spec("transformer_lens") and find_spec("transformer_lens.HookedTransformer")):
        pytest.skip("TransformerLens before version 4 is not installed here")
    on = subject(task, None)
    found, edges = found_by(folder, adapter, on), of_edges("eap", on).nansum(1).tolist()
    expected = dict(zip(on.model.graph.writers, edges, strict=True))
    assert expected.pop("pos_embed") == 0 and found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert any(expected.values())


def test_patching_the_last_mlp_is_patching_its_one_edge(folder):
    if not find_spec("nnsight"):
        pytest.skip("nnsight is not installed here")
    on = subject("gates/and", None)
    graph = on.model.graph
    edge = of_edges("exact", on)[graph.writers.index("m0"), graph.readers.index("logits")]
    assert found_by(folder, "with_nnsight:TraceEffects", on)["m0"] == pytest.approx(float(edge), rel=1e-4)
    assert edge > 1
