"""Stores with made-up results in the real format, so that reports are tested without running anything."""

from __future__ import annotations

import made_up
import numpy as np
import torch

from circuitmeter.suite.circuit import EdgeScores, Reference
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring.recovery import circuit_recovery, recovery
from circuitmeter.suite.store.record import Cell, EvaluationIdentity, EvaluationRecord, Record
from circuitmeter.suite.store.store import Store

QUALITY = {"truth": 9.0, "exact": 4.0, "acdc": 3.0, "eap-ig": 2.0, "eap": 1.0, "magnitude": 0.6, "random": 0.0}
"""How far true edges are lifted above the noise."""


def certificate(graph, ablations=("patch", "zero"), seed=0):
    """A made-up certificate: zero's truth contains patch's and a few more edges."""
    order = np.random.default_rng(seed).permutation(graph.n_edges)
    edges = [str(graph.edges[i]) for i in order]
    claims = {name: (sorted(edges[: 3 + 3 * i]), sorted(edges[20 : 20 + i])) for i, name in enumerate(ablations)}
    return made_up.certificate(graph, claims, sorted(edges[:25]))


def references(graph, contents):
    structural = graph.matrix(contents.structural)
    return {
        name: Reference(
            name,
            graph,
            graph.matrix(truth.core),
            graph.matrix(truth.optional),
            structural,
            missed=tuple(truth.missed or ()),
        )
        for name, truth in contents.ablations.items()
    }


def identity(task, method, ablation, *, objective="l2", seed=None, parameters=None, version="ab" * 8, truth=None):
    return Cell(
        key_version=1,
        task=task,
        data="d" * 16,
        model=task,
        weights="e" * 16,
        graph="f" * 16,
        truth=truth,
        method=method,
        version=version,
        parameters=parameters or {},
        ablation=ablation,
        objective=objective,
        seed=seed,
    )


def record_of(cell, **changes):
    """A failed record unless changed."""
    base = {
        "status": "failed",
        "reason": "it went wrong",
        "kind": "error",
        "n_edges": None,
        "recovery": {},
        "circuits": [],
    }
    made = {"versions": {"python": "3.12", "torch": "2.13"}}
    return Record(**{"key": cell.key, "identity": cell, "provenance": made, **base, **changes})


def write_done(store, contents, cell, quality, noise_seed, circuits=0):
    """A finished cell whose scores lift the true edges of its own ablation by ``quality`` above noise."""
    graph = contents.graph.build()
    known = references(graph, contents)
    generator = torch.Generator().manual_seed(noise_seed)
    values = torch.rand(graph.exists.shape, generator=generator) + quality * known[cell.ablation].core
    scores = EdgeScores(graph, values)
    found = {name: recovery(scores, truth) for name, truth in known.items()}
    native, tensors = [], {"scores": scores.values.numpy()}
    for i in range(circuits):
        from circuitmeter.suite.circuit import threshold

        circuit = threshold(scores, 0.5 * (i + 1))
        tensors[f"circuit.{i}"] = circuit.edges.numpy().astype(np.uint8)
        rates = {name: circuit_recovery(circuit, truth) for name, truth in known.items()}
        native.append({"label": {"threshold": 0.5 * (i + 1)}, "n_edges": circuit.n_edges, "recovery": rates})
    passes = (
        100.0 * (1 + 10 * (cell.method in ("acdc", "exact"))) * (cell.method not in ("random", "truth", "magnitude"))
    )
    cost = {"seconds": 0.01 + passes / 500, "forward": passes, "backward": passes / 10, "peak_memory_bytes": 10**8}
    done = {
        "status": "done",
        "reason": None,
        "kind": None,
        "n_edges": graph.n_edges,
        "recovery": found,
        "circuits": native,
    }
    store.write(record_of(cell, **done, cost=cost), tensors)


def make_store(path, *, programs=4, methods=tuple(QUALITY), ablations=("patch", "zero"), seeds=1, failures=True):
    """A store of programs x methods x ablations (x seeds for random), with failures of two kinds."""
    store = Store(path, create=True)
    for p in range(programs):
        contents = certificate(Graph(n_layers=2 + p % 2, n_heads=1, inputs="split"), ablations, seed=p)
        digest = contents.hash
        store.write_truth(digest, contents)
        for method in methods:
            for a, ablation in enumerate(ablations):
                if failures and method == "eap-ig" and ablation == "zero" and p < 2:
                    kind, reason = [
                        ("undefined", "eap-ig has no zero ablation here"),
                        ("memory", "out of memory after 3 s"),
                    ][p]
                    cell = identity(f"tracr/program{p}", method, ablation, truth=digest)
                    store.write(record_of(cell, kind=kind, reason=reason), {})
                    continue
                for seed in range(seeds) if method == "random" else [None]:
                    cell = identity(f"tracr/program{p}", method, ablation, seed=seed, truth=digest)
                    quality = QUALITY.get(method, 1.5) * (0.4 + 0.25 * ((p + a) % 3))
                    number = 1000 * p + 10 * a + (seed or 0) + sum(map(ord, method))
                    write_done(store, contents, cell, quality, number, circuits=2 * (method == "acdc"))
    return store


def setting(ablation, direction="noising"):
    cut = ablation if direction == "noising" else f"{ablation}/{direction}"
    return f"{cut} | l2 | ratio-of-means | cut-graph"


def write_evaluation(
    store, key, faithful, *, sizes=("true", 0.1, 0.5), undefined=None, version=1, asked=None, **changes
):
    """An evaluation of a cell under the ablations of ``faithful``: ablation -> the faithfulness of each size.

    ``undefined``: setting -> why it has no meaning; ``asked``: fields of the identity. Returns the evaluation's key.
    """
    rows = [
        {
            "setting": setting(ablation),
            "undefined": None,
            "full": 2.0,
            "nothing": 1.0,
            "values": [None if value is None else 1 + value for value in values],
            "faithfulness": list(values),
            "uncertain": False,
        }
        for ablation, values in faithful.items()
    ]
    rows += [{"setting": name, "undefined": reason} for name, reason in (undefined or {}).items()]
    settings = [row["setting"] for row in rows]
    what = {"evaluation_version": version, "cell": key, "data": "d" * 16, "settings": settings, "sizes": sizes}
    cell = EvaluationIdentity(**{**what, "selection": "top-n", "absolute": True, **(asked or {})})
    record = {
        "key": cell.key,
        "identity": cell,
        "status": "done",
        "kind": None,
        "reason": None,
        "split": "test",
        "circuits": [{"size": size, "n_edges": 5, "label": {}} for size in sizes],
        "rows": rows,
    }
    store.write_evaluation(EvaluationRecord(**{**record, **changes}))
    return cell.key


def evaluate_all(store):
    """Evaluates every finished cell under patch, mean and zero: full under its own ablation, less under the others."""
    for record in store.records():
        if record.done:
            cell = record.identity
            quality = min(1.0, 0.4 + QUALITY.get(cell.method, 1.0) / 10)
            faithful = {}
            for ablation in ("patch", "mean", "zero"):
                full = quality if ablation == cell.ablation else quality / (2 + len(cell.task) % 3)
                faithful[ablation] = [full, full / 2, (1 + full) / 2]
            write_evaluation(store, record.key, faithful)
