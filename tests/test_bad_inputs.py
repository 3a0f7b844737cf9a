"""A hundred things that people write wrongly: one line that says what is allowed, exit status 2, nothing computed."""

from __future__ import annotations

import json
import os
import struct

import pytest

from circuitmeter.suite import cli

TASK = ("--task", "tracr/xproportion")
EAP = ("--method", "eap")
OUT = ("--out", "found.json")
DISCOVER = ("discover", *TASK, *EAP, *OUT)
ROW = {"clean": [1, 2], "counterfactual": [3, 2], "answer": 1, "wrong": 2}
TOML = '[grid]\ntask = "tracr/xproportion"\nmethod = "eap"\nablation = "patch"\n'
CIRCUIT = {"cfg": {"n_layers": 1, "n_heads": 1}, "edges": {"input->m0": {"in_graph": True}}}


def evaluate(content, *options):
    return ("evaluate", "c.json", *(options or TASK)), {"c.json": content}


def with_data(content, name="p.jsonl"):
    return ("discover", "--data", name, "--model", "tracr/xproportion", *EAP, *OUT), {name: content}


def with_model(**files):
    names = {"config": "config.json", "weights": "model.safetensors", "index": "model.safetensors.index.json"}
    written = {f"m/{names[key]}": content for key, content in files.items()}
    return ("discover", "--data", "p.jsonl", "--model", "m", *EAP, *OUT), {"p.jsonl": json.dumps(ROW), **written}


def benchmark(text):
    return ("plan", "b.toml"), {"b.toml": text}


def program(text, *options):
    return ("truth", "p.py:f", "--vocab", "a,b", "--max-len", "3", "--out", "o", *options), {"p.py": text}


def method(text):
    return ("discover", *TASK, "--method", "m.py:f", *OUT), {"m.py": text}


GPT2 = json.dumps({"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 4, "vocab_size": 4, "n_positions": 4})
HEADER = json.dumps({"wte.weight": {"dtype": "I8", "shape": [4, 4], "data_offsets": [0, 16]}}).encode()
INT8 = struct.pack("<Q", len(HEADER)) + HEADER + bytes(16)
# (arguments, or with files) -> what the line says
BAD = [
    # Grammar and names
    ((), "required: VERB"),
    (("discovr",), "invalid choice: 'discovr'"),
    (("discover",), "required"),
    ((*DISCOVER, "--tsk", "x"), "unrecognized arguments: --tsk"),
    (("discover", "--task", "", *EAP, *OUT), "--task is empty"),
    (("discover", "--task=", *EAP, *OUT), "--task is empty"),
    (("discover", "--task", " ", *EAP, *OUT), "--task is empty"),
    ((*DISCOVER, "--model", ""), "--model is empty"),
    (("discover", "--task", "tracr/xproportoin", *EAP, *OUT), "Did you mean 'tracr/xproportion'"),
    (("discover", "--task", "a" * 5000, *EAP, *OUT), "File name too long"),
    (("discover", "--task", "ioi", *EAP, *OUT), "--model"),
    (("discover", "--task", "ioi", "--model", "tracr/reverse", *EAP, *OUT), "no tokenizer"),
    (("discover", "--task", "ioi", "--model", "./none", *EAP, *OUT), "no folder './none'"),
    (("discover", *TASK, "--method", "eep", *OUT), "Did you mean 'eap'"),
    (("discover", *TASK, "--method", "none.py:f", *OUT), "none.py"),
    ((*DISCOVER, "--ablation", "zeros"), "Did you mean 'zero'"),
    ((*DISCOVER, "--ablation", "mean[over=universe]"), "over"),
    ((*DISCOVER, "--ablation", "mean["), "mean["),
    ((*DISCOVER, "--objective", "logit"), "objective"),
    ((*DISCOVER, "--split", "dev"), "invalid choice: 'dev'"),
    ((*DISCOVER, "--split", "validation"), "split of tracr/xproportion"),
    ((*DISCOVER, "--format", "pickle"), "invalid choice: 'pickle'"),
    ((*DISCOVER, "--format", "auto-circuit"), "no equal"),
    ((*DISCOVER, "--device", "gpu"), "invalid choice: 'gpu'"),
    (("discover", *TASK, *EAP, "--out", "none/c.json"), "cannot write"),
    (("discover", *TASK, *EAP, "--out", "."), "cannot write"),
    # Numbers
    ((*DISCOVER, "--top", "0"), "0 is too few"),
    ((*DISCOVER, "--top", "-5"), "-5"),
    ((*DISCOVER, "--top", "1e3"), "'1e3' is not a whole number"),
    ((*DISCOVER, "--top", "100000"), "edges"),
    ((*DISCOVER, "--fraction", "1.5"), "not a fraction"),
    ((*DISCOVER, "--fraction", "nan"), "not a fraction"),
    ((*DISCOVER, "--threshold", "-1"), "not a threshold"),
    ((*DISCOVER, "--threshold", "inf"), "not a threshold"),
    ((*DISCOVER, "--seed", "-1"), "-1"),
    ((*DISCOVER, "--prompts", "0"), "0 is too few"),
    ((*DISCOVER, "--set", "batch_size=-5"), "batch_size = -5 is not between"),
    ((*DISCOVER, "--set", "batch_size=1" + "0" * 20), "is not between"),
    ((*DISCOVER, "--set", "batch_size"), "write KEY=VALUE"),
    ((*DISCOVER, "--set", "=3"), "write KEY=VALUE"),
    ((*DISCOVER, "--set", "batch_size=x"), "batch_size is a whole number"),
    ((*DISCOVER, "--set", "batchsize=3"), "Did you mean 'batch_size'"),
    ((*DISCOVER, "--set", "batch_size=3", "batch_size=4"), "twice"),
    (("discover", *TASK, "--method", "eap-ig", *OUT, "--set", "steps=1" + "0" * 20), "steps = 1"),
    (("discover", *TASK, "--method", "eap-ig", *OUT, "--set", "steps=0"), "steps = 0 is not between 1"),
    ((*DISCOVER, "--preset", "mine"), "preset 'mine'"),
    ((*DISCOVER, "--memory", "99=70GB"), "--memory 99=70GB: torch sees"),
    ((*DISCOVER, "--memory", "0=lots"), "give PLACE=SIZE"),
    # Renamed flags
    (("evaluate", "c.json", *TASK, "--set", "circuit"), "called --cut now"),
    (("evaluate", "c.json", *TASK, "--against", "tracr/reverse"), "called --truth now"),
    (("sensitivity", "c.json", *TASK, "--set=circuit"), "write --cut=circuit"),
    # Circuit files
    (("evaluate", "none.json", *TASK), "cannot read none.json"),
    (("evaluate", ".", *TASK), "it is a folder"),
    (("evaluate", "/dev/zero", *TASK), "a pipe or a device"),
    (evaluate(""), "not JSON"),
    (evaluate("{}"), "EAP-IG / MIB"),
    (evaluate("[]"), "no edges"),
    (evaluate("[" * 10_000), "more than 50 deep"),
    (evaluate("NaN"), "NaN is no number"),
    (evaluate('{"cfg": {}, "cfg": {}}'), "twice"),
    (evaluate(b"\x80\x04pickled"), "a pickle"),
    (evaluate(json.dumps(CIRCUIT)), "another graph"),
    (evaluate(json.dumps(CIRCUIT | {"cfg": {"n_layers": 10**7, "n_heads": 4}})), "10,000,000 layers"),
    (evaluate(json.dumps(CIRCUIT | {"edges": {"input->m0": {"in_graph": "False"}}})), "write true or false"),
    (evaluate(json.dumps(CIRCUIT | {"neurons": {"m0": [True, False]}})), "neurons of m0"),
    (evaluate("digraph {}"), "draws no edges"),
    (evaluate('["input->m0", 3]'), "3 is not an edge"),
    (evaluate('{"circuitmeter": {"ablation": 3}, "edges": ["m0->logits"]}'), "ablation is 3"),
    (("convert", "c.json", "--to", "pickle", "--out", "d.json"), "invalid choice: 'pickle'"),
    (("compare", "c.json"), "two circuit files"),
    (("show", "c.json"), "cannot read c.json"),
    # Prompt files
    (("discover", "--data", "none.jsonl", "--model", "tracr/xproportion", *EAP, *OUT), "cannot read none.jsonl"),
    (with_data(""), "is empty"),
    (with_data("{"), "not JSON"),
    (with_data("7"), "not an object"),
    (with_data(json.dumps(ROW | {"wrongs": 1})), "no key 'wrongs'"),
    (with_data(json.dumps(ROW | {"clean": [1, 10**9]})), "outside the model's vocabulary"),
    (with_data(json.dumps(ROW | {"counterfactual": [3]})), "the task's have other lengths"),
    (with_data(json.dumps(ROW | {"clean": "a", "counterfactual": "b"})), "no tokenizer"),
    (with_data(json.dumps(ROW | {"position": 7})), "'position' 7"),
    (with_data('{"clean": "\\ud800"}'), "no Unicode text"),
    (with_data("clean,corrupted\na,b\n", "p.csv"), "correct_idx"),
    (with_data('{"prompts": 3}', "p.json"), "'prompts' is 3"),
    (with_data(json.dumps(ROW).encode("utf-16")), "UTF-16"),
    # Model folders
    (with_model(weights=INT8), "config.json is missing"),
    (with_model(config=GPT2), "model.safetensors is missing"),
    (with_model(config="{", weights=INT8), "config.json is not JSON"),
    (with_model(config=GPT2, weights=b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    (with_model(config=GPT2, weights=INT8), "is of type I8"),
    (with_model(config=GPT2, weights=b""), "no safetensors file"),
    (with_model(config=GPT2, index="[]"), "model.safetensors.index.json: it is []"),
    (with_model(config='{"model_type": "bert"}', weights=b"\x02" + bytes(7) + b"{}"), "'bert' cannot be converted"),
    # Benchmarks
    (("plan", "none.toml"), "cannot read none.toml"),
    (("run", "quik"), "Did you mean 'quick'"),
    (benchmark("grid ="), "not TOML"),
    (benchmark("a = " + "[" * 3000), "not TOML"),
    (benchmark(""), "lacks 'grid'"),
    (benchmark(TOML.replace("patch", "pach")), "pach"),
    (benchmark(TOML + "prompts = -1\n"), "prompts"),
    (benchmark(TOML + "seed = [0.5]\n"), "seed"),
    (benchmark(TOML + "tsak = 1\n"), "'tsak'"),
    (benchmark("timeout_seconds = -1\n" + TOML), "timeout_seconds"),
    # Programs, methods and stores
    (program("def f(:"), "SyntaxError"),
    (program("f = 3"), "a program is an SOp"),
    (program("from tracr.rasp import rasp\nf = rasp.tokens"), "compiles to no layer"),
    (("truth", "p.py:f", "--vocab", "-a,b", "--max-len", "3", "--out", "o"), "--vocab=VALUE"),
    (("truth", "p.py:f", "--vocab", "a", "--max-len", "3", "--out", "o"), "two different tokens"),
    (method("def f(:"), "SyntaxError"),
    (method("g = 3"), "no function 'f'"),
    (method("def f(model, data, *, ablation, objective, seed):\n    return 3\n"), "it returned int"),
    (method("def f(model, data, *, ablation, objective, seed):\n    return {}[1]\n"), "m.py, line 2: return {}[1]"),
    (("report", "none"), "no store at none"),
    (("check", "none"), "no store at none"),
    (("validate", "my_method.py"), "FILE.py:FUNCTION"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_bad_input_is_one_line_and_status_2(number, capfd, tmp_path, monkeypatch):
    given, says = BAD[number]
    arguments, files = given if given and isinstance(given[0], tuple) else (given, {})
    if "rasp" in str(files):
        pytest.importorskip("tracr")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, content in files.items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
    assert cli.main(list(arguments)) == 2
    out, err = capfd.readouterr()
    line = err.splitlines()[-1] if "truth" in arguments else err.rstrip("\n")
    assert out == "" and line.startswith("circuitmeter: ") and "\n" not in line and len(line) < 1500
    assert says in line
    assert not (tmp_path / "found.json").exists()


def test_there_are_a_hundred():
    assert len(BAD) >= 100
