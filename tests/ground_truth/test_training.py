"""How models are trained to have a program's edges: the forward pass, the targets, resumption, and the rule to ship."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from circuitmeter import ground_truth
from circuitmeter.ground_truth.trained import gap, heads, ship
from circuitmeter.ground_truth.trained.loss import circuit_nodes, draw, loss
from circuitmeter.ground_truth.trained.progress import worst
from circuitmeter.ground_truth.trained.recipe import RECIPES
from circuitmeter.ground_truth.trained.student import Students, initial
from circuitmeter.ground_truth.trained.teacher import mistake, prepare_program
from circuitmeter.ground_truth.trained.train import ENSEMBLE_CHECKPOINT, EnsembleTraining, train_ensemble
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.transformer import Config, Transformer

TINY = replace(RECIPES["shift1"], length=3, steps=6, choose_at=2, check_every=2, warmup_steps=2, batch_size=16)


def config_of(norm, causal=True):
    return Config(
        n_layers=2,
        n_heads=3,
        d_model=12,
        d_head=5,
        d_mlp=20,
        d_vocab=5,
        d_out=4,
        n_positions=6,
        norm=norm,
        causal=causal,
    )


@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("causal", [True, False])
def test_the_training_pass_is_the_engine_s(norm, causal):
    config, chance = config_of(norm, causal), torch.Generator().manual_seed(5)
    parameters = {
        name: (weight + 0.3 * torch.randn(weight.shape, generator=chance)).double()
        for name, weight in initial(config, [0, 1]).items()
    }
    students = Students(config, parameters)
    tokens = torch.randint(0, 5, (9, 6), generator=chance)
    kept = (torch.rand(7, *students.graph.exists.shape, generator=chance) < 0.6).double()
    clean, other = torch.randint(0, 9, (2, 7), generator=chance)
    outputs, written = students.run(tokens)
    cut = students.cut(written, clean, other, kept)
    assert (cut - outputs[:, clean]).abs().max() > 0.1
    for model in range(2):
        engine = Transformer(config, "split").double()
        engine.load_state_dict(students.state(model))
        assert (engine(tokens) - outputs[model]).abs().max() < 1e-11
        for row in range(7):
            there = engine.run(engine.input_nodes(tokens[other[row] : other[row] + 1]))[1]
            inputs = engine.input_nodes(tokens[clean[row] : clean[row] + 1])
            expected = engine.run_cut(kept[row : row + 1], engine.alternative(there, 6), inputs=inputs)
            assert (expected[0, 0] - cut[model, row]).abs().max() < 1e-11


def test_models_learn_by_themselves():
    """Gradients of one model do not depend on which others are trained with it."""
    together, alone = (
        EnsembleTraining(replace(TINY, attempts=1), [0, 1]),
        EnsembleTraining(replace(TINY, attempts=1), [1]),
    )
    together.train_to(3)
    alone.train_to(3)
    for name, weight in alone.students.parameters.items():
        assert torch.allclose(weight[0], together.students.parameters[name][1], atol=1e-6), name


def test_targets_are_the_compiled_model_s_under_the_same_cut():
    """With the teacher as its own student the loss is zero; with a true edge's cut forgotten it is not."""
    lesson = prepare_program(TINY)
    chance = torch.Generator().manual_seed(0)
    cuts = draw(TINY, lesson, lesson.teacher.graph, 64, chance)
    assert (
        not cuts.student[:, lesson.true].all() and not cuts.student[:, ~lesson.true & lesson.teacher.graph.exists].all()
    )
    assert float(loss(lesson.teacher, lesson, cuts, chance)) < 1e-6
    forgotten = cuts._replace(teacher=torch.ones_like(cuts.teacher))
    assert float(loss(lesson.teacher, lesson, forgotten, chance)) > 0.1


def test_node_strict_cuts_are_of_whole_nodes():
    recipe = replace(RECIPES["detect_ab"], strict="node")
    lesson = prepare_program(recipe)
    graph = EnsembleTraining(replace(recipe, attempts=1), [0]).students.graph
    cuts = draw(recipe, lesson, graph, 40, torch.Generator().manual_seed(1))
    cut = (cuts.student == 0).all(2)
    assert (cut.sum(1) == 1).all() and torch.equal((cuts.student == 0).any(2), cut)
    inside, outside = circuit_nodes(lesson, graph)
    assert set(cut[:20].nonzero()[:, 1].tolist()) == set(inside.tolist())
    assert set(cut[20:].nonzero()[:, 1].tolist()) == set(outside.tolist())
    assert ((cuts.teacher == 0).any((1, 2)) == (torch.arange(40) < 20)).all()


@pytest.mark.parametrize("stop", [2, 4])
def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path, stop):
    whole = train_ensemble(TINY, [0, 1], tmp_path / "whole")
    interrupted = EnsembleTraining(TINY, [0, 1])
    while interrupted.step < stop:  # killed after a checkpoint: with one attempt a seed left, or before
        interrupted.train_to(interrupted.step + TINY.check_every)
        interrupted.check()
    (tmp_path / "again").mkdir()
    interrupted.save(tmp_path / "again" / ENSEMBLE_CHECKPOINT)
    lines = []
    again = train_ensemble(TINY, [0, 1], tmp_path / "again", lines.append)
    assert lines[0] == f"goes on from step {stop}" and len(lines) == 1 + (TINY.steps - stop) // TINY.check_every
    assert again.step == whole.step == TINY.steps
    first, second = (load_file(tmp_path / name / ENSEMBLE_CHECKPOINT) for name in ("whole", "again"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ModelError, match="another recipe"):
        train_ensemble(replace(TINY, steps=7), [0, 1], tmp_path / "again")


def test_seeds_differ_and_the_best_weights_are_kept():
    training = EnsembleTraining(TINY, [3, 4])
    first = initial(training.config, [3000, 3001, 4000, 4001])
    assert all(torch.equal(first[name], weight) for name, weight in training.students.parameters.items())
    training.train_to(2)
    assert len(training.seeds) == 2 == training.students.parameters["embed"].shape[0]
    assert not torch.equal(*training.students.parameters["embed"].unbind(0))
    training.scores[:] = 0
    kept = training.best["embed"].clone()
    training.check()
    assert torch.equal(kept, training.best["embed"])  # nothing is better than zero


def test_a_model_that_fails_is_refused_and_not_written(tmp_path):
    train_ensemble(TINY, [0], tmp_path / "trained")
    told = []
    assert ship.ship_ensemble(tmp_path / "trained", tmp_path / "shipped", told.append) == {}
    assert len(told) == 1 and told[0].startswith("shift1 is refused: on ") and "is right" in told[0]
    assert not (tmp_path / "shipped").exists()


def test_the_rule_names_what_failed():
    truth = ground_truth.load("trained/trend")
    claim, training = truth.certificate.ablations["patch"], truth.certificate.training
    numbers, intended = training.gap, training.intended
    gap.check_gap(claim, numbers, intended, gap.OUTPUT_CHANGE)
    assert gap.gap(truth.model().double(), truth.domain, claim).as_json().items() <= numbers.as_json().items()
    for changed, expected in (
        ({"ratio": 19.9}, "times the largest"),
        ({"joint_error": 0.11}, "cutting all inert edges at once changes an output by 0.11"),
    ):
        with pytest.raises(ModelError, match=expected):
            gap.check_gap(claim, numbers.model_copy(update=changed), intended, gap.OUTPUT_CHANGE)
    with pytest.raises(ModelError, match="differ in m1->logits"):
        gap.check_gap(claim, numbers, [*intended, "m1->logits"], gap.OUTPUT_CHANGE)
    with pytest.raises(ModelError, match="more than one minimal circuit"):
        gap.check_gap(claim.model_copy(update={"unique": False}), numbers, intended, gap.OUTPUT_CHANGE)


@pytest.mark.slow
def test_a_damaged_model_fails_the_rule():
    """Weights that move an inert edge are seen by the certificate that ``ship`` makes."""
    truth, recipe = ground_truth.load("trained/shift1"), RECIPES["shift1"]
    state, lesson = truth.model().state_dict(), prepare_program(RECIPES["shift1"])
    order = heads.orders(truth.config, "shift1", 0)
    back = [sorted(range(len(layer)), key=layer.__getitem__) for layer in order]
    state = heads.stored(state, truth.config, back)
    generator = torch.Generator().manual_seed(0)
    state["blocks.1.W_out"] = state["blocks.1.W_out"] + 0.02 * torch.randn(
        state["blocks.1.W_out"].shape, generator=generator
    )
    with pytest.raises(ModelError, match="at least 20 is asked for"):
        ship.write(None, recipe, lesson, 0, 0, state)


def test_heads_are_stored_in_another_order_and_compute_the_same():
    config, order = config_of("layer"), [[2, 0, 1], [1, 0, 2]]
    state = {name: weight[0] for name, weight in initial(config, [0]).items()}
    before, after = Transformer(config, "split"), Transformer(config, "split")
    before.load_state_dict(state)
    after.load_state_dict(heads.stored(state, config, order))
    tokens = torch.randint(0, 5, (4, 6), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(before(tokens), after(tokens), atol=1e-6)
    z, moved = (model.run(model.input_nodes(tokens))[1]["head", 0] for model in (before, after))
    assert torch.allclose(z[2], moved[0], atol=1e-6) and not torch.allclose(z[0], moved[0], atol=1e-3)
    assert heads.renamed("a0.h2->a1.h0<k>", order) == "a0.h0->a1.h1<k>"
    assert len({str(heads.orders(config, "hist", seed)) for seed in range(5)}) > 1


def test_the_teacher_is_checked_on_the_domain():
    lesson = prepare_program(TINY)
    assert mistake(lesson, lesson.outputs, 0.0) is None
    wrong = lesson.outputs.clone()
    wrong[5] = wrong[5].roll(1, -1)
    assert "is right" in mistake(lesson, wrong, 0.0)
    assert float(worst(lesson.teacher, lesson, "edge")["joint"]) < 1e-5


def test_certificates_name_their_recipe():
    truth = ground_truth.load("trained/trend-norm-seed1")
    training = truth.certificate.training
    recipe = replace(RECIPES["trend"], norm=True)
    assert training.recipe == json.loads(json.dumps(recipe.__dict__)) and training.seed == 1
    assert training.teacher == "tracr/trend" and 0 < training.steps <= recipe.steps
