"""Several stores as one: every cell once, the finished before the failed, whichever is named first."""

import json

import pytest
from synthetic import make_store, record_of

from circuitmeter.reports.leaderboard import leaderboard_json
from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.read.stores import Stores
from circuitmeter.reports.write import write_report
from circuitmeter.suite.errors import StoreError
from circuitmeter.suite.store.record import Benchmark
from circuitmeter.suite.store.store import Store


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Two stores with a method each that the other lacks, and one that both have."""
    folder = tmp_path_factory.mktemp("halves")
    stores = [
        make_store(folder / name, programs=3, methods=methods, ablations=("patch",), failures=False)
        for name, methods in (("one", ("eap", "exact")), ("two", ("eap", "acdc")))
    ]
    for store, name in zip(stores, ("first", "second"), strict=True):
        store.write_benchmark(name, Benchmark(cells=store.keys()))
    return [store.path for store in stores]


def test_every_cell_counts_once(halves):
    results = read_results(*halves)
    assert set(results.recovery["label"]) == {"eap", "exact", "acdc"}
    assert len(results.records) == 3 * 3 and results.aggregate["n_cells"].tolist() == [3, 3, 3]
    assert list(results.store.benchmarks()) == ["first", "second"]


def test_the_order_of_the_stores_changes_nothing(halves):
    texts = [leaderboard_json(read_results(*paths)) for paths in (halves, halves[::-1], halves)]
    assert texts[0] == texts[1] == texts[2]
    contents = json.loads(texts[0])
    assert [row["method"] for row in contents["ablations"]["patch"]][0] in ("exact", "acdc")
    ranks = {row["method"]: row["rank"] for row in contents["ablations"]["patch"]}
    assert ranks["eap"] == 3 and contents["benchmarks"] == {"first": 6, "second": 6} and contents["cells"] == 9


def test_merged_stores_give_the_same_page_and_leaderboard_byte_for_byte(halves, tmp_path, page_only):
    written = [
        write_report(first, tmp_path / name, second).parent
        for name, (first, second) in zip("ab", (halves, halves[::-1]), strict=True)
    ]
    for name in ("report.html", "leaderboard.json"):
        assert (written[0] / name).read_bytes() == (written[1] / name).read_bytes(), name


def test_a_finished_cell_stands_for_one_that_failed_elsewhere(tmp_path, halves):
    done = next(Store(halves[0]).records())
    other = Store(tmp_path / "s", create=True)
    other.write(record_of(done.identity), {})
    for paths in ((other.path, halves[0]), (halves[0], other.path)):
        stores = Stores(paths)
        found = {record.key: record.status for record in stores.records()}
        assert found[done.key] == "done" and stores.scores(done.key).ndim == 2


def test_a_cell_that_is_damaged_in_one_store_and_whole_in_another_is_whole(tmp_path):
    stores = [
        make_store(tmp_path / name, programs=1, methods=("eap",), ablations=("patch",), failures=False) for name in "ab"
    ]
    key = stores[0].keys()[0]
    (stores[0].path / "cells" / key / "record.json").write_text("{")
    merged = Stores([store.path for store in stores])
    assert [record.key for record in merged.records()] == [key] and merged.damaged == {}
    alone = Stores([stores[0].path])
    assert list(alone.records()) == [] and list(alone.damaged) == [key]


def test_what_no_store_holds_is_one_clear_error(halves):
    with pytest.raises(StoreError, match="no cell"):
        Stores(halves).record("f" * 16)
