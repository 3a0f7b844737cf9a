"""How many prompts a search on a CPU takes at a time where its sums are kept, so that little is lost with it.

The number follows from the model, the prompts and the cost that the method declares, and neither from a clock nor from
the number of threads: the same search has the same parts wherever it is started, and goes on from those of another.
"""

from __future__ import annotations

from ..data import Data
from ..intervention.evaluator import default_batch_size
from ..methods.cost import Cost
from ..model.transformer import Transformer

OPERATIONS = 2e11
"""Of a part: ten seconds of a core that multiplies matrices at 20 GFLOP/s, half a minute of a busy one."""

_OF_A_PASS = {"forward": 1, "cut": 1, "gradient": 3, "trained": 3}  # a backward pass costs two forward ones


def sums_gradients(cost: Cost | None) -> bool:
    """Whether a search is gradients summed over batches, of which the sums are kept: nothing is cut or trained."""
    return cost is not None and bool(cost.gradient) and not (cost.cut or cost.trained)


def prompts_of_a_part(cost: Cost, model: Transformer, data: Data) -> int:
    """The prompts of a part: about ``OPERATIONS``, and no more than fit in a batch.

    Args:
        cost: of the search on all prompts of ``data``.

    Returns:
        1 or more. On another device than a CPU, as many as fit in a batch, because small batches leave it idle.
    """
    fit = default_batch_size(model, data.clean.shape[1])
    if model.device.type != "cpu":
        return fit
    weights = sum(parameter.numel() for parameter in model.parameters())
    tokens = float(data.lengths.double().mean())
    passes = sum(share * getattr(cost, kind) for kind, share in _OF_A_PASS.items())
    of_a_prompt = 2 * weights * tokens * passes / data.n
    return max(1, min(fit, int(OPERATIONS / of_a_prompt))) if of_a_prompt else fit
