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

PORT_TOLERANCE = 2e-6  # largest difference of an output from that of Tracr's own float32 model
# The same in any residual dimension. A selector width adds up hidden values of up to 83, where float32 steps by 7.6e-6,
# and processors add in different orders: JAX itself is 8.4e-6 from float64 there (sort_freq).
RESIDUAL_TOLERANCE = 1e-5
_OUTPUT_TOLERANCE = 1e-5  # of numerical outputs from the specification


def check_port(compiled: Compiled, tokens: np.ndarray) -> float:
    """The largest difference between the port's and Tracr's outputs, both float32, over token ids [B, P].

    The residual stream is compared, too, with attention computed step by step, as JAX does; the fused kernel that the
    engine uses elsewhere rounds differently, and a selector width's steep MLP makes that visible in dimensions that
    are not outputs. The outputs are compared with both.

    Raises:
        ModelError: when it exceeds PORT_TOLERANCE, or the stream's RESIDUAL_TOLERANCE.
    """
    inputs, theirs = torch.from_numpy(tokens), compiled.residual(tokens)
    unembed = compiled.state["unembed"]
    whole = Transformer(replace(compiled.config, d_out=len(unembed)), "split")
    whole.load_state_dict(compiled.state | {"unembed": torch.eye(len(unembed))})
    with sdpa_kernel(SDPBackend.MATH):
        residual = whole(inputs).numpy()
    unembed = unembed.numpy()
    both = (residual @ unembed, compiled.model()(inputs).numpy())
    output = max(float(np.abs(outputs - theirs @ unembed).max()) for outputs in both)
    differences = {"outputs": (output, PORT_TOLERANCE)}
    differences["residual stream"] = (float(np.abs(residual - theirs).max()), RESIDUAL_TOLERANCE)
    for what, (difference, tolerance) in differences.items():
        if difference > tolerance:
            raise ModelError(
                f"the converted model's {what} differs from Tracr's by {difference:.2g}, more than {tolerance:g}."
            )
    return output


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
            right = given == expected if compiled.output_labels else abs(given - expected) <= _OUTPUT_TOLERANCE
            if not right:
                raise ModelError(
                    f"on {sequence} the compiled model outputs {given!r} at position {position} "
                    f"where the specification says {expected!r}."
                )


def decode(outputs: np.ndarray, labels: Sequence[Value] | None) -> Value:
    """The value that outputs [d_out] stand for: the likeliest label, or the number itself."""
    return float(outputs[0]) if labels is None else labels[int(outputs.argmax())]
