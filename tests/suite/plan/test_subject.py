"""Tasks on one model share its weights, until somebody changed them."""

from __future__ import annotations

from circuitmeter.suite.plan.subject import forget_subjects, subject


def test_tasks_on_one_model_share_one_copy():
    forget_subjects()
    one, other = subject("country-capital", "mini"), subject("sva", "mini", prompts=4)
    assert one.model is other.model
    assert one.data.hash != other.data.hash


def test_a_forgotten_model_is_loaded_anew_though_somebody_holds_it():
    held = subject("sva", "mini").model
    forget_subjects()
    assert subject("country-capital", "mini").model is not held


def test_other_models_are_other_copies():
    assert subject("tracr/hist", None).model is not subject("tracr/reverse", None).model
