"""What other packages add is found by name; what cannot be imported of it is answered in one line."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from circuitmeter.suite import registry as of_suite
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.registry import Registry

POINTS = EntryPoints(
    [EntryPoint("gone", "no_such_package.things:thing", "things"), EntryPoint("pi", "math:pi", "things")]
)


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    monkeypatch.setattr(of_suite, "entry_points", lambda group: POINTS)


@pytest.mark.parametrize("use", [lambda it: it.get("pi"), list, lambda it: "pi" in it])
def test_a_package_that_cannot_be_imported_is_named_in_one_line_at_every_use(use):
    things = Registry("thing", "things")
    for _ in range(2):
        with pytest.raises(
            SpecError, match="the package 'no_such_package' offers the thing 'gone', which cannot be"
        ) as e:
            use(things)
    assert "ModuleNotFoundError: No module named 'no_such_package'" in str(e.value)


def test_a_registry_that_can_do_without_has_the_rest_and_the_reason():
    things = Registry("thing", "things", required=False)
    assert list(things) == ["pi"] and things.get("pi") > 3 and "gone" not in things
    ((name, (package, error)),) = things.unimportable().items()
    assert (name, package) == ("gone", "no_such_package") and "ModuleNotFoundError" in str(error)
