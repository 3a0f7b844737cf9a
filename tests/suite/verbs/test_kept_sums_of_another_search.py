"""Sums that an interrupted search kept are taken up by the same search, and by no other."""

import shutil
from dataclasses import replace

import pytest
import torch
from feature_models import dictionary

from circuitmeter.suite import cli
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.load.dictionary import save_dictionary
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.run import kept_sums, watch
from circuitmeter.suite.store import keys

SEARCH = {
    "--task": "ioi",
    "--model": "mini",
    "--inputs": "token",
    "--method": "eap-ig",
    "--set": ("batch_size=1", "steps=2"),
    "--prompts": "3",
    "--device": "cpu",
}
OTHERS = {
    "other input nodes": {"--inputs": "sum"},
    "another split": {"--split": "test"},
    "fewer prompts": {"--prompts": "2"},
    "another task": {"--task": "sva"},
    "another ablation": {"--ablation": "zero"},
    "another objective": {"--objective": "kl"},
    "another seed": {"--seed": "1"},
    "another parameter": {"--set": ("batch_size=1", "steps=3")},
    "other batches": {"--set": ("batch_size=2", "steps=2")},
    "another method": {"--method": "eap", "--set": "batch_size=1"},
    "another dtype": {"--dtype": "bfloat16"},
    "TF32": {"--tf32": ()},
}


def asked(out, changes):
    words = []
    for name, given in (SEARCH | changes).items():
        if given is not None:
            words += [name, given] if isinstance(given, str) else [name, *given]
    return ["discover", *words, "--top", "10", "--out", str(out)]


def interrupted(out, changes):
    """A search that is killed behind its first batch."""
    save = kept_sums.KeptSums.save

    def killed(self, part, batches, total):
        save(self, part, batches, total)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kept_sums.KeptSums, "save", killed)
        assert cli.main(asked(out, changes)) == 130
    return out.with_name(f"{out.name}.partial")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return interrupted(tmp_path_factory.mktemp("kept") / "c.json", {})


@pytest.fixture
def goes_on(tmp_path, monkeypatch, capfd):
    """Whether a search with these changes takes up what was kept: it is ended as soon as it has looked."""

    def ended(*given, **named):
        raise KeyboardInterrupt

    def look(kept, changes):
        monkeypatch.setattr(watch, "watched", ended)
        shutil.copy(kept, tmp_path / "c.json.partial")
        capfd.readouterr()
        assert cli.main(asked(tmp_path / "c.json", changes)) == 130
        return "going on from" in capfd.readouterr().err

    return look


def test_the_same_search_takes_them_up(kept, goes_on):
    assert goes_on(kept, {})


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_another_search_does_not(kept, goes_on, changes):
    assert not goes_on(kept, changes)


def test_edges_at_single_positions_are_another_search(tmp_path, goes_on):
    on = {"--task": "tracr/first_token@fixed", "--model": None, "--inputs": None}
    (tmp_path / "first").mkdir()
    kept = interrupted(tmp_path / "first" / "c.json", on)
    assert goes_on(kept, on) and not goes_on(kept, on | {"--by-position": ()})


def test_features_as_nodes_are_another_search(kept, goes_on, tmp_path):
    width = subject("ioi", "mini").model.config.d_model
    save_dictionary(dictionary(width, centred=True).to(torch.zeros(())), tmp_path / "book", Site.parse("mlp_out.1"))
    assert not goes_on(kept, {"--dictionary": str(tmp_path / "book"), "--top-features": "2"})


def test_another_version_of_the_method_or_of_the_numbers_is_another_search(kept, goes_on, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(METHODS._items, "eap-ig", replace(METHODS.get("eap-ig"), code="another"))
        assert not goes_on(kept, {})
    with monkeypatch.context() as patched:
        patched.setattr(keys, "KEY_VERSION", keys.KEY_VERSION + 1)
        assert not goes_on(kept, {})


def test_the_other_search_finds_what_it_finds_alone(kept, tmp_path):
    shutil.copy(kept, tmp_path / "c.json.partial")
    for name in ("c.json", "alone.json"):
        assert cli.main(asked(tmp_path / name, {"--inputs": "sum"})) == 0
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
