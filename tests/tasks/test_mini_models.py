"""The mini models: what ships, what it can do, and that training can be interrupted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.harness.models import load_model, load_tokenizer, names
from circuitmeter.suite.harness.subject import subject
from circuitmeter.tasks import mini
from circuitmeter.tasks.mini import vocabulary
from circuitmeter.tasks.mini.recipe import RECIPES, Course, Recipe
from circuitmeter.tasks.mini.ship import ship
from circuitmeter.tasks.mini.train import CHECKPOINT, Training, rate, train

SIX = [course.task for course in RECIPES["six"].courses]
TINY = Recipe((Course("successor"), Course("country-capital")), 1, 2, 8, steps=12, check_every=4, pool=60, enough=2.0)


def test_the_shipped_models_are_listed_and_small():
    assert {"mini", "mini-seed1", "mini-seed2"} <= set(mini.names()) <= set(names())
    sizes = [path.stat().st_size for path in mini.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(sizes) < 5e6


@pytest.mark.parametrize("name", ["mini", "mini-seed1", "mini-seed2"])
@torch.no_grad()
def test_shipped_accuracies_hold(name):
    """On 300 of the prompts of each task that the model has never seen."""
    model, tokenizer = load_model(name, device="cpu"), load_tokenizer(name)
    claimed = mini.manifest()[name]
    assert claimed["recipe"]["n_layers"] == 2 and claimed["parameters"] == 139712
    for task in SIX:
        data = tasks.load(task).on(tokenizer).data("test")
        data = data.select(torch.arange(min(300, data.n)))
        right = 0
        for batch in data.batches(300):
            best = model(batch.clean)[:, -1].argmax(-1)
            right += int((batch.answers == best[:, None]).any(1).sum())
        assert claimed["accuracy"]["test"][task] >= 0.99 and right >= 0.98 * data.n, task


def test_transformers_opens_a_shipped_model_and_gives_the_same_logits():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = mini.folder("mini")
    source, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor([tokenizer("Then Daniel and Sarah went to the store")["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(load_model("mini", device="cpu")(tokens), source(tokens).logits, atol=1e-4)
    assert load_model(folder, device="cpu").weights_hash == load_model("mini", device="cpu").weights_hash


def test_the_shipped_tokenizer_is_the_one_that_is_built(words):
    shipped = load_tokenizer("mini").source.get_vocab()
    assert shipped == words.source.get_vocab() == {token: i for i, token in enumerate(vocabulary.tokens())}


def test_the_tokenizer_has_the_shape_of_gpt2s(words):
    pieces = [words.source.decode([i]) for i in words("The war lasted from 1732, isn't it\n    :")]
    assert pieces == ["The", " war", " lasted", " from", " 17", "32", ",", " isn't", " it", "\n", "   ", " :"]
    assert words.one(" war") is not None and words.one("war") is None
    assert words.source.decode(words("The war lasted from the year 1732")) == "The war lasted from the year 1732"


def test_a_damaged_file_is_not_loaded(tmp_path, monkeypatch):
    shutil.copytree(mini.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(mini, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(mini.manifest, "__defaults__", (tmp_path / "weights",))
    assert mini.folder("mini") == tmp_path / "weights" / "mini"
    path = tmp_path / "weights" / "mini" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="model.safetensors is missing or damaged"):
        load_model("mini", device="cpu")
    with pytest.raises(ModelError, match="no mini model 'mini-seed9'"):
        mini.folder("mini-seed9")


def test_a_folder_called_mini_does_not_hide_the_model(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_model("mini", device="cpu").config.n_layers == 2
    assert subject("country-capital", "mini").model_source == "mini"


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path, words):
    def steps(until, start=None):
        training = Training(TINY, 5, words)
        if start:
            training.load(start)
        training.train_to(until)
        return training

    whole = steps(6)
    steps(3).save(tmp_path / CHECKPOINT)
    resumed = steps(6, tmp_path / CHECKPOINT)
    for (name, a), b in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(whole.model.lm_head.weight, steps(5).model.lm_head.weight)
    with pytest.raises(ModelError, match="another recipe or seed"):
        Training(TINY, 6, words).load(tmp_path / CHECKPOINT)
    with pytest.raises(ModelError, match="another recipe or seed"):
        Training(replace(TINY, smoothing=0.0), 5, words).load(tmp_path / CHECKPOINT)


def test_train_writes_a_folder_that_can_be_shipped(tmp_path):
    lines = []
    training = train(TINY, 0, tmp_path / "made", lines.append)
    assert training.step == 12 and len(lines) == 3 and "validation successor" in lines[0]
    entry = ship(tmp_path / "made", "small", tmp_path / "weights")
    assert json.loads((tmp_path / "weights" / "manifest.json").read_text()) == {"small": entry}
    assert set(entry["accuracy"]["test"]) == {"successor", "country-capital"} and entry["steps"] == 12
    assert load_model(tmp_path / "weights" / "small", device="cpu").config.d_model == 8
    again = train(TINY, 0, tmp_path / "made", lines.append)
    assert again.step == 12 and lines[-1] == "goes on from step 12"


def test_the_learning_rate_rises_and_falls():
    recipe = RECIPES["six"]
    rates = [rate(step, recipe) for step in (0, 49, 99, 100, recipe.steps)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0, recipe.last_rate])


def test_prompts_of_a_batch_come_with_their_twins(words):
    from circuitmeter.tasks.mini.lessons import generator, prepare

    recipe = replace(RECIPES["six"], pool=400)
    (course,) = [course for course in recipe.courses if course.task == "ioi@flip"]
    made = prepare(course, recipe, words, 0)
    lessons = max(made.lessons, key=lambda part: len(part.tokens))
    tokens, targets = lessons.batch(8, False, generator(0, 0))
    assert ((tokens[:4] != tokens[4:]).sum(1) == 1).all() and (targets[:, :-1] == -1).all()
    assert (targets[:4, -1] != targets[4:, -1]).all()
    _, easy = lessons.batch(64, True, generator(0, 1))
    names = {int(i) for i in lessons.answers.flatten()}
    assert len(set(easy[:, -1].tolist())) <= 10 and len(names) > 30


@pytest.mark.slow
def test_the_mini_model_can_be_trained_again(tmp_path):
    """Minutes: the recipe, from scratch, reaches .99 on each of the six tasks."""
    from circuitmeter.tasks.mini.report import accuracies, examination

    training = train(RECIPES["six"], 0, tmp_path)
    found = accuracies(training.model, examination(training.tokenizer, SIX, "test"))
    assert min(found.values()) >= 0.99, found


def test_practice_teaches_the_same_at_more_places_and_no_held_out_pair(words):
    from circuitmeter.tasks.family import split_of
    from circuitmeter.tasks.mini.practice import PRACTICE, practise

    kinds = {"induction": "whole list", "docstring": "both names"}
    for name, kind in kinds.items():
        prompts = tasks.load(name).prompts(words, "train", 60)
        made = practise([PRACTICE[kind](prompt) for prompt in prompts], words)
        learnt = made.targets >= 0
        assert 60 < learnt.sum() and (learnt.sum(1) > 1).float().mean() > 0.5
        for row, prompt in enumerate(prompts):
            ids, asked = made.tokens[row].tolist(), learnt[row].nonzero().flatten().tolist()
            pieces = [words.source.decode([i]).strip() for i in ids]
            end = len(words(prompt.clean.text)) - 1
            assert made.targets[row, end] == words.one(prompt.answers[0])  # what the task itself asks
            for at in asked:
                answer = words.source.decode([int(made.targets[row, at])]).strip()
                first = pieces.index(answer)  # where it was mentioned, after the word that it is to follow again
                before = pieces[first - 1] if name == "induction" else pieces[first - 2]
                assert first < at and split_of(f"{before} {answer}") == "train"
    chance = torch.Generator().manual_seed(0)
    tokens, targets = made.batch(5, False, chance)
    assert tokens.shape == targets.shape == (5, made.tokens.shape[1])


def test_a_head_start_is_one_task_alone(words, monkeypatch):
    from circuitmeter.tasks.mini.lessons import Lessons, Practice

    taught = []
    for kind in (Lessons, Practice):
        batch = kind.batch
        recorded = lambda self, *given, batch=batch: taught.append(type(self)) or batch(self, *given)  # noqa: E731
        monkeypatch.setattr(kind, "batch", recorded)
    alone = Course("induction", head_start=3, practice="whole list")
    Training(replace(TINY, courses=(Course("successor", 100), alone)), 0, words).train_to(6)
    assert taught == [Practice] * 3 + [Lessons] * 3
