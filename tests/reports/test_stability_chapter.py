"""Stability in a report: whether stable circuits are true ones, by numbers that are known before."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from synthetic import make_store, write_evaluation

from circuitmeter.reports.chapters.stability import StabilityChapter, verdict
from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.read.stability import spearman
from circuitmeter.suite.scoring.structure.stability_card import AtSize, CircuitChange

METHODS = ("acdc", "eap", "eap-ig", "exact", "hisp")


def change(jaccard, size=5, **of_inclusion):
    numbers = {"low": jaccard - 0.05, "high": jaccard + 0.05, "lowest": 0.1, "chance": 0.2, "with_whole": jaccard}
    points = [
        AtSize(size=n, jaccard=jaccard, rank=0.5, rank_low=0.1, rank_high=0.9, always=2, sometimes=3, **numbers)
        for n in (size, size + 1)
    ]
    return CircuitChange(points=tuple(points), inclusion={"x": 1.0}, **of_inclusion)


def store_with(path, jaccard_of):
    """A store whose cells have the Jaccard index that ``jaccard_of`` gives for their F1."""
    store = make_store(path, programs=4, methods=METHODS, ablations=("patch",), failures=False)
    for record in list(store.records()):
        own = record.own_recovery
        more = {"auroc_of_inclusion": own.auroc + 0.1, "precision_of_always": own.precision - 0.25}
        if record.identity.method == "hisp":
            found = CircuitChange(undefined="hisp has no scores of each prompt")
        else:
            found = change(jaccard_of(own.f1), **more)
        sizes = ({"size": "true", "n_edges": 5, "label": {}}, {"size": 0.5, "n_edges": 6, "label": {}})
        given = {"sizes": ("true", 0.5), "circuits": sizes, "stability": {"prompts": found}}
        write_evaluation(store, record.key, {"patch": [0.5, 0.6]}, **given)
    return read_results(store.path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return store_with(tmp_path_factory.mktemp("stable") / "s", lambda f1: f1 / 2 + 0.1)


def test_where_stability_is_recovery_it_predicts_it(results):
    table = results.stability_prediction.set_index("question")
    assert table.loc["methods", ["value", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc["programs", "value"] == pytest.approx(1)
    assert table.loc["inclusion", ["value", "low", "high"]].tolist() == pytest.approx([0.1] * 3)
    assert table.loc["always", ["value", "low", "high"]].tolist() == pytest.approx([-0.25] * 3)
    assert set(table["n_programs"]) == {4} and set(table["n_cells"]) == {16}  # without hisp
    text = verdict(results.stability_prediction)
    assert "1.00 [1.00, 1.00]: the more stable is the truer" in text


def test_where_it_is_the_contrary_the_chapter_says_so(tmp_path):
    found = store_with(tmp_path / "s", lambda f1: 1 - f1 / 2)
    assert "the more stable is the less true" in verdict(found.stability_prediction)


def test_every_cell_and_size_is_a_row_and_the_reason_stands_where_there_is_no_number(results):
    table = results.stability
    known = table[table["undefined"].isna()]
    assert len(known) == 16 * 2 and set(known["size"]) == {"true", "0.5"} and known["main"].sum() == 16
    assert set(table.loc[table["undefined"].notna(), "label"]) == {"hisp"}
    summary = results.stability_summary
    eap = summary[(summary["label"] == "eap") & (summary["size"] == "true")].iloc[0]
    values = known.loc[(known["label"] == "eap") & known["main"], "jaccard"]
    assert eap["jaccard"] == pytest.approx(values.median()) and eap["n_programs"] == 4
    assert eap["jaccard_low"] <= eap["jaccard"] <= eap["jaccard_high"]


def test_the_chapter_has_tables_a_figure_and_words(results):
    part = StabilityChapter()
    assert [len(table.rows) for table in part.tables(results)] == [8, 4]
    (plot,) = part.figures(results)
    figure = plot.draw()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["certified circuit, patch", "stable and true"]
    drawn = [line for line in figure.axes[1].get_lines() if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in drawn) == 16
    words = " ".join(part.words(results))
    assert "hisp has no stability: hisp has no scores of each prompt." in words
    assert part.summary(results) and part.statistics(results)


def test_without_the_true_size_nothing_is_said_of_it(tmp_path):
    store = make_store(tmp_path / "s", programs=4, methods=METHODS, ablations=("patch",), failures=False)
    circuits = ({"size": 0.4, "n_edges": 5, "label": {}}, {"size": 0.5, "n_edges": 6, "label": {}})
    for record in list(store.records()):
        given = {"sizes": (0.4, 0.5), "circuits": circuits, "stability": {"prompts": change(0.5)}}
        write_evaluation(store, record.key, {"patch": [0.5, 0.6]}, **given)
    found = read_results(store.path)
    assert found.stability["main"].sum() == 20 and not len(found.stability_prediction)
    (plot,) = StabilityChapter().figures(found)
    assert [ax.get_title(loc="left") for ax in plot.draw().axes] == ["certified circuit, patch"]


def test_a_store_without_it_has_no_chapter(usual_results):
    part = StabilityChapter()
    assert not [*part.tables(usual_results), *part.figures(usual_results), *part.words(usual_results)]
    assert not [*part.summary(usual_results), *part.statistics(usual_results)]


def test_rank_correlations_are_scipys():
    generator = np.random.default_rng(0)
    x, y = generator.integers(5, size=(2, 20, 9)) / 7
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert spearman(x, y) == pytest.approx(expected)
    x[:, 3] = np.nan
    kept = np.arange(9) != 3
    expected = [stats.spearmanr(a[kept], b[kept]).statistic for a, b in zip(x, y, strict=True)]
    assert spearman(x, y) == pytest.approx(expected)
    assert np.isnan(spearman(x[:, :4], y[:, :4])).all()  # three pairs are too few
    assert np.isnan(spearman(np.ones(6), np.arange(6.0)))
