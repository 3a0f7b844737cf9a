"""Answers of several tokens and counterfactual prompts of other lengths, against one plain run after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from discovering import scores
from oracles import plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import DataError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation, Alternatives
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.optimal_constants import means
from circuitmeter.suite.intervention.plain_runs import Runs
from circuitmeter.suite.methods import METHODS, ugs
from circuitmeter.suite.methods._attribution import Prompts
from circuitmeter.suite.methods.cd_t import decompose
from circuitmeter.suite.plan.subject import check_fits
from circuitmeter.suite.scoring.behaviour import behaviour

EXACT = dict(rtol=1e-9, atol=1e-11)
DIFFERENCE, LOGITS = OBJECTIVES.get("log-probability-difference"), OBJECTIVES.get("logit-difference")
# Right and wrong answers of each prompt: of one to three tokens, some sharing their first.
ANSWERS = [([[1, 2], [3]], [[1, 4]]), ([[5, 6, 7]], [[5, 6, 8], [2]]), ([[9]], [[10, 1], [0, 3]]), ([[2, 2]], [[4]])]


def packed(rows, length=3):
    most = max(map(len, rows))
    fill = [
        [*(answer + [-1] * (length - len(answer)) for answer in row), *[[-1] * length] * (most - len(row))]
        for row in rows
    ]
    return torch.tensor(fill)


def several(**changes) -> Data:
    """Four prompts of three lengths, with a counterfactual each."""
    data, lengths = small_data(n=4, positions=5), torch.tensor([5, 3, 5, 4])
    read = torch.arange(5) == lengths[:, None] - 1
    answers, wrong = (packed([row[i] for row in ANSWERS]) for i in range(2))
    return Data(**{"clean": data.clean, "counterfactual": data.counterfactual, "read": read, "lengths": lengths,
                   "answers": answers, "wrong": wrong} | changes)  # fmt: skip


def one_run_after_the_other(model, data, kept=None, carried="patch", rows=ANSWERS):
    """The objective's value on each prompt [N], and whether a right answer is likeliest: a plain run an answer."""
    values, right = [], []
    for row, given in enumerate(rows):
        clean, other = (part[row, : data.lengths[row]].tolist() for part in (data.clean, data.counterfactual))
        if carried == "resample":  # of two prompts
            other = data.clean[1 - row, : data.lengths[row]].tolist()
        of = []
        for answers in given:
            of.append([])
            for answer in answers:
                tokens, cut = (torch.tensor(prompt + answer[:-1]) for prompt in (clean, other))
                if kept is None:
                    logits = model(tokens[None])[0]
                else:
                    alternative = written(model, cut)
                    if carried == "zero":
                        alternative = {name: torch.zeros_like(out) for name, out in alternative.items()}
                    logits = plain_cut(model, tokens, alternative, kept)
                at = logits[len(clean) - 1 :].log_softmax(-1)
                of[-1].append(float(sum(at[i, token] for i, token in enumerate(answer))))
        values.append(sum(of[0]) / len(of[0]) - sum(of[1]) / len(of[1]))
        right.append(float(max(of[0]) > max(of[1])))
    return torch.tensor(values, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)


def circuit(model):
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(model.graph.exists.shape, generator=generator) < 0.7) & model.graph.exists


@pytest.mark.parametrize("batch_size", [1, 100])
@torch.no_grad()
def test_the_whole_model_s_values_are_those_of_a_run_for_each_answer(batch_size):
    model, data = small_model(), several()
    values, right = one_run_after_the_other(model, data)
    evaluator = Evaluator(model, data, Ablation.parse("patch"), DIFFERENCE, batch_size=batch_size)
    losses = evaluator.by_each(model.graph.exists[None], [DIFFERENCE, OBJECTIVES.get("accuracy")])
    assert_close(-losses[0, 0], values, **EXACT)
    assert_close(1 - losses[1, 0], right, **EXACT)
    found = behaviour(model, data)
    assert found.logit_difference == pytest.approx(float(values.mean())) and found.accuracy == float(right.mean())


@pytest.mark.parametrize("ablation", ["patch", "zero"])
@torch.no_grad()
def test_a_cut_circuit_s_too(ablation):
    model, data = small_model(positions="rotary", rotary_dims=4, norm="rms"), several()
    kept = circuit(model)
    values, _ = one_run_after_the_other(model, data, kept.double(), ablation)
    found = Evaluator(model, data, Ablation.parse(ablation), DIFFERENCE).per_example(kept[None])[0]
    assert_close(-found, values, **EXACT)


@torch.no_grad()
def test_a_resampled_prompt_is_continued_by_the_same_answer():
    model, data = small_model(), several().select(torch.tensor([0, 2]))
    kept, rows = circuit(model), [ANSWERS[0], ANSWERS[2]]
    values, _ = one_run_after_the_other(model, data, kept.double(), "resample", rows)
    found = Evaluator(model, data, Ablation.parse("resample"), DIFFERENCE).per_example(kept[None])[0]
    assert_close(-found, values, **EXACT)


@pytest.mark.parametrize("ablation", ["patch", "mean", "noise", "resample"])
def test_attribution_is_the_derivative_of_cutting_whatever_the_batches(ablation):
    model = small_model()
    data = several().select(torch.tensor([0, 2, 2, 0]))  # resampling needs two prompts of a length
    value = Ablation.parse(ablation)
    mask = torch.ones(1, *model.graph.exists.shape, dtype=torch.float64, requires_grad=True)
    for ready in Evaluator(model, data, value, DIFFERENCE, batch_size=1).prepared():
        outputs = model.run_cut(mask, ready.alternative, inputs=ready.inputs, read=ready.runs.read)
        (DIFFERENCE.loss(outputs, ready.targets).sum() / data.n).backward()
    given = {"ablation": ablation, "objective": DIFFERENCE.name}
    exists = model.graph.exists
    for batch_size in (1, 100):
        found = scores("eap", model, data, batch_size=batch_size, **given)
        assert_close(found[exists], -mask.grad[0][exists], rtol=1e-6, atol=1e-9)
    assert found[exists].abs().max() > 1e-3


def test_scores_of_each_prompt_have_its_runs_together():
    model, data = small_model(), several()
    given = {"ablation": Ablation.parse("patch"), "objective": DIFFERENCE}
    apart = METHODS.get("eap").scores_by_prompt(model, data, **given)
    for row in range(data.n):
        alone = scores("eap", model, data.select(torch.tensor([row])), objective=DIFFERENCE.name)
        assert_close(apart[row], alone[model.graph.exists], **EXACT)


@torch.no_grad()
def test_edges_are_cut_at_named_positions_of_the_prompt_and_not_of_answers():
    model, data = small_model(), several()
    first = torch.arange(5).expand(4, -1) == 0
    where = Evaluator(model, data, Ablation.parse("zero"), DIFFERENCE, cut_at=first)
    ready = next(iter(where.prepared()))
    at = ready.batch.where_in_runs(first[ready.batch.rows, : int(data.lengths[ready.batch.rows].max())])
    assert at.shape == ready.batch.clean.shape and torch.equal(
        at.nonzero()[:, 1], torch.zeros(len(at), dtype=torch.long)
    )
    kept = torch.zeros_like(model.graph.exists)[None]
    everywhere = Evaluator(model, data, Ablation.parse("zero"), DIFFERENCE).per_example(kept)
    assert (where.per_example(kept) - everywhere).abs().max() > 1e-3


def test_what_reads_one_token_or_one_run_is_undefined():
    model, data = small_model(), several()
    for name in ("logit-difference", "probability-difference", "cross-entropy"):
        assert "reads one token, and answers here have several" in OBJECTIVES.get(name).undefined(data, model.config)
    assert OBJECTIVES.get("accuracy").undefined(data, model.config) is None
    for name in ("hisp", "atp-star"):
        reason = METHODS.get(name).undefined(Ablation.parse("patch"), DIFFERENCE, data, model.config)
        assert "an answer of several tokens has a run of its own" in reason
    assert METHODS.get("eap").undefined(Ablation.parse("patch"), DIFFERENCE, data, model.config) is None
    with pytest.raises(DataError, match="sees later tokens"):
        check_fits(data, small_model(causal=False), "task", "model")
    with pytest.raises(DataError, match="7 positions; .* ids up to 10 and 6 positions"):
        check_fits(data, small_model(n_positions=6), "task", "model")
    with pytest.raises(DataError, match="read at its last position"):
        several(read=torch.arange(5).expand(4, -1) == 0)


def unpaired() -> Data:
    data, lengths = small_data(n=3, positions=4), torch.tensor([2, 6, 3])
    others = torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(5))
    return replace(data, counterfactual=None, unpaired=others, unpaired_lengths=lengths)


@pytest.mark.parametrize("prompts", ["clean", "counterfactual", "both"])
@torch.no_grad()
def test_means_over_prompts_of_other_lengths_are_plain_means(prompts):
    model, data = small_model(), unpaired()
    clean = [written(model, row) for row in data.clean]
    others = [written(model, row[:n]) for row, n in zip(data.unpaired, data.unpaired_lengths.tolist(), strict=True)]
    averaged = {"clean": clean, "counterfactual": others, "both": clean + others}[prompts]
    evaluator = Evaluator(model, data, Ablation.parse(f"mean[prompts={prompts}]"), OBJECTIVES.get("kl"))
    carried = model.outputs(next(iter(evaluator.prepared())).alternative.activations)
    for w, name in enumerate(model.graph.writers):
        mean = torch.cat([run[name] for run in averaged]).mean(0)
        assert_close(carried[w], mean.expand_as(carried[w]), **EXACT)


def test_what_pairs_positions_is_undefined_with_the_reason():
    model, data = small_model(), unpaired()
    reason = "whose positions pair with the clean prompts', and the task's have other lengths"
    for name in ("patch", "mean-positional-counterfactual", "mean[over=batch,prompts=both]"):
        assert reason in Ablation.parse(name).undefined(data)
        with pytest.raises(Undefined, match="have other lengths"):
            scores("eap", model, data, ablation=name)
    assert reason in OBJECTIVES.get("answer-difference").undefined(data, model.config)
    for name in ("zero", "mean", "mean-counterfactual", "noise", "resample", "mean-positional"):
        assert Ablation.parse(name).undefined(data) is None
        assert scores("eap", model, data, ablation=name, objective="logit-difference").abs().max() > 1e-6


def alone(data, row, answer):
    """One run of a prompt as a prompt of its own: the prompt and all of an answer but its last token, unpadded."""
    clean, other = (part[row, : data.lengths[row]].tolist() for part in (data.clean, data.counterfactual))
    tokens, cut = (torch.tensor([prompt + answer[:-1]]) for prompt in (clean, other))
    read = torch.arange(tokens.shape[1])[None] == tokens.shape[1] - 1
    return Data(tokens, cut, read, answers=torch.tensor([[1]]), wrong=torch.tensor([[2]]))


def mean_over_runs(data, of_run):
    """The mean over prompts of the mean over each one's runs of a value of a run by itself."""
    rows = [
        [of_run(alone(data, i, answer)) for answers in given for answer in answers] for i, given in enumerate(ANSWERS)
    ]
    return sum(sum(row) / len(row) for row in rows) / len(rows)


@torch.no_grad()
def test_information_flow_routes_count_each_prompt_once_and_no_padding():
    model, data = small_model(n_layers=2), several()
    expected = mean_over_runs(data, lambda run: scores("ifr", model, run))
    for batch_size in (1, 100):
        assert_close(scores("ifr", model, data, objective=DIFFERENCE.name, batch_size=batch_size), expected, **EXACT)


@torch.no_grad()
def test_contextual_decomposition_s_shares_count_each_prompt_once_and_no_padding():
    model, data = small_model(n_layers=2), several()

    def shares(data):
        runs = Runs(model, data.batch(torch.arange(data.n)))
        alternatives = Alternatives(model, data, Ablation.parse("patch"), seed=0, batch_size=100)
        return (
            decompose(Prompts(runs, alternatives, DIFFERENCE if data.several_tokens else LOGITS), True).share / data.n
        )

    found = shares(data)
    assert_close(found, mean_over_runs(data, shares), **EXACT)
    assert 0 < found.max() <= 1


@torch.no_grad()
def test_optimal_constants_start_at_means_over_tokens_that_are_there(monkeypatch):
    model, data = small_model(n_layers=2), several()
    every = [
        model.outputs(model.run(model.input_nodes(alone(data, i, answer).clean))[1])[:, 0]
        for i, given in enumerate(ANSWERS)
        for answers in given
        for answer in answers
    ]
    wrote = torch.cat(every, 1)  # [W, n, D]
    prepared = list(Evaluator(model, data, Ablation.parse("zero"), DIFFERENCE, batch_size=3).prepared())
    heads = model.graph.group["head", 1]
    before = [  # [H, n, E], before the output matrix
        model.run(model.input_nodes(alone(data, i, answer).clean))[1][heads.key][:, 0]
        for i, given in enumerate(ANSWERS)
        for answers in given
        for answer in answers
    ]
    for longest, first in ((0, 0), (2, 2), (6, 0)):  # the longest run has 6 tokens, and batches 7 positions
        monkeypatch.setattr(ugs, "MEANS_FROM", longest)
        start = ugs.Constants(model, prepared, 1, of_values=True).parameters
        assert_close(start[2][0], torch.cat([each[:, first:] for each in before], 1).mean(1), **EXACT)
        assert_close(start[0][0], torch.cat([each[:, first:] for each in every], 1).mean(1), **EXACT)
    for first in (0, 2):
        there = wrote if not first else torch.cat([each[:, first:] for each in every], 1)
        mean, spread = means(model, prepared, first)
        assert_close(mean, there.mean(1), **EXACT)
        assert_close(spread, there.var(1, correction=0).mean(-1).sqrt(), **EXACT)
