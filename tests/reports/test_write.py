"""The report as files: complete, self-contained, escaped, the same for the same store, sensible for odd stores."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
from synthetic import certificate, identity, make_store, record_of, write_done

from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.summary import summary_table
from circuitmeter.reports.write import write_report
from circuitmeter.suite.errors import StoreError
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.store.record import Benchmark
from circuitmeter.suite.store.store import Store


class Page(HTMLParser):
    """Collects ids, tags, and attributes that could ask the network for something."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.requests = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "poster") and not value.startswith(("#", "data:")):
                self.requests.append((tag, value))


def test_all_files_are_written(report):
    assert {path.suffix for path in (report / "tables").iterdir()} == {".csv", ".md", ".tex"}
    assert all(path.with_suffix(".csv").exists() for path in (report / "tables").glob("*.md"))
    for name in ("roc", "precision_recall", "auc_by_method", "true_size", "cost", "mismatch"):
        assert (report / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (report / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (report / "figures" / f"{name}.svg").read_bytes()


def test_the_page_asks_for_nothing_and_has_unique_ids(report):
    text = (report / "report.html").read_text()
    page = Page(text)
    assert page.requests == [] and "url(http" not in text and "@import" not in text
    drawn = list((report / "figures").glob("*.svg"))
    assert len(page.ids) == len(set(page.ids)) and page.tags.count("figure") == len(drawn) >= 6
    for reference in set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'xlink:href="#([^"]+)"', text)):
        assert reference in page.ids


def test_the_page_can_be_used_from_the_keyboard(report):
    text = (report / "report.html").read_text()
    sorting = re.findall(r'<th scope="col" aria-sort="none"(?: class="n")?><button type="button">', text)
    listed = text[text.index('<table class="plain">') : text.index("</details>")]  # the viewer's, in order of rank
    assert len(sorting) == text.count("<th scope=") - listed.count("<th scope=") > 20
    assert 'tabindex="0" role="region"' in text and "prefers-color-scheme: dark" in text


def test_the_summary_names_the_winner_and_the_mismatch(report):
    text = (report / "report.html").read_text()
    summary = text[text.index('<section id="summary">') : text.index('<section id="recovery">')]
    assert re.search(r"Under patch ablation (acdc|acdc and exact|exact)\b", summary)
    assert "The verdict depends on whose truth is asked" in summary and "truth ranks" not in summary
    assert "cells 1 has no meaning (undefined) and 1 failed; the chapter “No result” has the reasons." in summary


def test_failures_are_listed_with_reasons(report):
    text = (report / "report.html").read_text()
    assert "out of memory after 3 s" in text and "eap-ig has no zero ablation here" in text


def test_the_same_store_gives_the_same_bytes(usual_store, report, tmp_path):
    again = write_report(usual_store.path, tmp_path).parent
    for path in sorted(report.rglob("*.*")):
        assert (again / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name


def test_cells_that_a_benchmark_replaced_are_left_out(tmp_path):
    store = Store(tmp_path / "s", create=True)
    contents = certificate(Graph(n_layers=2, n_heads=1, inputs="split"), ablations=("patch",))
    store.write_truth(contents.hash, contents)
    for version in ("1" * 16, "2" * 16):
        write_done(store, contents, identity("tracr/x", "mine", "patch", truth=contents.hash, version=version), 1.0, 0)
    assert "mine (version 1111)" in summary_table(store.path)
    newer = [key for key in store.keys() if store.record(key).identity.version == "2" * 16]
    store.write_benchmark("b", Benchmark(cells=newer))
    text = summary_table(store.path)
    assert "mine" in text and "version" not in text
    results = read_results(store.path)
    assert results.superseded == 1 and [record.key for record in results.records] == newer


def test_csv_holds_full_numbers(report, usual_results):
    table = pd.read_csv(report / "tables" / "recovery.csv")
    pd.testing.assert_series_equal(table["auroc"], usual_results.recovery["auroc"], check_dtype=False)


def test_an_empty_store_says_so(tmp_path):
    Store(tmp_path / "s", create=True)
    text = write_report(tmp_path / "s").read_text()
    assert "holds no cells yet" in text and "<table" not in text
    assert "No cell has been scored" in summary_table(tmp_path / "s")


def test_a_store_with_only_failures_lists_them_and_runs_no_markup(tmp_path):
    store = Store(tmp_path / "s", create=True)
    name = "<script>alert(1)</script>"
    store.write(record_of(identity("tracr/x", name, "patch"), reason=f"{name} broke"), {})
    text = write_report(tmp_path / "s").read_text()
    assert "No cell of this store has a result" in text and "&lt;script&gt;alert(1)&lt;/script&gt; broke" in text
    assert text.count("<script>") == 1  # the page's own


def test_a_single_method_on_a_single_program(tmp_path, page_only):
    store = Store(tmp_path / "s", create=True)
    graph = Graph(n_layers=2, n_heads=1, inputs="split")
    contents = certificate(graph, ablations=("patch",))
    store.write_truth(contents.hash, contents)
    name = "<script>alert(1)</script>"
    write_done(store, contents, identity("tracr/x", name, "patch", truth=contents.hash), 9.0, 0)
    text = write_report(tmp_path / "s").read_text()
    assert "over one program" in text and '<section id="mismatch">' not in text and '<section id="tests">' not in text
    assert text.count("<script>") == 1 and "&lt;script&gt;" in text
    assert "1.00" in summary_table(tmp_path / "s")


def test_damaged_cells_are_reported_and_the_rest_kept(tmp_path, page_only):
    store = make_store(tmp_path / "s", programs=2, methods=("eap", "random"), ablations=("patch",), failures=False)
    key = store.keys()[0]
    (store.path / "cells" / key / "record.json").write_text("{")
    text = write_report(store.path).read_text()
    assert (
        '<section id="failures">' in text and key in text and "1 damaged" in text and '<section id="recovery">' in text
    )


def test_no_store_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match="no store at"):
        write_report(tmp_path / "nothing")


def test_summary_table_shows_medians_exact_recoveries_and_the_best(usual_store):
    text = summary_table(usual_store.path)
    assert "patch ablation" in text and "zero ablation" in text and "1 has no meaning (undefined) and 1 failed" in text
    assert re.search(r"^\* exact +1\.00 \[1\.00, 1\.00\] +4 +4/4", text, re.MULTILINE)
    assert re.search(r"^  truth +1\.00", text, re.MULTILINE)


def test_one_cell_has_no_result_in_the_singular(tmp_path):
    make_store(tmp_path / "s", programs=1, methods=("eap-ig",))
    assert summary_table(tmp_path / "s").endswith(" cells 1 has no meaning (undefined); the report says why.")


def test_the_summary_table_needs_no_torch(usual_store):
    code = f"""import sys
from circuitmeter.reports.summary import summary_table
summary_table({str(usual_store.path)!r})
assert "torch" not in sys.modules and "matplotlib" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_report_of_a_benchmark_without_features_needs_no_torch(usual_store, tmp_path):
    code = f"""import sys
from circuitmeter.reports.write import write_report
write_report({str(usual_store.path)!r}, {str(tmp_path)!r})
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)
