"""What ``stability`` measures of a method: its variants over each kind of change, its circuit on held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import CircuitMeterError, Undefined

if TYPE_CHECKING:
    from ..circuit import EdgeScores
    from ..intervention.ablation import Ablation
    from ..intervention.objective import Objective
    from ..methods import Method
    from ..plan.subject import Subject
    from ..scoring.structure.stability import Stability
    from ..scoring.structure.stability_card import MethodStability, PairOfMethods, PromptByPrompt

MethodMeasured: TypeAlias = "tuple[MethodStability, tuple[Stability, np.ndarray] | None]"
"""The card's entry of a method, and its resamples of prompts with their counts."""


def method_stability(
    on: Subject,
    name: str,
    method: Method,
    parameters: Mapping[str, Any],
    search: tuple[Ablation, Objective],
    over: Sequence[str],
    size: tuple[Sequence[int], int],
    amounts: tuple[int, int, int],
) -> MethodMeasured:
    """The card's entry of a method, and its resamples of prompts with their counts where they were asked for.

    Args:
        name: what the method is called.
        size: the sizes of the curve, and the one of which inclusion and recovery are told.
        amounts: resamples, runs, seed.
    """
    from ..json_model import plain
    from ..scoring.structure.circuit_change import (
        area_of,
        circuit_change,
        over_resamples,
        precision_of,
        scores_from_flat,
    )
    from ..scoring.structure.stability import stability, top_edges
    from ..scoring.structure.stability_card import CircuitChange, MethodStability

    sizes, main = size
    resamples, runs, seed = amounts
    by_prompt, whole = _scores(on, method, parameters, search, over, seed)
    truth, graph = on.reference(search[0]), on.model.graph
    templates = None if on.data.templates is None else on.data.templates.numpy()
    changes: dict[str, CircuitChange] = {}
    kept = None
    for what in over:
        try:
            if by_prompt is not None and what in ("prompts", "templates"):
                found, counts = over_resamples(by_prompt, templates, sizes, over=what, resamples=resamples, seed=seed)
                kept = (found, counts) if what == "prompts" else kept
            else:
                found = stability(_rerun(on, method, parameters, search, what, runs, seed), whole, sizes)
        except CircuitMeterError as error:
            changes[what] = CircuitChange(undefined=str(error))
            continue
        changes[what] = circuit_change(found, graph, main, truth)
    own = {}
    if truth is not None:
        chosen = top_edges(np.abs(whole)[None], main)[0]
        own = {"auroc": area_of(graph, whole, truth), "precision": precision_of(chosen, truth)}
    entry = MethodStability(
        method=name,
        parameters=plain(parameters),
        over=changes,
        **own,
        prompt_by_prompt=prompt_by_prompt(on, scores_from_flat(graph, whole), main, search),
    )
    return entry, kept


def _scores(
    on: Subject,
    method: Method,
    parameters: Mapping[str, Any],
    search: tuple[Ablation, Objective],
    over: Sequence[str],
    seed: int,
) -> tuple[np.ndarray | None, np.ndarray]:
    """(the scores of each prompt [N, E] where they are needed, the method's scores [E])."""
    ablation, objective = search
    given = {"ablation": ablation, "objective": objective, "seed": seed, **parameters}
    if {"prompts", "templates"} & set(over):
        by_prompt = method.scores_by_prompt(on.model, on.data, **given).numpy()
        return by_prompt, by_prompt.mean(0)
    truth = on.reference(ablation)
    return None, method.discover(on.model, on.data, truth=truth, **given).scores.flat()


def rerun_with(
    method: Method, parameters: Mapping[str, Any], ablation: Ablation, what: str, runs: int
) -> list[dict[str, Any]]:
    """The parameters of each search that a kind of change asks for; none where resamples of one search are enough.

    Raises:
        Undefined: nothing changes from run to run.
    """
    if what == "seeds" and not (method.stochastic or ablation.stochastic):
        raise Undefined(f"{method.name} under {ablation} draws nothing by chance")
    if what == "parameters":
        return [{**parameters, **preset} for preset in ({}, *method.presets.values())]
    return [dict(parameters)] * runs if what in ("seeds", "order") else []


def _rerun(
    on: Subject,
    method: Method,
    parameters: Mapping[str, Any],
    search: tuple[Ablation, Objective],
    what: str,
    runs: int,
    seed: int,
) -> np.ndarray:
    """The scores of several runs [B, E]. Raises Undefined where nothing changes from run to run."""
    import torch

    ablation, objective = search
    given_to = rerun_with(method, parameters, ablation, what, runs)
    changes: list[dict[str, Any]] = [{"parameters": each} for each in given_to]
    if what == "seeds":
        changes = [change | {"seed": seed + i} for i, change in enumerate(changes)]
    if what == "order":
        for i, change in enumerate(changes):
            order = torch.randperm(on.data.n, generator=torch.Generator().manual_seed(seed + i))
            change["data"] = on.data.select(order)
    found = []
    for change in changes:
        given = {**change["parameters"], "seed": change.get("seed", seed)}
        truth = on.reference(ablation)
        scores = method.discover(
            on.model,
            change.get("data", on.data),
            ablation=ablation,
            objective=objective,
            truth=truth,
            **given,
        ).scores.flat()
        found.append(scores)
    if len(found) < 2:
        raise Undefined(f"{method.name} has one {'set of parameters' if what == 'parameters' else 'run'} here")
    return np.stack(found)


def prompt_by_prompt(on: Subject, scores: EdgeScores, size: int, search: tuple[Ablation, Objective]) -> PromptByPrompt:
    """The circuit's faithfulness on each prompt: quantiles, and the share of prompts below one half.

    The prompts are the task's test prompts, or those of the search where it has none.
    """
    from ..circuit import top_n
    from ..intervention.faithfulness import measure_circuits
    from ..intervention.setting import Cut
    from ..scoring.structure.stability_card import PromptByPrompt

    ablation, objective = search
    held_out = on.held_out
    measured = measure_circuits(on.model, held_out or on.data, [top_n(scores, size)], Cut(ablation), objective)
    if reason := measured.undefined("cut-graph"):
        return PromptByPrompt(undefined=reason)
    nothing = measured.reference("cut-graph")
    ratios = ((measured.circuits[0] - nothing) / (measured.full - nothing)).numpy()
    ratios = np.sort(ratios[np.isfinite(ratios)])
    return PromptByPrompt(
        faithfulness=float(measured.faithfulness()[0]),
        quantiles={f"{q:g}": float(np.quantile(ratios, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        below_half=float((ratios < 0.5).mean()),
        prompts=len(ratios),
        split="train" if held_out is None else "test",
    )


def pairs_of_methods(
    resamples: Mapping[str, tuple[Stability, np.ndarray] | None], size: tuple[Sequence[int], int]
) -> tuple[PairOfMethods, ...]:
    """Each two methods' difference in the Jaccard index over prompts at the card's size, with a paired interval."""
    from ..scoring.structure.stability import difference
    from ..scoring.structure.stability_card import PairOfMethods

    at = list(size[0]).index(size[1])
    known = {name: each for name, each in resamples.items() if each is not None}
    found = []
    for first, second in combinations(known, 2):
        (one, counts), (other, _) = known[first], known[second]
        gap, low, high = difference(_only(one, at), _only(other, at), counts)[0]
        found.append(PairOfMethods(first=first, second=second, difference=gap, low=low, high=high))
    return tuple(found)


def _only(found: Stability, at: int) -> Stability:
    return replace(found, pairs=found.pairs[at : at + 1])
