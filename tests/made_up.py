"""A made-up certificate, and a made-up environment, that hold everything they must."""

from circuitmeter.ground_truth.certificate import Certificate, Claim, StatedDomain
from circuitmeter.suite.model.stated_graph import StatedGraph
from circuitmeter.suite.store.record import Environment

ENVIRONMENT = Environment(
    python={"implementation": "CPython", "version": "3.11.7"}, platform="Linux", processor={"name": "x86", "cores": 2},
    torch={
        "version": "2.13.0", "commit": None, "cuda": None, "rocm": None, "blas": None, "onednn": True,
        "kernels": "AVX2", "threads": 1, "threads_between": 1, "float32_matmul_precision": "highest",
    },
    variables={}, commit=None, packages={"numpy": "2.4.6"},
)  # fmt: skip


def certificate(graph, claims, structural=()):
    """Args: claims: ablation -> (core, optional), by the names of edges."""
    return Certificate(
        n_edges=graph.n_edges,
        n_structural=len(structural),
        structural=list(structural),
        tolerance=1e-05,
        graph=StatedGraph.of(graph),
        ablations={name: claim(*edges) for name, edges in claims.items()},
        format=1,
        domain=StatedDomain(kind="fixed", lengths=[2], n_inputs=4, n_outputs=2, enumerated=True, hash="0" * 16),
        weights="0" * 64,
    )


def claim(core, optional=()):
    """A claim with this core, as if one minimal circuit had been found."""
    return Claim(
        core=list(core),
        optional=list(optional),
        sufficient=True,
        unique=not optional,
        error_of_necessary=0.0,
        necessary=list(core),
        minimal_circuits=1,
        sizes=[len(core)],
        orders=1,
        largest_inert_effect=0.0,
        smallest_core_effect=1.0,
        largest_error_of_circuit=0.0,
        n_pairs=4,
        pairs="every input",
        excluded_by_proof=None,
        witnesses={edge: [0] for edge in core},
    )
