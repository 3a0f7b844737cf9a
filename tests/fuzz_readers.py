"""Every reader of a file that a user gives, with what it reads when nothing is wrong; ``fuzzing.py`` damages that."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

for folder in ("reports", "suite/store"):
    sys.path.insert(0, str(Path(__file__).parent / folder))


@dataclass(frozen=True)
class Reader:
    """A reader, and what it reads when nothing is wrong.

    Args:
        files: path in a folder -> content; one of them is damaged in each case.
        read: what is done with the folder.
    """

    files: dict[str, bytes]
    read: Callable[[Path], object]


def words(text: str, special: bool) -> list[int]:
    """A tokenizer: a token a word, its id the word's length, or the number it is plus 100."""
    return [1] * special + [100 + int(w[:2]) if w[:2].isdecimal() else min(len(w), 90) for w in text.split()]


def readers(whole_models: bool = True) -> dict[str, Reader]:
    """Every reader of a user's files, by name; on demand without those of whole models, which take seconds to make."""
    kinds = [_circuits, _prompts, _specs, _truths, _models, _dictionaries, _code, _records, _stores]
    kinds += [_whole_models] * whole_models
    return {name: reader for kind in kinds for name, reader in kind().items()}


def _files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _made(make: Callable[[Path], object], where: str = "") -> dict[str, bytes]:
    """The files that ``make`` writes into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch) / "made")
        return _files(Path(scratch) / "made" / where)


def _circuits() -> dict[str, Reader]:
    from circuitmeter.suite.circuit import Circuit, EdgeScores
    from circuitmeter.suite.interchange import Origin, read
    from circuitmeter.suite.interchange.files import content
    from circuitmeter.suite.model.graph import Graph

    def circuit(graph: Graph, alone: bool = False) -> Callable[[Path], object]:
        def both(folder: Path) -> object:
            found = read(folder / "c.json")
            return found.on(graph), found.alone() if alone else None

        return both

    found = {}
    for format, inputs in (("eap-ig", "token"), ("auto-circuit", "sum"), ("acdc", "sum"), ("acdc", "split")):
        graph = Graph(2, 2, inputs)
        whole = Circuit(graph, graph.exists)
        scores = EdgeScores(graph, graph.exists.double())
        made = content(whole, scores, 8, Origin(method="eap", ablation="patch"), format)
        text = json.dumps(made).encode()
        found[f"circuit {format} {inputs}"] = Reader({"c.json": text}, circuit(graph, alone=True))
        if format != "eap-ig":
            listed = json.dumps(made["edges"]).encode()
            found[f"edges {format} {inputs}"] = Reader({"c.json": listed}, circuit(graph))
    graph = Graph(2, 2)
    mib = {
        "cfg": {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 4},
        "nodes": {name: {"in_graph": True, "neurons": None} for name in (*graph.writers, "logits")},
        "edges": {str(edge): {"score": 0.5, "in_graph": i % 2 == 0} for i, edge in enumerate(graph.edges)},
    }
    found["circuit of MIB"] = Reader({"c.json": json.dumps(mib).encode()}, circuit(graph, alone=True))
    named = json.dumps({"input->m0": 0.5, "m0->logits": True}).encode()
    found["scores by name"] = Reader({"c.json": named}, circuit(Graph(2, 2)))
    drawing = (
        b'digraph {\n"<embed_[:]>" -> "<a0.1_q_[:, :, 1]>" [color="#fff"];\n<a0.1> -> <a1.0>;\n<m1> -> <resid_post>\n}'
    )
    found["drawing"] = Reader({"c.json": drawing}, circuit(Graph(2, 2, "sum")))
    return found


def _prompts() -> dict[str, Reader]:
    from circuitmeter.tasks.own_prompts import load_task

    def prompts(name: str) -> Callable[[Path], object]:
        return lambda folder: load_task(folder / name, d_vocab=300, n_positions=9, tokenize=words).hash

    row = {"clean": "a bb", "counterfactual": "c bb", "answer": [" ddd"], "wrong": 9, "position": -1, "template": "t"}
    ids = {"clean": [1, 2], "counterfactual": [3, 2], "answer": 5, "wrong": [6, 7], "split": "train"}
    lines = "".join(f"{json.dumps(ids)}\n" for _ in range(3))
    prompt = {"clean": "a bb", "corrupt": "c bb", "answers": ["dd"], "wrong_answers": ["eee"]}
    table = 'clean,corrupted,correct_idx,incorrect_idx\n"a, bb",c bb,5,6\na bb,c bb,7,"[8, 9]"\n'
    return {
        "prompts as text": Reader({"p.jsonl": f"{json.dumps(row)}\n".encode()}, prompts("p.jsonl")),
        "prompts as ids": Reader({"p.jsonl": lines.encode()}, prompts("p.jsonl")),
        "prompts of auto-circuit": Reader({"p.json": json.dumps({"prompts": [prompt]}).encode()}, prompts("p.json")),
        "prompts of EAP-IG": Reader({"p.csv": table.encode()}, prompts("p.csv")),
        "years of EAP-IG": Reader({"p.csv": b"clean,corrupted,label\na bb,c bb,97\n"}, prompts("p.csv")),
        "rows of a data set": Reader(
            {"set/all.jsonl": b'{"a": "x", "b": [1]}\n{"a": "y", "b": [2]}\n'}, _rows_of_a_set
        ),
    }


def _rows_of_a_set(folder: Path) -> object:
    from circuitmeter.tasks import hub

    os.environ[hub.FOLDER] = str(folder)
    try:
        return list(hub.rows("set", "nobody/set", "all", "train", ("a", "b")))
    finally:
        del os.environ[hub.FOLDER]


def _specs() -> dict[str, Reader]:
    from circuitmeter.reports.reproduction import manifest
    from circuitmeter.suite.plan.expand import expand
    from circuitmeter.suite.plan.spec import Spec

    text = (
        b'description = "d"\ntimeout_seconds = 5.0\n[grid]\ntask = ["tracr/reverse", "gates/*"]\n'
        b'method = ["eap", { name = "eap-ig", steps = 3 }]\nablation = ["patch", "zero"]\nseed = [0, 1]\nprompts = 20\n'
        b'[[except]]\nmethod = "eap"\nbecause = "so"\n[evaluation]\nablation = ["patch"]\nsize = ["true", 0.1]\n'
    )
    own = b'[grid]\ntask = "p.jsonl"\nmodel = "tracr/xproportion"\nmethod = "eap"\nablation = "patch"\nprompts = 2\n'
    row = {"clean": [1, 2], "counterfactual": [3, 2], "answer": 1, "wrong": 2}
    prompts = f"{json.dumps(row)}\n" * 2

    def of_own_prompts(folder: Path) -> object:
        before = os.getcwd()
        os.chdir(folder)
        try:
            return expand(Spec.load("s.toml"))
        finally:
            os.chdir(before)

    def of_a_paper(folder: Path) -> object:
        shipped, manifest.papers_folder = manifest.papers_folder, lambda: folder
        try:
            found = manifest.load("paper")
            return found.values, found.curves()
        finally:
            manifest.papers_folder = shipped

    papers = Path(str(manifest.papers_folder()))
    paper = {"paper.toml": (papers / "hanna2024.toml").read_bytes()}
    paper |= {f"paper/{path.name}": path.read_bytes() for path in (papers / "hanna2024").glob("*")}
    return {
        "benchmark": Reader({"s.toml": text}, lambda folder: Spec.load(folder / "s.toml")),
        "benchmark with prompts": Reader({"s.toml": own, "p.jsonl": prompts.encode()}, of_own_prompts),
        "paper": Reader(paper, of_a_paper),
    }


def _truths() -> dict[str, Reader]:
    from circuitmeter import ground_truth
    from circuitmeter.ground_truth.certificate import FeatureCertificate, PositionCertificate
    from circuitmeter.suite.reading import checked, read_json

    shipped = ground_truth.load("tracr/xproportion").directory
    files = {path.name: path.read_bytes() for path in shipped.iterdir() if path.is_file() and ".fixed" not in path.name}

    def read(folder: Path) -> object:
        from circuitmeter import tasks

        truth = ground_truth.load(folder)
        references = [truth.reference(ablation) for ablation in truth.ablations]
        return references, truth.model(), tasks.load(folder).data("train")

    about_features = Path(ground_truth.__file__).parent / "features" / "certificates" / "xproportion.json"
    about_positions = Path(ground_truth.__file__).parent / "positions" / "certificates" / "gates-positions" / "and.json"
    return {
        "truth": Reader(files, read),
        "truth about features": Reader(
            {"c.json": about_features.read_bytes()},
            lambda folder: checked(FeatureCertificate, read_json(folder / "c.json"), "c.json"),
        ),
        "truth by position": Reader(
            {"c.json": about_positions.read_bytes()},
            lambda folder: checked(PositionCertificate, read_json(folder / "c.json"), "c.json"),
        ),
    }


def safetensors(names: Iterable[str], side: int = 4) -> bytes:
    """A file of square float32 matrices of zeros."""
    size = 4 * side * side
    header = {
        name: {"dtype": "F32", "shape": [side, side], "data_offsets": [size * i, size * (i + 1)]}
        for i, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size * len(header))


def _models() -> dict[str, Reader]:
    from circuitmeter.suite.model.load import folder as folders
    from circuitmeter.suite.model.load.adapter import read_adapter

    config = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 4, "n_positions": 4, "vocab_size": 4}
    index = {
        "metadata": {"total_size": 128},
        "weight_map": {"wte.weight": "a.safetensors", "wpe.weight": "b.safetensors"},
    }
    one = {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(["wte.weight", "wpe.weight"])}
    shards = {
        "config.json": one["config.json"],
        "model.safetensors.index.json": json.dumps(index).encode(),
        "a.safetensors": safetensors(["wte.weight"]),
        "b.safetensors": safetensors(["wpe.weight"]),
    }
    lora = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q"], "alpha_pattern": {"h.[0-9]+.q": 2}}
    halves = [f"base_model.model.h.0.q.lora_{half}.weight" for half in "AB"]
    adapter = {"adapter_config.json": json.dumps(lora).encode(), "adapter_model.safetensors": safetensors(halves)}
    return {
        "model": Reader(one, folders.check_folder),
        "shards": Reader(shards, folders.check_folder),
        "adapter": Reader(adapter, lambda folder: read_adapter(folder).config.scale("h.0.q")),
    }


def gpt2(folder: Path, **to: object) -> None:
    """A GPT-2 of one layer with a tokenizer of five words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 4, "n_positions": 4, "vocab_size": 5}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder, **to)
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(("<u>", "a", "b", "c", "d"))}, "<u>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<u>", eos_token="<u>").save_pretrained(folder)


def _whole_models() -> dict[str, Reader]:
    """Models that are read to their end, weights and tokenizers, too."""
    from circuitmeter.suite.interchange.export import export
    from circuitmeter.suite.model.load.by_name import load_model, load_tokenizer

    def load(folder: Path) -> object:
        tokenizer = load_tokenizer(folder)
        return load_model(folder, device="cpu"), tokenizer and tokenizer("a b")

    def adapted(folder: Path) -> object:
        return load_model(folder / "model", device="cpu", adapter=folder / "adapter")

    module = "base_model.model.transformer.h.0.attn.c_proj"
    lora = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["attn.c_proj"]}
    both = {f"model/{name}": content for name, content in _made(gpt2).items() if name.startswith(("config", "model"))}
    both["adapter/adapter_config.json"] = json.dumps(lora).encode()
    both["adapter/adapter_model.safetensors"] = safetensors(f"{module}.lora_{half}.weight" for half in "AB")
    lens = _made(lambda folder: export(load_model("tracr/xproportion", device="cpu"), folder, "transformer-lens"))
    found = {
        "whole model": Reader(_made(gpt2), load),
        "whole shards": Reader(_made(lambda folder: gpt2(folder, max_shard_size="1KB")), load),
        "whole adapter": Reader(both, adapted),
        "model of TransformerLens": Reader(lens, load),
    }
    if importlib.util.find_spec("gguf"):
        found["GGUF"] = Reader(_made(_gguf), _load_gguf)
    return found


def _gguf(folder: Path) -> None:
    import gguf
    import numpy as np

    tokens, width, wide = ["<|endoftext|>", "a", "b", "ab"], 32, 32
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "m.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(8)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id, writer.add_pad_token_id):
        add(0)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    shapes |= {f"blk.0.{name}": (width, width) for name in square}
    shapes |= {f"blk.0.{name}": (width,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.full(shape, 0.5, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _load_gguf(folder: Path) -> object:
    from circuitmeter.suite.model.load.by_name import load_model

    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        return load_model(folder / "m.gguf", device="cpu")
    finally:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


def _dictionaries() -> dict[str, Reader]:
    import torch
    from feature_models import dictionary
    from safetensors.torch import save_file

    from circuitmeter.suite.model.features.site import Site
    from circuitmeter.suite.model.load.dictionary import load_dictionary, save_dictionary

    book = dictionary(4, "topk").to(torch.zeros(()))
    gated = dictionary(4, "gated").to(torch.zeros(()))
    skip = {
        "W_enc": book.W_enc.T,
        "W_dec": book.W_dec,
        "b_enc": book.b_enc,
        "b_dec": book.b_dec,
        "W_skip": torch.eye(4),
    }

    def transcoder(folder: Path) -> None:
        folder.mkdir()
        save_file({name: part.contiguous() for name, part in skip.items()}, folder / "layer_0.safetensors")

    found = {
        f"dictionary of SAELens, {each.activation}": Reader(
            _made(lambda folder, each=each: save_dictionary(each, folder, Site(0, "mlp_out"))), load_dictionary
        )
        for each in (book, gated)
    }
    found["transcoder of circuit-tracer"] = Reader(
        _made(transcoder), lambda folder: load_dictionary(folder / "layer_0.safetensors")
    )
    return found


def _code() -> dict[str, Reader]:
    """What users program: files that are executed, so what is damaged here has nothing in it that could do harm."""
    from circuitmeter.suite.interchange.external import load_external
    from circuitmeter.suite.methods import load_user_method

    method = (
        b"import torch\n\n\ndef discover(model, data, *, ablation, objective, seed):\n    return {'m0->logits': 1}\n"
    )
    adapter = (
        b"class A:\n    format = 'huggingface'\n    ablations = {'patch'}\n\n    def edge_scores(self):\n        pass\n"
    )
    program = (
        b"from tracr.rasp import rasp\n\nequal = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)\n"
        b"program = rasp.Map(lambda width: width > 1, rasp.SelectorWidth(equal))\n"
    )
    number = itertools.count()

    def external(folder: Path) -> object:
        name = f"fuzzed_{next(number)}"  # a module is imported once under its name
        named = folder / f"{name}.py"
        if there := os.path.lexists(folder / "a.py"):
            (folder / "a.py").rename(named)
        try:
            return load_external(f"{folder}/external:{name}:A")
        finally:
            sys.modules.pop(name, None)
            if there:
                named.rename(folder / "a.py")

    found = {
        "method": Reader({"m.py": method}, lambda folder: load_user_method(f"{folder / 'm.py'}:discover")),
        "external adapter": Reader({"a.py": adapter}, external),
    }
    if importlib.util.find_spec("tracr"):
        from circuitmeter.ground_truth.rasp.user import load_program

        found["program"] = Reader({"p.py": program}, lambda folder: load_program(f"{folder / 'p.py'}:program"))
    return found


def _records() -> dict[str, Reader]:
    from synthetic import identity, record_of
    from test_card import CARDS

    from circuitmeter.reports.reproduction.entries import Card
    from circuitmeter.reports.reproduction.manifest import Manifest
    from circuitmeter.reports.reproduction.write import cards
    from circuitmeter.suite.reading import read_bytes
    from circuitmeter.suite.run.kept_sums import KeptSums
    from circuitmeter.suite.store.reading import StoreReader, record_in

    record = record_of(identity("tracr/reverse", "eap", "patch")).model_dump_json().encode()
    store = json.dumps({"format": 1, "version": "0.1.0"}).encode()
    card = json.dumps(CARDS["three"].as_json()).encode()
    wanted = Card(name="one", title="t", caption="c", circuits={"patch": "patch"}, ablation=("patch",), task="t")
    manifest = Manifest(name="p", title="t", citation="c", about="a", card=(wanted,))

    def sums(folder: Path) -> None:
        import torch

        folder.mkdir()
        kept = KeptSums(folder / "sums", identity("tracr/reverse", "eap", "patch"))
        kept.save(0, 3, torch.ones(2, 2))

    return {
        "record": Reader({"record.json": record}, lambda folder: record_in(read_bytes(folder / "record.json"))),
        "store": Reader({"store.json": store}, lambda folder: list(StoreReader(folder).records())),
        "sensitivity card": Reader({"cards/one.json": card}, lambda folder: cards(manifest, folder)),
        "sums of a search": Reader(
            _made(sums), lambda folder: KeptSums(folder / "sums", identity("tracr/reverse", "eap", "patch")).load(0)
        ),
    }


def _stores() -> dict[str, Reader]:
    from made import make_whole_store

    from circuitmeter.reports.read.results import read_results
    from circuitmeter.suite.store.check import check
    from circuitmeter.suite.store.merge import merge

    files = _made(make_whole_store)

    def whole(folder: Path) -> object:
        """What ``check`` says is true of every damage: it calls a store whole where all is as it was written."""
        same = all((folder / name).is_file() and (folder / name).read_bytes() == files[name] for name in files)
        assert check(folder).whole == same, "check calls a damaged store whole"
        return str(check(folder))

    def merged(folder: Path) -> object:
        into = folder.parent / "merged"
        shutil.rmtree(into, ignore_errors=True)
        return str(merge([folder], into)), str(merge([folder], into))

    def pipes(folder: str, names: list[str]) -> list[str]:
        """What cannot be copied."""
        return [
            name for name in names if not os.path.isfile(f"{folder}/{name}") and not os.path.isdir(f"{folder}/{name}")
        ]

    def merged_into(folder: Path) -> object:
        """The damaged store is the one that is merged into."""
        into, source = folder.parent / "into", folder.parent / "source"
        if not source.exists():
            make_whole_store(source)
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(folder, into, ignore=pipes)
        return str(merge([source], into))

    def reported(folder: Path) -> object:
        results = read_results(folder)
        return results.recovery, results.evaluated, results.aggregate

    return {
        "whole store": Reader(files, whole),
        "merge of a store": Reader(files, merged),
        "merge into a store": Reader(files, merged_into),
        "tables of a store": Reader(files, reported),
    }
