"""Which evaluations of a store count, and of each circuit which one.

A store keeps every evaluation that it ever held. A benchmark names those that it asks for now; what it asked for
before, such as the same circuits on fewer prompts, answers a question that is no longer asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from ...suite.store.record import EvaluationRecord, SettingRow


def that_count(evaluations: Iterable[EvaluationRecord], asked: Mapping[str, Collection[str]]) -> list[EvaluationRecord]:
    """The evaluations that count: of a cell that a benchmark lists, those that a benchmark asks for; of others all.

    Args:
        asked: cell -> the keys of the evaluations that benchmarks which list the cell ask for.
    """
    return [found for found in evaluations if found.key in asked.get(found.identity.cell, (found.key,))]


def newest_last(evaluations: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
    """Evaluations in the order in which later ones take the place of earlier ones.

    The one that finished last is the newest. Where that is not told or is the same second: the newer version, then more
    prompts, then the split ``test``, then edges ranked by absolute score.
    """

    def place(found: EvaluationRecord) -> tuple[str, int, int, bool, bool, str]:
        cell = found.identity
        version, prompts, finished = cell.evaluation_version, found.prompts or 0, found.provenance.finished or ""
        return finished, version, prompts, found.split == "test", cell.absolute, found.key

    return sorted(evaluations, key=place)


def rows_that_count(evaluations: Iterable[EvaluationRecord]) -> Iterator[tuple[EvaluationRecord, SettingRow]]:
    """The rows of finished evaluations, the newest last, each cell's circuits under one setting measured in one way.

    Two benchmarks may measure a cell's circuits under one setting on other prompts, with other batches, or rank edges
    by absolute score or not. The newest evaluation says which way counts; those that measured in the same way are read
    too, because they may have other sizes.
    """
    done = newest_last(found for found in evaluations if found.done)
    counts = {_curve(found, row): _way(found, row) for found in done for row in found.rows}
    for found in done:
        for row in found.rows:
            if counts[_curve(found, row)] == _way(found, row):
                yield found, row


def _curve(found: EvaluationRecord, row: SettingRow) -> tuple[str, str, str]:
    """What faithfulness over size is told of."""
    return found.identity.cell, found.identity.selection, row.setting


def _way(found: EvaluationRecord, row: SettingRow) -> tuple[str, str, bool, int | None]:
    """What changes the numbers of a curve beside its setting."""
    return found.identity.data, found.split, found.identity.absolute, row.batch_size
