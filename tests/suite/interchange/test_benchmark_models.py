"""Models of InterpBench and TracrBench become truths of ours, and a folder that is no such model is one line."""

import json
import pickle
import subprocess
import sys
import types

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.suite import cli
from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.interchange import benchmark_model, interpbench, tracrbench
from circuitmeter.suite.interchange.export import to_transformer_lens
from circuitmeter.suite.interchange.pickled import Attributes, state_of

TRUE = ["a0.h0->m0", "m0->logits", "tok_embed->a0.h0<k>", "tok_embed->a0.h0<q>"]  # of tracr/hist, under patch
EDGES = [
    ("blocks.0.hook_mlp_out", "blocks.0.hook_resid_post"),
    ("blocks.0.attn.hook_result[0]", "blocks.0.hook_mlp_in"),
    ("hook_embed", "blocks.0.hook_q_input[0]"),
    ("hook_pos_embed", "blocks.0.hook_k_input[0]"),  # which is not in the circuit; the true tok_embed->a0.h0<k> lacks
    ("blocks.0.hook_q_input[0]", "blocks.0.attn.hook_q[0]"),
    ("blocks.0.hook_k_input[0]", "blocks.0.attn.hook_k[0]"),
]


def hist(order):
    """tracr/hist as TransformerLens has it: its configuration, and its weights with token ids in this order."""
    config, state = to_transformer_lens(ground_truth.load("tracr/hist").model())
    return config, state | {"embed.W_E": state["embed.W_E"][order].clone()}


@pytest.fixture
def case(tmp_path):
    """The folder of a case of InterpBench: tracr/hist, whose ids Tracr would sort as BOS, PAD, a, b, c."""
    config, state = hist([3, 4, 0, 1, 2])
    folder = tmp_path / "InterpBench" / "7"
    folder.mkdir(parents=True)
    torch.save(state, folder / "ll_model.pth")
    (folder / "edges.pkl").write_bytes(pickle.dumps(EDGES))
    said = {"case_id": "7", "task_description": "Counts.", "vocab": ["a", "b", "c"], "max_seq_len": 6}
    (folder.parent / "benchmark_metadata.json").write_text(
        json.dumps({"name": "InterpBench", "cases": [said | {"min_seq_len": 4, "transformer_cfg": config}]})
    )
    return folder


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A folder of TracrBench: tracr/hist as a module that was saved whole, and its encoders, under their own names."""

    classes = {}

    def made(name, **attributes):
        module, _, short = name.rpartition(".")
        parts = module.split(".")
        for path in (".".join(parts[: i + 1]) for i in range(len(parts))):
            if path not in sys.modules:
                monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
        if name not in classes:
            classes[name] = type(short, (), {"__module__": module})
            monkeypatch.setattr(sys.modules[module], short, classes[name], raising=False)
        whole = classes[name]()
        whole.__dict__.update(attributes)
        return whole

    config, state = hist([0, 1, 2, 3, 4])
    inner = {
        name.partition(".")[0]: {"_parameters": {name.partition(".")[2]: weight}, "_buffers": {}, "_modules": {}}
        for name, weight in state.items()
        if not name.startswith("blocks") and not name.startswith("unembed")
    }
    inner["unembed"] = {
        "_parameters": {part: state[f"unembed.{part}"] for part in ("W_U", "b_U")},
        "_buffers": {},
        "_modules": {},
    }
    parts = {}
    for kind in ("attn", "mlp"):
        at = f"blocks.0.{kind}."
        parts[kind] = {
            "_parameters": {name.removeprefix(at): weight for name, weight in state.items() if name.startswith(at)},
            "_buffers": {"mask": torch.ones(6, 6, dtype=torch.bool)} if kind == "attn" else {},
            "_modules": {},
        }
    at = "transformer_lens.components"
    block = made(
        f"{at}.TransformerBlock",
        _parameters={},
        _buffers={},
        _modules={"attn": made(f"{at}.Attention", **parts["attn"]), "mlp": made(f"{at}.MLP", **parts["mlp"])},
    )
    modules = {
        name: made(f"{at}.{kind}", **inner[name])
        for name, kind in (("embed", "Embed"), ("pos_embed", "PosEmbed"), ("unembed", "Unembed"))
    }
    # Real folders have torch's ModuleList here; every class that holds modules is read alike.
    modules["blocks"] = made(f"{at}.LayerNormPre", _parameters={}, _buffers={}, _modules={"0": block})
    whole = made(
        "transformer_lens.HookedTransformer.HookedTransformer",
        _parameters={},
        _buffers={},
        _modules=modules,
        cfg=made("transformer_lens.HookedTransformerConfig.HookedTransformerConfig", **config),
    )
    folder = tmp_path / "dataset" / "make_hist"
    folder.mkdir(parents=True)
    torch.save(whole, folder / "tl_model.pt")
    encoder = "tracr.transformer.encoder.CategoricalEncoder"
    ids = {"a": 0, "b": 1, "c": 2, "BOS": 3, "compiler_pad": 4}
    given = made(encoder, encoding_map=ids, _bos_token="BOS", _pad_token="compiler_pad")
    labels = type(given)()
    labels.__dict__.update(encoding_map={i: i for i in range(6)})
    (folder / "input&output_encoder.pkl").write_bytes(pickle.dumps({"input_encoder": given, "output_encoder": labels}))
    monkeypatch.undo()
    return folder


def truth(folder, benchmark, *more, out):
    return cli.main(["truth", str(folder), "--import", benchmark, *more, "--out", str(out)])


def test_a_case_of_interpbench_is_certified_and_its_labels_are_compared(case, tmp_path, capsys):
    out = tmp_path / "truth"
    assert truth(case, "interpbench", "--sample", "60", "--ablation", "patch", "--json", out=out) == 0
    made = ground_truth.load(out)
    assert sorted(made.certificate.ablations["patch"].core) == TRUE and made.certificate.domain.kind == "fixed"
    assert made.description.vocabulary.tokens == ["BOS", "PAD", "a", "b", "c"]
    clean = torch.tensor([[0, 2, 3, 2, 4, 2]])  # a b a c a
    assert made.model()(clean)[0, 1:].argmax(-1).tolist() == [3, 1, 3, 1, 3]
    labels = json.loads((out / "labels.json").read_text())
    assert json.loads(capsys.readouterr().out)["labels"] == labels
    assert labels["ablations"]["patch"] == {
        "agreed": ["a0.h0->m0", "m0->logits", "tok_embed->a0.h0<q>"],
        "not_certified": ["pos_embed->a0.h0<k>"],
        "not_labelled": ["tok_embed->a0.h0<k>"],
    }
    assert "labels.json" in (out / "SHA256SUMS").read_text()


def test_a_smaller_change_than_half_of_the_margin_counts_as_none(case):
    model = interpbench.read_case(case)
    domain = model.domain(sample=40)
    assert model.tolerance_of(domain) == pytest.approx(0.5, abs=0.01)  # outputs are 1 at the count and 0 elsewhere


def test_a_program_of_tracrbench_is_certified(program, tmp_path):
    out = tmp_path / "truth"
    assert truth(program, "tracrbench", "--sample", "60", "--ablation", "patch", out=out) == 0
    made = ground_truth.load(out)
    assert sorted(made.certificate.ablations["patch"].core) == TRUE and made.certificate.tolerance == 0.02
    assert made.certificate.domain.lengths == [2, 3, 4, 5] and not (out / "labels.json").exists()


def test_outputs_that_never_vary_are_refused(program):
    model = tracrbench.read_program(program)
    model.model.unembed.data.zero_()
    with pytest.raises(ModelError, match="the same output on every input"):
        model.domain(sample=20)


class Runs:
    def __reduce__(self):
        return subprocess.call, (["false"],)


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def say(**changes):
    def edit(folder):
        path = folder.parent / "benchmark_metadata.json"
        said = json.loads(path.read_text())
        said["cases"][0] |= changes
        path.write_text(json.dumps(said))

    return edit


def rename(folder):
    folder.parent.joinpath("benchmark_metadata.json").unlink()


def narrow(folder):
    state = torch.load(folder / "ll_model.pth", weights_only=True)
    del state["blocks.0.mlp.W_in"]
    torch.save(state, folder / "ll_model.pth")


REFUSED = {
    "no weights": (remove("ll_model.pth"), "ll_model.pth is missing"),
    "no edges": (remove("edges.pkl"), "edges.pkl is missing"),
    "no metadata": (rename, "benchmark_metadata.json is neither in"),
    "another case": (say(case_id="8"), "no case '7'"),
    "no vocabulary": (say(vocab=None), "has no vocabulary of its own"),
    "another vocabulary": (say(vocab=["a", "b"]), "has 4 tokens, and its model 5"),
    "longer inputs": (say(max_seq_len=9), "sequences of up to 8 tokens after BOS, and its model 6 positions"),
    "no architecture": (say(transformer_cfg={"n_layers": 1}), "says no architecture"),
    "a weight less": (narrow, "without the weight 'blocks.0.mlp.W_in'"),
    "code in edges": (write("edges.pkl", pickle.dumps(Runs())), "could run code"),
    "code in weights": (lambda folder: torch.save({"W": Runs()}, folder / "ll_model.pth"), "is not read"),
    "edges of another kind": (write("edges.pkl", pickle.dumps([("a", 3)])), "no pair of hooks"),
    "an edge of another model": (
        write("edges.pkl", pickle.dumps([("blocks.4.hook_mlp_out", "blocks.5.hook_resid_post")])),
        "labels 1 edges that its model does not have",
    ),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_is_no_case_of_interpbench_is_one_line_and_nothing_is_written(case, tmp_path, capsys, wrong):
    change, says = REFUSED[wrong]
    change(case)
    assert truth(case, "interpbench", "--sample", "20", out=tmp_path / "truth") == 2
    said = capsys.readouterr().err.strip()
    assert says in said and "\n" not in said and not (tmp_path / "truth").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (remove("tl_model.pt"), "'tl_model.pt' is missing"),
        (write("input&output_encoder.pkl", pickle.dumps(Runs())), "could run code"),
        (write("input&output_encoder.pkl", pickle.dumps([1])), "no pair of Tracr's encoders"),
        (lambda folder: torch.save(Runs(), folder / "tl_model.pt"), "is not read"),
        (lambda folder: torch.save({}, folder / "tl_model.pt"), "holds no HookedTransformer"),
    ],
)
def test_what_is_no_model_of_tracrbench_is_one_line(program, tmp_path, capsys, change, says):
    change(program)
    assert truth(program, "tracrbench", "--sample", "20", out=tmp_path / "truth") == 2
    said = capsys.readouterr().err.strip()
    assert says in said and "\n" not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--import", "interpbenc", "--out", "new"], "Did you mean 'interpbench'"),
        (["--import", "interpbench"], "lacks --out"),
        (["--import", "interpbench", "--vocab", "a,b", "--out", "new"], "leave out with --import"),
        (["--import", "interpbench", "--enumerate"], "--import and --enumerate are two things"),
        (["--import", "interpbench", "--out", "."], "choose a new --out"),
        (["--import", "interpbench", "--out", "new"], "no folder nowhere"),
        (["--import", "tracrbench", "--out", "new"], "holds no model of TracrBench"),
    ],
)
def test_a_request_that_means_nothing_is_one_line(arguments, says, capsys):
    assert cli.main(["truth", "nowhere", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_module_that_holds_itself_has_an_end(tmp_path):
    module = Attributes()
    module._parameters, module._buffers, module._modules = {}, {}, {"inner": module, "again": module}
    with pytest.raises(ModelError, match="more than 10,000 parts"):
        state_of(module, tmp_path / "tl_model.pt")


@pytest.mark.parametrize("margin", [0.1000009, 0.2, 3.0])
def test_a_change_within_the_tolerance_alters_no_decision(margin, case, monkeypatch):
    model = interpbench.read_case(case)
    domain = model.domain(sample=20)
    outputs = torch.zeros(*domain.tokens.shape, model.model.config.d_out, dtype=torch.float64)
    outputs[..., 1] = margin
    monkeypatch.setattr(benchmark_model, "outputs_on", lambda model, domain: outputs)
    assert margin / 2 - 1e-6 <= model.tolerance_of(domain) <= margin / 2
