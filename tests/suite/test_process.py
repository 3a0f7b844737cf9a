"""A function in a process of its own is called in the world as it is now."""

import os

from circuitmeter.suite.process import call_apart


def gpus():
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").encode()


def test_a_new_process_has_the_environment_of_this_one_as_it_is_now(monkeypatch):
    """Not as it was when the server started, which forks them: Ray gives each task other GPUs."""
    for given in ("3", "1,2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert call_apart(gpus) == given.encode()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert call_apart(gpus) == b"all"
