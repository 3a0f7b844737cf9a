"""The check that a folder holds a model, made on its small parts before any weight is read.

These are ``config.json``, the index of shards and the header of every safetensors file. Files that are missing or
damaged, that hold no weights (a Git LFS pointer, an adapter) or quantised ones, and sizes that the files cannot hold,
are refused in one line. Only then is the folder given to a library.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Container, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, Field

from ...errors import ModelError
from ...reading import MEBIBYTE, check_file, checked, decoded, parse_json, read_json, reading, refuse_pointer, shown
from .hub import INDEX, WEIGHTS_FILE

CONFIG, ADAPTER = "config.json", "adapter_config.json"
LARGEST_HEADER = 64 * MEBIBYTE
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Tensors that are no weights, such as masks, and are not read: those of GPT-2, GPT-NeoX and TransformerLens.
_BUFFERS = ("attn.bias", "attention.bias", "masked_bias", "attn.mask", "attn.IGNORE", "position_ids", "inv_freq")
# Sizes in config.json that are a side of some weight. One far larger than every side belongs to another model.
_SIDES = (
    "vocab_size",
    "hidden_size",
    "n_embd",
    "intermediate_size",
    "n_inner",
    "d_model",
    "d_vocab",
    "d_mlp",
    "n_heads",
)
_HEADS = ("num_attention_heads", "n_head", "num_key_value_heads", "head_dim", "d_head")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers")
_POSITIONS = ("n_positions", "n_ctx", "max_position_embeddings")
_MOST_POSITIONS = 1 << 24  # of rotary models, which have no weights for positions
_MARGIN = 16


class _Index(BaseModel):
    """``model.safetensors.index.json``: which file each weight is in."""

    weight_map: Annotated[dict[str, str], Field(min_length=1)]


class _Tensor(BaseModel):
    """One entry of a safetensors header."""

    dtype: str
    shape: list[Annotated[int, Field(ge=0, lt=1 << 48, strict=True)]]
    data_offsets: tuple[Annotated[int, Field(ge=0, strict=True)], Annotated[int, Field(ge=0, strict=True)]]


def check_folder(folder: Path) -> dict[str, Any]:
    """The content of ``config.json`` of a folder that holds a whole model.

    Raises:
        ModelError: a file that is missing, damaged, or not what it is called; weights that are no floating-point
            numbers; sizes in config.json that no weight has.
    """
    if not os.path.isfile(folder / CONFIG):  # False for what is too long for a path
        raise ModelError(_without_config(folder))
    with reading(folder / CONFIG, ModelError):
        config = read_json(folder / CONFIG, at_most=16 * MEBIBYTE, error=ModelError)
    if not isinstance(config, dict):
        raise ModelError(f"{folder / CONFIG} is {shown(config)} and no JSON object; save the model again.")
    sizes: dict[str, list[int]] = {}
    for file in weight_files(folder):
        sizes |= {name: tensor.shape for name, tensor in header(file).items()}
    _check_sizes(config, sizes, folder)
    return config


def _without_config(folder: Path) -> str:
    if os.path.isfile(folder / ADAPTER):
        return (
            f"{folder} holds an adapter (LoRA) and not the model that it belongs to; give that model with --model and "
            f"this folder with --adapter (load_model(model, adapter=folder) in Python)."
        )
    return f"{folder} holds no model: config.json is missing (or model.json, for a ground truth)."


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder. Raises ModelError when one is missing, or when it has other files only."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX).is_file():
        index = checked(_Index, read_json(folder / INDEX, error=ModelError), folder / INDEX, ModelError)
        shards = sorted(set(index.weight_map.values()))
        for shard in shards:
            if PurePosixPath(shard).name != shard or not shard.endswith(".safetensors"):
                raise ModelError(f"{folder / INDEX} names {shown(shard)}, which is no safetensors file of the folder.")
            if not (folder / shard).is_file():
                raise ModelError(
                    f"{folder} holds no complete model: {shard} is missing; {INDEX} lists {len(shards)} files."
                )
        return [folder / shard for shard in shards]
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"{folder} holds its weights as {pickled[0]}, a pickle that can run code when opened; load it where you "
            f"trust it and save it with model.save_pretrained(folder), which writes {WEIGHTS_FILE}."
        )
    if (folder / ADAPTER).is_file():
        raise ModelError(_without_config(folder))
    raise ModelError(f"{folder} holds no weights: {WEIGHTS_FILE} is missing; copy it there, beside config.json.")


def header(file: Path, counts: Container[str] = ()) -> dict[str, _Tensor]:
    """The tensors that a safetensors file holds, by name.

    Args:
        counts: names of tensors that may be whole numbers, because they are no weights.

    Raises:
        ModelError: a Git LFS pointer, a damaged header, a file that was cut off, or weights that are not floats.
    """
    size = check_file(file, error=ModelError).st_size
    refuse_pointer(file, ModelError)
    with reading(file, ModelError), open(file, "rb") as opened:
        length = struct.unpack("<Q", opened.read(8))[0] if size >= 8 else 0
        if not 2 <= length <= min(size - 8, LARGEST_HEADER):
            raise ModelError(f"{file} is no safetensors file, or was cut off; copy it again.")
        content = parse_json(decoded(opened.read(length)))
    if not isinstance(content, dict):
        raise ModelError(f"{file} is no safetensors file: its header is {shown(content)}.")
    content.pop("__metadata__", None)
    found = {name: checked(_Tensor, entry, f"{file}, {shown(name)}", ModelError) for name, entry in content.items()}
    for name, tensor in found.items():
        first, stop = tensor.data_offsets
        if not first <= stop <= size - 8 - length:
            raise ModelError(f"{file} was cut off: {name} ends beyond the file; copy it again.")
        counted = name in counts and tensor.dtype in ("I32", "I64")
        if tensor.dtype not in _FLOATS and not name.endswith(_BUFFERS) and not counted:
            raise ModelError(
                f"{file}: {name} is of type {tensor.dtype}, and weights are {', '.join(_FLOATS)}; a quantised model is "
                f"to be saved in floating-point numbers (dequantize() and save_pretrained)."
            )
    return found


def _check_sizes(config: Mapping[str, Any], sizes: Mapping[str, list[int]], folder: Path) -> None:
    """Raises ModelError for a size in config.json that is far larger than every side of the weights."""
    largest = max((side for shape in sizes.values() for side in shape), default=0)
    embedded = any("wpe" in name or "pos_embed" in name for name in sizes)
    bounds = dict.fromkeys(_SIDES + _HEADS, _MARGIN * largest) | dict.fromkeys(_LAYERS, len(sizes))
    bounds |= dict.fromkeys(_POSITIONS, _MARGIN * largest if embedded else _MOST_POSITIONS)
    for name, value in _numbers(config):
        if name in bounds and not 0 < value <= bounds[name]:
            raise ModelError(
                f"{folder / CONFIG} asks for {name} = {value:,}, and the {len(sizes)} weights have at most "
                f"{largest:,} numbers on a side; it belongs to another model."
            )


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, value


def first_not_finite(weights: Mapping[str, Any]) -> str | None:
    """The name of the first weight that holds a NaN or an infinite number; None when all numbers are finite."""
    return next(
        (
            name
            for name, weight in weights.items()
            # Most weights are read once: when the sum is finite, all are. Large weights may add up to infinity.
            if weight.is_floating_point() and not weight.sum().isfinite() and not weight.isfinite().all()
        ),
        None,
    )
