"""The mini models: what ships, what it can do, and that training can be interrupted."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.load.by_name import load_model, load_tokenizer, model_names
from circuitmeter.suite.plan.subject import subject
from circuitmeter.tasks import mini
from circuitmeter.tasks.mini import vocabulary
from circuitmeter.tasks.mini.recipe import MINI_RECIPES, Course, Drill, MiniRecipe
from circuitmeter.tasks.mini.ship import ship_mini
from circuitmeter.tasks.mini.train import MINI_CHECKPOINT, Training, rate_of_mini, train_mini

SIX, EIGHT = ([course.task for course in MINI_RECIPES[name].courses] for name in ("six", "eight"))
TINY = MiniRecipe(
    (Course("successor"), Course("country-capital")), 1, 2, 8, steps=12, check_every=4, pool=60, enough=2.0
)


def test_the_shipped_models_are_listed_and_small():
    assert set(mini.names()) == {"mini", "mini-seed1", "mini-seed2", "mini-8"} <= set(model_names())
    sizes = [path.stat().st_size for path in mini.MINI_WEIGHTS.rglob("*") if path.is_file()]
    assert sum(sizes) < 5e6


@pytest.mark.parametrize(
    ("name", "learnt", "layers", "parameters"),
    [*((name, SIX, 2, 139712) for name in ("mini", "mini-seed1", "mini-seed2")), ("mini-8", EIGHT, 3, 395136)],
)
@torch.no_grad()
def test_shipped_accuracies_hold(name, learnt, layers, parameters):
    """On 300 prompts of each test split, of which none was taught, nor as a counterfactual."""
    model, tokenizer = load_model(name, device="cpu"), load_tokenizer(name)
    claimed = mini.manifest()[name]
    assert claimed.recipe.n_layers == layers and claimed.parameters == parameters
    for task in learnt:
        data = tasks.load(task).on(tokenizer).data("test")
        data = data.select(torch.arange(min(300, data.n)))
        right = 0
        for batch in data.batches(300):
            best = model(batch.clean)[:, -1].argmax(-1)
            right += int((batch.answers == best[:, None]).any(1).sum())
        least = 0.7 if (name, task) == ("mini-8", "successor") else 0.99  # the docs say so
        assert claimed.accuracy["test"][task] >= least and right >= (least - 0.01) * data.n, task


def test_mini_8_has_heads_of_induction():
    """Heads of the first layer look one token back; those of the second look behind the word's first mention, together.

    Each of the second layer's four gives that place .4 of its attention, no other head more than .2.
    """
    from transformers import AutoModelForCausalLM

    source = AutoModelForCausalLM.from_pretrained(mini.folder("mini-8"), attn_implementation="eager")
    data = tasks.load("induction").on(load_tokenizer("mini-8")).data("test")
    (back, behind), n = torch.zeros(2, 3, 4), 0
    for batch in data.batches(200):
        with torch.no_grad():
            patterns = torch.stack(source(batch.clean, output_attentions=True).attentions)  # [layer, row, head, q, k]
        back += patterns.diagonal(-1, dim1=-2, dim2=-1).mean(-1).sum(1)
        behind += (patterns[..., -1, :] * batch.positions["first+1"][None, :, None]).sum(-1).sum(1)
        n += len(batch.clean)
    back, behind = back / n, behind / n
    assert back[0].min() > 0.25 > back[1:].max(), back
    assert behind[1].min() > 0.35 and behind[[0, 2]].max() < 0.2, behind


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
    shutil.copytree(mini.MINI_WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(mini, "MINI_WEIGHTS", tmp_path / "weights")
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
    steps(3).save(tmp_path / MINI_CHECKPOINT)
    resumed = steps(6, tmp_path / MINI_CHECKPOINT)
    for (name, a), b in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(whole.model.lm_head.weight, steps(5).model.lm_head.weight)
    with pytest.raises(ModelError, match="another recipe or seed"):
        Training(TINY, 6, words).load(tmp_path / MINI_CHECKPOINT)
    with pytest.raises(ModelError, match="another recipe or seed"):
        Training(replace(TINY, smoothing=0.0), 5, words).load(tmp_path / MINI_CHECKPOINT)


def test_train_writes_a_folder_that_can_be_shipped(tmp_path):
    lines = []
    training = train_mini(TINY, 0, tmp_path / "made", lines.append)
    assert training.step == 12 and len(lines) == 3 and "validation successor" in lines[0]
    entry = ship_mini(tmp_path / "made", "small", tmp_path / "weights")
    assert mini.manifest(tmp_path / "weights") == {"small": entry}
    assert set(entry.accuracy["test"]) == {"successor", "country-capital"} and entry.steps == 12
    assert load_model(tmp_path / "weights" / "small", device="cpu").config.d_model == 8
    again = train_mini(TINY, 0, tmp_path / "made", lines.append)
    assert again.step == 12 and lines[-1] == "goes on from step 12"


def test_the_learning_rate_rises_and_falls():
    recipe = MINI_RECIPES["six"]
    rates = [rate_of_mini(step, recipe) for step in (0, 49, 99, 100, recipe.steps)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0, recipe.last_rate])


@pytest.mark.parametrize("course", MINI_RECIPES["eight"].courses, ids=lambda c: c.task)
def test_no_prompt_that_is_reported_or_stopped_on_is_taught(course, words):
    """Nor as another prompt's counterfactual, nor within the text of another."""
    from circuitmeter.tasks.mini.lessons import prepare_lessons

    taught = set()
    for part in prepare_lessons(course, replace(MINI_RECIPES["eight"], pool=1500), words, 0).lessons:
        for row, ids in enumerate(part.tokens.tolist()):
            last = [len(ids) - 1]
            asked = (part.targets[row] >= 0).nonzero().flatten().tolist() if course.practice else last
            taught |= {tuple(ids[: end + 1]) for end in asked}
    for split in ("validation", "test"):
        held_out = tasks.load(course.task).prompts(words, split, 1000)
        assert len(taught) > 50 and not taught & {tuple(words(prompt.clean.text)) for prompt in held_out}


def test_prompts_of_a_batch_come_with_their_twins(words):
    from circuitmeter.tasks.mini.lessons import generator, prepare_lessons

    recipe = replace(MINI_RECIPES["six"], pool=400)
    (course,) = [course for course in recipe.courses if course.task == "ioi@flip"]
    made = prepare_lessons(course, recipe, words, 0)
    lessons = max(made.lessons, key=lambda part: len(part.tokens))
    tokens, targets = lessons.batch(8, False, generator(0, 0))
    assert ((tokens[:4] != tokens[4:]).sum(1) == 1).all() and (targets[:, :-1] == -1).all()
    assert (targets[:4, -1] != targets[4:, -1]).all()
    _, easy = lessons.batch(64, True, generator(0, 1))
    names = {int(i) for i in lessons.answers.flatten()}
    assert len(set(easy[:, -1].tolist())) <= 10 and len(names) > 30


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "name"), [("six", "mini"), ("eight", "mini-8")])
def test_the_mini_models_can_be_trained_again(recipe, name, tmp_path):
    """Minutes (the six tasks) or a quarter of an hour (eight): the recipe, from scratch, gets there."""
    from circuitmeter.tasks.mini.report import accuracies, examination

    training = train_mini(MINI_RECIPES[recipe], 0, tmp_path)
    claimed = mini.manifest()[name].accuracy["test"]
    found = accuracies(training.model, examination(training.tokenizer, list(claimed), "test"))
    assert all(found[task] >= value - 0.01 for task, value in claimed.items()), found


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


def test_a_drill_is_one_task_for_a_time_and_learnt_faster(words, monkeypatch):
    from circuitmeter.tasks.mini.lessons import Lessons, Practice

    taught = []
    for kind in (Lessons, Practice):
        batch = kind.batch
        recorded = lambda self, *given, batch=batch: taught.append(type(self)) or batch(self, *given)  # noqa: E731
        monkeypatch.setattr(kind, "batch", recorded)
    courses = (Course("successor"), Course("induction", weight=1e-9, practice="whole list"))
    drilled = replace(TINY, courses=courses, warmup_steps=0, drill=Drill("induction", 2, 5, weight=1e9, rate=2.0))
    Training(drilled, 0, words).train_to(7)
    assert taught == [Lessons] * 2 + [Practice] * 3 + [Lessons] * 2
    faster = [rate_of_mini(step, drilled) / rate_of_mini(step, replace(drilled, drill=None)) for step in range(7)]
    assert faster == pytest.approx([1, 1, 2, 2, 2, 1, 1])
