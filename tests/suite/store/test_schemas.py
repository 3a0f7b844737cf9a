"""The schemas in docs/schemas are those of the models, and what a store holds follows them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from made import cell, done, make_whole_store, scores

from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.schemas import FILES, schemas
from circuitmeter.suite.store.store import Store

DOCS = Path(__file__).parents[3] / "docs" / "schemas"
OLD = Path(__file__).parent / "format1"


def test_the_schemas_are_those_of_the_models():
    written = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.json")}
    assert written == schemas(), "python -m circuitmeter.suite.store.schemas docs/schemas writes them again"


@pytest.mark.parametrize("name", [name for name in FILES if name != "circuit-key.1"])  # other tools add to it
def test_every_schema_forbids_what_it_does_not_name(name):
    assert FILES[name].model_json_schema()["additionalProperties"] is False
    with pytest.raises(ValueError, match="extra"):
        FILES[name](**{"unheard_of": 1})


def test_a_record_is_the_same_when_it_is_read_again(tmp_path):
    store = make_whole_store(tmp_path / "s")
    assert store.record(cell().key) == done(cell())
    assert store.record(cell().key).as_json() == done(cell()).as_json()


def test_a_store_of_version_0_1_0_is_read_checked_and_added_to(tmp_path):
    """``format1`` is part of a store of ``quick`` as version 0.1.0 wrote it: three cells, one of them undefined."""
    import shutil

    shutil.copytree(OLD, tmp_path / "old")
    found = check(tmp_path / "old")
    assert found.whole and found.coverage["quick"]["done"] == 2 and found.coverage["quick"]["undefined"] == 1
    store = Store(tmp_path / "old", create=True)
    records = list(store.records())
    assert [record.format for record in records] == [2, 2, 2]
    (scored,) = [record for record in records if record.done and record.identity.method == "eap"]
    assert scored.own_recovery.auroc is not None and scored.cost.seconds > 0 and scored.cost.forward > 0
    assert set(scored.cost.parameters) == {"batch_size"} and scored.provenance.versions["torch"]
    assert store.truth(scored.identity.truth).n_edges == scored.n_edges
    assert store.write(done(cell()), scores())
    path = next((tmp_path / "old" / "cells").glob("*/record.json"))
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))
    assert not check(tmp_path / "old").whole
