"""Methods by name on small models, with the defaults that tests share."""

from __future__ import annotations

from torch import Tensor

from circuitmeter.suite.circuit import Discovery
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS

AT_THE_CLEAN_RUN = {"atp-star", "eap", "gim", "hisp", "peap", "relp"}  # where a divergence has no gradient
FEW_STEPS = {
    "acdc": {"thresholds": [0.01]},
    "discogp": {"weight_epochs": 2, "edge_epochs": 2},
    "edge-pruning": {"steps": 4, "targets": [0.5]},
    "ibcircuit": {"steps": 4},
    "subnetwork-probing": {"steps": 4},
    "ugs": {"steps": 4},
}
"""Parameters with which a test of a method takes less than a second."""


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
