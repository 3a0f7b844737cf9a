"""LoRA adapters in the layout of PEFT, added to a model's weights when it is loaded.

``adapter_config.json`` and ``adapter_model.safetensors`` are read and checked before any weight of the model is read.
The weight W of each adapted module becomes W + s B A (Hu et al. 2021, https://arxiv.org/abs/2106.09685, equation 3),
with s = lora_alpha / r, or lora_alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski 2023,
https://arxiv.org/abs/2312.03732). A configuration that asks for anything else is refused, because the sum would be
another model.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from ...errors import ModelError
from ...reading import MEBIBYTE, checked, read_json, reading, shown
from .folder import ADAPTER as CONFIG
from .folder import first_not_finite, header

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_WEIGHTS_FILE = "adapter_model.safetensors"
_WEIGHT = re.compile(r"base_model\.model\.(?P<module>.+)\.(lora_(?P<half>[AB])\.weight|lora_embedding_(?P<of>[AB]))")
_MERGE = "merge it where it was trained, with merge_and_unload() and save_pretrained(folder), and give that folder"
# Keys that do not change what trained weights mean: where they come from, how they were trained, what is switched off.
_HARMLESS = frozenset(
    "auto_mapping base_model_name_or_path revision inference_mode task_type peft_version lora_dropout eva_config "
    "megatron_config megatron_core qalora_group_size runtime_config loftq_config corda_config lora_ga_config "
    "exclude_modules layers_pattern ensure_weight_tying".split()
)
# Initialisations of A and B that leave the model's own weights as they are. PiSSA, OLoRA and others change them.
_DRAWN = (True, False, None, "gaussian", "eva", "orthogonal")
_MOST_CHOICES = 3


def _simple(pattern: str) -> str:
    """The pattern, when its search is sure to be fast: it has few groups and repetitions, and repeats no group."""
    if len(pattern) > 200 or "{" in pattern or re.search(r"\)[*+?]", pattern):
        raise ValueError("is longer than 200 characters, or repeats a group")
    if sum(map(pattern.count, "(*+?")) > _MOST_CHOICES:
        raise ValueError(f"has more than {_MOST_CHOICES} groups and repetitions")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # about syntax that another version of Python reads differently
            re.compile(pattern)
    except (re.error, Warning) as problem:
        raise ValueError(f"is no regular expression: {problem}") from None
    return pattern


_Rank = Annotated[int, Field(ge=1, le=1 << 16, strict=True)]
_Alpha = Annotated[float, Field(gt=0, le=1e6, strict=True)]
_Pattern = Annotated[str, AfterValidator(_simple)]


class LoraConfig(BaseModel):
    """``adapter_config.json`` of a plain LoRA adapter."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    r: _Rank
    lora_alpha: _Alpha
    use_rslora: StrictBool = False
    fan_in_fan_out: StrictBool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    target_modules: Annotated[str, Field(max_length=10_000)] | Annotated[list[str], Field(max_length=10_000)] | None
    layers_to_transform: int | list[int] | None = None
    rank_pattern: dict[_Pattern, _Rank] = {}
    alpha_pattern: dict[_Pattern, _Alpha] = {}

    @model_validator(mode="before")
    @classmethod
    def _is_plain_lora(cls, content: Any) -> Any:
        """Refuses another kind of adapter by its kind, before keys are found to be missing."""
        if not isinstance(content, dict):
            return content
        if (kind := content.get("peft_type")) != "LORA":
            raise ValueError(f"peft_type is {shown(kind)}, and only LORA is merged here; {_MERGE}")
        asked = {name: value for name, value in content.items() if name not in _HARMLESS and value}
        if content.get("bias", "none") == "none":
            asked.pop("bias", None)
        if content.get("init_lora_weights") in _DRAWN:
            asked.pop("init_lora_weights", None)
        understood = set(cls.model_fields) - {"bias", "init_lora_weights"}
        for name, value in asked.items():
            if name not in understood:
                raise ValueError(f"{name} is {shown(value)}, and only plain LoRA is merged here; {_MERGE}")
        return content

    def rank(self, module: str) -> int:
        """The rank r of a module's A and B."""
        return _of_pattern(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """The factor s of a module's B A."""
        rank = self.rank(module)
        return _of_pattern(self.alpha_pattern, module, self.lora_alpha) / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, module: str, otherwise: bool) -> bool:
        """Whether ``target_modules`` name a module, wholly or by its last parts; ``otherwise`` when they are no list.

        They may be a regular expression. It is not run, because the weights say which modules are adapted.
        """
        if not isinstance(self.target_modules, list):
            return otherwise
        return any(module == name or module.endswith(f".{name}") for name in self.target_modules)

    @property
    def narrowed(self) -> bool:
        """Whether only some of the modules that ``target_modules`` name are adapted."""
        return self.layers_to_transform is not None or bool((self.model_extra or {}).get("exclude_modules"))


def _of_pattern(values: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """The value of the first pattern that a module's name, or its last parts, match."""
    found = (value for pattern, value in values.items() if re.match(rf"(.*\.)?({pattern})$", module))
    return next(found, otherwise)


@dataclass(frozen=True)
class LoraAdapter:
    """A LoRA adapter that was read and is whole.

    Args:
        names: the names of the tensors A and B, by module.
        shapes: the shape of each tensor.
    """

    folder: Path
    config: LoraConfig
    names: Mapping[str, Mapping[str, str]]
    shapes: Mapping[str, list[int]]

    @torch.no_grad()
    def merge_into(self, source: PreTrainedModel) -> None:
        """Adds the adapter to the weights of a model, which is changed in place.

        The product and the sum are taken in float32 or wider; the weight keeps its dtype.

        Raises:
            ModelError: the adapter belongs to another model, or adapts a weight that two modules share.
        """
        from safetensors.torch import load_file

        modules = self.fitting(source)
        with reading(self.folder / _WEIGHTS_FILE, ModelError):
            halves = load_file(self.folder / _WEIGHTS_FILE)
        if (name := first_not_finite(halves)) is not None:
            raise ModelError(
                f"{self.folder / _WEIGHTS_FILE}: {name} is not finite; its training or its copy went wrong."
            )
        for name, module in modules.items():
            weight = module.weight
            a, b = (halves[self.names[name][half]] for half in "AB")
            wide = reduce(torch.promote_types, (weight.dtype, a.dtype, b.dtype), torch.float32)
            product = (b.to(wide) @ a.to(wide)) * self.config.scale(name)  # [out, in]
            weight.data = (weight.to(wide) + (product.T if _transposed(module) else product)).to(weight.dtype)

    def fitting(self, source: PreTrainedModel) -> dict[str, Any]:
        """The adapted modules, by name. Raises ModelError when the adapter does not fit. No weight is read."""
        from transformers.pytorch_utils import Conv1D

        kinds = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
        adaptable = {name: module for name, module in source.named_modules() if isinstance(module, kinds)}
        shared = _shared(source)
        for name in self.names:
            if name not in adaptable:
                raise ModelError(f"{self.folder}: the model has no weight {shown(name, 160)} to adapt; {_ANOTHER}")
            if name in shared:
                raise ModelError(
                    f"{self.folder} adapts {name}, whose weight another module of the model shares: merged and not "
                    f"merged they would be two models; save the model with tie_word_embeddings=false and train again."
                )
            self._check_shapes(name, adaptable[name])
        for name in adaptable if not self.config.narrowed else ():
            if self.config.targets(name, otherwise=False) and name not in self.names:
                raise ModelError(f"{self.folder}: target_modules name {name}, which has no weights; {_ANOTHER}")
        return {name: adaptable[name] for name in self.names}

    def _check_shapes(self, name: str, module: nn.Module) -> None:
        rank, weight = self.config.rank(name), list(module.weight.shape)
        n_out, n_in = reversed(weight) if _transposed(module) else weight
        for half, due in (("A", [rank, n_in]), ("B", [n_out, rank])):
            tensor = self.names[name][half]
            if self.shapes[tensor] != due:
                raise ModelError(
                    f"{self.folder}: {tensor} is {self.shapes[tensor]}, and the model's weight {weight} with "
                    f"r = {rank} asks for {due}; {_ANOTHER}"
                )


_ANOTHER = "the adapter was trained on another model, or its two files are of two adapters."


def read_adapter(folder: str | Path) -> LoraAdapter:
    """The adapter in a folder, checked as far as this is possible without its model. No weight is read yet.

    Raises:
        ModelError: a file is missing or damaged, the adapter is not plain LoRA, or a module's A or B is missing.
    """
    folder = Path(folder)
    if not os.path.isfile(folder / CONFIG):  # False for what is too long for a path
        raise ModelError(f"{folder} holds no adapter: {CONFIG} is missing; give the folder that PEFT saved it in.")
    config = checked(
        LoraConfig, read_json(folder / CONFIG, at_most=MEBIBYTE, error=ModelError), folder / CONFIG, ModelError
    )
    if not (folder / _WEIGHTS_FILE).is_file():
        raise ModelError(
            f"{folder} holds no weights: {_WEIGHTS_FILE} is missing; save the adapter again with "
            f"save_pretrained(folder)."
        )
    shapes = {name: tensor.shape for name, tensor in header(folder / _WEIGHTS_FILE).items()}
    names: dict[str, dict[str, str]] = {}
    for name in shapes:
        found = _WEIGHT.fullmatch(name)
        if found is None:
            raise ModelError(f"{folder / _WEIGHTS_FILE}: {shown(name, 160)} is no weight of plain LoRA; {_MERGE}.")
        names.setdefault(found["module"], {})[found["half"] or found["of"]] = name
    if not names:
        raise ModelError(f"{folder / _WEIGHTS_FILE} holds no weights; save the adapter again.")
    for module, halves in names.items():
        if len(halves) < 2:
            raise ModelError(
                f"{folder / _WEIGHTS_FILE}: {shown(module, 160)} has only one of lora_A and lora_B; copy it again."
            )
        if not config.targets(module, otherwise=True):
            raise ModelError(
                f"{folder}: {shown(module, 160)} has weights, and target_modules do not name it; {_ANOTHER}"
            )
    return LoraAdapter(folder, config, names, shapes)


def _transposed(module: nn.Module) -> bool:
    """Whether a module keeps its weight as [in, out].

    PEFT's ``fan_in_fan_out`` is one answer for all modules, and wrong when GPT-2's Conv1D and its Linear are both
    adapted; PEFT itself asks the module, too.
    """
    return not isinstance(module, torch.nn.Linear)


def _shared(source: PreTrainedModel) -> set[str]:
    """The modules whose weight another module shares."""
    owners: dict[int, list[str]] = {}
    for name, parameter in source.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    return {name for names in owners.values() if len(names) > 1 for name in names}
