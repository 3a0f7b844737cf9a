"""Methods by name on small models, with the defaults that tests share."""

from __future__ import annotations

from torch import Tensor

from circuitmeter.suite.circuit import Discovery
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS


def discover(
    name, model, data, *, ablation="patch", objective="logit-difference", seed=0, preset=None, **parameters
) -> Discovery:
    """What the named method finds, parameters being its preset's and then those given."""
    method = METHODS.get(name)
    return method.discover(
        model,
        data,
        ablation=Ablation.parse(ablation),
        objective=OBJECTIVES.get(objective),
        seed=seed,
        **method.resolve(parameters, preset),
    )


def scores(*given, **options) -> Tensor:
    """The scores alone, zero where no edge exists: [W, R]."""
    return discover(*given, **options).scores.values.nan_to_num()
