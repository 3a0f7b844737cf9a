"""``circuitmeter truth``: a stranger's program becomes a certified model, or is refused with the reason."""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser

import pytest

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.rasp import compile as compiler
from circuitmeter.ground_truth.rasp import user
from circuitmeter.ground_truth.recertify import recertify
from circuitmeter.ground_truth.sealed import seal
from circuitmeter.suite import cli
from circuitmeter.suite.errors import CircuitMeterError, ModelError
from circuitmeter.suite.verbs import truth

PROGRAM = '''
from tracr.compiler import lib as library
from tracr.rasp import rasp as R


def count_a():
    """How many tokens are a."""
    print("this is not the result")
    return library.make_count(R.tokens, "a").named("count")


first = R.Aggregate(R.Select(R.indices, R.indices, lambda k, q: k == 0), R.tokens)


def negative(rasp, lib):
    return rasp.numerical(rasp.Map(lambda x: -1 if x == "a" else 1, rasp.tokens)).named("sign")


def average(rasp, lib):
    share = lib.make_frac_prevs(rasp.tokens == "a")
    return rasp.numerical(rasp.Map(lambda x: x + 1, share)).named("shifted")


def undefined_query(rasp, lib):
    before = lib.shift_by(1, rasp.tokens).named("before")
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, before, lambda k, q: q is None or k == q))


def joined(rasp, lib):
    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    return rasp.SelectorWidth(same & rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.LT))


def many(rasp, lib):
    value = rasp.numerical(rasp.Map(lambda x: 3 if x == "a" else 1, rasp.tokens))
    return rasp.numerical(rasp.Aggregate(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ), value, default=0))


def turned(rasp, lib):
    return rasp.SelectorWidth(rasp.SelectorNot(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)))


def copied(rasp, lib):
    return rasp.tokens


def place(rasp, lib):
    return rasp.Map(lambda i: i + 1, rasp.indices)


def fails(rasp, lib):
    return rasp.Map(lambda x: x + 1, rasp.tokens)


def breaks():
    raise RuntimeError("no program today")


def number():
    return 3
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "programs.py"
    path.write_text(PROGRAM)
    return path


def run(file, name, *arguments, out):
    parser = ArgumentParser()
    truth.add_arguments(parser)
    vocabulary = () if "--vocab" in arguments else ("--vocab", "a,b")
    length = () if "--max-len" in arguments else ("--max-len", "3")
    return truth.run(parser.parse_args([f"{file}:{name}", *vocabulary, *length, *arguments, "--out", str(out)]))


@pytest.fixture(scope="module")
def certified(file, tmp_path_factory):
    pytest.importorskip("tracr", reason="Tracr is not installed: pip install '.[tracr]'")
    folder = tmp_path_factory.mktemp("certified") / "count_a"
    assert run(file, "count_a", "--json", out=folder) == 0
    return folder


def test_the_folder_is_a_truth_a_task_and_a_model(certified):
    made = ground_truth.load(certified)
    assert made.description.description == "How many tokens are a." and made.description.program == "count_a"
    assert made.certificate.domain.n_inputs == 4 + 8 and made.certificate.domain.enumerated
    # One head counts, one MLP inverts; under patch what is constant is not in the circuit.
    assert {name: len(claim.core) for name, claim in made.certificate.ablations.items()} == {
        "patch": 4,
        "resample": 4,
        "zero": 6,
        "mean": 6,
        "mean-positional": 4,
        "noise": 6,
    }
    task = tasks.load(certified)
    assert task.data("test").n == 12 and task.model == str(certified)


def test_an_edited_certificate_is_refused_until_it_is_certified_anew(certified, tmp_path):
    mine = shutil.copytree(certified, tmp_path / "mine")
    path = mine / "certificate.json"
    whole = path.read_text()
    forged = json.loads(whole)
    forged["ablations"]["zero"]["core"].pop()
    path.write_text(json.dumps(forged))
    with pytest.raises(ModelError, match=r"was edited.*--recertify"):
        ground_truth.load(mine)
    with pytest.raises(ModelError, match=r"does not hold: ablations: zero: core: it says"):
        recertify(mine)
    with pytest.raises(ModelError, match="was edited"):
        ground_truth.load(mine)
    path.write_text(whole)
    (mine / "SHA256SUMS").unlink()
    with pytest.raises(ModelError, match=r"is not covered.*--recertify"):
        tasks.load(mine)
    parser = ArgumentParser()
    truth.add_arguments(parser)
    assert truth.run(parser.parse_args([str(mine), "--recertify"])) == 0
    assert ground_truth.load(mine).certificate_hash == ground_truth.load(certified).certificate_hash


def test_json_is_all_that_is_printed(file, tmp_path, capfd):
    pytest.importorskip("tracr")
    options = ("--json", "--fixed-length", "--max-len", "2", "--ablation", "zero")
    assert run(file, "count_a", *options, out=tmp_path / "out") == 0
    printed = json.loads(capfd.readouterr().out)
    assert list(printed["ablations"]) == ["zero"] and printed["domain"]["lengths"] == [2]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("negative", (), "'sign' gives -1 .* clips negative numbers to 0"),
        pytest.param("average", ("--max-len", "3"), "'shifted' reads the number 0.66", marks=pytest.mark.slow),
        pytest.param("undefined_query", (), "asks with 'before', which is undefined", marks=pytest.mark.slow),
        ("many", (), "averages the numbers 1, 3, and Tracr .* zeros and ones. Scale"),
        ("joined", (), "joins two selectors"),
        ("turned", (), "turns a selector around by 'not'"),
        ("copied", (), "compiles to no layer"),
        ("place", (), "does not depend on the input"),
        ("fails", (), "fails in Tracr's interpreter: TypeError"),
        ("breaks", (), "RuntimeError: no program today"),
        ("number", (), "gives a int"),
        ("cuont_a", (), "Did you mean 'count_a'"),
        ("count_a", ("--max-len", "10"), "exact up to 9 tokens"),
        ("first", ("--vocab", "a,b,c,d", "--max-len", "7"), "21,840 sequences .* --sample"),
        ("count_a", ("--vocab", "a"), "two different tokens"),
        ("count_a", ("--max-len", "1"), "2 or more"),
        ("count_a", ("--ablation", "optimal"), "ablation that can be certified 'optimal'"),
    ],
)
def test_what_cannot_be_certified_is_refused_with_the_reason(file, name, arguments, message, tmp_path):
    pytest.importorskip("tracr")
    with pytest.raises(CircuitMeterError, match=message):
        run(file, name, *arguments, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_sample_says_so(file, tmp_path, capsys):
    pytest.importorskip("tracr")
    options = ("--vocab", "a,b,c,d", "--max-len", "7", "--sample", "60", "--ablation", "patch")
    assert run(file, "first", *options, out=tmp_path / "out") == 0
    assert "a sample of 60 inputs" in capsys.readouterr().out
    about = ground_truth.load(tmp_path / "out").certificate.domain
    assert not about.enumerated and about.n_inputs == 60


def test_why_inputs_are_not_as_many_as_asked_for():
    pytest.importorskip("tracr")

    def why(sample, certified):
        return user.why_not_as_many("abc", 4, fixed=False, sample=sample, certified=certified)

    assert why(None, 9 + 27 + 81) == []
    assert why(None, 110) == ["On 7 of 117 sequences the program defines no output; they are left out."]
    assert why(200, 117) == ["--sample 200: there are 117 sequences, and all are taken."]
    (capped,) = why(60, 9 + 20 + 20)
    assert "--sample 60: 49 sequences are drawn" in capped and "20 of each length" in capped
    assert why(24, 24) == [] and len(why(60, 40)) == 2


def test_nothing_is_overwritten(file, certified):
    with pytest.raises(CircuitMeterError, match="exists"):
        run(file, "count_a", out=certified)


def test_without_the_extra_it_is_one_sentence(file, tmp_path, monkeypatch):
    def missing():
        raise ModelError("compiling a RASP program needs Tracr, and 'tracr' is not installed")

    monkeypatch.setattr(compiler, "tracr_modules", missing)
    monkeypatch.setattr("circuitmeter.ground_truth.rasp.user.tracr_modules", missing)
    with pytest.raises(ModelError, match="not installed"):
        run(file, "count_a", out=tmp_path / "out")


def test_a_vocabulary_may_begin_with_a_minus_sign():
    given = ["truth", "p.py:f", "--vocab", "-2,-1,0", "--max-len", "3", "--out", "o"]
    options = cli.build_parser().parse_args(given)
    assert truth.vocabulary_of(options.vocab) == (-2, -1, 0)


def test_whole_numbers_are_numbers():
    assert truth.vocabulary_of("1, 2,-3,x") == (1, 2, -3, "x")


def enumerated(*arguments):
    parser = ArgumentParser()
    truth.add_arguments(parser)
    return truth.run(parser.parse_args([*map(str, arguments)]))


def test_enumerate_prints_every_minimal_circuit(capsys):
    assert enumerated("gates/backup", "--enumerate", "--ablation", "zero", "patch", "resample") == 0
    printed = capsys.readouterr().out
    assert "resample" not in printed  # the same as patch
    assert "zero: 2 circuits, which share m0->logits" in printed and "patch:" not in printed
    assert "  2: " in printed and "a0.h1->m0" in printed
    assert enumerated("gates/backup", "--enumerate", "--ablation", "zero", "--json") == 0
    found = json.loads(capsys.readouterr().out)["ablations"]["zero"]
    assert [len(circuit) for circuit in found["circuits"]] == [5, 5] and found["largest"] is None


def test_enumerate_writes_into_a_folder_of_one_s_own_what_is_complete(tmp_path, capsys):
    mine = shutil.copytree(ground_truth.load("gates/backup").directory, tmp_path / "mine")
    (mine / "minimal.json").unlink()
    assert enumerated(mine, "--enumerate", "--largest", "4") == 0
    assert not (mine / "minimal.json").exists()
    assert enumerated(mine, "--enumerate", "--ablation", "zero") == 0
    assert len(ground_truth.load(mine).reference("zero").minimal) == 2
    assert enumerated(mine, "--recertify") == 0
    capsys.readouterr()


def test_enumerate_writes_resample_as_patch_once(tmp_path, capsys):
    mine = shutil.copytree(ground_truth.load("gates/backup").directory, tmp_path / "mine")
    (mine / "minimal.json").unlink()
    assert enumerated(mine, "--enumerate", "--ablation", "resample", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)["ablations"]) == ["patch"]
    assert list(json.loads((mine / "minimal.json").read_text())["ablations"]) == ["patch"]
    truth = ground_truth.load(mine)
    assert len(truth.reference("resample").minimal) == len(truth.reference("patch").minimal) == 1


def test_enumerate_writes_the_list_of_a_variant_and_seals_nothing_else(tmp_path, capsys):
    mine = shutil.copytree(ground_truth.load("tracr/hist").directory, tmp_path / "mine")
    assert enumerated(f"{mine}@fixed", "--enumerate", "--ablation", "patch", "--largest", "4") == 0
    assert not (mine / "minimal.fixed.json").exists()
    edited = mine / "certificate.json"  # of the other variant, which is not loaded
    edited.write_text(edited.read_text().replace('"tolerance": 0.02', '"tolerance": 0.01'))
    assert enumerated(f"{mine}@fixed", "--enumerate", "--ablation", "patch") == 0
    assert len(ground_truth.load(f"{mine}@fixed").reference("patch").minimal) == 1
    with pytest.raises(CircuitMeterError, match="certificate.json is not covered"):
        ground_truth.load(mine)
    capsys.readouterr()


def test_enumerate_writes_into_no_folder_that_ships(monkeypatch, capsys):
    def write(truth, found):
        raise AssertionError(f"{truth.directory} is written to")

    monkeypatch.setattr("circuitmeter.ground_truth.minimal_circuits.write_minimal_circuits", write)
    folder = ground_truth.load("gates/position").directory
    for name in ("gates/position", folder, "tracr-rotated/hist"):
        assert enumerated(name, "--enumerate", "--ablation", "patch" if "hist" in str(name) else "mean") == 0
    capsys.readouterr()


def test_a_list_about_another_model_is_made_anew(tmp_path, capsys):
    mine = shutil.copytree(ground_truth.load("gates/backup").directory, tmp_path / "mine")
    path = mine / "minimal.json"
    for forge in (
        lambda content: content["of"].update(weights="0" * 64),
        lambda content: content.update(tolerance=0.5),
    ):
        content = json.loads(path.read_text())
        forge(content)
        path.write_text(json.dumps(content))
        seal(mine)
        with pytest.raises(CircuitMeterError, match=r"not about the model beside it; delete it, and .* --enumerate"):
            ground_truth.load(mine).minimal("zero")
        with pytest.raises(CircuitMeterError, match="not about the model beside it"):
            enumerated(mine, "--recertify")
        assert enumerated(mine, "--enumerate", "--ablation", "zero") == 0
        again = ground_truth.load(mine)
        assert len(again.minimal("zero").circuits) == 2 and again.minimal("mean") is None
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trained/count_a", "--enumerate"), "46 edges that may matter under patch"),
        (("gates/backup", "--largest", "3"), "give --enumerate with it"),
        (("gates/backpu", "--enumerate"), "Did you mean 'gates/backup'"),
        (("trained/count_a", "--enumerate", "--ablation", "zero"), "not certified under zero"),
    ],
)
def test_what_cannot_be_enumerated_is_refused_with_the_reason(arguments, message):
    with pytest.raises(CircuitMeterError, match=message):
        enumerated(*arguments)
