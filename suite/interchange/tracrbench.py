"""Models of TracrBench (Thurnherr & Scheurer 2024, arXiv 2409.13714): compiled programs as TransformerLens models.

A folder holds ``tl_model.pt``, a HookedTransformer saved whole, and ``input&output_encoder.pkl``, the encoders of
Tracr. There are no labels: the circuit is that of the weights. The unembedding that is saved reads the first dimensions
of the residual stream, whatever they hold; where they are not the program's output, the model computes something else
than the program is named after, and often a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...ground_truth.description import Outputs, Token
from ..errors import ModelError
from ..model.convert.transformer_lens import from_transformer_lens, is_transformer_lens
from ..reading import reading, shown
from .benchmark_model import BenchmarkModel
from .pickled import Attributes, read_plain, read_saved, state_of

_MODEL, _ENCODERS = "tl_model.pt", "input&output_encoder.pkl"
_COMPONENTS = ("MLP", "Embed", "Unembed", "PosEmbed", "TransformerBlock", "Attention", "LayerNormPre", "LayerNorm")
_KNOWN = (
    "transformer_lens.HookedTransformer.HookedTransformer",
    "transformer_lens.HookedTransformerConfig.HookedTransformerConfig",
    "transformer_lens.hook_points.HookPoint",
    *(f"transformer_lens.components.{name}" for name in _COMPONENTS),
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.linear.Identity",
    "torch.nn.functional.relu",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
)


class _Labelled(Attributes):
    """Tracr's CategoricalEncoder."""


class _Numerical(Attributes):
    """Tracr's NumericalEncoder."""


_ENCODER_CLASSES = {
    "tracr.transformer.encoder.CategoricalEncoder": _Labelled,
    "tracr.transformer.encoder.NumericalEncoder": _Numerical,
}


def read_program(folder: Path) -> BenchmarkModel:
    """The model of a folder ``dataset/make_...`` of TracrBench's repository.

    Raises:
        ModelError: a file that is missing, damaged, or of another kind; a program whose outputs are numbers.
    """
    for name in (_MODEL, _ENCODERS):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} holds no model of TracrBench: {name!r} is missing; give a folder such as dataset/make_hist."
            )
    encoders = read_plain(folder / _ENCODERS, _ENCODER_CLASSES)
    if not isinstance(encoders, dict) or not {"input_encoder", "output_encoder"} <= set(encoders):
        raise ModelError(f"{folder / _ENCODERS} is {shown(encoders)}, and no pair of Tracr's encoders.")
    if isinstance(encoders["output_encoder"], _Numerical):
        raise ModelError(
            f"the outputs of {folder.name} are numbers, and TracrBench saves its models with an unembedding for labels."
        )
    tokens = _values(encoders["input_encoder"], folder)
    special = [getattr(encoders["input_encoder"], name, None) for name in ("_bos_token", "_pad_token")]
    if not all(value in tokens for value in special):
        raise ModelError(f"{folder / _ENCODERS}: its tokens lack {shown(special)}, which begin and fill up sequences.")
    module = read_saved(folder / _MODEL, _KNOWN)
    config = vars(getattr(module, "cfg", None) or Attributes())
    if not is_transformer_lens(config):
        raise ModelError(f"{folder / _MODEL} holds no HookedTransformer of TransformerLens, saved whole.")
    with reading(folder / _MODEL, ModelError):
        state = state_of(module, folder / _MODEL)
        model = from_transformer_lens(config, state, inputs="split", dtype=torch.float32)
    labels = _values(encoders["output_encoder"], folder)
    n = model.config.d_out
    return BenchmarkModel(
        benchmark="tracrbench",
        program=folder.name,
        description=f"The program {folder.name.removeprefix('make_').replace('_', ' ')} of TracrBench.",
        model=model,
        tokens=tokens,
        bos=tokens.index(special[0]),
        pad=tokens.index(special[1]),
        max_len=model.config.n_positions - 1,
        fixed=False,
        # The saved unembedding has as many columns as the program has tokens, and not as many as it has outputs.
        outputs=Outputs(kind="categorical", labels=[labels[i] if i < len(labels) else f"({i})" for i in range(n)]),
    )


def _values(encoder: Any, folder: Path) -> tuple[Token, ...]:
    """The values of an encoder in the order of their ids."""
    ids: Any = getattr(encoder, "encoding_map", None)
    numbered = isinstance(ids, Mapping) and all(isinstance(i, int) for i in ids.values())
    if not numbered or sorted(ids.values()) != list(range(len(ids))):
        raise ModelError(f"{folder / _ENCODERS}: an encoder has {shown(ids)}, and no ids 0, 1, 2, ... of its values.")
    values = tuple(sorted(ids, key=ids.__getitem__))
    if other := [value for value in values if not isinstance(value, Token)]:
        raise ModelError(f"{folder / _ENCODERS}: {shown(other[0])} is a value, and values are texts and numbers.")
    return values
