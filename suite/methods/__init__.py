"""The methods, one paper per file. Importing this package registers the built-in ones.

Each file has a function ``discover``, which takes, besides the parameters that its docstring explains:

    model: the transformer, with E edges between W writers and R readers.
    data: the N prompts, with their counterfactuals where they have some.
    ablation: what cut edges carry.
    objective: the loss, in its own unit: nats of ``kl``, differences of logits, and so on.
    seed: of all that the method draws; methods that train masks take ``seeds`` and search with all of them at once.

It returns the scores of the edges, float64 [W, R], or a ``Discovery`` (one for each of ``seeds``), which has scores,
circuits and diagnostics. The larger an edge's score, in absolute value, the longer the edge stays in the circuit. A
score that estimates the effect of a cut has the unit of the loss.
In formulas <a, b> is an inner product over positions and dimensions, clean_w and alternative_w are what the writer w
writes in the clean run and what a cut edge carries in its place, and input_r is what the reader r reads.
"""

from . import (  # noqa: F401
    acdc,
    atp_star,
    baselines,
    cd_t,
    discogp,
    eap,
    eap_gp,
    eap_hvp,
    eap_ig,
    eap_path,
    edge_pruning,
    ensemble,
    exact,
    gate_aware,
    gim,
    hisp,
    ibcircuit,
    ifr,
    peap,
    relp,
    subnetwork_probing,
    ugs,
)
from .registry import METHODS, Method, load_user_method, method

__all__ = ["METHODS", "Method", "load_user_method", "method"]
