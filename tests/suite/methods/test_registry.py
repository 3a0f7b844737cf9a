"""Methods by name and methods of a user's own file."""

import textwrap

import pytest

from circuitmeter.suite.errors import MethodError
from circuitmeter.suite.methods import METHODS, load_user_method


@pytest.fixture
def decorated(tmp_path):
    """Writes a file with a decorated method of that name and gives its ``FILE.py:FUNCTION``."""

    def write(file, name):
        (tmp_path / file).write_text(
            textwrap.dedent(f"""
            from circuitmeter.suite.methods import method

            @method({name!r}, paper="none", stochastic=True)
            def discover(model, data, *, ablation, objective, seed):
                return {{}}
            """)
        )
        return f"{tmp_path / file}:discover"

    return write


def test_a_users_files_may_use_the_same_name_and_leave_none_behind(decorated):
    built_in = set(METHODS)
    one, other = decorated("one.py", "mine"), decorated("other.py", "mine")
    loaded = [load_user_method(one), load_user_method(other), load_user_method(one)]
    assert [its.name for its in loaded] == ["mine"] * 3 and all(its.stochastic for its in loaded)
    assert loaded[0].function.__code__.co_filename != loaded[1].function.__code__.co_filename
    assert set(METHODS) == built_in


def test_a_built_in_methods_name_is_taken(decorated):
    with pytest.raises(MethodError, match="two methods are called 'eap'; rename one"):
        load_user_method(decorated("mine.py", "eap"))
