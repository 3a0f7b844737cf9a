"""The chapter on features: certified ones, trained dictionaries by their quality, and what circuits of mini keep."""

import pytest
from made_up import certificate
from synthetic import identity, write_done, write_evaluation

from circuitmeter import ground_truth
from circuitmeter.ground_truth.dictionaries.recipe import OF_MINI, OF_PROGRAMS
from circuitmeter.ground_truth.dictionaries.shipped import shipped
from circuitmeter.reports.chapters.features import FeaturesChapter, best_method
from circuitmeter.reports.read.dictionaries import recovery_by_dictionary
from circuitmeter.reports.read.results import read_results
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.store.record import Cell
from circuitmeter.suite.store.store import Store

WIDTHS = ("narrow", "wide")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("features") / "store", create=True)
    names = [f"{OF_PROGRAMS}/pointer_twice-{width}-{seed}" for width in WIDTHS for seed in (0, 1)]
    for name in ("tracr-features/fraction_a", "tracr-rotated-features/fraction_a", *names):
        contents = ground_truth.load(name).certificate
        store.write_truth(contents.hash, contents)
        for method, quality in (("truth", 99.0), ("eap-ig", 5.0), ("eap", 0.2), ("random", 0.0)):
            cell = identity(name, method, "patch", truth=contents.hash, seed=0 if method == "random" else None)
            write_done(store, contents, cell, quality, len(name))
    made = certificate(Graph(n_layers=2, n_heads=1, inputs="split"), {"patch": ([], [])})
    for model in (f"{OF_MINI}/ioi-narrow-0", f"{OF_MINI}/ioi-narrow-1"):
        for method in ("eap", "random"):
            seed = 0 if method == "random" else None
            cell = Cell(**identity("ioi", method, "patch", seed=seed).as_json() | {"model": model})
            write_done(store, made, cell, 1.0, 1)
            kept = 0.75 if method == "eap" else 0.25
            write_evaluation(store, cell.key, {"patch": [kept, 1.0], "zero": [0.1, 0.2]}, sizes=(0.1, 0.5))
    return read_results(store.path)


def text_of(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_the_three_tables(results):
    certified, dictionaries, kept = FeaturesChapter().tables(results)
    assert certified.headings == ("Method", "Ablation", "Own basis", "Random basis", "Tasks")
    assert ["truth", "patch", "1.00", "1.00", "2"] in text_of(certified)
    rows = text_of(dictionaries)
    assert [row[:2] for row in rows] == [["pointer_twice", width] for width in WIDTHS]
    wide = [shipped()[f"{OF_PROGRAMS}/pointer_twice-wide-{seed}"] for seed in (0, 1)]
    assert rows[1][3] == str(sum(site.recipe.n_features for site in wide[0].sites.values()))
    mean = sum(site.unexplained for each in wide for site in each.sites.values()) / 4
    assert rows[1][4] == f"{mean:.3f}"
    by_method = {row[3]: row for row in text_of(kept)}
    assert by_method["eap"][4:6] == ["0.75 [0.75, 0.75]", "1.00 [1.00, 1.00]"]  # under its own ablation alone
    assert by_method["random"][4].startswith("0.25")
    alone = [shipped()[f"{OF_MINI}/ioi-narrow-{seed}"].errors_keep["patch"] for seed in (0, 1)]
    assert by_method["eap"][7] == f"{sum(alone) / 2:.2f}".replace("-", "\N{MINUS SIGN}")


def test_the_figure_shows_the_best_method_and_the_ceiling(results):
    (plot,) = FeaturesChapter().figures(results)
    table = recovery_by_dictionary(results.recovery)
    assert best_method(table) == "eap-ig"
    figure = plot.draw()
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_xlabel() for ax in axes] == ["Variance not reconstructed", "True features found"]
    dots = [line for line in axes[0].lines if len(line.get_xdata()) == 1]
    assert len(dots) == 2 * 4
    filled = {round(float(line.get_ydata()[0]), 6) for line in dots if line.get_markerfacecolor() != "none"}
    assert filled == {round(value, 6) for value in table.loc[table["label"] == "eap-ig", "auroc"]}


def test_an_edge_that_a_dictionary_misses_lowers_the_ceiling(results):
    table = recovery_by_dictionary(results.recovery)
    ceiling = table[table["label"] == "truth"].set_index("dictionary")["auroc"]
    for name, value in ceiling.items():
        claim = ground_truth.load(name).certificate.ablations["patch"]
        missed = len(claim.missed) / (len(claim.core) + len(claim.missed))
        assert value <= 1 and (value < 1) == (missed > 0)
    assert ceiling.filter(like="narrow").max() < ceiling.filter(like="wide").min()


def test_a_store_without_features_has_no_such_chapter(tmp_path):
    found = read_results(Store(tmp_path / "store", create=True).path)
    chapter = FeaturesChapter()
    assert (
        not chapter.tables(found)
        and not chapter.figures(found)
        and not chapter.words(found)
        and not chapter.data(found)
    )
