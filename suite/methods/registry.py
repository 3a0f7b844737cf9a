"""What a method is: a function and its declarations. What the function returns is checked."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit, NodeScores, Reference
from ..data import Data
from ..errors import MethodError, SpecError, Undefined, unknown
from ..intervention.ablation import Ablation, searchable
from ..intervention.objective import Objective
from ..model.graph import Graph
from ..model.position_graph import PositionGraph
from ..model.position_transformer import PositionTransformer
from ..model.transformer import Config, Transformer
from ..reading import shown
from ..registry import METHODS_GROUP, Registry
from ..users_file import file_and_name, imported
from .cost import Cost, PassesOf
from .source_code import SourceCode

# The features through which ``capture.contract`` carries gradients, and the kinds of nodes that models have.
BY_GRADIENTS = frozenset({"layer norm", "rms norm", "q/k norm", "joint q/k norm", "post norm", "caps", "windows"})
NODE_KINDS = frozenset({"input", "head", "mlp", "logits"})
SEARCHABLE = searchable()
LARGEST = 2**31 - 1  # the largest value of a parameter
_FIXED = ("model", "data", "ablation", "objective", "seed", "seeds", "truth")
# The types of parameters' defaults, a bool before an int because it is one, and what a value must be.
_KINDS: dict[type | tuple[type, ...], str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    (list, tuple): "a list",
}


@dataclass(frozen=True)
class Method:
    """A discovery method and its declarations.

    Args:
        name: as on the command line.
        function: ``discover(model, data, *, ablation, objective, seed, <its own parameters>)``; one that takes
            ``seeds`` instead runs several at once, at little more than the cost of one, and returns a discovery each.
        paper: authors, year, arXiv number.
        needs: any of ``gradients``, ``counterfactuals``, ``truth``, ``distribution`` (more than one output unit), and
            ``one run a prompt`` (no answers of several tokens).
        ablations: the ablation values for which the method has a meaning.
        objectives: ``any``; ``differentiable at clean``, which excludes divergences from the clean run, because their
            gradient there is zero; ``divergence``, which excludes all others, because they have no minimum at faithful
            circuits; or None for methods that use no objective.
        presets: named sets of parameters. The paper's values are the defaults of the signature.
        cost: the number of passes, in words.
        passes: computes the cost (see cost.py); None when it is not known, as for a user's function.
        stochastic: whether the seed changes the scores.
        exact_for: the features of the engine (``FEATURES`` of block.py) for which the method has a rule; ``any`` for a
            method that only runs the model, cut or whole, and so needs no rules. On a model with another feature the
            method is undefined.
        nodes: the kinds of nodes that the method can score; ``any`` for a method that scores every kind alike.
        may_be_zero: parameters that are counts, and may be 0 although the default is above 0.
        per_prompt: whether the scores are means over prompts of scores that the method can also give by prompt.
        by_position: whether the method scores edges at single positions where a graph tells them apart. Any other
            method searches the graph without positions, and an edge has its score at every position.
        cost_only: parameters that change what a run costs but no score, such as how many prompts go in a batch.
        code: the code of which the version is the hash; a text is the version itself.
    """

    name: str
    function: Callable[..., Any]
    paper: str
    needs: frozenset[str] = frozenset()
    ablations: frozenset[str] = SEARCHABLE
    objectives: Literal["any", "differentiable at clean", "divergence"] | None = "any"
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost: str = ""
    stochastic: bool = False
    cost_only: frozenset[str] = frozenset()
    code: SourceCode | str = ""
    exact_for: frozenset[str] | Literal["any"] = "any"
    nodes: frozenset[str] | Literal["any"] = "any"
    may_be_zero: frozenset[str] = frozenset()
    passes: PassesOf | None = None
    per_prompt: bool = False
    by_position: bool = False

    @property
    def version(self) -> str:
        """16 hex digits of the code, so that results of an edited method are not taken for those of the old one."""
        return self.code if isinstance(self.code, str) else self.code.hash

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> dict[str, Any]:
        """The method's own parameters with their defaults; ``...`` for a parameter without a default."""
        own = [p for name, p in inspect.signature(self.function).parameters.items() if name not in _FIXED]
        return {p.name: ... if p.default is p.empty else p.default for p in own if p.kind is not p.VAR_KEYWORD}

    def runs_together(self, ablation: Ablation) -> bool:
        """Whether several seeds run at once; they cannot under an ablation that draws by the seed."""
        return "seeds" in inspect.signature(self.function).parameters and not ablation.stochastic

    def resolve(self, given: Mapping[str, Any], preset: str | None = None) -> dict[str, Any]:
        """All parameters: the defaults, overridden by the preset's, overridden by ``given``.

        Raises:
            SpecError: an unknown preset or parameter, a value of another type than the default, or a missing value.
        """
        presets = {"paper": {}, **self.presets}
        if preset is not None and preset not in presets:
            raise SpecError(f"{self.name}: {unknown('preset', preset, presets)}")
        resolved = {**self.parameters, **presets.get(preset or "paper", {})}
        for name, value in given.items():
            if name not in resolved:
                raise SpecError(f"{self.name}: {unknown('parameter', name, resolved)}")
            resolved[name] = self._typed(name, value, self.parameters[name])
        missing = [name for name, value in resolved.items() if value is ...]
        if missing:
            raise SpecError(f"{self.name}: no value for {', '.join(missing)}; set each with {missing[0]}=VALUE.")
        try:
            json.dumps(resolved)
        except TypeError as error:
            raise SpecError(f"{self.name}: parameters must be numbers, texts or lists ({error}).") from None
        return resolved

    def cost_of(self, graph: Graph, prompts: int, parameters: Mapping[str, Any]) -> Cost | None:
        """The cost of a search on a model with this graph; ``None`` when the method declares no cost."""
        return None if self.passes is None else self.passes(graph, prompts, {**self.parameters, **parameters})

    def cost_only_under(self, ablation: Ablation) -> frozenset[str]:
        """``cost_only``; empty under an ablation that is a mean over the batch, where the batch size changes scores."""
        return frozenset() if ablation.over_batch else self.cost_only

    def _typed(self, name: str, value: Any, default: Any) -> Any:
        kind = next((kind for kind in _KINDS if isinstance(default, kind)), None)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
            raise SpecError(f"{self.name}: {name} = {shown(value)} is not {_KINDS[kind]} (default {default!r}).")
        for number in value if isinstance(value, list | tuple) else (value,):
            self._check_number(name, number, default)
        return value

    def _check_number(self, name: str, value: Any, default: Any) -> None:
        """Raises SpecError for a number that is not finite or too large, and for a count below its least value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        least = -LARGEST
        if isinstance(value, int) and not isinstance(default, float):  # a count: of steps, of prompts in a batch
            least = 1 if isinstance(default, int) and default > 0 and name not in self.may_be_zero else 0
        if not least <= value <= LARGEST:
            raise SpecError(f"{self.name}: {name} = {shown(value)} is not between {least:,} and {LARGEST:,}.")

    def undefined(self, ablation: Ablation, objective: Objective | None, data: Data, config: Config) -> str | None:
        """The reason why the method is undefined for an ablation, objective, task and model; None when it is
        defined."""
        if ablation.value not in self.ablations:
            return f"{self.name} does not define the {ablation} ablation (it has: {', '.join(sorted(self.ablations))})"
        if reason := ablation.undefined(data):
            return reason
        if "counterfactuals" in self.needs and data.counterfactual is None:
            return f"{self.name} needs counterfactual prompts{data.without_pairs}"
        if "one run a prompt" in self.needs and data.several_tokens:
            why = "an answer of several tokens has a run of its own"
            return f"{self.name} takes the size of each prompt's scores, and {why}"
        if "distribution" in self.needs and config.d_out < 2:
            return f"{self.name} needs a distribution over outputs and the model's output is one number"
        lacking = sorted(config.features - self.exact_for) if self.exact_for != "any" else []
        if lacking:
            return f"{self.name} has no rule for {' or '.join(lacking)}, which the model has"
        if objective is None or self.objectives is None:
            return None
        if "gradients" in self.needs and not objective.differentiable:
            return f"{self.name} needs gradients, which {objective.name} does not have; it is for evaluation"
        if self.objectives == "divergence" and not objective.divergence:
            return (
                f"{self.name} searches for a circuit that is like the whole model, and by {objective.name} a circuit "
                f"may be better than the model; use kl or l2, which are smallest where the two are equal"
            )
        if self.objectives == "differentiable at clean" and objective.divergence:
            return (
                f"{self.name} takes the gradient at the clean run, where that of {objective.name} is zero on every "
                f"edge; use eap-ig, or an objective like answer-difference or logit-difference"
            )
        return objective.undefined(data, config)

    def discover(
        self,
        model: Transformer,
        data: Data,
        *,
        ablation: Ablation,
        objective: Objective | None,
        seed: int = 0,
        truth: Reference | None = None,
        **parameters: Any,
    ) -> Discovery:
        """Runs the method and checks what it returns.

        Raises:
            Undefined: the method is undefined here (see ``undefined``), or needs a truth and is given none.
            MethodError: the scores are not a mapping, EdgeScores or Discovery, name an unknown edge, or are NaN.
        """
        return self.discover_each(
            model, data, ablation=ablation, objective=objective, seeds=(seed,), truth=truth, **parameters
        )[0]

    def scores_by_prompt(
        self,
        model: Transformer,
        data: Data,
        *,
        ablation: Ablation,
        objective: Objective | None,
        seed: int = 0,
        **parameters: Any,
    ) -> torch.Tensor:
        """The scores of each prompt alone, float64 [N, E], with the E edges in the order of ``graph.edges``.

        Their mean over prompts is what ``discover`` finds. An ablation that uses other prompts (means) uses all of
        ``data``.

        Raises:
            Undefined: the method has no scores by prompt, or none with these parameters, as when it scores nodes; or
                ``discover`` raises it.
        """
        from ._attribution import prompts_kept_apart

        if not self.per_prompt:
            raise Undefined(f"{self.name} has no scores of each prompt: it searches on all of them together.")
        with prompts_kept_apart() as kept:
            self.discover(model, data, ablation=ablation, objective=objective, seed=seed, **parameters)
        if not kept:
            raise Undefined(f"{self.name} has no scores of each prompt with these parameters.")
        scores = torch.empty(data.n, model.graph.n_edges, dtype=torch.float64)
        for rows, found in kept:
            scores[rows] = self._at_positions(model.graph, found)[:, model.graph.exists]
        return scores

    def _at_positions(self, graph: Graph, found: torch.Tensor) -> torch.Tensor:
        """Scores [..., W, R] of the graph that the method searched, on ``graph``."""
        if isinstance(graph, PositionGraph) and not self.by_position:
            return graph.at_every_position(found)
        return found

    def discover_each(
        self,
        model: Transformer,
        data: Data,
        *,
        ablation: Ablation,
        objective: Objective | None,
        seeds: Sequence[int],
        truth: Reference | None = None,
        **parameters: Any,
    ) -> tuple[Discovery, ...]:
        """What ``discover`` finds with each seed; the seeds run together where the method can. Raises as it does."""
        if isinstance(model, PositionTransformer) and not self.by_position:
            given = {"ablation": ablation, "objective": objective, "seeds": seeds, "truth": truth, **parameters}
            return tuple(
                _at_every_position(each, model.graph) for each in self.discover_each(model.whole, data, **given)
            )
        if reason := self.undefined(ablation, objective, data, model.config):
            raise Undefined(f"{reason}.")
        other = sorted({group.kind for group in model.graph.groups} - self.nodes) if self.nodes != "any" else []
        if other:
            raise Undefined(f"{self.name} has no rule for nodes of the kind {' or '.join(other)}.")
        if "truth" in self.needs:
            if truth is None:
                raise Undefined(f"{self.name} needs a certified truth under {ablation}, which this task does not have.")
            parameters["truth"] = truth
        given = {"ablation": ablation, "objective": objective, **parameters}
        if self.runs_together(ablation):
            found = self.function(model, data, seeds=tuple(seeds), **given)
        elif "seeds" in inspect.signature(self.function).parameters:
            found = [each for seed in seeds for each in self.function(model, data, seeds=(seed,), **given)]
        else:
            found = [self.function(model, data, seed=seed, **given) for seed in seeds]
        try:
            return tuple(_as_discovery(each, model.graph) for each in found)
        except MethodError as error:
            raise type(error)(f"{self.name}: {error}") from None


def _at_every_position(found: Discovery, graph: PositionGraph) -> Discovery:
    """What was found on the graph without positions: an edge has its score, and is in a circuit, at every position."""
    circuits = tuple(
        NativeCircuit(native.label, Circuit(graph, graph.at_every_position(native.circuit.edges)))
        for native in found.circuits
    )
    scores = EdgeScores(graph, graph.at_every_position(found.scores.values))
    return Discovery(scores, circuits, {**found.diagnostics, "positions": "alike"})


def _as_discovery(found: Any, graph: Graph) -> Discovery:
    if isinstance(found, Mapping):
        of_nodes = bool(found) and not any("->" in str(name) for name in found)
        found = (NodeScores if of_nodes else EdgeScores).from_mapping(graph, found)
    if isinstance(found, NodeScores):
        found = Discovery(found.edges(), diagnostics={"scores_of": "nodes"})
    if isinstance(found, torch.Tensor):
        found = EdgeScores(graph, found)
    if isinstance(found, EdgeScores):
        found = Discovery(found)
    if not isinstance(found, Discovery):
        raise MethodError(
            f"it returned {type(found).__name__}; return a mapping from edge or node name to float, "
            f"EdgeScores, NodeScores, or Discovery."
        )
    if found.scores.graph != graph:
        raise MethodError(f"it returned scores of another graph ({found.scores.graph}) than the model's ({graph}).")
    return found


METHODS: Registry[Method] = Registry("method", group=METHODS_GROUP)


def method(
    name: str,
    *,
    paper: str,
    needs: frozenset[str] | set[str] = frozenset(),
    ablations: frozenset[str] | set[str] = SEARCHABLE,
    objectives: Literal["any", "differentiable at clean", "divergence"] | None = "any",
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    cost: str = "",
    stochastic: bool = False,
    cost_only: frozenset[str] | set[str] = frozenset(),
    exact_for: frozenset[str] | Literal["any"] = "any",
    nodes: frozenset[str] | Literal["any"] = "any",
    may_be_zero: frozenset[str] | set[str] = frozenset(),
    code: SourceCode | str | None = None,
    passes: PassesOf | None = None,
    per_prompt: bool = False,
    by_position: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a discovery function, which is returned unchanged.

    Args: see Method; ``code`` is by default that of the file in which the function is written.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        METHODS.add(
            name,
            Method(
                name,
                function,
                paper,
                frozenset(needs),
                frozenset(ablations),
                objectives,
                presets or {},
                cost,
                stochastic,
                frozenset(cost_only),
                code or SourceCode(Path(inspect.getsourcefile(function) or "")),
                exact_for,
                nodes,
                frozenset(may_be_zero),
                passes,
                per_prompt,
                by_position,
            ),
        )
        return function

    return register


def load_user_method(where: str) -> Method:
    """The method ``FILE.py:FUNCTION``; a function decorated with ``@method`` keeps its declarations.

    Its version is that of the file alone; ``plan.names.load_file`` adds what the file imports from its folder.

    Raises:
        MethodError: the file or the function does not exist, or the file cannot be imported.
    """
    path, name = file_and_name(where, "method", MethodError)
    code = SourceCode(path)
    called = f"circuitmeter_user_{code.hash}"
    with METHODS.aside() as registered:
        module = imported(path, called, MethodError)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [
            key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == called
        ]
        raise MethodError(f"{path}: {unknown('function', name, functions)}")
    its = next((each for each in registered.values() if each.function is function), None)
    _check_signature(path, name, function, its.needs if its else frozenset())
    if its:
        return replace(its, code=code)
    return Method(where, function, "the user's own", cost="not stated", code=code)


def _check_signature(path: Path, name: str, function: Callable[..., Any], needs: Collection[str]) -> None:
    """Raises MethodError when a user's function cannot be called as ``Method.discover`` calls methods."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C state none
        return
    seeds = "seeds" if "seeds" in signature.parameters else "seed"
    given = dict.fromkeys(("ablation", "objective", seeds, *(["truth"] if "truth" in needs else [])))
    try:
        signature.bind(None, None, **given)
    except TypeError as error:
        code = getattr(inspect.unwrap(function), "__code__", None)
        line = f", line {code.co_firstlineno}" if code else ""
        raise MethodError(
            f"{path}{line}: {name}{signature} cannot be called as a method is: {error}; write "
            f"`def {name}(model, data, *, {', '.join(given)})`, and give parameters of your own defaults."
        ) from None
