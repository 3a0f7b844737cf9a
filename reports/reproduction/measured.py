"""The tables that a paper's values and figures are taken of, each made from a store when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from ...suite.scoring.structure.stability import top_edges
from ..read.evaluations import area_table, template_table, usual
from ..read.results import Results
from ..read.tables import CELL_COLUMNS, CellColumns, cell_columns, circuit_table, pairwise_table, program_of
from .entries import FromTable, Where

if TYPE_CHECKING:
    from ...suite.circuit import EdgeScores, Reference
    from ...suite.model.graph import Graph
    from ...suite.store.record import Record

_CLOSE = 1e-9
MEASURES_OF_AGREEMENT = ("pearson", "pearson_absolute", "spearman", "slope", "r2")
OVERLAP_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Circuit sizes at which circuits are compared, as shares of all edges."""

MANUAL = {"ioi": "ioi/eap-ig", "greater-than": "greater-than/eap-ig", "docstring": "docstring/acdc"}
"""The published circuit that a task's circuits are compared with, where the model's graph is that circuit's."""

WITHOUT_MLPS = ("ioi",)
"""Tasks of which EAP-IG's released comparison takes the MLPs, and their edges, out of the circuits that it compares."""


class Tables:
    """What a store holds, as tables by name: those of ``entries.TableName``.

    Every table has the columns ``key`` (of the cell), ``label``, ``task``, ``method``, ``ablation``, ``seed`` where its
    rows are of one cell, and what its method says.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        identities = {record.key: record.identity for record in results.records}
        self._parameters = {key: identity.parameters for key, identity in identities.items()}
        prompts = _prompts(results)
        objectives: dict[tuple[str, str], set[str | None]] = {}
        for each in identities.values():
            objectives.setdefault((each.method, each.task), set()).add(each.objective)
        for key, each in identities.items():
            by_kl = each.objective == "kl" and len(objectives[each.method, each.task]) > 1
            named: dict[str, Any] = {"variant": each.method + ", KL" * by_kl, "prompts": prompts.get(key, "")}
            self._parameters[key] = named | self._parameters[key]

    def table(self, name: str) -> pd.DataFrame:
        """The table of this name."""
        return getattr(self, name)

    def rows(self, name: str, where: Where) -> pd.DataFrame:
        """The rows of a table for which every column, or parameter of the method, has the value or one of those given.

        A number is matched up to rounding; a text of a column of words by equality.
        """
        table = self.table(name)
        keep = pd.Series(True, index=table.index)
        for column, wanted in where.items():
            values, allowed = self.column(table, column), wanted if isinstance(wanted, list) else [wanted]
            keep &= np.logical_or.reduce([_same(values, each) for each in allowed])
        return table[keep]

    def column(self, table: pd.DataFrame, name: str) -> pd.Series:
        """A column, or where there is none of this name the method's parameter; an empty text for methods without.

        ``variant`` is the method, and whether it went by the KL divergence where it also went by the task's objective;
        ``prompts`` how many of them it looked at, where its benchmark says so.
        """
        if name in table:
            return table[name]
        parameters = self._parameters
        keys = table["key"] if "key" in table else pd.Series([None] * len(table), index=table.index)
        return keys.map(lambda key: parameters.get(key, {}).get(name, "")).astype(object)

    def number(self, wanted: FromTable, model: str | None = None) -> float | None:
        """The number that a value is compared with; None where there is no such row.

        Args:
            model: the name or folder of the one language model whose rows count: a store may hold several.
        """
        values = self.rows(wanted.table, wanted.where)
        if model is not None and "model" in values:
            name = (
                Path(model).resolve().name if Path(model).is_dir() else model
            )  # folders are stored by their last part
            values = values[values["model"] == name]
        if wanted.statistic == "count":
            return float(len(values)) if len(values) else None
        values = values[wanted.column].dropna()
        return None if values.empty else float(values.agg(wanted.statistic))

    @cached_property
    def recovery(self) -> pd.DataFrame:
        """``tables.recovery_table``: a row a cell and truth; ``own`` marks the truth of the cell's own ablation."""
        return self.results.recovery

    @cached_property
    def counted(self) -> pd.DataFrame:
        """A row a cell, truth and convention: areas and sizes of edges or nodes as a paper counts them.

        ``auroc``, ``pessimistic_auc``, ``true_size`` and ``units`` are ``conventions.Counted.measures``.
        """
        from ...suite.scoring.conventions import CONVENTIONS, counted

        store, rows = self.results.store, []
        named = [*CELL_COLUMNS, "truth_ablation", "own"]
        for row in self.recovery[[*named, "certificate"]].to_dict("records"):
            certificate = store.truth(row["certificate"])
            graph, truth = certificate.graph.build(), certificate.ablations[row["truth_ablation"]]
            core, optional = graph.array(truth.core), graph.array(truth.optional)
            for name in CONVENTIONS:
                found = counted(name, graph, store.scores(row["key"]), core, optional)
                rows.append({**{each: row[each] for each in named}, "convention": name, **found.measures()})
        measures = ["auroc", "pessimistic_auc", "true_size", "units"]
        return pd.DataFrame(rows, columns=[*named, "convention", *measures])

    @cached_property
    def circuits(self) -> pd.DataFrame:
        """``tables.circuit_table``: the circuits that methods returned, against their own ablation's truth."""
        return circuit_table(self.results.records)

    @cached_property
    def evaluated(self) -> pd.DataFrame:
        """``evaluations.evaluation_table``, and each circuit's share of the edges: ``asked`` and ``share``."""
        table, n_edges = self.results.evaluated, self._n_edges
        asked = pd.to_numeric(table["size"], errors="coerce")
        share = table["circuit_edges"] / table["key"].map(n_edges)
        return table.assign(asked=asked, share=share, sparsity=100 * (1 - share))

    @cached_property
    def areas(self) -> pd.DataFrame:
        """``evaluations.area_table`` task by task: CPR and CMD of each label."""
        shown = usual(self.results.evaluated)
        found = [area_table(rows).assign(task=task) for task, rows in shown.groupby("task", sort=True)]
        return pd.concat(found, ignore_index=True) if found else area_table(shown).assign(task=())

    @cached_property
    def templates(self) -> pd.DataFrame:
        """``evaluations.template_table``: the faithfulness of evaluated circuits, template by template.

        ``order``: of IOI's templates, which of the two names comes first.
        """
        table = template_table(self.results.records, self.results.evaluations)
        orders = table["template"].map(lambda number: "BABA" if number % 2 else "ABBA")
        return table.assign(order=orders.where(table["task"].map(program_of) == "ioi", ""))

    @cached_property
    def costs(self) -> pd.DataFrame:
        """A row a finished cell: ``seconds``, ``passes``, and both as multiples of EAP's on the same task and model."""
        rows = [
            (*cell, record.cost.seconds, (record.cost.forward or 0) + (record.cost.backward or 0))
            for cell, record in self._done
        ]
        table = pd.DataFrame(rows, columns=[*CELL_COLUMNS, "seconds", "passes"]).astype({"seconds": float})
        eap = table[table["method"] == "eap"].groupby(["task", "model"])[["seconds", "passes"]].mean()
        for name in ("seconds", "passes"):
            basis = [eap[name].get(key, float("nan")) for key in zip(table["task"], table["model"], strict=True)]
            table[f"{name}_of_eap"] = table[name] / np.array(basis, dtype=float)
        return table

    @cached_property
    def against_exact(self) -> pd.DataFrame:
        """A row an edge: a method's score (``score``) and what cutting that edge alone changes (``effect``).

        Of cells beside which ``exact`` ran on the same prompts and weights, with the same ablation and objective and,
        where the ablation draws, the same seed.
        """
        found = []
        for cell, reference in self._beside_exact():
            score, effect = self._flat(cell.key), self._flat(reference)
            found.append(pd.DataFrame({**cell._asdict(), "score": score, "effect": effect}))
        columns = [*CELL_COLUMNS, "score", "effect"]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """A row a cell beside which ``exact`` ran: ``pearson``, ``spearman``, ``slope`` and ``r2`` of score on effect.

        ``spearman`` and ``pearson_absolute`` are of the absolute sizes, by which edges are chosen.
        """
        rows = []
        for cell, reference in self._beside_exact():
            score, effect = self._flat(cell.key), self._flat(reference)
            measures = dict.fromkeys(MEASURES_OF_AGREEMENT, float("nan"))
            if np.ptp(score) > 0 and np.ptp(effect) > 0:
                line = stats.linregress(effect, score)
                sizes = np.abs(effect), np.abs(score)
                measures = {"pearson": line.rvalue, "slope": line.slope, "r2": line.rvalue**2}
                measures |= {"pearson_absolute": _correlation(*sizes), "spearman": stats.spearmanr(*sizes).statistic}
            rows.append({**cell._asdict(), **measures, "n_edges": len(score)})
        return pd.DataFrame(rows, columns=[*CELL_COLUMNS, *MEASURES_OF_AGREEMENT, "n_edges"])

    @cached_property
    def overlap(self) -> pd.DataFrame:
        """A row a pair of cells of one model and ablation, circuit size and level: what share of their union both have.

        ``level`` is edges or nodes (writers of a chosen edge), ``iou`` the intersection over the union of the top
        ``share`` of the edges; ``differ`` says in what the two cells differ: ``method`` (or its parameters), ``task``,
        ``seed``, several, or ``nothing``. Columns of the second cell end in ``_2``. Both orders are rows.
        """
        cells = [(cell, record.identity.graph) for cell, record in self._done if cell.method != "truth"]
        chosen = {cell.key: self._circuits(cell.key) for cell, _ in cells}
        rows = []
        for (first, graph), (second, its) in (*combinations(cells, 2), *((each, each) for each in cells)):
            if (graph, first.ablation) != (its, second.ablation):
                continue
            settings = [self._parameters[cell.key] for cell in (first, second)]
            differ = ["method"] * (settings[0] != settings[1])
            differ += [name for name in ("task", "seed") if getattr(first, name) != getattr(second, name)]
            for share, a, b in zip(OVERLAP_SHARES, chosen[first.key], chosen[second.key], strict=True):
                for level, iou in (("edges", _iou(a, b)), ("nodes", _iou(a.any(1), b.any(1)))):
                    same = {"share": share, "differ": ", ".join(differ) or "nothing", "level": level, "iou": iou}
                    for x, y in ((first, second), (second, first))[: 2 if differ else 1]:
                        other = {"graph": graph, "method_2": y.method, "task_2": y.task, "seed_2": y.seed}
                        rows.append({**x._asdict(), **other, **same})
        columns = [*CELL_COLUMNS, "graph", "method_2", "task_2", "seed_2", "share", "differ", "level", "iou"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def manual(self) -> pd.DataFrame:
        """A row a cell, circuit size (``n``) and level (in ``panel``): precision and recall of a published circuit.

        Of tasks and models that have one (``MANUAL``), as EAP-IG's paper compares them: the ``n`` edges of largest
        absolute score; nodes are what these connect, the input and the logits left out.
        """
        from ...suite.circuit import ranking

        rows = []
        for cell, reference, scores in self._by_hand():
            graph = reference.graph
            chosen, largest = np.zeros_like(graph.existing), np.argwhere(graph.existing)[ranking(scores)[:199]]
            inside = np.array([node.kind in ("head", "mlp") for node in graph.nodes if node.kind != "logits"])
            compared = np.ones(graph.existing.shape, dtype=bool)
            if program_of(cell.task) in WITHOUT_MLPS:
                mlp = np.array([node.kind == "mlp" for node in graph.nodes if node.kind != "logits"])
                reads = np.array([owner >= 0 and mlp[owner] for owner in graph.owners])
                inside, compared = inside & ~mlp, ~(mlp[:, None] | reads[None, :])
            core = reference.core.numpy()
            known = _connected(graph, core) & inside
            for n, (writer, reader) in enumerate(largest.tolist(), 1):
                chosen[writer, reader] = True
                edges = chosen & compared
                nodes = _connected(graph, edges) & inside
                for level, a, b in (("node", nodes, known), ("edge", edges, core)):
                    hit = float((a & b).sum())
                    rates = {"precision": hit / max(a.sum(), 1), "recall": hit / b.sum()}
                    place = {"graph": graph.hash, "panel": f"{cell.program}, {level}", "n": n}
                    rows.append({**cell._asdict(), **place, **rates})
        return pd.DataFrame(rows, columns=[*CELL_COLUMNS, "graph", "panel", "n", "precision", "recall"])

    @cached_property
    def manual_roc(self) -> pd.DataFrame:
        """A row a cell and point of its ROC curve against a published circuit: ``fpr``, ``tpr``, and ``auroc``."""
        from ...suite.scoring.ranking import auroc, roc_curve
        from ...suite.scoring.recovery import ranked_edges

        found = []
        for cell, reference, scores in self._by_hand():
            labels, values = ranked_edges(scores, reference)
            curve = roc_curve(labels, values)
            points = {"fpr": curve.false_positive_rate, "tpr": curve.true_positive_rate, "auroc": auroc(labels, values)}
            found.append(pd.DataFrame({**cell._asdict(), "graph": reference.graph.hash, **points}))
        columns = [*CELL_COLUMNS, "graph", "fpr", "tpr", "auroc"]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)

    def _by_hand(self) -> Iterable[tuple[CellColumns, Reference, EdgeScores]]:
        """Cells whose model and task have a published circuit, with it and their scores."""
        from ...ground_truth import manual
        from ...suite.circuit import EdgeScores

        for cell, record in self._done:
            name = MANUAL.get(program_of(cell.task))
            reference = manual.load(name) if name else None
            if reference is not None and reference.graph.hash == record.identity.graph:
                yield cell, reference, EdgeScores(reference.graph, _tensor(self.results.store.scores(cell.key)))

    @cached_property
    def reports(self) -> pd.DataFrame:
        """What a method reports of its own circuit: a row for each cell and part (DiscoGP: weights, edges, both)."""
        rows = []
        for cell, record in self._done:
            found: Any = record.diagnostics.get("report") or {}
            rows += [{**cell._asdict(), "of": part, **numbers} for part, numbers in found.items()]
        measures = ["accuracy", "complement_accuracy", "kl", "weight_density", "edge_density", "chance"]
        return pd.DataFrame(rows, columns=[*CELL_COLUMNS, "of", *measures])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """``tables.pairwise_table`` of areas over edges as InterpBench counts them, each pair in both orders."""
        table = pairwise_table(self.counted[self.counted["convention"] == "interpbench"])
        swapped = table.rename(columns={"first": "second", "second": "first"})
        swapped = swapped.assign(a12=1 - table["a12"], median_difference=-table["median_difference"])
        return pd.concat([table, swapped], ignore_index=True)

    @cached_property
    def _n_edges(self) -> dict[str, int]:
        return {record.key: record.n_edges for record in self.results.records if record.n_edges is not None}

    @cached_property
    def _done(self) -> list[tuple[CellColumns, Record]]:
        """The finished cells' columns and records."""
        done = [record for record in self.results.records if record.done]
        return list(zip(cell_columns(done), done, strict=True))

    def _beside_exact(self) -> Iterable[tuple[CellColumns, str]]:
        """Cells beside which ``exact`` ran, with the key of its cell.

        ``exact`` has a seed only where the ablation draws; its one run without is that of every seed.
        """

        def same(record: Record) -> tuple[str, str, str, str, str, str | None]:
            cell = record.identity
            return cell.task, cell.data, cell.weights, cell.graph, cell.ablation, cell.objective

        exact: dict[tuple, dict[int | None, str]] = {}
        for cell, record in self._done:
            if cell.method == "exact":
                exact.setdefault(same(record), {})[cell.seed] = record.key
        for cell, record in self._done:
            runs = exact.get(same(record), {})
            if cell.method != "exact" and (found := runs.get(None, runs.get(cell.seed))) is not None:
                yield cell, found

    def _flat(self, key: str) -> np.ndarray:
        """A cell's scores, float64 [n_edges]."""
        scores = self.results.store.scores(key)
        return scores[~np.isnan(scores)]

    def _circuits(self, key: str) -> list[np.ndarray]:
        """The edges of largest absolute score at each of ``OVERLAP_SHARES``, bool [W, R]; ties go to the first."""
        scores = self.results.store.scores(key)
        exists = ~np.isnan(scores)
        sizes, found = np.abs(scores[exists])[None], []
        for share in OVERLAP_SHARES:
            edges = np.zeros(scores.shape, dtype=bool)
            edges[exists] = top_edges(sizes, round(share * sizes.size))[0]
            found.append(edges)
        return found


def _prompts(results: Results) -> dict[str, int]:
    """Cell key -> how many prompts were searched on, of benchmarks all of whose cells have one number of them."""
    found = {}
    for benchmark in results.store.benchmarks().values():
        grids: Any = benchmark.spec.get("grid", ())
        counts = {grid.get("prompts") for grid in grids}
        if len(counts) == 1 and None not in counts:
            found |= dict.fromkeys(benchmark.cells, counts.pop())
    return found


def _same(values: pd.Series, wanted: Any) -> np.ndarray:
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
        return (values == wanted).to_numpy()
    return np.isclose(pd.to_numeric(values, errors="coerce").to_numpy(dtype=float), wanted, rtol=0, atol=_CLOSE)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = float((a | b).sum())
    return float((a & b).sum()) / union if union else float("nan")


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; NaN where one of them is constant."""
    return float(stats.pearsonr(x, y).statistic) if np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")


def _connected(graph: Graph, edges: np.ndarray) -> np.ndarray:
    """The nodes that edges [W, R] come from or lead to, bool [W]: without the logits, which write nothing."""
    found = edges.any(1)
    for reader in np.flatnonzero(edges.any(0)).tolist():
        if graph.owners[reader] >= 0:
            found[graph.owners[reader]] = True
    return found


def _tensor(scores: np.ndarray):
    import torch

    return torch.from_numpy(scores).nan_to_num()
