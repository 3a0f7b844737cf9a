"""On which prompts it is measured what a model does, and the key under which a store keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..scoring.behaviour import PROMPTS, why_no_behaviour
from ..store.record import BehaviourIdentity
from .subject import Subject, limit_prompts

if TYPE_CHECKING:
    from ..data import Data
    from .evaluation import Evaluation

BEHAVIOUR_VERSION = 1  # raised when a behaviour that older stores hold would come out otherwise


def behaviour_data(on: Subject, evaluation: Evaluation | None) -> Data:
    """The prompts on which a model's behaviour is measured: those that circuits are evaluated on, else the search's."""
    return on.data if evaluation is None else limit_prompts(on.task.data(evaluation.split), evaluation.prompts)


def behaviour_of(on: Subject, evaluation: Evaluation | None) -> BehaviourIdentity | str:
    """What is to be measured of a subject's model; or why that has no meaning, as for a task without wrong answers."""
    data = behaviour_data(on, evaluation)
    if reason := why_no_behaviour(data, on.model.config):
        return reason
    weights = on.model.weights_hash
    return BehaviourIdentity(
        behaviour_version=BEHAVIOUR_VERSION, data=data.hash, weights=weights, prompts=min(PROMPTS, data.n)
    )
