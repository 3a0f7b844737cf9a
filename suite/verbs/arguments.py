"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.device import DEVICES, DTYPES

if TYPE_CHECKING:
    from ..plan.spec import Spec

Container = argparse._ActionsContainer
"""A parser, or a group of its options, which help shows under a heading of its own."""

_SPLITS = ("train", "validation", "test")
_SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend", "default": None}


def add_device(parser: Container) -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where to compute; auto takes CUDA when present (default)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options that say on how many workers cells run, and on which device."""
    parser.add_argument(
        "--workers", type=positive_number, metavar="N", help="cells at a time (default: one per core, or one per GPU)"
    )
    parser.add_argument(
        "--executor",
        metavar="NAME",
        default="local",
        help="what runs the cells: local (processes on this machine, the default), serial (one after another), ray (a "
        "cluster; the extra ray), slurm (jobs; the extra slurm), or another package's",
    )
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="of a Ray cluster (default: RAY_ADDRESS, or one that is started here)"
    )
    add_device(parser)


def add_json(parser: Container) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else")


def add_adapter(parser: Container) -> None:
    parser.add_argument(
        "--adapter",
        metavar="DIR",
        type=Path,
        help="a LoRA adapter of PEFT for the model (adapter_config.json and adapter_model.safetensors), merged into "
        "its weights when it is loaded",
    )


def add_several(parser: Container, flag: str, metavar: str, help: str, dest: str | None = None) -> None:
    """An option that takes several values and may be repeated; ``dest``: its name among the parsed ones."""
    parser.add_argument(flag, metavar=metavar, help=help, dest=dest or flag.lstrip("-").replace("-", "_"), **_SEVERAL)


def add_problem(parser: Container) -> None:
    """The model and the prompts that a circuit is about."""
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--task", metavar="NAME", help="a built-in task (`circuitmeter list tasks`)")
    prompts.add_argument(
        "--data",
        metavar="FILE",
        help="prompts of yours, one JSON object per line: clean and counterfactual (both text or both token ids; of "
        "equal token length, or what pairs positions, such as patch, is undefined), answer and wrong (a string, a "
        "token id, or a list of either or of lists of ids; of one token or several), and optionally position "
        "(default: the last token), template and split; or the CSV of EAP-IG, or the JSON of auto-circuit",
    )
    parser.add_argument(
        "--model",
        metavar="NAME|DIR|FILE.gguf",
        help="a ground truth or its folder, a Hugging Face folder with safetensors, a GGUF file, smollm2, or a hub "
        "name such as gpt2; "
        "may be left out when the task says which model it runs on",
    )
    add_adapter(parser)
    parser.add_argument(
        "--inputs", choices=("token", "sum", "split"), help="input nodes of a language model's graph (default: token)"
    )


def add_computing(parser: argparse.ArgumentParser) -> Container:
    """How and where a model is computed: a group of its own, which is returned."""
    group = parser.add_argument_group("how and where it is computed")
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of the model's weights; scores are added up in float32 or wider whatever it is (default: float32)",
    )
    group.add_argument(
        "--tf32",
        action="store_true",
        help="let a GPU round the factors of float32 products to TF32: faster, with three digits instead of seven; "
        "benchmarks never do",
    )
    add_several(
        group,
        "--memory",
        "PLACE=SIZE",
        "for a model larger than one device, what each may hold, such as 0=70GB 1=70GB cpu=200GB (GPUs by number): "
        "layers fill the GPUs in order, then main memory, then the disk; needs the extra large",
    )
    group.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="of what is random: a method, resampled prompts (default: 0)",
    )
    add_device(group)
    return group


SELECTION_NAMES = ("top-n", "greedy", "pnr", "ilp")
"""Rules that make a circuit of a size from scores (selection.py)."""

SELECTION_HELP = (
    "top-n (the largest scores), greedy (grown back from the logits), pnr (half by signed, half by absolute score), "
    "ilp (the largest total with every edge on a whole path)"
)


def add_split(parser: Container, default: str) -> None:
    """Which prompts: those that methods search on, or others, so that faithfulness is not measured on the same."""
    other = "" if default == "train" else ", or train where the task has no other prompts"
    parser.add_argument("--split", choices=_SPLITS, help=f"which of the prompts (default: {default}{other})")
    parser.set_defaults(default_split=default)


def add_prompts(parser: Container) -> None:
    """How many prompts."""
    parser.add_argument(
        "--prompts",
        type=positive_number,
        metavar="N",
        help="N of the prompts: the first; of the whole domain of a compiled or trained model, N that are drawn "
        "(default: all)",
    )


def add_yes(parser: Container) -> None:
    parser.add_argument("--yes", action="store_true", help="start what is estimated at more than ten minutes")


def whole_number(text: str) -> int:
    """A count or a seed: 0, 1, 2, ..."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive_number(text: str) -> int:
    """1, 2, 3, ..."""
    number = whole_number(text)
    if number < 1:
        raise argparse.ArgumentTypeError("0 is too few")
    return number


def fraction(text: str) -> float:
    """A number above 0 and at most 1."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number <= 1:
        meant = f"; {number:g} % is {number / 100:g}" if 1 < number <= 100 else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction (above 0, at most 1{meant})")
    return number


def seconds(text: str) -> float:
    """A time limit: above 0, and finite."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time limit (seconds, above 0)")
    return number


def shard_of_cells(text: str) -> tuple[int, int]:
    """``I/N``, I from 1 to N."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share: give I/N, such as 1/4 to 4/4")
    return int(number), int(of)


def score_threshold(text: str) -> float:
    """A score that edges must reach: 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a threshold (0 or more; absolute scores are compared with it)"
        )
    return number


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    """A benchmark, its store, and which of its cells."""
    parser.add_argument(
        "spec", metavar="SPEC", help="a TOML file or a built-in benchmark (`circuitmeter list benchmarks`)"
    )
    parser.add_argument("--store", metavar="DIR", type=Path, help="where results are kept (default: results/BENCHMARK)")
    add_several(
        parser, "--only", "KEY=VALUE", "only these cells, such as method=eap or task='tracr/*'; the same key again adds"
    )


def store_of(options: argparse.Namespace, spec: Spec) -> Path:
    """The store asked for, or the benchmark's own."""
    return options.store or Path("results") / spec.name
