"""The check that a converted model computes what its source computes: their logits are compared when it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...errors import ModelError
from ..device import send
from ..transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The largest difference of logits that is allowed, in root mean squares of the source's logits. transformers computes
# norms, softmax and rotations in float32 whatever the dtype, so float64 comes no nearer than float32; in half precision
# every layer rounds in another order.
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.4}
_TOKENS = 32


@torch.no_grad()
def check_logits(model: Transformer, source: PreTrainedModel) -> float:
    """Compares the logits of one seeded random prompt, to find any option that the conversion has overlooked.

    Returns:
        The largest difference, in root mean squares of the source's logits.

    Raises:
        ModelError: the difference is larger than the dtype explains (see TOLERANCE).
    """
    length = min(_TOKENS, model.config.n_positions)
    tokens = torch.randint(model.config.d_vocab, (1, length), generator=torch.Generator().manual_seed(0))
    theirs = source(send(tokens, source.device), use_cache=False).logits.double().cpu()
    apart = (model(send(tokens, model.device)).double().cpu() - theirs).abs().max() / theirs.square().mean().sqrt()
    if not apart <= _TOLERANCE[source.dtype]:  # NaN is not
        raise ModelError(
            f"the conversion of this {type(source).__name__} is wrong: its logits are {apart:.1e} of their size from "
            f"the source's, and {source.dtype} explains {_TOLERANCE[source.dtype]:.0e}; please report its config.json."
        )
    return float(apart)
