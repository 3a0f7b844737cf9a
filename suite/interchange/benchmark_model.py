"""A model of another benchmark becomes a folder of ours: a task, a model and a truth, with that benchmark's labels.

What the model computes is what the truth is about: its own outputs are the reference. The labels are kept beside the
certificate and compared with it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field

from ...ground_truth.certificate import Findings
from ...ground_truth.certify import CERTIFIED_ABLATIONS, certify
from ...ground_truth.description import ModelDescription, Outputs, Token, Vocabulary
from ...ground_truth.files import write_certificate, write_json, write_model
from ...ground_truth.rasp.domain import Domain, domain_of
from ...ground_truth.rasp.user import sequences
from ..errors import ModelError
from ..json_model import File, Kept
from ..model.transformer import Transformer

_LABELS = "labels.json"
_TOLERANCE = 0.02  # largest change of a raw output that counts as none; of models with margins it may be more
_BATCH = 256
_DECIMALS = 2  # to which outputs that are numbers are told apart


class Difference(Kept):
    """How a benchmark's labels differ from what is certified under one ablation.

    not_certified: labelled edges that no minimal circuit has. not_labelled: core edges, which every minimal circuit
    has, without a label. agreed: labelled edges that are core or optional.
    """

    agreed: list[str]
    not_certified: list[str]
    not_labelled: list[str]


class Labels(File):
    """The content of ``labels.json``: the circuit that a benchmark says its model has, and how it differs.

    benchmark: its name. edges: the labelled edges. ablations: the comparison with the certificate, by ablation.
    """

    format: int = Field(default=1, ge=1, le=1)
    benchmark: str
    edges: list[str]
    ablations: dict[str, Difference]


@dataclass(frozen=True, eq=False)
class BenchmarkModel:
    """A model as its benchmark has it, read and not yet certified.

    Args:
        benchmark: its name, which becomes the family of the model.
        program: what the benchmark calls it.
        description: what it computes, in one line.
        model: float32, with token and position embeddings as two input nodes.
        tokens: token values by id, special tokens included.
        bos, pad: the ids of the special tokens.
        max_len: the longest sequence, without BOS.
        fixed: whether the benchmark's inputs all have that length.
        outputs: output values by index, or numbers.
        labels: the edges that the benchmark says its circuit has; None where it says none.
        margins: whether a change that alters no decision counts as none (see ``tolerance_of``).
    """

    benchmark: str
    program: str
    description: str
    model: Transformer
    tokens: tuple[Token, ...]
    bos: int
    pad: int
    max_len: int
    fixed: bool
    outputs: Outputs
    labels: tuple[str, ...] | None = None
    margins: bool = False

    def __post_init__(self) -> None:
        config = self.model.config
        if len(self.tokens) != config.d_vocab:
            raise ModelError(
                f"{self.program} of {self.benchmark} has {len(self.tokens)} tokens, and its model {config.d_vocab}; "
                f"its files belong to different models."
            )
        if self.max_len < 2 or 1 + self.max_len > config.n_positions:
            raise ModelError(
                f"{self.program} of {self.benchmark} has sequences of up to {self.max_len} tokens after BOS, and its "
                f"model {config.n_positions} positions; its files belong to different models."
            )
        absent = sorted(set(self.labels or ()) - set(self.model.graph.named(self.model.graph.exists)))
        if absent:
            raise ModelError(
                f"{self.program} of {self.benchmark} labels {len(absent)} edges that its model does not have, the "
                f"first {absent[0]}; its files belong to different models."
            )

    @property
    def vocabulary(self) -> list[Token]:
        """The tokens without the special ones."""
        return [value for i, value in enumerate(self.tokens) if i not in (self.bos, self.pad)]

    def domain(self, *, fixed: bool = False, sample: int | None = None) -> Domain:
        """The inputs of the claim: all sequences of 2 to ``max_len`` tokens, or of ``max_len`` where ``fixed``, or a
        sample of them; outputs are compared at every token after BOS.

        Raises:
            SpecError: too many sequences to enumerate, and no sample.
            ModelError: an output that is the same on all inputs.
        """
        fixed = fixed or self.fixed
        inputs, enumerated = sequences(self.vocabulary, self.max_len, fixed=fixed, sample=sample)
        kind = "fixed" if fixed else "variable"
        special = (self.tokens, self.bos, self.pad)
        bare = domain_of(kind, inputs, [(0,) * len(x) for x in inputs], *special, enumerated=enumerated)
        decided = decisions(outputs_on(self.model, bare))
        outputs = [tuple(row[1 : 1 + len(x)]) for row, x in zip(decided.tolist(), inputs, strict=True)]
        seen: dict[int, set] = {}
        for row in outputs:
            for position, value in enumerate(row):
                seen.setdefault(position, set()).add(value)
        if all(len(values) < 2 for values in seen.values()):
            raise ModelError(
                f"the model of {self.program} gives the same output on every input, at each position, so no edge can "
                f"be told to matter; take another model of {self.benchmark}."
            )
        return domain_of(kind, inputs, outputs, *special, enumerated=enumerated)

    def tolerance_of(self, domain: Domain) -> float:
        """The largest change of a raw output that counts as none. With ``margins``, half of the smallest difference
        between the two largest outputs anywhere on the domain where that is more: a smaller change alters no decision.
        """
        if not self.margins or self.outputs.kind == "numerical":
            return _TOLERANCE
        best = outputs_on(self.model, domain)[torch.from_numpy(domain.read)].topk(2, -1).values
        return max(_TOLERANCE, math.floor(float((best[:, 0] - best[:, 1]).min()) / 2 * 1e6) / 1e6)


def outputs_on(model: Transformer, domain: Domain) -> torch.Tensor:
    """The raw outputs in float64 on a domain: [N, P, d_out]."""
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        return torch.cat([exact(rows) for rows in torch.from_numpy(domain.tokens).split(_BATCH)])


def decisions(outputs: torch.Tensor) -> torch.Tensor:
    """The index of the largest output [N, P, d_out -> N, P]; of one output, its value to two decimals."""
    if outputs.shape[-1] == 1:
        return outputs[..., 0].mul(10**_DECIMALS).round()
    return outputs.argmax(-1)


def write_truth(
    directory: Path,
    given: BenchmarkModel,
    domain: Domain,
    *,
    ablations: Sequence[str] = CERTIFIED_ABLATIONS,
    on_ablation: Callable[[str], None] = lambda ablation: None,
) -> Labels | None:
    """Certifies a model on a domain and writes its folder; returns the labels as they compare, where there are any.

    Raises:
        ModelError: when nothing can be certified. Nothing is written then.
    """
    config = given.model.config
    found = certify(
        given.model, domain, ablations=ablations, tolerance=given.tolerance_of(domain), on_ablation=on_ablation
    )
    weights = write_model(
        directory,
        given.model.float().state_dict(),
        ModelDescription(
            family=given.benchmark,
            program=given.program,
            description=given.description,
            config=config,
            inputs="split",
            vocabulary=Vocabulary(tokens=list(given.tokens), bos=given.bos, pad=given.pad),
            outputs=given.outputs,
            causal=config.causal,
            max_len=given.max_len,
            writers={},
        ),
    )
    write_certificate(directory, "", domain, found, weights)
    if given.labels is None:
        return None
    labels = compared(given.benchmark, given.labels, found)
    write_json(directory / _LABELS, labels.as_json())
    return labels


def compared(benchmark: str, edges: Sequence[str], found: Findings) -> Labels:
    """A benchmark's labelled edges beside what is certified, for each ablation."""
    labelled = set(edges)
    differences = {}
    for name, claim in found.ablations.items():
        core, possible = set(claim.core), {*claim.core, *claim.optional}
        differences[name] = Difference(
            agreed=sorted(labelled & possible),
            not_certified=sorted(labelled - possible),
            not_labelled=sorted(core - labelled),
        )
    return Labels(format=1, benchmark=benchmark, edges=sorted(labelled), ablations=differences)
