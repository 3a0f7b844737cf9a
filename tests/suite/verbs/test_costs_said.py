"""What is said of a piece of work before it starts: its computing, the clock beside it, and what would fit."""

import pytest
import torch

from circuitmeter.suite.errors import DataError, SpecError
from circuitmeter.suite.intervention.setting import grid
from circuitmeter.suite.verbs import costs
from circuitmeter.suite.verbs.costs import Watch, allow, most_prompts
from circuitmeter.suite.verbs.output import refuse_folder
from circuitmeter.suite.verbs.sensitivity import CardWork


def test_a_busy_machine_refuses_nothing_and_is_told(capsys):
    allow("this", 180, False, busy=5)
    assert capsys.readouterr().err == (
        "this takes about 3 min of computing on this machine (now about 15 min by the clock, as the machine is busy).\n"
    )
    allow("this", 180, False, busy=1.2)
    assert capsys.readouterr().err == "this takes about 3 min of computing on this machine.\n"
    allow("this", 5, False, busy=100)
    assert not capsys.readouterr().err


def test_a_refusal_names_options_that_fit():
    with pytest.raises(SpecError, match=r"--yes starts it, and with --prompts 40 it takes about 8 min\.$"):
        allow("this", 1200, False, fits=lambda: ("--prompts 40", 480.0))
    with pytest.raises(SpecError, match=r"--yes starts it, and fewer prompts would make it shorter\.$"):
        allow("this", 1200, False, fits=lambda: None)
    allow("this", 1200, True, fits=lambda: pytest.fail("what is allowed needs no other options"))


@pytest.mark.parametrize(
    ("n", "a_prompt", "fixed", "option"),
    [(100, 10.0, 0.0, "--prompts 60"), (1000, 4.3, 0.0, "--prompts 130"), (8, 130.0, 0.0, "--prompts 4"),
     (8, 700.0, 0.0, None), (8, 0.0, 601.0, None)],
)  # fmt: skip
def test_the_most_prompts_that_fit(n, a_prompt, fixed, option):
    found = most_prompts(n, lambda prompts: fixed + a_prompt * prompts)
    if option is None:
        assert found is None
    else:
        assert found[0] == option and found[1] == pytest.approx(a_prompt * int(option.split()[1])) and found[1] <= 600


def test_reductions_of_a_card_are_tried_from_the_least_to_the_most():
    settings = grid(ablation=["patch", "mean", "zero", "resample"], component=["edge", "node"], objective=["kl"])
    work = CardWork(settings, prompts=100, random=100, pairings=3)

    def seconds(a_setting):
        return lambda asked: a_setting * len(asked.settings) * (1 + asked.random) * asked.prompts / 100

    for a_setting, options in (
        (3.0, "--random 20"),
        (50.0, "--random 0"),
        (140.0, "--random 0 --component edge"),
        (160.0, "--random 0 --component edge --ablation patch mean zero"),
        (1000.0, "--random 0 --component edge --ablation patch mean zero --prompts 20"),
    ):
        found = work.that_fits(seconds(a_setting))
        assert found[0] == options and 0 < found[1] <= 600
    assert work.that_fits(seconds(1e6)) is None
    small = CardWork(settings[:1], prompts=100, random=0, pairings=1)  # nothing is left out that is not there
    assert small.that_fits(seconds(1000.0)) == ("--prompts 60", pytest.approx(600))


def test_how_long_it_took_is_told_as_the_estimate_was(monkeypatch, capsys):
    computed, wall = [0.0], [0.0]
    monkeypatch.setattr("time.thread_time", lambda: computed[0])
    monkeypatch.setattr("time.perf_counter", lambda: wall[0])
    watch = Watch(torch.device("cpu"))
    computed[0], wall[0] = 120.0, 360.0
    watch.took(180.0)
    assert (
        capsys.readouterr().err
        == "took 6 min by the clock, of which computing took 2 min (estimated 3 min of computing).\n"
    )
    wall[0] = 130.0
    watch.took(180.0)
    assert capsys.readouterr().err == "took 2 min (estimated 3 min of computing).\n"
    watch.took(costs._WORTH_SAYING_SECONDS)
    assert not capsys.readouterr().err


def test_a_folder_is_refused_before_it_is_made(tmp_path):
    refuse_folder(tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match="cannot make the folder .*; choose another --out"):
            refuse_folder(bad)
