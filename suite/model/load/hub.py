"""Models on the Hugging Face hub: the revision that a name stands for, the hash of its weights, and the download."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ....tasks.hub import snapshot
from ...errors import ModelAbsent, ModelError

WEIGHTS_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# All files that a model folder needs, and no file that can run code.
_WANTED = ["config.json", "*.safetensors", INDEX, "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json"]


@dataclass(frozen=True)
class Pin:
    """The revision that a name on the hub stands for here, so that it always stands for the same weights.

    Args:
        revision: the commit on the hub.
        sha256: of ``model.safetensors`` at that commit, where it is known.
        pickled: the file of weights, where the hub has them as a pickle only.
        layers, heads: the model's layers, and heads per layer.
    """

    revision: str | None = None
    sha256: str | None = None
    pickled: str | None = None
    layers: int | None = None
    heads: int | None = None


_GPT2 = {
    "gpt2": Pin(
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        layers=12,
        heads=12,
    ),
    "gpt2-medium": Pin("6dcaa7a952f72f9298047fd5137cd6e4f05f41da", layers=24, heads=16),
    "gpt2-large": Pin("32b71b12589c2f8d625668d2335a01cac3249519", layers=36, heads=20),
    "gpt2-xl": Pin(
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        layers=48,
        heads=25,
    ),
}
PINS: dict[str, Pin] = {
    **_GPT2,
    **{f"openai-community/{name}": pin for name, pin in _GPT2.items()},
    "EleutherAI/pythia-160m": Pin("50f5173d932e8e61f858120bcb800b97af589f46", layers=12, heads=12),
    "EleutherAI/pythia-410m": Pin("9879c9b5f8bea9051dcb0e68dff21493d67e9d4f", layers=24, heads=16),
    "Qwen/Qwen2.5-0.5B": Pin("060db6499f32faf8b98477b0a26969ef7d8b9987", layers=24, heads=14),
    "NeelNanda/Attn_Only_4L512W_C4_Code": Pin(pickled="model_final.pth", layers=4, heads=8),
}
ALIASES = {"attn-only-4l": "NeelNanda/Attn_Only_4L512W_C4_Code"}


def pinned() -> dict[str, tuple[str, Pin]]:
    """The repository and the pin of each pinned model, by one of its names."""
    aliased = set(ALIASES.values()) | {f"openai-community/{name}" for name in _GPT2}
    found = {name: (name, pin) for name, pin in PINS.items() if name not in aliased}
    return found | {alias: (repository, PINS[repository]) for alias, repository in ALIASES.items()}


def fetch(name: str) -> Path:
    """The snapshot folder of a model on the hub, from this machine's cache where it is there.

    Args:
        name: the name on the hub, such as ``gpt2``, for the pinned revision or, without a pin, the newest;
            ``NAME@REVISION`` for another revision.

    Raises:
        ModelAbsent: the model is not cached and the hub cannot be reached; the message has two ways to provide it.
        ModelError: the model is not on the hub, its weights are a pickle, or they are not the pinned ones.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, wanted = name.partition("@")
    repository = ALIASES.get(repository, repository)
    pin = Pin(wanted) if wanted else PINS.get(repository, Pin())
    if pin.pickled:
        raise ModelError(
            f"the hub has the weights of {name!r} as {pin.pickled} only, a pickle that can run code when opened; where "
            f"you trust it, save its state dict with safetensors.torch.save_file as {WEIGHTS_FILE} beside the "
            f"config.json of {repository} and its tokenizer's files, and give `--model PATH`."
        )
    command = f"hf download {repository}" + (f" --revision {pin.revision}" if pin.revision else "")
    provide = (
        f"Run `{command}` here, where the hub can be reached; or copy the model's folder (config.json, {WEIGHTS_FILE}, "
        f"tokenizer files) to this machine and give `--model PATH`."
    )
    try:
        folder = snapshot(repository, _WANTED, revision=pin.revision)
    except HFValidationError as error:
        raise ModelError(f"{name!r} is no model: neither a folder nor a name on the Hugging Face hub.") from error
    except HfHubHTTPError as error:
        raise ModelError(f"the Hugging Face hub does not give {name!r}: {_first_line(error)} {provide}") from error
    except (OSError, ValueError) as error:
        raise ModelAbsent(
            f"no model {name!r} on this machine (config.json and {WEIGHTS_FILE} are missing), and the Hugging Face hub "
            f"cannot be reached. {provide}"
        ) from error
    _check(folder, name, pin)
    return folder


def is_pinned(folder: Path, name: str) -> bool:
    """Whether a folder holds the weights to which a name is pinned; False when their hash is not known."""
    pin, weights = PINS.get(name, Pin()), folder / WEIGHTS_FILE
    return pin.sha256 is not None and weights.is_file() and _sha256(weights) == pin.sha256


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check(folder: Path, name: str, pin: Pin) -> None:
    """Raises ModelError when the weights are not the pinned ones."""
    weights = folder / WEIGHTS_FILE
    if pin.sha256 is None or not weights.is_file():
        return
    if (found := _sha256(weights)) != pin.sha256:
        raise ModelError(
            f"{weights} is not {name} at revision {pin.revision}: its SHA-256 is {found[:16]}... and should be "
            f"{pin.sha256[:16]}...; delete it and fetch it again."
        )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
