"""Shipped dictionaries: whole, of the kinds promised, made by a script that goes on; and truths carried over."""

import hashlib
from collections import Counter

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.ground_truth.dictionaries import train
from circuitmeter.ground_truth.dictionaries.carried import counterparts
from circuitmeter.ground_truth.dictionaries.recipe import DICTIONARY_PROGRAMS as PROGRAMS
from circuitmeter.ground_truth.dictionaries.recipe import DICTIONARY_SEEDS as SEEDS
from circuitmeter.ground_truth.dictionaries.recipe import DICTIONARY_WIDTHS as WIDTHS
from circuitmeter.ground_truth.dictionaries.recipe import OF_MINI, OF_PROGRAMS, OF_SMOLLM2
from circuitmeter.ground_truth.dictionaries.shipped import (
    DICTIONARY_FILES,
    dictionaries_of,
    dictionary_manifest,
    file_of,
    names,
    read_shipped,
    shipped,
)
from circuitmeter.suite.circuit import EdgeScores
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.features.scores import dictionary_scores
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.features.training import TrainingRecipe
from circuitmeter.suite.model.load import train_dictionaries
from circuitmeter.suite.scoring.recovery import recovery


def test_three_seeds_and_widths_of_two_programs_and_two_tasks_are_there_and_one_of_smollm2():
    subjects = Counter(name.rsplit("-", 2)[0] for name in shipped())
    wanted = {f"{OF_PROGRAMS}/{program}" for program in PROGRAMS} | {
        f"{OF_MINI}/ioi",
        f"{OF_MINI}/greater-than",
    }
    one = {f"{OF_SMOLLM2}/ioi": 1}
    assert subjects == dict.fromkeys(wanted, len(WIDTHS) * len(SEEDS)) | one and len(SEEDS) == len(WIDTHS) == 3
    folder = DICTIONARY_FILES
    files = list(folder.rglob("*.safetensors"))
    assert {path.relative_to(folder).as_posix() for path in files} == {f"{name}.safetensors" for name in shipped()}
    assert sum(path.stat().st_size for path in files) < 5_000_000
    for name, about in shipped().items():
        assert hashlib.sha256(file_of(DICTIONARY_FILES, name).read_bytes()).hexdigest() == about.sha256


def test_a_damaged_file_and_an_unknown_name_are_one_line(tmp_path, monkeypatch):
    from circuitmeter.ground_truth.dictionaries import shipped as module

    name = names(OF_MINI)[0]
    file_of(tmp_path, name).parent.mkdir()
    file_of(tmp_path, name).write_bytes(file_of(DICTIONARY_FILES, name).read_bytes()[:-1] + b"x")
    monkeypatch.setattr(module, "DICTIONARY_FILES", tmp_path)
    with pytest.raises(ModelError, match="damaged.*reinstall"):
        read_shipped(name)
    with pytest.raises(ModelError, match="no set of dictionaries"):
        read_shipped("mini-dictionaries/ioi-huge-0")


@pytest.mark.parametrize("program", PROGRAMS)
def test_scores_in_the_manifest_are_those_of_the_files(program):
    truth = ground_truth.load(f"tracr-rotated-features/{program}")
    model = truth.model()
    data = next(train.lessons_of_programs([program])).data
    values = train.values_at_sites(model, data)
    for width in WIDTHS:
        name = f"{OF_PROGRAMS}/{program}-{width}-1"
        for site, book in read_shipped(name).items():
            about = shipped()[name].sites[str(site)]
            true = model.dictionaries[str(site)].W_dec
            found = dictionary_scores(book, values[site], directions=true)
            assert book.n_features == about.recipe.n_features == max(1, int(WIDTHS[width] * len(true)))
            assert about.directions == len(true)
            for score in ("unexplained", "l0", "dead", "found", "mean_cosine"):
                assert getattr(found, score) == pytest.approx(getattr(about, score), abs=2e-3), (name, score)


def lesson(seed=0, steps=6):
    first = next(train.lessons_of_programs(["pointer_twice"]))
    recipe = TrainingRecipe(3, steps=steps, rows=16, seed=seed)
    fields = {name: getattr(first, name) for name in first.__dataclass_fields__}
    return train.DictionaryLesson(**fields | {"recipes": dict.fromkeys(first.recipes, recipe)})


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)
    told = []

    def stop(line):
        told.append(line)
        if "attn_out.1 step 4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train_dictionaries([lesson()], tmp_path / "half", stop)
    with pytest.raises(ModelError, match="another training"):
        train.train_dictionaries([lesson(steps=8)], tmp_path / "half", told.append)
    train.train_dictionaries([lesson()], tmp_path / "half", told.append)
    assert any("attn_out.1 goes on from step 4" in line for line in told)
    train.train_dictionaries([lesson()], tmp_path / "whole", told.append)
    name = lesson().name
    assert file_of(tmp_path / "half", name).read_bytes() == file_of(tmp_path / "whole", name).read_bytes()
    assert dictionary_manifest(tmp_path / "half") == dictionary_manifest(tmp_path / "whole") != {}
    assert {path.suffix for path in (tmp_path / "half").rglob("*.*")} == {".safetensors", ".json"}
    train.train_dictionaries([lesson()], tmp_path / "whole", told.append)
    assert told[-1] == f"{name} is there"


@pytest.mark.parametrize("script", [train, train_dictionaries])
def test_an_unknown_name_and_another_training_are_one_line_of_the_scripts(script, tmp_path, monkeypatch, capsys):
    kind, known = ("program", PROGRAMS) if script is train else ("subject", train_dictionaries.SUBJECTS)
    assert script.main([known[0], "pointer_thrice", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"no {kind} 'pointer_thrice'.") and said.count("\n") == 1 and known[1] in said
    assert not list(tmp_path.iterdir())

    def refuse(lessons, out, tell):
        raise ModelError(f"{out} is of another training than {lessons}")

    monkeypatch.setattr(train, "train_dictionaries", refuse)
    monkeypatch.setattr(script, "lessons_of_programs" if script is train else "lessons_of_models", " and ".join)
    assert script.main(["--out", str(tmp_path)]) == 2  # of every program, or subject, that ships
    assert capsys.readouterr().err == f"{tmp_path} is of another training than {' and '.join(known)}\n"
    assert script.main([known[1], "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path} is of another training than {known[1]}\n"


def test_the_same_seed_is_the_same_dictionary_and_another_is_not(tmp_path):
    for folder, seed in (("one", 0), ("two", 0), ("other", 1)):
        train.train_dictionaries([lesson(seed)], tmp_path / folder, lambda line: None)
    one, two, other = (file_of(tmp_path / each, lesson().name).read_bytes() for each in ("one", "two", "other"))
    assert one == two != other


@pytest.mark.parametrize("name", [f"{OF_PROGRAMS}/{program}-{width}-0" for program in PROGRAMS for width in WIDTHS])
def test_a_truth_that_is_carried_over_has_every_true_edge_once(name):
    truth, base = ground_truth.load(name), ground_truth.load(shipped()[name].model)
    true, model = base.model(), truth.model()
    rows = {
        f"{at.stem}.f{f}": model.dictionaries[str(at.site)].W_dec[f] for at in model.graph.sites for f in at.features
    }
    labels = truth.description.writers
    for ablation, claim in base.certificate.ablations.items():
        carried = truth.certificate.ablations[ablation]
        assert len(carried.core) + len(carried.missed) == len(claim.core)
        assert len(set(carried.core)) == len(carried.core)
        reference = truth.reference(ablation)
        assert reference.size == len(claim.core)
        ceiling = recovery(EdgeScores(truth.graph, reference.core.double()), reference)
        assert ceiling["recall"] == pytest.approx(len(carried.core) / len(claim.core))
        assert (ceiling["auroc"] == 1) == (not carried.missed)
    for node, (label,) in labels.items():
        (old,) = [
            each for each, written in base.description.writers.items() if written == [label] and each[:2] == node[:2]
        ]
        at = next(at for at in true.graph.sites if at.stem == node.partition(".")[0])
        direction = true.dictionaries[str(at.site)].W_dec[int(old.partition(".f")[2])]
        assert float(torch.cosine_similarity(rows[node], direction, dim=0)) >= 0.9


def test_the_directions_themselves_miss_nothing():
    base = ground_truth.load("tracr-rotated-features/is_unique")
    model = base.model()
    own = {at.site: model.dictionaries[str(at.site)] for at in model.graph.sites}
    assert all(old == new for old, new in counterparts(model.graph, model.dictionaries, own).items())


def test_dictionaries_of_a_file_say_what_they_are():
    name = f"{OF_MINI}/ioi-equal-0"
    ((site, book),) = read_shipped(name).items()
    assert site == Site(1, "resid_pre") and (book.activation, book.k, book.centred) == ("topk", 8, True)
    tensors = {f"{site}/{part}": getattr(book, part) for part in ("W_enc", "b_enc", "W_dec", "b_dec")}
    assert torch.equal(dictionaries_of(tensors, shipped()[name].sites)[site].W_enc, book.W_enc)
