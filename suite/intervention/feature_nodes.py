"""Which features of a dictionary become nodes: those whose ablation is estimated to matter most.

    score(f) = mean over examples of the mean over the path of <alternative_f - clean_f, d loss / d activation_f>

the node attribution of Marks et al. 2024, arXiv:2403.19647 (section 3.1), with gradients at one point (``steps=1``, the
clean run) or along the straight path of the input nodes. Features are scored in chunks, so that a dictionary of tens
of thousands needs no more memory than its activations.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..data import Data
from ..errors import SpecError
from ..model.features.dictionary import FeatureDictionary
from ..model.features.site import Site
from ..model.features.transformer import FeatureTransformer
from ..model.passes import spend
from ..model.transformer import Transformer
from .ablation import Ablation, Alternatives
from .evaluator import default_batch_size
from .objective import Objective
from .plain_runs import Runs


def feature_scores(
    model: Transformer,
    data: Data,
    dictionaries: Mapping[Site, FeatureDictionary],
    *,
    ablation: Ablation,
    objective: Objective,
    seed: int = 0,
    steps: int = 1,
    batch_size: int = 0,
) -> dict[Site, Tensor]:
    """The estimated damage of ablating each feature alone: float64 [K] a site.

    Args:
        steps: points of the path at which gradients are taken; 1 is the clean run alone.
        batch_size: prompts at a time; 0 chooses it. It does not change the scores.

    Raises:
        SpecError: no steps.
        ModelError: a dictionary that does not fit its site.
    """
    if steps < 1:
        raise SpecError(f"steps={steps} for the scores of features; give 1 or more.")
    whole = FeatureTransformer.of(model, {s: (d, range(d.n_features)) for s, d in dictionaries.items()})
    size = batch_size or default_batch_size(model, data.clean.shape[1])
    alternatives = Alternatives(whole, data, ablation, seed=seed, batch_size=size)
    shares = [1.0] if steps == 1 else [(k + 0.5) / steps for k in range(steps)]
    totals = {at.site: torch.zeros(len(at.features), dtype=torch.float64) for at in whole.graph.sites}
    for batch in data.batches(size):
        runs = Runs(whole, batch)
        clean, cut = runs.clean[1], alternatives.of(runs)
        targets = objective.targets(runs)
        far = cut.inputs.expand_as(clean.inputs)
        for share in shares:
            slopes = _slopes(whole, far + share * (clean.inputs - far), runs, objective, targets)
            for site, (key, gradient) in slopes.items():
                change = (cut[key] - clean[key])[..., 0]  # [K, B, P], or 1 where it is the same for all
                totals[site] += (change * gradient).flatten(1).double().sum(1).cpu() / (len(shares) * data.n)
    return totals


def choose_features(scores: Mapping[Site, Tensor], top: int) -> dict[Site, list[int]]:
    """The ``top`` features of largest absolute score over all sites; ties go to the earlier site, the lower index.

    Raises:
        SpecError: fewer features asked for than sites.
    """
    if top < len(scores):
        raise SpecError(f"{top} features for {len(scores)} sites; ask for at least one per site.")
    best = {site: int(values.abs().argmax()) for site, values in scores.items()}  # every site has at least one node
    ranked = sorted(
        (-abs(float(value)), i, f)
        for i, values in enumerate(scores.values())
        for f, value in enumerate(values)
        if f != best[list(scores)[i]]
    )
    chosen = {site: [f] for site, f in best.items()}
    for _, i, f in ranked[: top - len(scores)]:
        chosen[list(scores)[i]].append(f)
    return {site: sorted(features) for site, features in chosen.items()}


def _slopes(
    whole: FeatureTransformer, inputs: Tensor, runs: Runs, objective: Objective, targets
) -> dict[Site, tuple[tuple[str, int], Tensor]]:
    """For each site the key of its features, and the gradient of the loss at every activation, [K, B, P]."""
    with torch.enable_grad():
        logits, run = whole.run(inputs.detach().requires_grad_(), read=runs.read)
        loss = objective.loss(logits, targets).sum()
    features = [group for group in whole.graph.groups if group.kind.endswith("feature")]
    spend(backward=inputs.shape[1])
    found = torch.autograd.grad(loss, [run[group.key] for group in features])
    return {
        whole.site_of(group): (group.key, gradient[..., 0]) for group, gradient in zip(features, found, strict=True)
    }
