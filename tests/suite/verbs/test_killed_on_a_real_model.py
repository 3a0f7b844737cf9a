"""EAP-IG on SmolLM2, killed (SIGKILL) behind half of its batches and started again: minutes of one core."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from safetensors import SafetensorError, safe_open

from circuitmeter.suite.errors import ModelAbsent
from circuitmeter.suite.model.load import gguf_file

pytestmark = pytest.mark.slow
PROMPTS = 6
COMMAND = [sys.executable, "-m", "circuitmeter", "discover", "--task", "ioi", "--model", "smollm2", "--method"]
COMMAND += ["eap-ig", "--set", "steps=2", "batch_size=1", "--prompts", str(PROMPTS), "--yes", "--device", "cpu"]


def finished(partial) -> int:
    """Batches in the file of sums; none where there is none yet."""
    try:
        with safe_open(partial, "pt") as file:
            return max(json.loads(file.metadata()["batches"]).values())
    except (OSError, SafetensorError):
        return 0


def test_a_search_that_is_killed_goes_on_to_the_very_same_circuit(tmp_path):
    try:
        gguf_file.find("smollm2")
    except ModelAbsent as error:
        pytest.skip(str(error))
    whole, out = tmp_path / "whole.json", tmp_path / "killed.json"
    partial = tmp_path / "killed.json.partial"
    with subprocess.Popen([*COMMAND, "--out", out], stderr=subprocess.PIPE, text=True) as search:
        while search.poll() is None and finished(partial) < PROMPTS // 2:
            time.sleep(0.05)
        search.kill()
    assert search.returncode == -9, "it was finished before it was killed"
    kept = finished(partial)
    assert PROMPTS // 2 <= kept < PROMPTS and not out.exists()
    again = subprocess.run([*COMMAND, "--out", out], capture_output=True, text=True, check=True)
    assert f"{kept} batches of prompts are finished" in again.stderr
    assert not partial.exists()
    subprocess.run([*COMMAND, "--out", whole], capture_output=True, check=True)
    assert out.read_bytes() == whole.read_bytes()
