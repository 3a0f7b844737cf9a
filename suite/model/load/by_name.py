"""Models by name: ground truths, the mini models, Hugging Face folders, names on the Hugging Face hub.

Weights are read from safetensors only. A pickled checkpoint is refused, because it can run code when it is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .... import ground_truth
from ....ground_truth.dictionaries import shipped as dictionaries
from ....ground_truth.dictionaries.recipe import OF_MODELS
from ....ground_truth.files import holds_model
from ....tasks import PromptFile, Task, TextTask, mini
from ....tasks.tokenizer import Tokenizer
from ...errors import DataError, ModelError, nearest_name, unknown
from ...reading import reading, refuse_pointer, shown
from ..device import resolve
from ..features.transformer import FeatureTransformer
from ..graph import InputNodes
from ..transformer import Transformer
from . import folder as folders
from . import gguf_file, hub
from .adapter import LoraAdapter, read_adapter

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "merges.txt", "tokenizer_config.json")


def load_model(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    inputs: InputNodes | None = None,
    adapter: str | Path | None = None,
) -> Transformer:
    """The model called ``name``, ready to be cut.

    Args:
        name: a ground truth (``tracr/reverse``) or its folder, a mini model (``mini``), a folder of Hugging
            Face or of TransformerLens (``config.json`` and safetensors), a GGUF file or ``smollm2`` (see gguf_file.py),
            a name on the Hugging Face hub (``gpt2``; see hub.py), or a model with the features of a shipped dictionary
            as nodes (``mini-dictionaries/ioi-wide-0``, ``smollm2-dictionaries/ioi-narrow-0``).
        device: ``auto``, ``cpu``, ``cuda``, or a torch device.
        dtype: of the weights. Scores are float32 or wider under every dtype.
        inputs: which input nodes the graph has; ``None`` takes the model's own (``token`` for language models).
        adapter: a folder with a LoRA adapter of PEFT, which is merged into the weights (see adapter.py).

    Raises:
        ModelError: no model has this name, files are missing or damaged, the architecture is not supported, the
            converted model's logits are not those of the source, or the adapter belongs to another model.
        SpecError: the device does not exist.
    """
    device = resolve(device) if isinstance(device, str) else device
    lora = None if adapter is None else read_adapter(adapter)
    if is_ground_truth(name):
        return _ground_truth(name, lora, inputs, device, dtype)
    from ..convert import check_logits, from_huggingface
    from ..convert.transformer_lens import is_transformer_lens

    folder = _folder(name)
    config = _config(folder, lora)
    if is_transformer_lens(config):
        model = _read_transformer_lens(folder, config, inputs or "token", dtype)
        _check_finite(model.state_dict(), folder)
        return model.to(device)
    source = _read_huggingface(folder, config, dtype)
    if lora is not None:
        lora.merge_into(source)
    _check_finite(source.state_dict(), folder)
    with reading(f"the model in {folder}", ModelError):
        model = from_huggingface(source, inputs=inputs or "token", dtype=dtype, copy=False)
        check_logits(model, source)
    return _with_features(name, model.to(device))


def load_outline(
    name: str | Path, *, inputs: InputNodes | None = None, adapter: str | Path | None = None
) -> Transformer:
    """The model called ``name`` before its weights are read: its configuration and its graph.

    A language model's weights are on torch's ``meta`` device, where nothing can be computed; a ground truth is small
    and is loaded whole. This takes a fraction of a second, so a request can be refused before a large model is loaded.

    Args:
        name, inputs, adapter: as in ``load_model``.

    Raises:
        ModelError: what ``load_model`` raises, except for faults that only the weights show.
    """
    lora = None if adapter is None else read_adapter(adapter)
    if is_ground_truth(name):
        return _ground_truth(name, lora, inputs, torch.device("cpu"), torch.float32)
    from ..convert import from_huggingface, outline_of_transformer_lens
    from ..convert.transformer_lens import is_transformer_lens

    folder = _folder(name)
    config = _config(folder, lora)
    with reading(f"the model in {folder}", ModelError):
        if is_transformer_lens(config):
            return outline_of_transformer_lens(config, inputs=inputs or "token")
        source = _without_weights(folder)
    if lora is not None:
        lora.fitting(source)
    with reading(f"the model in {folder}", ModelError):
        model = from_huggingface(source, inputs=inputs or "token", copy=False)
    return _with_features(name, model)


def _with_features(name: str | Path, model: Transformer) -> Transformer:
    """The model with the features of the shipped dictionaries that it is asked for with; the model itself otherwise."""
    if str(name) not in dictionaries.names(*OF_MODELS):
        return model
    found = dictionaries.read_shipped(str(name))
    return FeatureTransformer.of(model, {site: (each, range(each.n_features)) for site, each in found.items()})


def _ground_truth(
    name: str | Path, lora: LoraAdapter | None, inputs: InputNodes | None, device: torch.device, dtype: torch.dtype
) -> Transformer:
    if lora is not None:
        raise ModelError(f"{name} is a ground truth, and what is certified of it holds without {lora.folder} only.")
    model = ground_truth.load(name).model(device, dtype)
    if inputs not in (None, model.graph.inputs):
        raise ModelError(f"{name} has the input nodes {model.graph.inputs!r}; {inputs!r} is for language models.")
    return model


def _config(folder: Path, lora: LoraAdapter | None) -> dict[str, Any]:
    """The content of a folder's config.json. Raises ModelError when it, or it with the adapter, cannot be converted."""
    from ..convert import CONVERTERS
    from ..convert.transformer_lens import is_transformer_lens

    config = folders.check_folder(folder)
    if is_transformer_lens(config):
        if lora is not None:
            raise ModelError(
                f"{folder} has TransformerLens's weights, and {lora.folder} is for those of Hugging Face; give these."
            )
        return config
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONVERTERS:
        raise ModelError(f"{folder}: a model of type {shown(kind)} cannot be converted; {', '.join(CONVERTERS)} can.")
    return config


def _check_finite(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Raises ModelError for weights that are NaN or infinite, which make the model's own logits NaN or infinite."""
    if (name := folders.first_not_finite(weights)) is not None:
        raise ModelError(
            f"{folder}: the model's own logits are NaN or infinite: its weights ({name}) are not finite; its "
            f"training or its copy went wrong."
        )


def model_names() -> list[str]:
    """The models that ship: ground truths, mini models, and models with the features of shipped dictionaries."""
    others = {*mini.names(), *dictionaries.names(*OF_MODELS)}
    return sorted({name.partition("@")[0] for name in ground_truth.names()} | others)


def load_tokenizer(name: str | Path) -> Tokenizer | None:
    """The tokenizer of a language model; ``None`` for a model without a tokenizer.

    Raises:
        ModelError: the tokenizer cannot be read.
        DataError: the tokenizer does not say where in a text its tokens are.
    """
    if not has_tokenizer(name):
        return None
    folder = _folder(name)
    for file in _TOKENIZER_FILES:
        refuse_pointer(folder / file, ModelError)
    from transformers import AutoTokenizer

    with reading(f"the tokenizer in {folder}", ModelError):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        found = Tokenizer(tokenizer)
        found.tokens(["a"]), found("a", special=True)  # settings of a wrong type raise only when they are used
    return found


def has_tokenizer(name: str | Path) -> bool:
    """Whether a model has files of a tokenizer, so that its token ids are those of words."""
    if is_ground_truth(name):
        return False
    folder = _folder(name)
    return any((folder / file).is_file() for file in _TOKENIZER_FILES[:3])


def on_model(task: Task | TextTask | PromptFile, name: str | Path) -> Task:
    """A task with its prompts in a model's tokens; the task itself when its prompts are tokens already.

    Raises:
        DataError: the task is text, and the model has no tokenizer, or its tokenizer lacks the task's words; or the
            task is token ids of a certified model, which are of another vocabulary than this model's.
    """
    if isinstance(task, PromptFile):
        return task.on(load_tokenizer(name))
    if not isinstance(task, TextTask):
        _refuse_another_vocabulary(task, name)
        return task
    tokenizer = load_tokenizer(name)
    if tokenizer is None:
        raise DataError(
            f"the task {task.name} is text, and {name} has no tokenizer; choose another model, such as "
            f"{task.models}, or put its tokenizer files beside config.json."
        )
    return task.on(tokenizer)


def _refuse_another_vocabulary(task: Task, name: str | Path) -> None:
    """Raises DataError for a task of a certified model on a language model, or on a certified one with other tokens. A
    folder without a tokenizer may be a model that was made for the task."""
    if task.model is None or str(name) == task.model or not is_ground_truth(task.model):
        return
    if is_ground_truth(name):
        ours, others = (ground_truth.load(each).description.vocabulary for each in (task.model, name))
        unlike = ours != others
    else:
        unlike = has_tokenizer(name)
    if unlike:
        raise DataError(
            f"the task {task.name} is token ids of its own model, {task.model}, which mean other tokens to {name}; "
            f"leave out --model, or choose another task."
        )


def is_ground_truth(name: str | Path) -> bool:
    """Whether ``name`` is a shipped ground truth or a folder that holds one."""
    return holds_model(name) or str(name) in ground_truth.names()


def _folder(name: str | Path) -> Path:
    """The folder of a Hugging Face model, fetched from the hub (or its cache) when ``name`` is no folder."""
    path, text = Path(name), str(name)
    if text in mini.names():
        return mini.folder(text)
    if text in dictionaries.names(*OF_MODELS):
        return _folder(dictionaries.shipped()[text].model)
    if os.path.isdir(path):  # False for what is too long for a path
        return path
    if text in gguf_file.PACKAGED or path.suffix == gguf_file.SUFFIX:
        return gguf_file.converted_folder(text)
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1:
        raise ModelError(
            f"no folder {text!r}; --model takes a folder with config.json and {hub.WEIGHTS_FILE}, a GGUF file, "
            f"a hub name, or one that `circuitmeter list models` has."
        )
    if text.split("/")[0] in OF_MODELS:
        raise ModelError(unknown("set of dictionaries", text, dictionaries.names(*OF_MODELS)))
    if text.split("-")[0] == mini.FAMILY_NAME:  # no model of the hub is called so, and it need not be asked
        raise ModelError(unknown("mini model", text, mini.names()))
    families = {known.split("/")[0] for known in ground_truth.names()}
    if text.split("/")[0] in families:
        raise ModelError(unknown("ground truth", text, ground_truth.names()))
    try:
        return hub.fetch(text)
    except ModelError as error:
        plain = text.partition("@")[0]
        if "/" in plain or plain in hub.pinned():
            raise
        # Some names on the hub have no owner, but more likely the name of a ground truth is misspelt.
        shown = [
            *mini.names(),
            *gguf_file.PACKAGED,
            *(name for name in hub.pinned() if "/" not in name),
            *sorted(f"{f}/*" for f in families),
        ]
        known = [*model_names(), *gguf_file.PACKAGED, *hub.pinned()]
        meant, said = unknown("model", text, known, shown=shown), str(error)
        if nearest_name(text, sorted(known)):  # a slip: how a model of the hub's is brought here does not help
            said = f"{said.partition('. ')[0].removesuffix('.')}."
        raise type(error)(f"{meant} As a name of the hub's: {said}") from error


def _read_huggingface(folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The transformers model in ``folder``, with every weight read from safetensors."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with reading(f"the model in {folder}", ModelError):
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with both sizes
            attn_implementation="eager",  # fused kernels of older versions leave out Gemma-2's cap on scores
        )
    for name, stored, asked in sorted(map(tuple, info["mismatched_keys"])):
        raise ModelError(
            f"{folder}: {name} is {list(stored)}, config.json asks for {list(asked)}; they are of two models, or the "
            f"vocabulary was resized and config.json not saved with it."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers would fill them with random numbers.
        raise ModelError(
            f"{folder}: {len(missing)} weights that its config.json asks for are missing, {missing[0]!r} first; "
            f"save the model again."
        )
    return model


def _without_weights(folder: Path) -> Any:
    """The transformers model of a folder's config.json, with its parameters on the meta device."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with _parameters_on_meta():
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Modules that are made inside have parameters without values; their buffers, such as rotations, have values.

    Under ``torch.device("meta")`` the buffers would have no values, and converters read them.
    """
    register = torch.nn.Module.register_parameter

    def on_meta(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # a tied one is there, and stays the same object
            parameter = torch.nn.Parameter(parameter.to("meta"))
        register(module, name, parameter)

    torch.nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


def _read_transformer_lens(folder: Path, config: dict[str, Any], inputs: InputNodes, dtype: torch.dtype) -> Transformer:
    from safetensors.torch import load_file

    from ..convert import from_transformer_lens

    with reading(folder / hub.WEIGHTS_FILE, ModelError):
        state = load_file(folder / hub.WEIGHTS_FILE)
    with reading(f"the model in {folder}", ModelError):
        return from_transformer_lens(config, state, inputs=inputs, dtype=dtype)
