"""Models by name: ground truths, the mini models, Hugging Face folders, names on the Hugging Face hub.

Weights are read from safetensors only: a pickled checkpoint can run code when it is opened, so it is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ... import ground_truth
from ...tasks import Task, TextTask, mini
from ...tasks.tokenizer import Tokenizer
from ..errors import DataError, ModelError, unknown
from ..model.device import resolve
from ..model.graph import InputNodes
from ..model.transformer import Transformer

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Everything a model folder needs and nothing that can run code.
_FROM_HUB = ["config.json", "*.safetensors", _INDEX, "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json"]
_HUB_SECONDS = 10.0


def load_model(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    inputs: InputNodes | None = None,
) -> Transformer:
    """The model called ``name``, ready to be cut.

    Args:
        name: a ground truth (``tracr/reverse``) or its folder, a mini model (``mini``), a Hugging Face folder
            (``config.json`` and safetensors), or a name on the Hugging Face hub (``gpt2``).
        device: ``auto``, ``cpu``, ``cuda``, or a torch device.
        dtype: of the weights.
        inputs: which input nodes the graph has; ``None`` for the model's own (``token`` for language models).

    Raises:
        ModelError: nothing has this name, files are missing or damaged, or the architecture is not supported.
        SpecError: the device does not exist.
    """
    device = resolve(device) if isinstance(device, str) else device
    if is_ground_truth(name):
        model = ground_truth.load(name).model(device, dtype)
        if inputs not in (None, model.graph.inputs):
            raise ModelError(f"{name} has the input nodes {model.graph.inputs!r}; {inputs!r} is for language models.")
        return model
    from ..model.convert import from_huggingface

    folder = _folder(name)
    source = _read_huggingface(folder, dtype)
    return from_huggingface(source, inputs=inputs or "token", dtype=dtype).to(device)


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
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1:
        raise ModelError(
            f"no folder {text!r}; --model takes a folder with config.json and {_WEIGHTS}, a hub name, "
            f"a mini model ({', '.join(mini.names())}) or a ground truth."
        )
    families = {known.split("/")[0] for known in ground_truth.names()}
    if text.split("/")[0] in families:
        raise ModelError(unknown("ground truth", text, ground_truth.names()))
    return _fetch(text)


def _fetch(name: str) -> Path:
    """The snapshot folder of a model on the hub. Raises ModelError that names what is missing and how to provide it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    provide = (
        f"Run `hf download {name}` here, where the hub can be reached; or copy the model's folder (config.json, "
        f"{_WEIGHTS}, tokenizer files) to this machine and give `--model PATH`."
    )
    try:
        return Path(snapshot_download(name, allow_patterns=_FROM_HUB, etag_timeout=_HUB_SECONDS))
    except HFValidationError as error:
        raise ModelError(f"{name!r} is no model: neither a folder nor a name on the Hugging Face hub.") from error
    except HfHubHTTPError as error:
        raise ModelError(f"the Hugging Face hub does not give {name!r}: {_first_line(error)} {provide}") from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no model {name!r} on this machine (config.json and {_WEIGHTS} are missing), and the Hugging Face hub "
            f"cannot be reached. {provide}"
        ) from error


def _read_huggingface(folder: Path, dtype: torch.dtype) -> Any:
    """The transformers model in ``folder``, with every weight read from safetensors."""
    _check_files(folder)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
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


def _check_files(folder: Path) -> None:
    """Raises ModelError that names the first file missing."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model: config.json is missing (or model.json, for a ground truth).")
    if (folder / _WEIGHTS).is_file():
        return
    if (folder / _INDEX).is_file():
        shards = sorted(set(json.loads((folder / _INDEX).read_text())["weight_map"].values()))
        for shard in shards:
            if not (folder / shard).is_file():
                raise ModelError(
                    f"{folder} holds no complete model: {shard} is missing; {_INDEX} lists {len(shards)} files."
                )
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"{folder} holds its weights as {pickled[0]}, a pickle that can run code when opened; load it where you "
            f"trust it and save it with model.save_pretrained(folder), which writes {_WEIGHTS}."
        )
    raise ModelError(f"{folder} holds no weights: {_WEIGHTS} is missing; copy it there, beside config.json.")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
