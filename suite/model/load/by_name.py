"""Models by name: ground truths, the mini models, Hugging Face folders, names on the Hugging Face hub.

Weights are read from safetensors only: a pickled checkpoint can run code when it is opened, so it is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from .... import ground_truth
from ....tasks import Task, TextTask, mini
from ....tasks.tokenizer import Tokenizer
from ...errors import DataError, ModelError, unknown
from ..device import resolve
from ..graph import InputNodes
from ..transformer import Transformer
from . import gguf_file, hub


def load_model(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    inputs: InputNodes | None = None,
) -> Transformer:
    """The model called ``name``, ready to be cut.

    Args:
        name: a ground truth (``tracr/reverse``) or its folder, a mini model (``mini``), a folder of Hugging Face or of
            TransformerLens (``config.json`` and safetensors), a GGUF file or ``smollm2`` (see gguf_file.py), or a name
            on the Hugging Face hub (``gpt2``; see hub.py).
        device: ``auto``, ``cpu``, ``cuda``, or a torch device.
        dtype: of the weights; scores are float32 or wider whatever it is.
        inputs: which input nodes the graph has; ``None`` for the model's own (``token`` for language models).

    Raises:
        ModelError: nothing has this name, files are missing or damaged, the architecture is not supported, or its
            logits are not those of the source.
        SpecError: the device does not exist.
    """
    device = resolve(device) if isinstance(device, str) else device
    if is_ground_truth(name):
        model = ground_truth.load(name).model(device, dtype)
        if inputs not in (None, model.graph.inputs):
            raise ModelError(f"{name} has the input nodes {model.graph.inputs!r}; {inputs!r} is for language models.")
        return model
    from ..convert import check_logits, from_huggingface

    folder = _folder(name)
    if (config := _transformer_lens_config(folder)) is not None:
        return _read_transformer_lens(folder, config, inputs or "token", dtype).to(device)
    source = _read_huggingface(folder, dtype)
    model = from_huggingface(source, inputs=inputs or "token", dtype=dtype, copy=False)
    check_logits(model, source)
    return model.to(device)


def names() -> list[str]:
    """The models that ship: ground truths and mini models."""
    return sorted({name.partition("@")[0] for name in ground_truth.names()} | set(mini.names()))


def load_tokenizer(name: str | Path) -> Tokenizer | None:
    """The tokenizer of a language model; ``None`` for a model that has none.

    Raises:
        ModelError, DataError: it cannot be read, or does not tell where its tokens are.
    """
    if is_ground_truth(name):
        return None
    folder = _folder(name)
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever transformers raises for a damaged folder, the folder is what is wrong
        raise ModelError(f"the tokenizer in {folder} cannot be read: {_first_line(error)}") from error
    return Tokenizer(tokenizer)


def on_model(task: Task | TextTask, name: str | Path) -> Task:
    """A task with its prompts in a model's tokens; the task itself when it has its prompts.

    Raises:
        DataError: a task as text, and a model that has no tokenizer or whose tokenizer lacks the task's words.
    """
    if not isinstance(task, TextTask):
        return task
    tokenizer = load_tokenizer(name)
    if tokenizer is None:
        raise DataError(
            f"the task {task.name} is text, and {name} has no tokenizer; choose another model, such as "
            f"{task.models}, or put its tokenizer files beside config.json."
        )
    return task.on(tokenizer)


def is_ground_truth(name: str | Path) -> bool:
    """Whether ``name`` is a shipped ground truth or a folder that holds one."""
    return (Path(name) / "model.json").is_file() or str(name) in ground_truth.names()


def _folder(name: str | Path) -> Path:
    """The folder of a Hugging Face model, fetched from the hub (or its cache) when ``name`` is no folder."""
    path, text = Path(name), str(name)
    if text in mini.names():
        return mini.folder(text)
    if path.is_dir():
        return path
    if text in gguf_file.PACKAGED or path.suffix == gguf_file.SUFFIX:
        return gguf_file.folder(text)
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1:
        raise ModelError(
            f"no folder {text!r}; --model takes a folder with config.json and {hub.WEIGHTS}, a GGUF file, "
            f"a hub name, {', '.join(gguf_file.PACKAGED)}, a mini model ({', '.join(mini.names())}) or a ground truth."
        )
    if text.split("-")[0] == mini.FAMILY:  # no name of the hub's, and no reason to ask it
        raise ModelError(unknown("mini model", text, mini.names()))
    families = {known.split("/")[0] for known in ground_truth.names()}
    if text.split("/")[0] in families:
        raise ModelError(unknown("ground truth", text, ground_truth.names()))
    try:
        return hub.fetch(text)
    except ModelError as error:
        plain = text.partition("@")[0]
        if "/" in plain or plain in hub.known():
            raise
        # Perhaps a name of the hub's, which has a few without an owner, and more likely a slip.
        shown = [
            *mini.names(),
            *gguf_file.PACKAGED,
            *(name for name in hub.known() if "/" not in name),
            *sorted(f"{f}/*" for f in families),
        ]
        meant = unknown("model", text, [*names(), *gguf_file.PACKAGED, *hub.known()], shown=shown)
        raise type(error)(f"{meant} As a name of the hub's: {error}") from error


def _read_huggingface(folder: Path, dtype: torch.dtype) -> Any:
    """The transformers model in ``folder``, with every weight read from safetensors."""
    _check_files(folder)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            attn_implementation="eager",  # fused kernels of older versions leave out Gemma-2's cap on scores
        )
    except Exception as error:  # transformers and safetensors raise many kinds; the folder is at fault in all
        raise ModelError(f"the model in {folder} cannot be read: {_first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers would fill them with random numbers.
        raise ModelError(
            f"{folder}: {len(missing)} weights that its config.json asks for are missing, {missing[0]!r} first; "
            f"save the model again."
        )
    return model


def _transformer_lens_config(folder: Path) -> dict[str, Any] | None:
    """The config.json of a TransformerLens checkpoint; ``None`` for any other folder."""
    from ..convert.transformer_lens import is_transformer_lens

    file = folder / "config.json"
    try:
        config = json.loads(file.read_text()) if file.is_file() else None
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}.") from error
    return config if isinstance(config, dict) and is_transformer_lens(config) else None


def _read_transformer_lens(folder: Path, config: dict[str, Any], inputs: InputNodes, dtype: torch.dtype) -> Transformer:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ..convert import from_transformer_lens

    _check_files(folder)
    try:
        state = load_file(folder / hub.WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / hub.WEIGHTS} cannot be read: {_first_line(error)}") from error
    return from_transformer_lens(config, state, inputs=inputs, dtype=dtype)


def _check_files(folder: Path) -> None:
    """Raises ModelError that names the first file missing."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model: config.json is missing (or model.json, for a ground truth).")
    if (folder / hub.WEIGHTS).is_file():
        return
    if (folder / hub.INDEX).is_file():
        shards = sorted(set(json.loads((folder / hub.INDEX).read_text())["weight_map"].values()))
        for shard in shards:
            if not (folder / shard).is_file():
                raise ModelError(
                    f"{folder} holds no complete model: {shard} is missing; {hub.INDEX} lists {len(shards)} files."
                )
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"{folder} holds its weights as {pickled[0]}, a pickle that can run code when opened; load it where you "
            f"trust it and save it with model.save_pretrained(folder), which writes {hub.WEIGHTS}."
        )
    raise ModelError(f"{folder} holds no weights: {hub.WEIGHTS} is missing; copy it there, beside config.json.")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
