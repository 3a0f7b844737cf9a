"""Two hundred things that people write wrongly: one line that says what is allowed, exit status 2, nothing computed."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.errors import CircuitMeterError

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


def with_adapter(**files):
    names = {"config": "adapter_config.json", "weights": "adapter_model.safetensors"}
    (arguments, written) = with_model(config=GPT2, weights=INT8)
    return (*arguments, "--adapter", "a"), written | {f"a/{names[key]}": content for key, content in files.items()}


def with_dictionary(**files):
    names = {"settings": "cfg.json", "weights": "sae_weights.safetensors"}
    return (*DISCOVER, "--dictionary", "d@mlp_out.0"), {f"d/{names[key]}": content for key, content in files.items()}


def external(text, *options, named="mine:A"):
    return ("validate", "--external", named, *options), {"mine.py": text}


GPT2 = json.dumps({"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 4, "vocab_size": 4, "n_positions": 4})
HEADER = json.dumps({"wte.weight": {"dtype": "I8", "shape": [4, 4], "data_offsets": [0, 16]}}).encode()
INT8 = struct.pack("<Q", len(HEADER)) + HEADER + bytes(16)
STORE = {"s/store.json": '{"format": 1}'}
LORA = json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q"]})
ONE = {"c.json": json.dumps(CIRCUIT)}
METHOD = {"m.py": "def f(model, data, *, ablation, objective, seed): return {}"}
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
    (("discover", "--task", "a" * 5000, *EAP, *OUT), "no task 'aaaa"),
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
    (program("from tracr.rasp import rasp\nf = rasp.Map(lambda x: [x], rasp.tokens)"), "gives ['a'], a list"),
    (program("from tracr.rasp import rasp\nf = rasp.tokens"), "compiles to no layer"),
    (("truth", "tracr/reverse", "--enumerate", "--out", "o", "--causal"), "--causal, --out: for a program of yours"),
    (("truth", "d", "--recertify", "--sample", "3"), "leave out with --recertify"),
    (("truth", "d", "--recertify", "--enumerate"), "two things"),
    (("truth", "p.py:f", "--vocab", "-a,b", "--max-len", "3", "--out", "o"), "--vocab=VALUE"),
    (("truth", "p.py:f", "--vocab", "a", "--max-len", "3", "--out", "o"), "two different tokens"),
    (method("def f(:"), "SyntaxError"),
    (method("g = 3"), "no function 'f'"),
    (method("def f(model, data, *, ablation, objective, seed):\n    return 3\n"), "it returned int"),
    (method("def f(model, data, *, ablation, objective, seed):\n    return {}[1]\n"), "m.py, line 2: return {}[1]"),
    (("report", "none"), "no store at none"),
    (("check", "none"), "no store at none"),
    (("validate", "my_method.py"), "FILE.py:FUNCTION"),
    # Adapters, dictionaries, other people's code, runs, stability, convert, compare, merge, GGUF
    (with_adapter(), "no adapter"),
    (with_adapter(config=LORA), "adapter_model.safetensors is missing"),
    (with_adapter(config="[" * 5000, weights=INT8), "50 deep"),
    (with_adapter(config=LORA.replace("LORA", "IA3"), weights=INT8), "only LORA"),
    (with_adapter(config=LORA.replace("4", '"4"'), weights=INT8), "r is '4'"),
    (with_adapter(config=LORA, weights=b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    (with_adapter(config=LORA, weights=INT8), "is of type I8"),
    ((*DISCOVER, "--adapter", ""), "--adapter is empty"),
    ((*DISCOVER, "--adapter", "none"), "no adapter"),
    (with_dictionary(), "does not exist"),
    (with_dictionary(settings="{}"), "sae_weights.safetensors is missing"),
    (with_dictionary(settings="{}", weights=INT8), "is of type I8"),
    (with_dictionary(settings='{"k": "3"}', weights=INT8), "cfg.json: k is '3'"),
    ((*DISCOVER, "--dictionary", "@"), "dictionary"),
    ((*DISCOVER, "--dictionary", ""), "empty"),
    ((*DISCOVER, "--top-features", "0"), "0 is too few"),
    (external("class A: pass\n", named="mine"), "write MODULE:ADAPTER"),
    (external("class A: pass\n"), "no method edge_scores"),
    (external("class A(:\n"), "SyntaxError"),
    (external("import sys\nsys.exit(0)\n"), "cannot be imported"),
    (external("class A:\n    format = 'jax'\n    def edge_scores(self): pass\n"), "no format 'jax'"),
    (("run", "quick", "--shard", "0/4"), "0/4"),
    (("run", "quick", "--shard", "5/4"), "5/4"),
    (("run", "quick", "--shard", "half"), "half"),
    (("run", "quick", "--shard", "1/-4"), "1/-4"),
    (("run", "quick", "--executor", "slrum"), "slurm"),
    (("run", "quick", "--executor", ""), "empty"),
    (("run", "quick", "--time-limit", "0"), "0"),
    (("run", "quick", "--time-limit", "nan"), "nan"),
    (("run", "quick", "--time-limit", "-3"), "-3"),
    (("run", "quick", "--workers", "0"), "0 is too few"),
    (("run", "quick", "--workers", "1e2"), "whole number"),
    (("run", "quick", "--only", "method"), "KEY=VALUE"),
    (("run", "quick", "--only", "metod=eap"), "metod"),
    (("run", "quick", "--only", "method=none*"), "none"),
    (("run", "quick", "--store", "/dev/null"), "/dev/null"),
    (("plan", "quick", "--store", ""), "empty"),
    ((*DISCOVER, "--format", "mib "), "invalid choice"),
    ((*DISCOVER, "--memory", "cpu"), "PLACE=SIZE"),
    ((*DISCOVER, "--memory", "cpu=-3GB"), "PLACE=SIZE"),
    ((*DISCOVER, "--memory", "=3GB"), "PLACE=SIZE"),
    ((*DISCOVER, "--dtype", "int8"), "invalid choice"),
    ((*DISCOVER, "--inputs", "both"), "invalid choice"),
    ((*DISCOVER, "--selection", "best"), "invalid choice"),
    (("stability", *TASK), "--method"),
    (("stability", *TASK, *EAP, "--resamples", "0"), "0 is too few"),
    (("stability", *TASK, *EAP, "--runs", "-1"), "-1"),
    (("stability", *TASK, *EAP, "--over", "moods", *OUT), "moods"),
    (("stability", *TASK, *EAP, "--set", "eap-ig:steps=3", *OUT), "eap-ig"),
    (("stability", *TASK, *EAP, "--set", "steps", *OUT), "write KEY=VALUE"),
    (("stability", *TASK, *EAP, "--fraction", "2"), "not a fraction"),
    (("convert", "none.json", "--to", "acdc", "--out", "d.json"), "cannot read none.json"),
    ((("convert", "c.json", "--to", "acdc", "--out", "no/d.json"), ONE), "cannot write"),
    ((("convert", "c.json", "--to", "acdc", "--model", "none/such", "--out", "d.json"), ONE), "none/such"),
    ((("convert", "c.json", "--out", "d.json"), ONE), "--to"),
    ((("convert", "c.json", "--to", "mib", "--out", "d.json"), {"c.json": "[" * 5000}), "50 deep"),
    ((("compare", "c.json", "d.json"), ONE), "cannot read d.json"),
    ((("compare", "c.json", "d.json"), ONE | {"d.json": '{"edges": 3}'}), "d.json"),
    ((("compare", "c.json", "d.json"), ONE | {"d.json": b"\xff\xfe{\x00}\x00"}), "UTF-16"),
    (("merge", "--into", "all"), "STORE"),
    (("merge", "none", "--into", "all"), "no store at none"),
    ((("merge", "s", "--into", "c.json"), STORE | ONE), "c.json"),
    ((("merge", "s", "--into", ""), STORE), "empty"),
    ((("merge", "s", "--into", "all"), {"s/store.json": '{"format": 99}'}), "format 99"),
    ((("merge", "s", "--into", "all"), {"s/store.json": "[" * 5000}), "not JSON"),
    ((("report", "s", "--out", "c.json"), STORE | ONE), "c.json"),
    ((("check", "s", "--replay", "-1"), STORE), "-1"),
    ((("check", "s"), {"s/store.json": '{"format": true}'}), "does not say its format"),
    (("validate", "m.py:f", "--against", "quik"), "quick"),
    ((("validate", "m.py:f", "--rivals", "eep"), METHOD), "eap"),
    ((("validate", "m.py:f", "--name", "a b/c"), METHOD), "cannot be called"),
    ((("validate", "m.py:f", "--name", "eap"), METHOD), "registered method"),
    (("train-dictionary", *TASK, "--site", "nowhere.1", "--out", "d"), "no site"),
    (("train-dictionary", *TASK, "--site", "mlp_out.0", "--features", "0", "--out", "d"), "0 is too few"),
    (("train-dictionary", *TASK, "--site", "mlp_out.0", "--steps", "1e3", "--out", "d"), "whole number"),
    (program("import sys\nsys.exit(0)"), "SystemExit"),
    (program("from tracr.rasp import rasp\ndef f():\n    raise SystemExit('no')"), "SystemExit"),
    (program("from tracr.rasp import rasp\nf = rasp.tokens", "--sample", "0"), "0 is too few"),
    (("truth", "none", "--recertify"), "none"),
    (("reproduce", "conmy203"), "conmy2023"),
    (("list", "metods"), "methods"),
    (("list", "methods", "eep"), "eap"),
    (("show", "tracr/revers"), "tracr/reverse"),
    (("stability",), "required"),
    ((("discover", *TASK, "--model", "m.gguf", *EAP, *OUT), {"m.gguf": b"GGUF"}), "m.gguf is no GGUF file"),
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
    begun = {"truth", "validate"} & {*arguments}  # these say what they begin with
    line = err.splitlines()[-1] if begun else err.rstrip("\n")
    assert out == "" and line.startswith("circuitmeter: ") and "\n" not in line and len(line) < 1500
    assert says in line
    assert not (tmp_path / "found.json").exists()


def test_there_are_nearly_two_hundred():
    assert len(BAD) >= 190


@pytest.mark.parametrize("given", ["x" * 300, "a/" * 3000, "a\0b", "x" * 300 + "@blocks.0.hook_mlp_out"])
def test_a_path_that_cannot_be_one_is_a_name_of_nothing(given, tmp_path):
    from circuitmeter.suite.model.load.adapter import read_adapter
    from circuitmeter.suite.model.load.by_name import load_model
    from circuitmeter.suite.model.load.dictionary import load_dictionary
    from circuitmeter.suite.model.load.folder import check_folder
    from circuitmeter.suite.plan.plan import plan
    from circuitmeter.suite.plan.spec import Spec

    rows = tmp_path / "p.jsonl"
    rows.write_text(json.dumps(ROW))
    spec = tmp_path / "s.toml"
    grid = {"task": [str(rows)], "model": given, "ablation": ["patch"], "method": ["eap"]}
    spec.write_text("[grid]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in grid.items()))
    for reads in (
        lambda: load_dictionary(given),
        lambda: read_adapter(given),
        lambda: check_folder(Path(given)),
        lambda: load_model(given),
        lambda: plan(Spec.load(spec), store_path=given),
    ):
        with pytest.raises(CircuitMeterError) as error:
            reads()
        assert len(str(error.value)) < 2000
