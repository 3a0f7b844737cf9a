"""Sums kept in a file: taken again by the same search alone, and no damaged file is more than lost time."""

from __future__ import annotations

import io
import re
import time

import torch

from circuitmeter.suite.interchange import Origin
from circuitmeter.suite.model.passes import spend
from circuitmeter.suite.run import watch
from circuitmeter.suite.run.kept_sums import KeptSums


def test_sums_are_read_back_by_the_same_search_alone(tmp_path):
    path = tmp_path / "circuit.json.partial"
    total = torch.rand(3, 2, dtype=torch.float64)
    KeptSums(path, Origin(seed=0)).save(1, 4, total)
    again = KeptSums(path, Origin(seed=0))
    assert again.found == 4 and again.load(0) == (0, None)
    assert again.load(1)[0] == 4 and torch.equal(again.load(1)[1], total)
    assert KeptSums(path, Origin(seed=1)).found == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    again.remove()
    assert not path.exists()


def test_a_damaged_file_is_begun_anew(tmp_path):
    path = tmp_path / "circuit.json.partial"
    path.write_bytes(b"half a file")
    assert KeptSums(path, Origin()).load(0) == (0, None)
    KeptSums(path, Origin()).save(0, 4, torch.ones(3, 2, dtype=torch.float64))
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):  # a number that is another than was written is not added to
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        batches, total = KeptSums(path, Origin()).load(0)
        assert total is None or (batches == 4 and torch.equal(total, torch.ones(3, 2, dtype=torch.float64))), place


def test_where_there_is_no_terminal_a_line_is_written_from_time_to_time(monkeypatch):
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.02)
    stream = io.StringIO()
    with watch.watched("eap", 100, stream=stream):
        spend(forward=25)
        while not stream.getvalue():
            time.sleep(0.01)
    first = stream.getvalue().splitlines()[0]
    assert re.match(r"eap: 25 % after [\d.]+ s, ETA [\d.]+ s", first)
