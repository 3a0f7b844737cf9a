"""Stability in a benchmark: the numbers are those of a plain loop over resamples, and kept with the evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

STABILITY = {"over": ["prompts", "templates"], "resamples": 40}
EVALUATION = {"ablation": ["patch"], "size": ["true", 0.5, "native"], "prompts": 4, "stability": STABILITY}
GRID = {"task": "tracr/hist", "method": ["eap", "magnitude"], "ablation": ["patch"], "prompts": 6}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from circuitmeter.suite.plan.spec import Spec

    path = tmp_path_factory.mktemp("structure") / "store"
    found = run(Spec.of({"name": "s", "grid": GRID, "evaluation": EVALUATION}), path, executor="serial")
    assert found.exit_status == 0
    return Store(path)


def evaluations(store):
    by_key = {record.key: record.identity.method for record in store.records()}
    return {by_key[found.identity.cell]: found for found in store.evaluations()}


def test_a_benchmark_keeps_how_alike_circuits_of_resamples_are(made):
    found = evaluations(made)["eap"]
    assert found.identity.stability.resamples == 40
    on, patch = subject("tracr/hist", None, prompts=6), names.ablation("patch")
    scores = METHODS.get("eap").scores_by_prompt(
        on.model, on.data, ablation=patch, objective=names.objective("answer-difference")
    )
    truth = on.reference(patch)
    n = int(truth.core.sum())
    change = found.stability["prompts"]
    assert [point.size for point in change.points] == [n, 6]
    drawn = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=40)
    circuits = []
    for counts in drawn:
        mean = np.abs(np.repeat(scores.numpy(), counts, axis=0).mean(0))
        mean = np.round(mean / mean.max(), 6)
        circuits.append({e for e in sorted(range(len(mean)), key=lambda e: (-mean[e], e))[:n] if mean[e] > 0})
    pairs = [len(a & b) / len(a | b) for i, a in enumerate(circuits) for b in circuits[:i]]
    assert change.at(n).jaccard == pytest.approx(np.mean(pairs))
    assert 0 < change.auroc_of_inclusion <= 1
    assert "of one template" in found.stability["templates"].undefined


def test_methods_without_scores_of_each_prompt_say_so(made):
    found = evaluations(made)["magnitude"]
    assert found.done and "no scores of each prompt" in found.stability["prompts"].undefined


def test_it_is_in_the_identity_only_where_it_is_asked_for(made, spec):
    from circuitmeter.suite.plan.expand import expand

    def identity(**changes):
        asked = {name: value for name, value in (EVALUATION | changes).items() if value is not None}
        return expand(spec(evaluation=asked, **GRID)).jobs[0].evaluation.identity("k")

    assert identity() == evaluations(made)["eap"].identity.model_copy(update={"cell": "k"})
    assert "stability" not in identity(stability=None).as_json()
    assert identity().key != identity(stability=STABILITY | {"resamples": 41}).key


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"resamples": 1}, "resamples"),
        ({"over": ["prompt"]}, "'prompts' or 'templates'"),
        ({"over": []}, "is empty"),
        ({"resample": 3}, "no key 'resample'"),
    ],
)
def test_what_is_wrong_with_it_is_said(spec, wrong, sentence):
    with pytest.raises(SpecError, match=sentence):
        spec(evaluation=EVALUATION | {"stability": wrong})
