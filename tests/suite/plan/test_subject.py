"""Tasks on one model share its weights, until somebody changed them."""

from __future__ import annotations

import torch

from circuitmeter.suite.plan.subject import forget_subjects, limit_prompts, subject


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


def test_few_of_a_programs_inputs_are_drawn_from_all():
    """They are in the order of its domain: the first of them are short, or begin alike."""
    every, few = subject("tracr/hist", None).data, subject("tracr/hist", None, prompts=20).data
    rows = [int((every.clean == clean).all(1).nonzero()[0, 0]) for clean in few.clean]
    assert few.n == 20 and rows == sorted(set(rows))
    assert rows[-1] > every.n * 3 // 4 and rows != list(range(20))
    assert few.hash == limit_prompts(every, 20).hash and limit_prompts(every, None) is every
    texts = subject("sva", "mini").data
    assert torch.equal(limit_prompts(texts, 4).clean, texts.clean[:4])  # those are in a random order already
