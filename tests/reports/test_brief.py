"""The short report: the report's own words, figures and numbers, a paragraph for a paper, at most two A4 pages."""

import re
import shutil
import subprocess

import pytest
from synthetic import certificate, evaluate_all, identity, make_store, write_done
from test_browser import NAMES
from test_write import Page

from circuitmeter.reports.brief import MOST_FIGURES, MOST_ROWS, first_of_each, methods_paragraph
from circuitmeter.reports.chapters.recovery import leaderboard
from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.write import write_report
from circuitmeter.suite.cli import main
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.record import Benchmark
from circuitmeter.suite.store.store import Store

SIX = ("patch", "resample", "mean", "noise", "optimal", "zero")


def parameters_of(method):
    return {f"parameter_{i}_of_{method}": [0.001 * i, 1.0] for i in range(14)}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Eleven methods with many parameters, six ablations, evaluations and a benchmark: more than two pages hold."""
    store = make_store(tmp_path_factory.mktemp("large") / "s", programs=2, ablations=SIX, seeds=2)
    contents = certificate(Graph(n_layers=2, n_heads=1, inputs="split"), SIX, seed=9)
    digest = contents.hash
    store.write_truth(digest, contents)
    for i, method in enumerate(("edge-pruning", "subnetwork-probing", "discogp", "ugs")):
        for ablation in SIX:
            cell = identity(
                "trained/long-name", method, ablation, seed=0, parameters=parameters_of(method), truth=digest
            )
            write_done(store, contents, cell, 0.5 * i, i)
    evaluate_all(store)
    asked = {found.identity.cell: found.key for found in store.evaluations()}
    fixed = {"hash": "a" * 16, "standing": "as released with 9.1", "spec": {"name": "large-1"}}
    store.write_benchmark("large-1", Benchmark(**fixed, cells=store.keys(), evaluations=asked))
    return store


@pytest.fixture(scope="module")
def both(large):
    """The text of the report and of the short one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("circuitmeter.reports.chapters.files.DRAWN_FORMATS", ("svg",))
        page = write_report(large.path, brief=True)
    return page.read_text(), page.with_name("brief.html").read_text()


def section(text, name):
    return text[text.index(f'<section id="{name}">') :].partition("</section>")[0]


def test_it_is_two_pages_of_a4_at_most(large, both, tmp_path):
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    pdf = tmp_path / "brief.pdf"
    asked = ["--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}"]
    page = (large.path / "brief.html").as_uri()
    subprocess.run([browser, *asked, page], check=True, capture_output=True, timeout=120)
    content = pdf.read_bytes()
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 2
    width, height = map(float, re.search(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", content).groups())
    assert (round(width), round(height)) == (595, 842)


def test_it_asks_for_nothing_and_its_links_lead_somewhere(both):
    page = Page(both[1])
    assert page.requests == [] and "url(http" not in both[1] and "<nav" not in both[1]
    assert len(page.ids) == len(set(page.ids)) and page.tags.count("figure") == MOST_FIGURES
    assert page.tags.count("table") == 1
    for reference in set(re.findall(r"url\(#([^)]+)\)|(?:xlink:)?href=\"#([^\"]+)\"", both[1])):
        assert (reference[0] or reference[1]) in page.ids


def test_its_words_figures_and_rows_are_those_of_the_report(both):
    full, short = both
    for paragraph in re.findall(r"<p>(.*?)</p>", section(short, "summary")):
        assert f"<p>{paragraph}</p>" in section(full, "summary") or "more paragraph" in paragraph
    figures = re.findall(r"<figure>.*?</figure>", short, re.DOTALL)
    assert all(figure in full for figure in figures)
    rows = re.findall(r"<tr><td.*?</tr>", short)
    assert len(rows) == MOST_ROWS and all(row in section(full, "recovery") for row in rows)
    assert {re.findall(r"<td[^>]*>(.*?)</td>", row)[1] for row in rows} == set(SIX)
    total = len(re.findall(r"<tr><td.*?</tr>", section(full, "recovery").partition('id="programs-table"')[0]))
    assert f"{total - MOST_ROWS} more are in the report." in short


def test_the_methods_paragraph_has_all_that_a_paper_says(large, both):
    text = re.findall(r"<p>(.*?)</p>", section(both[1], "methods"))
    assert len(text) == 1
    assert f"large-1 (hash {'a' * 16}, as released with 9.1)" in text[0]
    assert "Models (3): tracr (program0, program1); trained (long-name)." in text[0]
    assert all(f"{key[:8]}" in text[0] for key in large.truth_keys())
    (shown,) = (set(re.findall(r"<tr><td[^>]*>(.*?)</td>", section(both[1], "results"))),)
    (full,) = re.findall(r"<p>(.*?)</p>", section(both[0], "methods"))
    for method in ("edge-pruning", "subnetwork-probing", "discogp", "ugs"):
        parameters = f"{method} (parameter_0_of_{method}=[0.0, 1.0], parameter_10_of_{method}="
        assert (parameters in text[0]) == (method in shown) and parameters in full
    assert "whose parameters are in the report" in text[0] and "whose parameters" not in full
    assert "Ablations: patch, resample, mean, noise, optimal and zero. Objective: l2." in text[0]
    assert "Seeds: 0 (discogp, edge-pruning, subnetwork-probing, ugs); 0 and 1 (random)" in text[0]
    for statistic in ("2,000 resamples", "Wilcoxon", "Holm", "true size, 10 % of the edges and 50 % of the edges"):
        assert statistic in text[0]


def test_an_empty_list_of_parameters_is_told_in_the_methods_own_words(tmp_path):
    contents = certificate(Graph(n_layers=1, n_heads=1, inputs="split"), ("patch",), seed=1)
    store = Store(tmp_path / "s", create=True)
    store.write_truth(contents.hash, contents)
    empty = {"acdc": {"thresholds": [], "order": "reverse"}, "peap": {"spans": []}, "mine": {"parts": [], "few": [2]}}
    for i, (method, parameters) in enumerate(empty.items()):
        cell = identity("trained/one", method, "patch", parameters=parameters, truth=contents.hash)
        write_done(store, contents, cell, 0.5, i)
    (text,) = methods_paragraph(read_results(store.path), ())
    assert "acdc (order=reverse, thresholds=the grid that the paper has for the objective)" in text
    assert "peap (spans=each position by itself)" in text and "mine (few=[2], parts=an empty list)" in text


def test_it_is_covered_by_the_checksums_and_goes_with_the_next_report(tmp_path, page_only, capsys):
    store = make_store(tmp_path / "s", programs=1, methods=("eap",), ablations=("patch",), failures=False)
    assert main(["report", str(store.path), "--brief"]) == 0
    page = store.path / "brief.html"
    assert capsys.readouterr().out.split() == [str(store.path / "report.html"), str(page)]
    assert "brief.html" not in check(store.path).faults and "brief.html" in (store.path / "report.sha256").read_text()
    page.write_text(page.read_text() + " ")
    assert "checksum differs" in check(store.path).faults["brief.html"]
    assert main(["report", str(store.path)]) == 0
    assert not page.exists() and "brief.html" not in check(store.path).faults


def test_the_version_of_the_package_is_that_of_the_cells(tmp_path, page_only):
    store = make_store(tmp_path / "s", programs=1, methods=("eap",), ablations=("patch",), failures=False)
    (record,) = store.records()
    made = {"versions": {"circuitmeter": "7.8.9"}}
    other = Store(tmp_path / "t", create=True)
    other.write_truth(record.identity.truth, store.truth(record.identity.truth))
    other.write(type(record)(**{**record.as_json(), "provenance": made}), {"scores": store.scores(record.key)})
    write_report(other.path, brief=True)
    assert "Results are of CircuitMeter 7.8.9, 1 cells." in (other.path / "brief.html").read_text()


def test_an_empty_store_says_so_in_short(tmp_path):
    Store(tmp_path / "s", create=True)
    write_report(tmp_path / "s", brief=True)
    text = (tmp_path / "s" / "brief.html").read_text()
    assert "holds no cells yet" in text and '<section id="methods">' not in text and "<table" not in text


def test_a_table_is_shortened_alike_for_every_ablation(usual_results):
    table = leaderboard(usual_results.aggregate)
    short = table.shortened(4)
    assert [row[1].text for row in short.rows] == ["patch", "patch", "zero", "zero"]
    assert short.rows[0] == table.rows[0] and table.shortened(len(table.rows)) is table


def test_every_chapter_gives_its_first_before_any_gives_a_second():
    assert first_of_each(["abc", "", "d", "ef"], 4) == ["a", "b", "d", "e"]
    assert first_of_each(["ab", "c"], 9) == ["a", "b", "c"]
