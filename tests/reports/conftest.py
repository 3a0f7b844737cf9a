"""Makes the synthetic stores importable and builds the usual one once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def usual_store(tmp_path_factory):
    """Four programs, seven methods, two ablations, two seeds of random, two failures. Read-only."""
    from synthetic import make_store

    return make_store(tmp_path_factory.mktemp("store") / "usual", seeds=2)


@pytest.fixture(scope="session")
def usual_results(usual_store):
    from circuitmeter.reports.read.results import read_results

    return read_results(usual_store.path)


@pytest.fixture(scope="session")
def report(usual_store, tmp_path_factory):
    """The folder with the usual store's report."""
    from circuitmeter.reports.write import write_report

    out = tmp_path_factory.mktemp("report")
    assert write_report(usual_store.path, out) == out / "report.html"
    return out


@pytest.fixture
def page_only(monkeypatch):
    """Figures as the page has them: the other files take most of a small report's time, and are looked at elsewhere."""
    monkeypatch.setattr("circuitmeter.reports.chapters.files.DRAWN_FORMATS", ("svg",))
