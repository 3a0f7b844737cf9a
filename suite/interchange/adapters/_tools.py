"""What adapters share: a released tool imported or asked for in one line, and a model of ours as TransformerLens's."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import MethodError

if TYPE_CHECKING:
    from ..external import ExportedModel


def tool(called: str, module: str, install: str) -> Any:
    """A module of a released tool.

    Args:
        called: the tool's own name.
        module: what is imported of it.
        install: the command that installs it.

    Raises:
        MethodError: the tool, or a package that it imports, is not installed or has another version; the message has
            the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:  # TransformerLens 4 raises it for what it no longer has
        raise MethodError(f"{called} cannot be imported ({error}); install it with `{install}`.") from error


def hooked_transformer(
    model: ExportedModel, called: str, install: str, *, kind: Any = None, **options: bool
) -> Any:  # HookedTransformer
    """A HookedTransformer of TransformerLens with an exported model's weights.

    Args:
        called, install: the tool that needs it, as for ``tool``.
        kind: a subclass of HookedTransformer; the class itself where left out.
        options: switches of ``HookedTransformerConfig``, such as ``use_attn_result``.
    """
    lens = tool(called, "transformer_lens", install)
    weights = model.state_dict["embed.W_E"]
    try:
        config = lens.HookedTransformerConfig(
            **model.config, **options, dtype=weights.dtype, device=str(weights.device)
        )
        made = (kind or lens.HookedTransformer)(config)
    except ImportError as error:  # since TransformerLens 4
        raise MethodError(
            f"{called} runs on HookedTransformer, which TransformerLens 4 does not have; install it with `{install}`."
        ) from error
    made.load_state_dict(dict(model.state_dict), strict=False)  # it makes masks of its own
    return made.eval()


def gpt2_of_transformers(model: ExportedModel) -> Any:
    """A GPT2LMHeadModel with an exported model's weights; its format has to be ``huggingface``."""
    from transformers import GPT2Config, GPT2LMHeadModel

    weights = model.state_dict["transformer.wte.weight"]
    made = GPT2LMHeadModel(GPT2Config(**model.config)).to(weights.device, weights.dtype)
    made.load_state_dict(dict(model.state_dict))
    return made.eval()


def with_two_heads(model: ExportedModel) -> ExportedModel:
    """A model of one head a layer with a second one whose weights are zero, which writes nothing."""
    if model.config["n_heads"] != 1:
        return model

    def padded(name: str, weight: Tensor) -> Tensor:
        heads = name.rpartition(".")[2] in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V") and ".attn." in name
        return (
            weight.repeat(2, *[1] * (weight.ndim - 1)).index_fill(0, weight.new_ones(1).long(), 0) if heads else weight
        )

    weights = {name: padded(name, weight) for name, weight in model.state_dict.items()}
    return replace(model, config={**model.config, "n_heads": 2}, state_dict=weights)


def of_our_inputs(scores: Mapping[str, float], model: ExportedModel, ablation: str) -> dict[str, float]:
    """Scores by edge name of a tool whose one input node is the sum of ours.

    Where tokens and positions are two nodes here, what a patch changes of their sum is the tokens' alone; under another
    ablation both have the score of the sum, because the tool cuts both at once.
    """
    if "input" in model.nodes:
        return dict(scores)
    named = ("tok_embed",) if ablation == "patch" else ("tok_embed", "pos_embed")
    found = {}
    for edge, score in scores.items():
        writer, reader = edge.split("->")
        found |= {f"{each}->{reader}": score for each in (named if writer == "input" else (writer,))}
    return found
