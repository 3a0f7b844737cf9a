"""Messages: what was given, the nearest name, and what there is, in a line that can be read."""

import pytest

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.errors import (
    _LISTS,
    MOST_NAMES,
    MOST_OF_LISTED,
    CircuitMeterError,
    SpecError,
    mistakes_in_one_line,
    unknown,
)
from circuitmeter.suite.model.load.by_name import load_model
from circuitmeter.suite.verbs import listing


def test_of_many_names_the_first_are_listed():
    names = [f"name-{i:03d}" for i in range(MOST_NAMES + 7)]
    message = unknown("thing", "name-4444", names)
    assert message.startswith("no thing 'name-4444'. Did you mean 'name-044'? Known: name-000, ")
    assert message.endswith(f"{names[MOST_NAMES - 1]} and 7 more.") and names[MOST_NAMES] not in message
    assert " more" not in unknown("thing", "other", names[:MOST_NAMES])


def test_of_what_a_command_lists_the_few_that_are_nearest_are_named():
    names = [f"tracr/program_{i}" for i in range(200)] + ["eap", "eap-ig", "eap-path", "ioi"]
    message = unknown("method", "eapig", names, "Or give a file.")
    assert message.startswith("no method 'eapig'. Did you mean 'eap-ig'? There are eap-ig, eap, eap-path, ")
    assert message.endswith(" and others: `circuitmeter list methods` has all 204. Or give a file.")
    assert len(message) < 200
    assert "Known: name-0, " in unknown("method", "other", [f"name-{i}" for i in range(MOST_OF_LISTED)])
    for kind in _LISTS.values():
        assert kind in listing._ROWS  # the command is one


@pytest.mark.parametrize("load", [tasks.load, load_model])
def test_an_unknown_task_or_model_is_told_in_a_short_line(load, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CircuitMeterError, match="`circuitmeter list (tasks|models)` has all") as error:
        load("gpd3")
    assert len(str(error.value)) < 480  # with what brings a model of the hub's here


@pytest.mark.parametrize(
    ("given", "known", "nearest"),
    [
        ("nonexistent", ["constant", "nan"], None),
        ("discover", ["score", "other"], None),
        ("eep", ["eap", "acdc"], "eap"),
        ("l3", ["l2", "kl"], "l2"),
        ("greater-then", ["greater-than", "ioi"], "greater-than"),
    ],
)
def test_only_a_name_that_is_near_is_suggested(given, known, nearest):
    message = unknown("function", given, known)
    assert (f"Did you mean {nearest!r}?" in message) if nearest else ("Did you mean" not in message)
    assert f"Known: {', '.join(sorted(known))}." in message


@pytest.mark.parametrize("load", [ground_truth.load, tasks.load, load_model])
@pytest.mark.parametrize("name", ["tracr/x" + "9" * 400, "9" * 5000, "mini/" + "9" * 400, "tracr/a\0b"])
def test_a_name_that_is_no_path_is_an_unknown_name(load, name, tmp_path, monkeypatch):
    (tmp_path / "tracr").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CircuitMeterError):
        load(name)


def test_a_script_s_mistakes_are_one_line_and_its_bugs_are_not(capsys):
    @mistakes_in_one_line
    def main(error):
        if error is not None:
            raise error
        return 7

    assert main(None) == 7
    assert main(SpecError("no such\n thing")) == 2
    assert capsys.readouterr().err == "no such thing\n"
    with pytest.raises(KeyError):
        main(KeyError("a bug"))
