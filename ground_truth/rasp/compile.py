"""RASP -> Tracr -> the weights of ``suite.model.transformer``. Needs the ``[tracr]`` extra; the runtime does not.

What has to be known of Tracr to get this right:

* ``RASPExpr._ids`` counts every expression ever made and ends up in the labels by which residual dimensions are sorted:
  it is reset before each program, so that a program's weights do not depend on what was compiled before.
* The unembedding is no parameter but a closure: it is rebuilt from the labels of the output basis.
* Token ids are the sorted order of the values, special tokens included, so BOS may well be id 0.
* Attention is scaled by the model-wide key size, not the head's own; there is no padding mask.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...suite.errors import ModelError, install_extra
from ...suite.model.transformer import Config, Transformer
from .programs import Program, Value

_BOS, PAD = "compiler_bos", "compiler_pad"


@dataclass(frozen=True)
class Compiled:
    """A compiled program.

    Args:
        config: the architecture.
        state: the state dict of ``Transformer(config, "split")``, float32.
        tokens: token values by id, special tokens included.
        bos, pad: ids of the special tokens.
        output_labels: output values by index of a categorical program; None for a numerical one.
        writers: for every node that writes anything, the names of the program's variables that it writes.
        dimensions: for every dimension of the residual stream, the name of the variable that it is a part of.
        residual: Tracr's own model, token ids [B, P] -> final residual stream float32 [B, P, d_model]. It runs one row
            at a time, as Tracr does: in larger batches JAX differs from itself by up to 4e-6 on these models.
    """

    config: Config
    state: dict[str, torch.Tensor]
    tokens: tuple[Value, ...]
    bos: int
    pad: int
    output_labels: tuple[Value, ...] | None
    writers: dict[str, list[str]]
    dimensions: tuple[str, ...]
    residual: Callable[[np.ndarray], np.ndarray]

    def model(self) -> Transformer:
        """The port, float32, with token and position embeddings as two input nodes."""
        model = Transformer(self.config, "split")
        model.load_state_dict(self.state)
        return model


def tracr_modules() -> tuple[Any, Any]:
    """Tracr's ``rasp`` and ``lib`` modules. Raises ModelError when the extra is not installed."""
    try:
        from tracr.compiler import lib
        from tracr.rasp import rasp
    except ModuleNotFoundError as missing:
        raise ModelError(
            f"compiling a RASP program needs Tracr, and {missing.name!r} is not installed; "
            f"install it: {install_extra('tracr')}."
        ) from missing
    return rasp, lib


def compile_program(program: Program) -> Compiled:
    """Compiles one of the programs of ``programs.py``."""
    rasp, lib = tracr_modules()
    rasp.RASPExpr._ids = itertools.count(1)
    return compile_rasp(program.build(rasp, lib), program.vocabulary, program.max_len, causal=program.causal)


def compile_rasp(sop: Any, vocabulary: Sequence[Value], max_len: int, *, causal: bool = False) -> Compiled:
    """Compiles any RASP program.

    Args:
        sop: the program, a ``tracr.rasp.rasp.SOp``.
        vocabulary: its tokens.
        max_len: the longest sequence, without BOS.
        causal: whether attention is causal.

    Raises:
        ModelError: a program that Tracr cannot compile, or a model unlike those that Tracr makes.
    """
    tracr_modules()
    from tracr.compiler import compiling

    try:
        assembled = compiling.compile_rasp_to_model(
            sop, set(vocabulary), max_len, causal=causal, compiler_bos=_BOS, compiler_pad=PAD
        )
    except (NotImplementedError, ValueError, TypeError, AttributeError, KeyError) as problem:
        raise ModelError(f"Tracr cannot compile this program: {_reason(problem)}") from problem

    parameters = {k: {n: np.array(w) for n, w in v.items()} for k, v in assembled.params.items()}
    encoding = assembled.input_encoder.encoding_map
    labels, columns = _output_columns(assembled, sop)
    return Compiled(
        config=_config(assembled.model_config, parameters, len(columns)),
        state=_state_dict(parameters, assembled.model_config.num_layers, columns),
        tokens=tuple(sorted(encoding, key=encoding.get)),
        bos=encoding[_BOS],
        pad=encoding[PAD],
        output_labels=labels,
        writers=_writers(parameters, assembled.model_config, assembled.residual_labels),
        dimensions=tuple(map(_variable, assembled.residual_labels)),
        residual=_residual(assembled),
    )


def _config(tracr: Any, parameters: dict, d_out: int) -> Config:
    if tracr.layer_norm or any(np.any(v["b"]) for k, v in parameters.items() if "b" in v):
        raise ModelError("this model has layer norm or biases, which compiled models do not have.")
    d_vocab, d_model = parameters["token_embed"]["embeddings"].shape
    return Config(
        n_layers=tracr.num_layers,
        n_heads=tracr.num_heads,
        d_model=d_model,
        d_head=tracr.key_size,
        d_mlp=tracr.mlp_hidden_size,
        d_vocab=d_vocab,
        d_out=d_out,
        n_positions=len(parameters["pos_embed"]["embeddings"]),
        norm="none",
        activation="relu",
        causal=bool(tracr.causal),
    )


def _state_dict(parameters: dict, n_layers: int, columns: list[int]) -> dict[str, torch.Tensor]:
    token, position = parameters["token_embed"]["embeddings"], parameters["pos_embed"]["embeddings"]
    state = {"embed": token, "pos_embed": position, "unembed": np.eye(token.shape[1])[:, columns]}
    for layer in range(n_layers):
        attention, mlp = f"transformer/layer_{layer}/attn", f"transformer/layer_{layer}/mlp"
        qkv = [parameters[f"{attention}/{part}"] for part in ("query", "key", "value")]
        state |= {
            f"blocks.{layer}.W_QKV": np.concatenate([part["w"] for part in qkv], axis=1),
            f"blocks.{layer}.b_QKV": np.concatenate([part["b"] for part in qkv]),
            f"blocks.{layer}.W_O": parameters[f"{attention}/linear"]["w"],
            f"blocks.{layer}.b_O": parameters[f"{attention}/linear"]["b"],
            f"blocks.{layer}.W_in": parameters[f"{mlp}/linear_1"]["w"],
            f"blocks.{layer}.b_in": parameters[f"{mlp}/linear_1"]["b"],
            f"blocks.{layer}.W_out": parameters[f"{mlp}/linear_2"]["w"],
            f"blocks.{layer}.b_out": parameters[f"{mlp}/linear_2"]["b"],
        }
    return {name: torch.from_numpy(np.ascontiguousarray(w, dtype=np.float32)) for name, w in state.items()}


def _reason(problem: Exception) -> str:
    """Tracr's reason as a sentence; where it averages it takes only numbers whose ``int`` is 0 or 1."""
    match problem.args:
        case (str(text), values) if text.startswith("Attention patterns can currently only average"):
            given = ", ".join(map(str, sorted(values)))
            return (
                f"an aggregate averages the numbers {given}, and Tracr averages only numbers above -1 and below 2, as "
                f"zeros and ones. Scale them into 0 to 1, average a map to 0 and 1 instead, or count with a selector "
                f"width."
            )
    return str(problem)


def _output_columns(assembled: Any, sop: Any) -> tuple[tuple[Value, ...] | None, list[int]]:
    """Output values (None when numerical), and the residual dimension of each output."""
    where = {label: i for i, label in enumerate(assembled.residual_labels)}
    encoder = assembled.output_encoder
    if not hasattr(encoder, "encoding_map"):
        return None, [where[sop.label]]
    values = tuple(sorted(encoder.encoding_map, key=encoder.encoding_map.get))
    return values, [where[f"{sop.label}:{value}"] for value in values]


def _writers(parameters: dict, tracr: Any, residual_labels: Sequence[str]) -> dict[str, list[str]]:
    variables = [_variable(label) for label in residual_labels]

    def named(weight: np.ndarray) -> list[str]:
        return sorted({variables[i] for i in np.abs(weight).max(0).nonzero()[0]})

    written = {"tok_embed": named(parameters["token_embed"]["embeddings"])}
    written["pos_embed"] = named(parameters["pos_embed"]["embeddings"])
    for layer in range(tracr.num_layers):
        rows = parameters[f"transformer/layer_{layer}/attn/linear"]["w"]
        for head, weight in enumerate(np.split(rows, tracr.num_heads)):
            written[f"a{layer}.h{head}"] = named(weight)
        written[f"m{layer}"] = named(parameters[f"transformer/layer_{layer}/mlp/linear_2"]["w"])
    return {node: names for node, names in written.items() if names}


def _variable(label: str) -> str:
    """The program's own name for a residual dimension: without the value it stands for and Tracr's running number."""
    name = label.split(":", 1)[0]
    width = re.fullmatch(r"(.*)_\d+_selector_width_attn_output", name)
    return f"1/(1+{width.group(1)})" if width else re.sub(r"_\d+$", "", name)


def _residual(assembled: Any) -> Callable[[np.ndarray], np.ndarray]:
    import jax

    forward = jax.jit(lambda tokens: assembled.forward(assembled.params, tokens).transformer_output.output)
    return lambda tokens: np.concatenate([np.asarray(forward(row[None])) for row in tokens.astype(np.int32)])
