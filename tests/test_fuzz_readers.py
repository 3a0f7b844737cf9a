"""Whatever is in a file that a user gives: it is read, or refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest
from fuzz_readers import readers


def test_a_few_damages_of_every_reader():
    assert fuzzing.failures(300, seed=1, known=readers(whole_models=False)) == []


@pytest.mark.slow
def test_many_damages_within_five_seconds_and_a_gigabyte_each():
    command = [sys.executable, str(Path(fuzzing.__file__)), "20000", "2"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]


def test_the_damages_are_damages():
    """Most are refused; a few leave a file that is read."""
    known = readers(whole_models=False)
    changed = [content != known[name].files[file] for name, file, content in fuzzing.cases(known, 200, 0)]
    assert sum(changed) > 180
