"""Models of InterpBench (Gupta et al. 2024, arXiv 2407.14494): trained to have a compiled program's circuit of heads.

A case is a folder with ``ll_model.pth`` (the weights of a HookedTransformer) and ``edges.pkl`` (a list of pairs of
hook names: the labelled circuit). The first release writes a number into the names: ``ll_model_510.pth``. The
architecture, the tokens and the length of the inputs of all cases are in ``benchmark_metadata.json``, one folder
higher; the pickled configuration beside the weights says the same, and is not read.

Ids of tokens are their order as Tracr sorts them, BOS and PAD among them. All inputs have the largest length, and BOS
is not compared, as in the benchmark's own evaluation. Training constrains whole heads and MLPs and not single edges,
nor what enters a head's queries, keys and values each; so labels and certified edges may differ.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from ...ground_truth.description import Outputs, Token
from ..errors import ModelError, unknown
from ..model.convert.transformer_lens import from_transformer_lens, is_transformer_lens
from ..reading import checked, read_json, reading, shown
from . import acdc
from .benchmark_model import BenchmarkModel
from .pickled import read_plain, read_saved

_METADATA, _EDGES = "benchmark_metadata.json", "edges.pkl"
_BOS, _PAD = "BOS", "PAD"
_WEIGHTS = re.compile(r"ll_model(_[0-9]+)?\.pth")
_NODE = re.compile(r"([a-z0-9_.]{1,60})(?:\[([0-9]{1,6})\])?")


class _Case(BaseModel):
    """What is said of a case; of its keys, those that are read. Of IOI there is no vocabulary."""

    model_config = ConfigDict(extra="ignore")

    case_id: str
    task_description: str
    vocab: list[Token] | None = None
    max_seq_len: int = Field(ge=2, strict=True)
    transformer_cfg: dict[str, Any] | None = None


class _Metadata(BaseModel):
    """The content of benchmark_metadata.json."""

    model_config = ConfigDict(extra="ignore")

    cases: list[_Case]


def read_case(folder: Path) -> BenchmarkModel:
    """The model of a case: a folder of the benchmark, beside its benchmark_metadata.json.

    Raises:
        ModelError: a file that is missing, damaged, or about another model; a case without a vocabulary.
        DataError: a labelled edge that is none.
    """
    if not folder.is_dir():
        raise ModelError(f"no folder {folder}; give the folder of a case of InterpBench, such as InterpBench/11.")
    weights = sorted(path.name for path in folder.iterdir() if _WEIGHTS.fullmatch(path.name))
    for name, there in (("ll_model.pth", weights), (_EDGES, (folder / _EDGES).is_file())):
        if not there:
            raise ModelError(f"{folder} holds no case of InterpBench: {name} is missing; download the whole folder.")
    if len(weights) > 1:
        raise ModelError(f"{folder} holds {len(weights)} models, {weights[0]} and {weights[1]} among them; leave one.")
    case = _case(folder)
    config = case.transformer_cfg
    if config is None or not is_transformer_lens(config):
        raise ModelError(f"{_METADATA} says no architecture of case {case.case_id}; download the file again.")
    if case.vocab is None:
        raise ModelError(
            f"case {case.case_id} of InterpBench has no vocabulary of its own, so that its inputs cannot be enumerated "
            f"or drawn; import a case that was made of a program."
        )
    tokens = _tokens(case.vocab)
    state = read_saved(folder / weights[0])
    if not isinstance(state, dict) or not all(isinstance(weight, torch.Tensor) for weight in state.values()):
        raise ModelError(f"{folder / weights[0]} holds {shown(state)}, and no weights by name.")
    with reading(folder / weights[0], ModelError):
        model = from_transformer_lens(config, state, inputs="split", dtype=torch.float32)
    n = model.config.d_out
    kind = Outputs(kind="numerical", labels=[]) if n == 1 else Outputs(kind="categorical", labels=list(range(n)))
    return BenchmarkModel(
        benchmark="interpbench",
        program=case.case_id,
        description=case.task_description.split("\n")[0] or f"Case {case.case_id} of InterpBench.",
        model=model,
        tokens=tokens,
        bos=tokens.index(_BOS),
        pad=tokens.index(_PAD),
        max_len=case.max_seq_len - 1,
        fixed=True,
        outputs=kind,
        labels=labelled_edges(read_plain(folder / _EDGES), folder / _EDGES),
        margins=True,
    )


def _case(folder: Path) -> _Case:
    """What the benchmark says of the case in a folder, in the folder's own metadata or that one level higher."""
    name = folder.resolve().name
    for at in (folder, folder.resolve().parent):
        if (at / _METADATA).is_file():
            said = checked(_Metadata, read_json(at / _METADATA, error=ModelError), at / _METADATA, ModelError)
            found = {case.case_id: case for case in said.cases}
            if name not in found:
                raise ModelError(f"{at / _METADATA}: {unknown('case', name, found)}")
            return found[name]
    raise ModelError(
        f"{_METADATA} is neither in {folder} nor in the folder above; it says a case's tokens and architecture; "
        f"download it from the benchmark's repository."
    )


def _tokens(vocabulary: list[Token]) -> tuple[Token, ...]:
    """Token values by id: numbers by size, then texts, among them the two special tokens."""
    if _BOS in vocabulary or _PAD in vocabulary or len(set(vocabulary)) < len(vocabulary):
        raise ModelError(f"{_METADATA}: the vocabulary {shown(vocabulary)} has a token twice.")
    numbers = sorted(value for value in vocabulary if not isinstance(value, str))
    return (*numbers, *sorted([*(value for value in vocabulary if isinstance(value, str)), _BOS, _PAD]))


def labelled_edges(content: Any, source: Path) -> tuple[str, ...]:
    """The labelled circuit by our names of edges, from pairs of hooks (writer, reader), such as
    ``("blocks.0.hook_mlp_out", "blocks.1.hook_v_input[2]")``.

    Raises:
        ModelError: no list of pairs.
        DataError: a pair that is no edge.
    """
    items = []
    for pair in content if isinstance(content, list) else [content]:
        ends = pair if isinstance(pair, tuple) and len(pair) == 2 else ()
        nodes = [_NODE.fullmatch(end) if isinstance(end, str) else None for end in ends]
        if len(nodes) != 2 or not all(nodes):
            raise ModelError(f"{source} has {shown(pair)}, and no pair of hooks, such as those of an edge.")
        by, to = ((node[1], [None] if node[2] is None else [None, None, int(node[2])]) for node in nodes if node)
        # Inside a head the pair leads from what it reads to its query, key or value; ACDC lists the later hook first.
        items.append([*to, *by])
    return acdc.from_items(items, str(source)).edges
