"""Methods by name and methods of a user's own file."""

import textwrap

import pytest
from oracles import ARCHITECTURES, small_data, small_model

from circuitmeter.suite.errors import MethodError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS, load_user_method
from circuitmeter.suite.model.block import FEATURES


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


def test_what_an_architecture_has_is_named_by_the_features_that_methods_list():
    has = {name: small_model(**changes).config.features for name, changes in ARCHITECTURES.items()}
    assert has["gpt2"] == {"layer norm"} and has["gemma-2"] == {"rms norm", "post norm", "caps"}
    assert has["qwen-3"] == {"rms norm", "q/k norm"}
    assert has["olmo-2"] == {"rms norm", "joint q/k norm", "post norm"}
    assert has["windows"] == {"rms norm", "windows"} and not has["no layer norm, ReLU, bidirectional"]
    assert set().union(*has.values()) == set(FEATURES)


def test_a_method_without_a_rule_for_a_feature_is_undefined_on_models_that_have_it():
    ablation, objective = Ablation.parse("patch"), OBJECTIVES.get("logit-difference")
    for name in METHODS:
        method, lacking = METHODS.get(name), set()
        for changes in ARCHITECTURES.values():
            config = small_model(**changes).config
            reason = str(method.undefined(ablation, objective, small_data(), config))
            missing = set() if method.exact_for == "any" else config.features - method.exact_for
            assert ("no rule for" in reason) == bool(missing) and all(feature in reason for feature in missing)
            lacking |= missing
        assert bool(lacking) == (name in ("atp-star", "cd-t", "gim", "peap"))
