"""Whether a compiled model is right: equal to Tracr's own, and to what the program is specified to compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...suite.errors import ModelError
from ...suite.model.transformer import Transformer
from .compile import Compiled
from .domain import Domain
from .programs import Value

PORT_TOLERANCE = 2e-6  # largest difference from Tracr's own float32 model in any residual dimension
OUTPUT_TOLERANCE = 1e-5  # of numerical outputs from the specification


def check_port(compiled: Compiled, tokens: np.ndarray) -> float:
    """The largest difference between the port's and Tracr's residual stream, both float32, over token ids [B, P].

    Attention is computed step by step here, as JAX does; the fused kernel that the engine uses elsewhere rounds
    differently, and a selector width's steep MLP makes that visible in dimensions that are not outputs. The outputs
    are compared with both.

    Raises:
        ModelError: when it exceeds PORT_TOLERANCE.
    """
    inputs, theirs = torch.from_numpy(tokens), compiled.residual(tokens)
    unembed = compiled.state["unembed"]
    whole = Transformer(replace(compiled.config, d_out=len(unembed)), "split")
    whole.load_state_dict(compiled.state | {"unembed": torch.eye(len(unembed))})
    with sdpa_kernel(SDPBackend.MATH):
        residual = np.abs(whole(inputs).numpy() - theirs).max()
    outputs = np.abs(compiled.model()(inputs).numpy() - theirs @ unembed.numpy()).max()
    largest = float(max(residual, outputs))
    if largest > PORT_TOLERANCE:
        raise ModelError(
            f"the converted model differs from Tracr's by {largest:.2g}, which is more than {PORT_TOLERANCE:g}."
        )
    return largest


def check_specification(
    compiled: Compiled, domain: Domain, specification: Callable[[list[Value]], Sequence[Value]]
) -> None:
    """Every decoded output at the domain's read positions is the specified one.

    Raises:
        ModelError: naming the first input on which it is not.
    """
    with torch.no_grad():
        outputs = compiled.model()(torch.from_numpy(domain.tokens)).numpy()
    for tokens, read, row in zip(domain.tokens, domain.read, outputs, strict=True):
        sequence = [compiled.tokens[i] for i in tokens[1:] if i != compiled.pad]
        wanted = [None, *specification(sequence)]
        for position in read.nonzero()[0]:
            given = decode(row[position], compiled.output_labels)
            expected = wanted[position]
            right = given == expected if compiled.output_labels else abs(given - expected) <= OUTPUT_TOLERANCE
            if not right:
                raise ModelError(
                    f"on {sequence} the compiled model outputs {given!r} at position {position} "
                    f"where the specification says {expected!r}."
                )


def decode(outputs: np.ndarray, labels: Sequence[Value] | None) -> Value:
    """The value that outputs [d_out] stand for: the likeliest label, or the number itself."""
    return float(outputs[0]) if labels is None else labels[int(outputs.argmax())]
