"""``evaluate --batch-size`` holds for all that the command measures: rows, curve and tests."""

import pytest
import torch

from circuitmeter.suite import cli
from circuitmeter.suite.circuit import EdgeScores, top_n
from circuitmeter.suite.interchange import CircuitFile, Origin
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.setting import Setting
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.verbs.circuit_curves import circuit_curves
from circuitmeter.suite.verbs.evaluate import faithfulness_rows


def test_every_number_of_the_command_is_of_the_batch_size_asked_for(tmp_path, monkeypatch):
    common = ["--task", "tracr/xproportion", "--prompts", "20", "--device", "cpu"]
    out, made, make = str(tmp_path / "c.json"), [], Evaluator.__init__
    assert cli.main(["discover", *common, "--method", "magnitude", "--top", "3", "--out", out]) == 0

    def noted(self, *given, **named):
        make(self, *given, **named)
        made.append(self.batch_size)

    monkeypatch.setattr(Evaluator, "__init__", noted)
    measured = ["--split", "train", "--ablation", "mean[over=batch]", "--batch-size", "7", "--json"]
    assert cli.main(["evaluate", out, *common, *measured]) == 0
    rows = len(made)
    assert cli.main(["evaluate", out, *common, *measured, "--curve", "--tests"]) == 0
    assert len(made) > 2 * rows > 0 and set(made) == {7}


@pytest.mark.parametrize(("batch_size", "another"), [(2, None), (None, 2)])
def test_a_curve_has_the_row_of_its_circuit(batch_size, another):
    on = subject("sva", "mini", prompts=12)
    generator = torch.Generator().manual_seed(0)
    scores = EdgeScores(on.model.graph, torch.rand(on.model.graph.exists.shape, generator=generator).double())
    half = top_n(scores, int(0.5 * on.model.graph.n_edges))
    file, chosen = CircuitFile(half, scores, Origin()), [Setting.parse("mean[over=batch] | logit-difference")]
    (row,) = faithfulness_rows(file, on, chosen, seed=0, batch_size=batch_size)
    (curve,) = circuit_curves(file, on, chosen, selection="top-n", signed=False, seed=0, batch_size=batch_size)
    (point,) = [each for each in curve["points"] if each["fraction"] == 0.5]
    assert point["faithfulness"] == pytest.approx(row["faithfulness"], rel=1e-4)
    (other,) = faithfulness_rows(file, on, chosen, seed=0, batch_size=another)
    assert abs(other["faithfulness"] - row["faithfulness"]) > 1e-3
