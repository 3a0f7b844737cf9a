"""The command itself: its speed, its grammar, its exit status, its one-line errors."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import os
import subprocess
import sys

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.run.kept_sums import KeptSums
from circuitmeter.suite.store.store import Store
from circuitmeter.suite.verbs import listing

VERBS = tuple(verb.NAME for verb in cli.VERBS)
_ROWS = dict(listing._ROWS)
HEAVY = ("torch", "pandas", "pydantic", "matplotlib", "numpy", "transformers", "rich", "jinja2")


def circuitmeter(*arguments: str, **options) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "circuitmeter", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom circuitmeter.suite import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
    assert "usage: circuitmeter" in found.stdout


def test_files_that_are_missing_are_refused_before_anything_heavy_is_imported(tmp_path):
    on, found = ["--task", "ioi", "--model", "mini"], ["--method", "eap", "--out", "c.json"]
    requests = [
        ["convert", "none.json", "--to", "acdc", "--out", "c.json"],
        ["convert", "there.json", "--to", "acdc", "--out", "none/c.json"],
        ["compare", "there.json", "none.json"],
        ["evaluate", "none.json", *on],
        ["show", "none.json"],
        ["show", "ioi", "--out", "none/page.html"],
        ["discover", "--data", "none.jsonl", "--model", "mini", *found],
        ["discover", *on, *found, "--avoid", "none.json"],
        ["discover", *on, *found[:2], "--out", "none/c.json"],
        ["stability", "--data", "none.jsonl", "--model", "mini", "--method", "eap", "--out", "s"],
    ]
    (tmp_path / "there.json").write_text("[]")
    code = (
        "import sys\nfrom circuitmeter.suite import cli\n"
        f"print([cli.main(request) for request in {requests!r}])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.splitlines() == [str([2] * len(requests)), "[]"]
    lines = found.stderr.splitlines()
    assert len(lines) == len(requests) and all(
        "cannot read none" in line or "cannot write none" in line for line in lines
    )


def test_a_percentage_where_a_fraction_is_asked_for_is_told_as_one(capsys):
    for text, words in (("5", "; 5 % is 0.05)"), ("0", "at most 1)"), ("-1", "at most 1)"), ("1e9", "at most 1)")):
        assert cli.main(["discover", "--task", "ioi", "--method", "eap", "--out", "c.json", f"--fraction={text}"]) == 2
        err = capsys.readouterr().err
        assert f"{text!r} is not a fraction (above 0, " in err and words in err


def test_help_names_every_verb():
    found = circuitmeter("--help")
    assert found.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in found.stdout
    assert found.stderr == ""


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert f"usage: circuitmeter {verb}" in capsys.readouterr().out


def test_version(capsys):
    import circuitmeter as package

    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"circuitmeter {package.__version__}\n"


MISTAKES = {
    (): "the following arguments are required: VERB",
    ("discovr",): "invalid choice: 'discovr'",
    ("run",): "the following arguments are required: SPEC",
    ("run", "quick", "--wrkers", "3"): "unrecognized arguments: --wrkers 3; `circuitmeter run --help` says more.",
    ("run", "quick", "--device", "tpu"): "argument --device: invalid choice: 'tpu'",
    ("run", "quick", "--workers", "0"): "argument --workers: 0 is too few",
    ("run", "quik"): "no benchmark 'quik'. Did you mean 'quick'?",
    ("plan", "none.toml"): "none.toml",
    ("list", "method"): "argument KIND: invalid choice: 'method'",
    ("report", "nowhere"): "no store at nowhere",
    ("discover", "--task", "tracr/reverse", "--data", "x", "--method", "eap", "--out", "c.json"): "not allowed with",
    ("discover", "--method", "eap", "--out", "c.json"): "one of the arguments --task --data is required",
    ("validate", "my_method.py"): "my_method.py:discover",
    ("validate", "none.py:discover"): "none.py",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("circuitmeter: ") and err.count("\n") == 1
    assert MISTAKES[arguments] in err
    assert not list(tmp_path.iterdir())  # nothing was computed or written


@pytest.mark.skipif(
    "torch" in sys.modules and sys.modules["torch"].cuda.is_available(), reason="there is a CUDA device"
)
@pytest.mark.parametrize("verb", [["run", "quick"], ["validate", "m.py:discover"]])
def test_cuda_without_cuda(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text("def discover(model, data, *, ablation, objective, seed):\n    return {}\n")
    assert cli.main([*verb, "--device", "cuda"]) == 2
    err = capsys.readouterr().err
    assert "torch sees no CUDA device here; use --device cpu" in err and err.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def rows_of():
    """The rows of each kind, made once, for JSON and for the terminal."""
    return functools.cache(lambda kind: _ROWS[kind]())


@pytest.fixture
def listed_once(monkeypatch, rows_of):
    for kind in _ROWS:
        monkeypatch.setitem(listing._ROWS, kind, lambda kind=kind: copy.deepcopy(rows_of(kind)))


@pytest.mark.parametrize(
    "kind", ["methods", "tasks", "models", "truths", "references", "benchmarks", "ablations", "objectives"]
)
def test_list(kind, capsys, listed_once):
    assert cli.main(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in rows]
    expected = {
        "methods": {"acdc", "eap", "eap-ig", "exact", "magnitude", "random", "truth"},
        "tasks": {"tracr/reverse", "tracr/reverse@fixed", "ioi", "ioi@flip", "blimp/wh_island"},
        "models": {"mini", "mini-seed1", "tracr/reverse", "gpt2", "gpt2-xl", "attn-only-4l", "EleutherAI/pythia-160m"},
        "references": {"ioi/acdc", "ioi/auto-circuit@corrected", "greater-than/eap-ig"},
        "truths": {"tracr/reverse", "tracr/reverse@fixed", "tracr/xproportion"},
        "benchmarks": {"quick", "known-circuits-1"},
        "ablations": {"patch", "zero", "mean", "mean-positional", "resample"},
        "objectives": {"answer-difference", "l2", "kl", "logit-difference"},
    }[kind]
    assert expected <= set(names) and len(set(names)) == len(names)
    assert cli.main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    first_words = [line.split()[0] for line in lines if line and not line.startswith("  ")]
    listed = [name for name in first_words[1:] if not name.endswith("/*")]
    folded = [name for name in names if f"{name.partition('/')[0]}/*" in first_words]
    assert first_words[0] == "name" and sorted(listed + folded) == sorted(names) and len(first_words) < 60


def test_list_of_a_family(capsys, listed_once):
    assert cli.main(["list", "models", "tracr/sort*"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        f"tracr/sort{rest}" for rest in ("", "_descending", "_freq", "_unique")
    ]
    assert err == ""
    assert cli.main(["list", "models", "tracer/*"]) == 2
    assert (
        "no models called 'tracer/*'" in (err := capsys.readouterr().err) and "tracr/*" in err and err.count("\n") == 1
    )


def test_models_of_the_hub_are_listed_with_what_they_stand_for(capsys, listed_once):
    assert cli.main(["list", "models", "gpt2*", "--json"]) == 0
    small, medium, large, xl = sorted(json.loads(capsys.readouterr().out), key=lambda row: row["layers"])
    assert (small["name"], medium["name"], large["name"]) == ("gpt2", "gpt2-medium", "gpt2-large")
    assert (small["layers"], small["heads"], xl["layers"], xl["heads"]) == (12, 12, 48, 25)
    assert small["description"] == "from the hub: gpt2, revision 607a30d7"
    assert cli.main(["list", "models", "attn*", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert "NeelNanda/Attn_Only_4L512W_C4_Code" in row["description"] and "pickle" in row["description"]


def test_interruption_is_quiet(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.VERBS[0], "run", interrupted)
    assert cli.main(["list", "methods"]) == cli.INTERRUPTED == 130
    out, err = capsys.readouterr()
    assert out == "" and err == "circuitmeter: interrupted; nothing was written.\n"


@pytest.mark.parametrize(
    ("arguments", "where", "kept"),
    [
        (
            ["run", "quick", "--store", "kept"],
            "circuitmeter.suite.run.run.run",
            "the cells that are finished are in kept,",
        ),
        (["merge", "one", "--into", "kept"], "circuitmeter.suite.store.merge.merge", "what was copied is in kept,"),
    ],
)
def test_an_interruption_says_what_is_kept(arguments, where, kept, tmp_path, monkeypatch, capsys):
    def interrupted(*given, **named):
        Store("kept", create=True)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    module, _, name = where.rpartition(".")
    monkeypatch.setattr(importlib.import_module(module), name, interrupted)
    assert cli.main(arguments) == cli.INTERRUPTED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"circuitmeter: interrupted; {kept}") and line.endswith(".")


@pytest.mark.parametrize(
    ("batches", "kept"), [(0, "nothing of it is kept: eap had finished no part"), (2, "the batches that are finished")]
)
def test_an_interrupted_search_says_what_it_leaves_behind(batches, kept, tmp_path, monkeypatch, capsys):
    save, saved = KeptSums.save, []

    def interrupted(sums, part, n, total):
        if n > batches:
            raise KeyboardInterrupt
        save(sums, part, n, total)
        saved.append(n)

    monkeypatch.setattr(KeptSums, "save", interrupted)
    out = tmp_path / "circuit.json"
    command = ["discover", "--task", "tracr/hist", "--method", "eap", "--prompts", "32", "--set", "batch_size=8"]
    assert cli.main([*command, "--out", str(out)]) == cli.INTERRUPTED
    assert len(saved) == batches and not out.exists()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"circuitmeter: interrupted; {kept}")
    assert (f"{out}.partial" in line) == bool(batches)


@pytest.mark.skipif(os.name == "nt", reason="pipes break in another way there")
def test_a_reader_that_goes_away_is_no_error():
    """`circuitmeter list papers | true`: the pipe is closed before anything is written to it."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "circuitmeter", "list", "papers"]
        found = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert found.stderr == ""
    assert found.returncode == cli.BROKEN_PIPE
