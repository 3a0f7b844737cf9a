"""Seeded damages of every file that a user gives, and the readers that they are given to.

``python tests/fuzzing.py CASES [SEED]`` runs so many in a process that may take one gigabyte more than it has after its
imports, each case at most five seconds, and prints what was neither read nor refused in one line.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS, GIGABYTE = 5, 1 << 30
NASTY = [
    None, True, False, 0, -1, 1, 2, 10**7, 10**30, -(10**400), 0.5, 1e308, -0.0, "", "x", "a" * 5000, "\u2028", "\x00",
    "a0.h0->m0", "m0", "../../x", [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, list(range(300)),
]  # fmt: skip
RAW = [b"NaN", b"-Infinity", b"1e999", b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b"\xff", b"\xef\xbb\xbf", b"\x00",
       b"->", b"\n", b"\r", b",", b'"', b"9" * 5000,
       b"\xe2\x80\xa8", b"{}", b"'''", b"[[", b"]]", b"*", b"@", b"="]  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader, and what it reads when nothing is wrong.

    Args:
        files: name in a folder -> content; one of them is damaged in each case.
        read: what is done with the folder.
    """

    files: dict[str, bytes]
    read: Callable[[Path], object]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with one to three damages: of its JSON where it is some, or of its bytes."""
    for _ in range(chance.randint(1, 3)):
        content = _in_json(content, chance) if chance.random() < 0.6 else _in_bytes(content, chance)
    return content


def _in_json(content: bytes, chance: random.Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _in_bytes(content, chance)
    places = list(_places(value))
    if not places:
        return json.dumps(chance.choice(NASTY)).encode()
    holder, key = chance.choice(places)
    what = chance.random()
    if what < 0.6:
        holder[key] = chance.choice(NASTY)
    elif what < 0.8:
        del holder[key]
    elif isinstance(holder, dict):
        holder[chance.choice(["a", "m0->", "graph", "format", str(key) + "x"])] = holder.pop(key)
    else:
        holder.insert(key, chance.choice(NASTY))
    return json.dumps(value).encode()


def _places(value: object) -> Iterator[tuple]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        for key in list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ():
            yield item, key
            waiting.append(item[key])


def _in_bytes(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    stop = min(len(content), start + chance.choice([0, 1, 1, 8, 64, 1000]))
    what = chance.random()
    if what < 0.4:
        return content[:start] + chance.choice(RAW) + content[stop:]
    if what < 0.6:
        return content[:start] + content[stop:]
    if what < 0.8:
        return content[:stop] + content[start:]
    return content[:start] + bytes(chance.randrange(256) for _ in range(stop - start)) + content[stop:]


def words(text: str, special: bool) -> list[int]:
    """A tokenizer: a token a word, its id the word's length, or the number it is plus 100."""
    return [1] * special + [100 + int(w[:2]) if w[:2].isdecimal() else min(len(w), 90) for w in text.split()]


def readers() -> dict[str, Reader]:
    """Every reader of a user's files, by name."""
    return {**_circuits(), **_prompts(), **_specs(), **_truths(), **_models(), **_records()}


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
    }


def _specs() -> dict[str, Reader]:
    from circuitmeter.suite.plan.spec import Spec

    text = (
        b'description = "d"\ntimeout_seconds = 5.0\n[grid]\ntask = ["tracr/reverse", "gates/*"]\n'
        b'method = ["eap", { name = "eap-ig", steps = 3 }]\nablation = ["patch", "zero"]\nseed = [0, 1]\nprompts = 20\n'
        b'[[except]]\nmethod = "eap"\nbecause = "so"\n[evaluation]\nablation = ["patch"]\nsize = ["true", 0.1]\n'
    )
    return {"benchmark": Reader({"s.toml": text}, lambda folder: Spec.load(folder / "s.toml"))}


def _truths() -> dict[str, Reader]:
    from circuitmeter import ground_truth

    shipped = ground_truth.load("tracr/xproportion").directory
    files = {path.name: path.read_bytes() for path in shipped.iterdir() if path.is_file() and ".fixed" not in path.name}

    def read(folder: Path) -> object:
        from circuitmeter import tasks

        truth = ground_truth.load(folder)
        references = [truth.reference(ablation) for ablation in truth.ablations]
        return references, truth.model(), tasks.load(folder).data("train")

    return {"truth": Reader(files, read)}


def _models() -> dict[str, Reader]:
    from circuitmeter.suite.model.load import folder as folders
    from circuitmeter.suite.model.load.adapter import read_adapter

    def weights(names: list[str]) -> bytes:
        header = {
            name: {"dtype": "F32", "shape": [4, 4], "data_offsets": [64 * i, 64 * i + 64]}
            for i, name in enumerate(names)
        }
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + bytes(64 * len(names))

    config = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 4, "n_positions": 4, "vocab_size": 4}
    index = {
        "metadata": {"total_size": 128},
        "weight_map": {"wte.weight": "a.safetensors", "wpe.weight": "b.safetensors"},
    }
    one = {"config.json": json.dumps(config).encode(), "model.safetensors": weights(["wte.weight", "wpe.weight"])}
    shards = {
        "config.json": one["config.json"],
        "model.safetensors.index.json": json.dumps(index).encode(),
        "a.safetensors": weights(["wte.weight"]),
        "b.safetensors": weights(["wpe.weight"]),
    }
    lora = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q"], "alpha_pattern": {"h.[0-9]+.q": 2}}
    halves = [f"base_model.model.h.0.q.lora_{half}.weight" for half in "AB"]
    adapter = {"adapter_config.json": json.dumps(lora).encode(), "adapter_model.safetensors": weights(halves)}
    return {
        "model": Reader(one, folders.check),
        "shards": Reader(shards, folders.check),
        "adapter": Reader(adapter, lambda folder: read_adapter(folder).config.scale("h.0.q")),
    }


def _records() -> dict[str, Reader]:
    from circuitmeter.suite.store.reading import StoreReader, record_in

    sys.path.insert(0, str(Path(__file__).parent / "reports"))
    from synthetic import identity, record_of

    record = record_of(identity("tracr/reverse", "eap", "patch")).model_dump_json().encode()
    store = json.dumps({"format": 1, "version": "0.1.0"}).encode()
    return {
        "record": Reader({"record.json": record}, lambda folder: record_in((folder / "record.json").read_bytes())),
        "store": Reader({"store.json": store}, lambda folder: list(StoreReader(folder).records())),
    }


class TooLong(BaseException):
    """A case took more than it may."""


def _stop(*_: object) -> None:
    raise TooLong


def cases(known: dict[str, Reader], n: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(reader, file, damaged content) of n cases; the same for the same seed."""
    names = sorted(known)
    for i in range(n):
        chance = random.Random(f"{seed}:{i}")
        name = names[i % len(names)]
        file = chance.choice(sorted(known[name].files))
        yield name, file, damaged(known[name].files[file], chance)


def failures(n: int, seed: int = 0) -> list[str]:
    """What is neither read nor refused in one line, of n cases: the reader, the error, the file's beginning."""
    from circuitmeter.suite.errors import CircuitMeterError

    known, found = readers(), []
    signal.signal(signal.SIGALRM, _stop)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {}
        for i, (name, reader) in enumerate(sorted(known.items())):
            folders[name] = Path(scratch) / str(i)
            folders[name].mkdir()
            for file, content in reader.files.items():
                (folders[name] / file).write_bytes(content)
            reader.read(folders[name])  # undamaged, it is read
        for name, file, content in cases(known, n, seed):
            path = folders[name] / file
            path.write_bytes(content)
            signal.alarm(SECONDS)
            try:
                known[name].read(folders[name])
            except CircuitMeterError as error:
                if "\n" in str(error) or len(str(error)) > 2000:
                    found.append(f"{name}, {file}: a message of {len(str(error))} characters: {str(error)[:200]!r}")
            except (Exception, TooLong) as error:
                found.append(f"{name}, {file}: {type(error).__name__}: {str(error)[:200]} for {content[:300]!r}")
            finally:
                signal.alarm(0)
                path.write_bytes(known[name].files[file])
        shutil.rmtree(scratch, ignore_errors=True)
    return found


if __name__ == "__main__":
    readers()  # what they import takes memory of its own
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + GIGABYTE, taken + GIGABYTE))
    start = time.time()
    wrong = failures(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print("\n".join(wrong))
    print(f"{len(wrong)} of {sys.argv[1]} cases in {time.time() - start:.0f} s", file=sys.stderr)
    sys.exit(bool(wrong))
