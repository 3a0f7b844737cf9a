"""Models larger than one device: accelerate runs their layers on several devices, in main memory or on disk.

Activations and scores stay on the model's own device. For each use a layer's inputs are sent to its weights, or its
weights to the inputs.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MethodType

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from ...errors import ModelError, SpecError, install_extra
from ..block import Block
from ..transformer import Transformer

DISK = "disk"
WEIGHTS_SHARE = 0.8  # of a GPU's memory that layers may fill; the rest is for what their passes keep
_SIZE = re.compile(r"(cpu|\d+)=(\d+(?:\.\d+)?(?:[KMGT]i?B))")


def memory_of(written: Iterable[str]) -> dict[int | str, str]:
    """How much each place may hold, from texts such as ``0=70GB`` and ``cpu=200GB``, in the form ``placement`` takes.

    Raises:
        SpecError: a text that is not of this form.
    """
    found: dict[int | str, str] = {}
    for item in written:
        if not (match := _SIZE.fullmatch(item)):
            raise SpecError(
                f"--memory {item}: give PLACE=SIZE, where PLACE is a GPU's number or cpu, and SIZE is such as 70GB."
            )
        found[match[1] if match[1] == "cpu" else int(match[1])] = match[2]
    return found


def refuse_absent(memory: Mapping[int | str, str]) -> None:
    """Raises SpecError for a GPU that this machine does not have."""
    n_gpus = torch.cuda.device_count()
    for place, size in memory.items():
        if isinstance(place, int) and place >= n_gpus:
            has = f"GPUs 0 to {n_gpus - 1}" if n_gpus else "no GPU"
            raise SpecError(f"--memory {place}={size}: torch sees {has} here; give what there is, or cpu={size}.")


def fit(model: Transformer, memory: Mapping[int | str, int | str], device: torch.device) -> Transformer:
    """Puts each layer of a model in main memory to where ``placement`` says, and the rest to ``device``, in place.

    Layers on disk are in a temporary folder (``TMPDIR`` says where), which is deleted with the model.

    Raises:
        ModelError: what ``placement`` raises.
    """
    places = placement(model, memory)
    folder = None
    if DISK in places:
        folder = tempfile.mkdtemp(prefix="circuitmeter-")
        weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return spread_over_devices(_all_but_layers_to(device, model), places, folder=folder)


def fits_one(model: Transformer, memory: int) -> bool:
    """Whether a model's weights leave a device room to work in; an outline will do.

    Args:
        memory: of the device, in bytes.
    """
    return sum(weight.nbytes for weight in model.parameters()) <= WEIGHTS_SHARE * memory


def over_all(model: Transformer, devices: Sequence[torch.device], memory: int) -> Transformer:
    """Puts a model in main memory on several devices, in place; the first one becomes the model's own.

    Args:
        devices: two or more.
        memory: of the smallest, in bytes.

    Raises:
        ModelError: accelerate is not installed.
    """
    sizes = [sum(weight.nbytes for weight in block.parameters()) for block in model.blocks]
    places = [str(devices[chosen]) for chosen in shared_out(sizes, len(devices), memory)]
    return spread_over_devices(_all_but_layers_to(devices[0], model), places)


def shared_out(sizes: Sequence[int], n: int, memory: int) -> list[int]:
    """Which of ``n`` devices, two or more, has each layer.

    The first one has the embeddings and all that writers write. So the others share the layers evenly, as far as they
    have room for them; what is left, the first layers, is on the first one.

    Args:
        sizes: of the layers, in bytes.
        memory: of the smallest device, in bytes.
    """
    room, share = WEIGHTS_SHARE * memory, sum(sizes) / (n - 1)
    found, device, used, behind = [], n - 1, 0, 0  # bytes on the device at hand; from the layer at hand to the last one
    for size in reversed(sizes):
        behind += size
        if device and used and (used + size > room or behind - size / 2 > (n - device) * share):
            device, used = device - 1, 0
        used += size
        found.append(device)
    return found[::-1]


def _all_but_layers_to(device: torch.device, model: Transformer) -> Transformer:
    layers, model.blocks = model.blocks, nn.ModuleList()
    model.to(device).blocks = layers
    return model


def placement(model: Transformer, memory: Mapping[int | str, int | str]) -> list[str]:
    """Where each layer goes: layers in order fill the devices in order, then main memory, then the disk.

    Args:
        memory: how much each place may hold, in accelerate's form: ``{0: "70GB", 1: "70GB", "cpu": "200GB"}``, with
            GPUs by number.

    Returns:
        One place per layer: ``cuda:0``, ``cpu`` or ``disk``.

    Raises:
        ModelError: accelerate is not installed, or the embeddings do not fit the first device.
    """
    found = _accelerate().infer_auto_device_map(
        model, max_memory=dict(memory), no_split_module_classes=[Block.__name__], clean_result=False
    )

    def place(name: str) -> str:
        own = next(value for key, value in found.items() if name == key or name.startswith(f"{key}.") or not key)
        return f"{torch.device(own)}" if own != DISK else DISK

    if DISK in {place("embed"), place("unembed")}:
        raise ModelError(f"the embeddings do not fit {dict(memory)}; they and all activations stay off the disk.")
    return [place(f"blocks.{layer}") for layer in range(model.config.n_layers)]


def spread_over_devices(model: Transformer, places: Sequence[str], *, folder: str | Path | None = None) -> Transformer:
    """Puts the layers of ``model`` where ``places`` says, in place. Every pass and method runs as before.

    A layer on another GPU than the model's computes there. A layer in main memory (``cpu``, of a model on a GPU) or on
    ``disk`` is copied to the model's device for each use and dropped afterwards. The backward pass copies it again and
    repeats its forward pass, so that the device holds only one such layer's weights at a time.

    Args:
        places: one for each layer (see ``placement``).
        folder: where layers on disk are written; it must exist.

    Raises:
        ModelError: accelerate is not installed, too few places, or layers on disk and no folder.
    """
    hooks, offload = _accelerate().hooks, _accelerate().utils
    if len(places) != model.config.n_layers:
        raise ModelError(f"{len(places)} places for {model.config.n_layers} layers; give one for each layer.")
    if DISK in places and not (folder and os.path.isdir(folder)):
        raise ModelError(f"layers on disk need a folder that exists, and {folder!r} is not a folder.")
    _ = model.weights_hash  # computed now and kept, because weights that are elsewhere cannot be hashed
    main = model.device
    for layer, (block, place) in enumerate(zip(model.blocks, places, strict=True)):
        here = {"io_same_device": True, "place_submodules": True}
        if place == DISK:
            own = Path(folder or "") / f"layer-{layer}"
            offload.offload_state_dict(own, block.state_dict())
            stored = offload.OffloadedWeightsLoader(save_folder=own)
            hook = hooks.AlignDevicesHook(main, offload=True, weights_map=stored, **here)
        elif torch.device(place).type == "cpu" != main.type:
            hook = hooks.AlignDevicesHook(main, offload=True, **here)
        else:
            hook = hooks.AlignDevicesHook(torch.device(place), **here)
        hooks.add_hook_to_module(block, hook)
        if hook.offload:
            block.forward = MethodType(_again_backwards(block.forward), block)
    return model


def _again_backwards(forward):
    """``forward``, run again in the backward pass and not recorded in between: a record would hold the weights."""

    def run(block: Block, *given):
        if not torch.is_grad_enabled():
            return forward(*given)
        # No early stop: it would skip the hook after ``forward``, which drops the weights.
        with set_checkpoint_early_stop(False):
            return checkpoint(forward, *given, use_reentrant=False, preserve_rng_state=False)

    return run


def _accelerate():
    try:
        import accelerate
    except ImportError as error:
        raise ModelError(f"spreading a model over devices needs accelerate: {install_extra('large')}.") from error
    return accelerate
