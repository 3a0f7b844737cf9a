"""EAP with integrated gradients: Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806."""

from __future__ import annotations

import torch
from torch import Tensor

from ..circuit import Discovery, EdgeScores
from ..data import Data
from ..errors import SpecError, Undefined
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..model.capture import Gradients
from ..model.graph import Graph, Key
from ..model.passes import spend
from ..model.transformer import Transformer
from ._attribution import BOTH, ENDPOINTS, Prompts, check_choices, induced, mean_scores, mean_values, points_of_path
from .cost import Cost
from .registry import BY_GRADIENTS, method

_LEVELS = ("edge", "node", "neuron")
_PATHS = ("inputs", "activations", "activations-all", "clean-corrupted", "masks")


def _cost(graph: Graph, prompts: int, path: str, steps: int, endpoint: str, **_: object) -> Cost:
    if path == "clean-corrupted":
        return Cost(forward=2 * prompts, gradient=2 * prompts)
    if path == "masks":
        return Cost(forward=2 * prompts, gradient=(steps + (endpoint == BOTH)) * prompts)
    paths = 1 if path == "inputs" else 1 + graph.n_layers * (1 + graph.mlps)
    return Cost(forward=2 * prompts, gradient=steps * paths * prompts)


@method(
    "eap-ig",
    paper="Hanna et al. 2024, arXiv:2403.17806",
    needs={"gradients"},
    presets={
        "reference-code": {"endpoint": "left"},
        "reference-code-activations": {"path": "activations-all", "endpoint": "right"},
        "activations": {"path": "activations", "endpoint": "right"},
        "clean-corrupted": {"path": "clean-corrupted"},
        "node": {"level": "node"},
        "neuron": {"level": "neuron"},
        "auto-circuit": {"path": "masks", "steps": 50, "endpoint": BOTH},
        "quick": {"steps": 5, "endpoint": "midpoint"},
    },
    cost="2 forward, and steps x (1 forward, 1 backward) with path inputs; times 1 + layers x (heads, MLP) with path "
    "activations; 2 forward, 2 backward with clean-corrupted; with path masks each pass is a cut one",
    cost_only={"batch_size"},
    exact_for=BY_GRADIENTS,
    passes=lambda graph, n, given: _cost(graph, n, **given),
    per_prompt=True,
)
def discover(
    model: Transformer,
    data: Data,
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int,
    path: str = "inputs",
    steps: int = 5,
    endpoint: str = "right",
    level: str = "edge",
    neurons: int = 100,
    batch_size: int = 0,
) -> EdgeScores | Discovery:
    """EAP with the gradient averaged along a straight path from the alternative to the clean run.

    score(w, r) = mean over examples and k of <alternative_w - clean_w, d loss / d input_r at z(a_k)>,
    z(a) = alternative + a (clean - alternative)

    Args:
        path: what moves from the alternative to the clean run.
            ``inputs``: z is what the input nodes write (EAP-IG).
            ``activations``: for the edges of each writer, z is what the group of the writer writes (the input nodes,
            all heads of a layer, or its MLP), and what comes before is clean (integrated gradients of Marks et al.
            2024).
            ``activations-all``: as the released code computes under that name, for each edge the average over the
            paths of all groups, whichever the edge belongs to. Under mean ablation the released code interpolates to
            zero; here the end is the mean.
            ``clean-corrupted``: the two ends of ``inputs`` alone, with equal weights.
            ``masks``: all edges at once, each of which carries alternative + a (what its writer writes in the run -
            alternative). This is the integrated mask gradient of auto-circuit (``mask_gradient_prune_scores``, preset
            ``auto-circuit``). The scores of all edges sum to the difference of the losses.
        steps: m, the number of points; ``clean-corrupted`` does not use it.
        endpoint: the values of a_k, for k = 0 .. m-1: ``right`` (k+1)/m, as in the paper's equation; ``left`` k/m, as
            in the released code with ``inputs``; ``midpoint`` (k+1/2)/m, whose error falls with 1/m^2; ``both`` k/m,
            for k = 0 .. m.
        level: what is scored.
            ``edge``: edges, as above.
            ``node``: nodes, by <alternative - clean, averaged gradient at what the node writes>, which is the sum over
            the edges out of the node; an edge has the smaller absolute score of its two ends. This is MIB's method for
            nodes (arXiv:2504.13151); the code that MIB pins takes the gradient of an MLP at the input of the MLP.
            ``neuron``: each dimension of what a node writes to the residual stream, by the same product; the pinned
            code calls these dimensions neurons. The node has the largest absolute score of its neurons, because a node
            is in a circuit of that code as soon as one of its neurons is. For the path ``inputs`` alone.
            With ``node`` and ``neuron`` the input nodes and the logits always stay: an edge at one of them has the
            absolute score of its other end, and an edge between two of them the largest of all.
        neurons: how many neurons the diagnostics list with their scores, as ``m1.n17``, those of largest size first.
        batch_size: prompts at a time; 0 chooses it. Scores do not depend on it.

    Raises:
        SpecError: there are no steps, a path, endpoint or level is unknown, or neurons are asked for on another path.
        Undefined: neurons are asked for, and the nodes of the model are features.
    """
    check_choices("eap-ig", level=(level, _LEVELS))
    if steps < 1 or endpoint not in (*ENDPOINTS, BOTH) or path not in _PATHS:
        raise SpecError(
            f"eap-ig: path={path!r}, steps={steps}, endpoint={endpoint!r}; give one of {[*_PATHS]}, steps of 1 or "
            f"more, and one of {[*ENDPOINTS, BOTH]}."
        )
    shares = [0.0, 1.0] if path == "clean-corrupted" else points_of_path(steps, endpoint)
    if level == "neuron":
        if path != "inputs":
            raise SpecError(f"eap-ig: level=neuron is for path=inputs, and path is {path}.")
        if model.reads_apart:
            raise Undefined("eap-ig: level=neuron has no meaning where features stand in the place of components.")
        found = mean_values(
            model, data, ablation, objective, seed, batch_size, lambda prompts: neuron_products(prompts, shares)
        )
        return of_neurons(model.graph, found, neurons)

    def of_batch(prompts: Prompts) -> Tensor:
        found = along_path(prompts, path, shares)
        # An edge between two nodes has no score of one prompt.
        return found.sum(0) if level == "node" and found.ndim == 3 else found

    by_edge = mean_scores(model, data, ablation, objective, seed=seed, batch_size=batch_size, of_batch=of_batch)
    return by_edge if level == "edge" else by_smaller_node(by_edge)


def along_path(prompts: Prompts, path: str, shares: list[float]) -> Tensor:
    """Scores of the edges of a batch [W, R] (or of each prompt), averaged over the points of the path."""
    if path in ("inputs", "clean-corrupted"):
        return prompts.integrated(shares)
    if path == "masks":
        return sum(_at_masks(prompts, a) for a in shares) / len(shares)
    return _along_activations(prompts, shares, own=path == "activations")


def by_smaller_node(found: EdgeScores) -> EdgeScores:
    """Gives each edge the smaller absolute score of its two ends; a node's score is the sum over the edges out of
    it."""
    return _by_smaller_size(found.graph, found.values.nan_to_num().sum(1).abs())


def _by_smaller_size(graph: Graph, sizes: Tensor) -> EdgeScores:
    position = {name: i for i, name in enumerate(graph.writers)}
    owners = [position[graph.node_of_reader(reader)] for reader in graph.readers[:-1]]
    return induced(graph, torch.cat([sizes[owners], sizes[:1]]))


def neuron_products(prompts: Prompts, shares: list[float]) -> Tensor:
    """(alternative - clean) x gradient for each dimension of what each node writes [W, D], averaged over the path."""
    model, graph, far = prompts.model, prompts.model.graph, prompts.alternative_inputs
    total = torch.zeros(len(graph.writers), model.config.d_model, dtype=torch.float64, device=model.device)
    for a in shares:
        taps: list[dict[str, Tensor]] = []
        with torch.enable_grad():
            start = (far + a * (prompts.clean.inputs - far)).detach().requires_grad_()
            value = prompts.loss(model.run(start, read=prompts.runs.read, taps=taps)[0])
        streams = [tap["residual"] for tap in taps[:-1]] + [taps[-1]["logits"]]
        into_mlps = [tap["mlp"] for tap in taps[:-1]] if graph.mlps else []
        found = torch.autograd.grad(value, [*streams, *into_mlps], allow_unused=True, materialize_grads=True)
        spend(backward=start.shape[1])
        for group in graph.groups:
            if group.writes:
                behind = found[0 if group.kind == "input" else group.layer + 1]
                if group.kind == "head" and graph.mlps and not model.config.parallel:
                    behind = behind + found[len(streams) + group.layer]
                total[group.writers] += (prompts.damage[group.writers] * behind).sum((1, 2)).double()
    return total / len(shares)


def of_neurons(graph: Graph, found: Tensor, listed: int) -> Discovery:
    """The scores of edges from those of neurons [W, D], and the ``listed`` largest neurons, with the logits' edges."""
    order = found.flatten().abs().argsort(descending=True, stable=True)[:listed].tolist()
    width = found.shape[1]
    names = {f"{graph.writers[at // width]}.n{at % width}": float(found.flatten()[at]) for at in order}
    return Discovery(_by_smaller_size(graph, found.abs().amax(1)), (), {"neurons": names})


def _at_masks(prompts: Prompts, share: float) -> Tensor:
    """Derivative of the loss by the share that is cut of each edge [W, R], summed over examples, where all keep
    ``share``."""
    model, inputs = prompts.model, prompts.clean.inputs
    alternative = model.alternative(prompts.cut, inputs.shape[2])
    with torch.enable_grad():
        masks = torch.full(model.graph.exists.shape, share, dtype=model.dtype, device=model.device).requires_grad_()
        logits = model.run_cut(masks[None], alternative, inputs=inputs, read=prompts.runs.read)[0]
        value = prompts.loss(logits)
    spend(backward=inputs.shape[1])
    return -torch.autograd.grad(value, masks)[0]


def _along_activations(prompts: Prompts, shares: list[float], own: bool) -> Tensor:
    """Scores [W, R]: each group's edges along the path of that group (``own``), or all edges averaged over all
    paths."""
    model, graph = prompts.model, prompts.model.graph
    clean, far = prompts.clean.inputs, prompts.alternative_inputs
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    groups = [group for group in graph.groups if group.writes]
    for group in groups:
        for a in shares:
            if group.kind == "input":
                found = prompts.gradients(far + a * (clean - far))
            else:
                found = _at_share(prompts, group.key, a, through_inputs=not own)
            total = total + prompts.contract(found, writers=group.writers if own else slice(None))
    return total / (len(shares) * (1 if own else len(groups)))


def _at_share(prompts: Prompts, key: Key, share: float, through_inputs: bool) -> Gradients:
    """Gradients of the clean run in which one group of nodes writes share x clean + (1 - share) x alternative."""

    def written(kind: str, layer: int, value: Tensor) -> Tensor:
        if (kind, layer) != key:
            return value
        cut = prompts.cut[key]
        mixed = (cut + share * (value - cut)).detach()
        return mixed if through_inputs else mixed.requires_grad_()

    return prompts.gradients(prompts.clean.inputs, written=written, through_inputs=through_inputs)
