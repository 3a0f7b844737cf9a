"""Products of float32 are in float32, whatever the process was set to, unless ``--tf32`` allows TF32."""

import argparse

import pytest
import torch

from circuitmeter.suite.verbs import subjects
from circuitmeter.suite.verbs.arguments import add_computing, add_problem, add_split


@pytest.mark.parametrize("before", ["highest", "high"])
@pytest.mark.parametrize(("flags", "expected"), [([], "highest"), (["--tf32"], "high")])
def test_a_verb_sets_the_precision_of_products_before_it_computes(before, flags, expected):
    parser = argparse.ArgumentParser()
    add_problem(parser)
    add_computing(parser)
    add_split(parser, "train")
    options = parser.parse_args(["--task", "gates/and", *flags])
    outside = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(before)
        subjects.with_model_loaded(subjects.outlined(options), options)
        assert torch.get_float32_matmul_precision() == expected
        assert torch.backends.cuda.matmul.allow_tf32 == (expected == "high")
    finally:
        torch.set_float32_matmul_precision(outside)
