"""The methods, one paper per file. Importing this package registers the built-in ones."""

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
    relp,
    subnetwork_probing,
    ugs,
)
from .registry import METHODS, Method, load_user_method, method

__all__ = ["METHODS", "Method", "load_user_method", "method"]
