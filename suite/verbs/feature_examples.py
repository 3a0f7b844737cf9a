"""The prompts on which the features of a circuit are most active, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from ..circuit import Circuit
    from ..interchange.circuit_file import CircuitFile
    from ..model.features.transformer import FeatureTransformer


def example_lines(path: str, n: int, given: Sequence[str] | None, device: str = "auto") -> Iterator[str]:
    """For each feature of a circuit file, those with the strongest edges first, the prompts that it is most active on.

    Args:
        n: how many prompts of each.
        given: the dictionaries that it was found with, as ``--dictionary`` takes them; none for a model that has them.

    Raises:
        DataError: a circuit without features, one that does not say its task or model, or other dictionaries.
    """
    from ... import tasks
    from ..interchange import load
    from ..model.load.by_name import on_model
    from ..scoring.feature_examples import top_examples

    file = load(path)
    nodes = features_of(file.circuit)
    if not nodes:
        raise DataError(f"{path} has no features; --examples is for circuits of features.")
    task, name = file.origin.task, file.origin.model
    if not task or not name:
        raise DataError(f"{path} does not say which task and model it was found on, so there are no prompts to show.")
    model = _model(file, path, name, given, device)
    data = on_model(tasks.load(task), name).data(file.origin.split or "train")
    if file.scores is not None:
        best = file.scores.values.nan_to_num().abs() * file.circuit.edges
        strength = dict(zip(model.graph.writers, best.sum(1).tolist(), strict=True))
        nodes.sort(key=lambda node: -strength[node])
    text = _in_words(name)
    for node, found in top_examples(model, data, nodes, n).items():
        yield f"\n{node}" + ("" if found else ": active on no prompt")
        for row, position, value in found:
            words = [text(token) for token in data.clean[row, : int(data.lengths[row])].tolist()]
            words[position] = f"[{words[position].strip()}]"
            yield f"  {value:6.2f}  {' '.join(word.strip() for word in words)}"


def features_of(circuit: Circuit) -> list[str]:
    """The feature nodes that a circuit has edges of, in the order in which they write."""
    written = circuit.edges.any(1).tolist()
    return [
        node
        for group in circuit.graph.groups
        if group.kind.endswith("feature")
        for node, place in zip(group.nodes, range(group.writers.start, group.writers.stop), strict=True)
        if written[place]
    ]


def _model(file: CircuitFile, path: str, name: str, given: Sequence[str] | None, device: str) -> FeatureTransformer:
    """The model with the circuit's features as nodes."""
    from ..model.features.graph import FeatureGraph
    from ..model.features.transformer import FeatureTransformer
    from ..model.load.by_name import load_model
    from .dictionaries import read_dictionaries

    model, known = load_model(name, device=device), read_dictionaries(given)
    graph = file.circuit.graph
    assert isinstance(graph, FeatureGraph)
    wanted = {at.site: at for at in graph.sites}
    if known and set(known) == set(wanted):
        model = FeatureTransformer.of(model, {site: (known[site], at.features) for site, at in wanted.items()})
    if not isinstance(model, FeatureTransformer) or model.graph.sites != graph.sites:
        named = " ".join(f"DIR@{site}" for site in wanted)
        raise DataError(f"{path}: give --dictionary {named}, the dictionaries that it was found with.")
    return model


def _in_words(name: str) -> Callable[[int], str]:
    """The text that stands for a token of the model."""
    from ... import ground_truth
    from ..model.load.by_name import is_ground_truth, load_tokenizer

    if is_ground_truth(name):
        tokens = ground_truth.load(name).description.vocabulary.tokens
        return lambda token: str(tokens[token])
    tokenizer = load_tokenizer(name)
    return str if tokenizer is None else lambda token: tokenizer.source.decode([token])
