"""What released codes gave on small models of tests/oracles.py: numbers that were recorded once, in float64.

RelP (FarnoushRJ/RelP, aa0e228), uniform gradient sampling (maxtli/optimalablation, ac02e85), IBCircuit
(ivanniu/IBCircuit, e143899, its 1e-7 taken as 0), PEAP (technion-cs-nlp/PEAP, a1e8462, on the CPU under TransformerLens
2.18.0; it hands its scores over in float32) and the start of Edge Pruning from scores (cisnlp/MIB-circuit-track,
c18eb53, float32) ran outside of the project on the weights, prompts and random numbers of the functions below. Only
these numbers are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import torch
from oracles import ARCHITECTURES, small_data, small_model
from torch import Tensor

from circuitmeter.suite.circuit import EdgeScores
from circuitmeter.suite.data import Data
from circuitmeter.suite.methods._seeds import Seeds
from circuitmeter.suite.model.position_transformer import PositionTransformer
from circuitmeter.suite.model.transformer import Transformer

CONFIGS = {
    "gpt2": {"n_heads": 3, "activation": "gelu_tanh"},
    "llama": ARCHITECTURES["llama"],
}
# How RelP was run, and what is the same here.
RELP = {
    "as its README says": {"preset": "reference-code"},
    "identity rule set before the model is made": {"preset": "demo"},
    "attention rule": {"preset": "attention", "at": "alternative"},
}
# Seed 0, objective kl, ablation mean; with its own start of 5 the gates hardly move in so few steps.
IBCIRCUIT = {"preset": "reference-code", "steps": 6, "initial": 2.0}
UGS = {"regularisations": [1e-3], "steps": 6, "samples": 3, "batch_size": 4}  # seed 0, objective kl
UGS_RUNS = [(ablation, clip) for ablation in ("patch", "optimal", "zero", "mean-positional") for clip in (5.0, 0.01)]


@cache
def record(name: str) -> dict:
    """The recorded numbers of ``relp``, ``ugs``, ``ibcircuit``, ``peap``, ``edge_pruning_start``."""
    return json.loads((Path(__file__).parent / "released_records" / f"{name}.json").read_text())


def model(name: str) -> Transformer:
    """``gpt2`` or ``llama``: two layers, one input node."""
    made = small_model("sum", n_layers=2, d_head=4, n_positions=12, **CONFIGS[name])
    for block in made.blocks if name == "llama" else ():
        block.b_in.data.zero_()  # the released code adds it behind the product
    return made


def relp_prompts() -> Data:
    return small_data(positions=7)


def ugs_prompts() -> Data:
    """Longer than the nine positions that the released means leave out, and with one first token, as it wants."""
    data = small_data(positions=11)
    data.clean[:, 0] = data.counterfactual[:, 0] = 0
    return data


def relp_scores(name: str, run: str) -> Tensor:
    """Edge scores [W, R] of the released code's coefficients, zero where no edge exists."""
    graph = model(name).graph
    found = dict(zip(graph.named(graph.exists), record("relp")[f"{name}, {run}"], strict=True))
    return EdgeScores.from_mapping(graph, found).values.nan_to_num()


def peap_problem() -> tuple[PositionTransformer, Data]:
    """Two layers of two heads by position, and three prompts of five tokens: each position is a span."""
    return PositionTransformer.of(small_model("sum", n_layers=2), 5), small_data(n=3, positions=5)


def peap_scores() -> Tensor:
    """Edge scores by position [W, R] of the released code, zero where no edge exists."""
    return EdgeScores.from_mapping(peap_problem()[0].graph, record("peap")["edges"]).values.nan_to_num()


def peap_crossing() -> Tensor:
    """Its crossing edges' scores [L, 3, H, P, P]: of q, k and v of each head, at query i, key j; zero where j > i."""
    found = torch.zeros(2, 3, 2, 5, 5, dtype=torch.float64)
    for layer, part, head, query, key in torch.ones_like(found).nonzero().tolist():
        found[layer, part, head, query, key] = record("peap")["crossing"].get(
            f"a{layer}.h{head}<{'qkv'[part]}> {key}->{query}", 0.0
        )
    return found


@contextmanager
def random_numbers() -> Iterator[None]:
    """Here trained masks draw what the codes were given: float64 numbers of PyTorch's generator of the CPU."""

    def drawn(seeds: Seeds, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        generators = vars(seeds).setdefault("of_torch", [torch.Generator().manual_seed(seed) for seed in seeds.seeds])
        each = [draw(*shape, generator=generator, dtype=torch.float64) for generator in generators]
        return torch.stack(each).repeat_interleave(seeds.masks, 0)

    as_then = {
        "uniform": lambda seeds, *shape: drawn(seeds, torch.rand, shape) * (1 - 2e-6) + 1e-6,
        "normal": lambda seeds, *shape: drawn(seeds, torch.randn, shape),
        "starting_at": lambda seeds, value, *shape: drawn(seeds, torch.randn, shape) * 0.01 + value,
    }
    with ExitStack() as patched:
        for name, draw in as_then.items():
            patched.enter_context(patch.object(Seeds, name, draw))
        yield


def ugs_run(ablation: str, clip: float) -> tuple[list[float], Tensor]:
    """Losses of the steps, and the gates' logits [E] after them, in the order of the graph's edges."""
    found = record("ugs")[f"{ablation}, gradients clipped at {clip:g}"]
    return found["losses"], torch.tensor(found["logits"], dtype=torch.float64)


def start_scores() -> EdgeScores:
    """The scores from which the released code put the gates where ``start`` has them."""
    graph = small_model("split", n_layers=1, n_heads=1).graph
    values = {name: ((7 * i) % 13 - 6) / 10 + 0.01 * i for i, name in enumerate(graph.named(graph.exists))}
    return EdgeScores.from_mapping(graph, values)


def start(sparsity: float) -> Tensor:
    """Log alphas [E] that the released code makes of ``start_scores``, with a spread of 0.2."""
    return torch.tensor(record("edge_pruning_start")[f"sparsity {sparsity:g}"], dtype=torch.float64)
