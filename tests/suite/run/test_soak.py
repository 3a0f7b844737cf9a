"""``benchmarks/soak.py``, briefly: whatever is killed, no cell is lost, changed or computed again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[3] / "benchmarks" / "soak.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it finds processes in /proc")
@pytest.mark.parametrize("where", [["--shards", "1"], ["--shards", "4"], ["--executor", "ray"]], ids=" ".join)
def test_a_sweep_that_is_killed_again_and_again_equals_one_that_is_not(where):
    if "ray" in where:
        pytest.importorskip("ray")
    command = [sys.executable, str(SOAK), "--seconds", "1", "--workers", "1", "--times", "1", *where]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict((name, int(count)) for count, name in re.findall(r"(\d+) ([a-z ]+)", done.stdout))
    assert told["workers killed"] + told["drivers killed"] + told["nodes killed"] > 0
    assert told["lost"] == told["changed"] == told["replaced"] == told["repeated"] == told["corrupt"] == 0
