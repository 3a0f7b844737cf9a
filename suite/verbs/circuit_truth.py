"""What ``validate circuit.json`` does: a circuit against the certified truth of its task, beside random circuits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SpecError

if TYPE_CHECKING:
    from ...ground_truth import GroundTruth
    from ..interchange import EdgeList

_COLUMNS = (
    "ablation",
    "true edges",
    "precision",
    "recall",
    "F1",
    "percentile",
    "F1 of random circuits",
    "among minimal",
)


def validate_circuit(path: str, truth_name: str | None, *, as_json: bool) -> int:
    """Prints how the file's circuit recovers the truth under each ablation that it is certified for.

    Args:
        path: a circuit file of any format.
        truth_name: a certified truth; that of the file's task where ``None``.
    Returns the exit status.
    Raises:
        DataError: no circuit file, one of another graph, or one of a size that no random circuit has.
        SpecError: neither ``truth_name`` nor a task with a certified truth.
    """
    from ..interchange import read
    from ..json_model import plain
    from ..scoring.null_recovery import N_RANDOM, recovery_beside_random
    from ..scoring.plurality import plurality
    from .output import note, print_json, print_table

    read_file = read(path)
    truth = _truth(path, truth_name, read_file)
    file = read_file.on(truth.graph, learned_positions=truth.config.positions == "learned")
    for text in file.notes:
        note(text)
    found_on = file.origin.model_hash
    if found_on not in (None, truth.weights_hash):
        note(f"{path} was found on other weights ({found_on}) than those that {truth.name} is certified for.")
    references = {name: known for name in truth.ablations if (known := truth.reference(name)) is not None}
    scores = plain(recovery_beside_random(file.circuit, references))
    among = {
        name: plurality(file.circuit, known.minimal).verdict if known.minimal else None
        for name, known in references.items()
    }
    true_edges = {ablation: reference.size for ablation, reference in references.items()}
    if as_json:
        rows = [
            {"ablation": name, "true_edges": true_edges[name], **scores[name], "minimal_circuit": among[name]}
            for name in scores
        ]
        print_json(
            {
                "circuit": path,
                "truth": truth.name,
                "edges": file.circuit.n_edges,
                "n_edges": truth.graph.n_edges,
                "random_circuits": N_RANDOM,
                "rows": rows,
            }
        )
        return 0
    print(f"{path}: {file.circuit.n_edges} of {truth.graph.n_edges} edges, against the truth {truth.name}")
    kept = ("precision", "recall", "f1", "percentile", "random_f1")
    print_table(
        _COLUMNS, [[name, true_edges[name], *(row[each] for each in kept), among[name]] for name, row in scores.items()]
    )
    print(f"The percentile is of F1 among {N_RANDOM:,} random connected circuits of as many edges; ties count half.")
    return 0


def _truth(path: str, truth_name: str | None, file: EdgeList) -> GroundTruth:
    """The truth asked for, else that of the task in the file."""
    from ... import ground_truth, tasks

    if truth_name is None:
        named = file.origin.task
        if not named:
            raise SpecError(f"{path} does not say of which task it is; give --truth (`circuitmeter list truths`).")
        truth_name = tasks.load(named).truth
        if truth_name is None:
            raise SpecError(f"the task {named} of {path} has no certified truth; give --truth TRUTH.")
    return ground_truth.load(truth_name)
