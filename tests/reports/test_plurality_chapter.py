"""The chapter on several circuits: what runs found, from records; and what of it is shown."""

import pandas as pd
import pytest
from synthetic import identity, record_of

from circuitmeter.reports.chapters.plurality import PluralityChapter, with_a_choice
from circuitmeter.reports.draw.plurality import draw_plurality
from circuitmeter.reports.read.plurality import outcome_of, plurality_cells, plurality_shares
from circuitmeter.suite.store.record import RecordedPlurality, Recovery


def found(verdict, contains=(), of=2, avoided=None):
    return RecordedPlurality(verdict=verdict, minimal_circuits=of, contains=contains, n_edges=4, avoided=avoided)


def record(task, method, judged, *, seed=None, parameters=None):
    cell = identity(task, method, "zero", seed=seed, parameters=parameters or {})
    done = {"status": "done", "reason": None, "kind": None, "n_edges": 9, "recovery": {"zero": Recovery()}}
    return record_of(cell, **done, plurality={"zero": judged, "patch": found("miss")})


AVOID = {"avoid": ["a->b"]}
RECORDS = [
    record("gates/backup", "eap", found("minimal", (0,))),
    record("gates/redundant", "eap", found("chimera", of=3)),
    record("gates/and", "eap", found("minimal", (0,), of=1)),
    record("gates/backup", "truth", found("miss")),
    *(record("gates/backup", "ugs", found("minimal", (1,), avoided=0), seed=s, parameters=AVOID) for s in range(2)),
    record("gates/backup", "ugs", found("superset", (0, 1), avoided=0), seed=2, parameters=AVOID),
    record("gates/and", "ugs", found("minimal", (0,), of=1, avoided=0), seed=0, parameters=AVOID),
    record("gates/xor", "ugs", found("miss", of=1, avoided=0), seed=0, parameters=AVOID),
    record("gates/xor", "ugs", found("miss", of=1), seed=1, parameters=AVOID),  # avoids what is no minimal circuit
    record_of(identity("gates/or", "eap", "zero")),
]


class Shown:
    plurality = plurality_cells(RECORDS)
    plurality_shares = plurality_shares(plurality)


@pytest.mark.parametrize(
    ("judged", "outcome"),
    [
        (found("minimal", (1,)), "minimal"),
        (found("superset", (0, 1)), "superset"),
        (found("minimal", (1,), avoided=0), "another"),
        (found("superset", (1,), avoided=0), "another"),
        (found("superset", (0,), avoided=0), "the same"),
        (found("minimal", (0,), avoided=0), "the same"),
        (found("superset", (0, 1), avoided=0), "both"),
        (found("chimera", avoided=0), "chimera"),
        (found("miss", avoided=0), "miss"),
    ],
)
def test_what_a_search_found_in_a_word(judged, outcome):
    assert outcome_of(judged) == outcome


def test_cells_are_judged_by_their_own_ablation_and_the_oracle_takes_no_part():
    cells = Shown.plurality
    assert len(cells) == 8 and "truth" not in set(cells["method"])
    assert cells["outcome"].tolist() == [
        *("minimal", "chimera", "minimal"), *("another", "another", "both", "the same", "miss")
    ]  # fmt: skip


def test_shares_are_of_runs_and_intervals_over_programs():
    shares = Shown.plurality_shares
    plain = shares[~shares["avoids"].astype(bool) & shares["several"].astype(bool)].iloc[0]
    assert (plain["label"], plain["right"], plain["chimera"], plain["n_cells"]) == ("eap", 0.5, 0.5, 2)
    assert (plain["right_low"], plain["right_high"]) == (0, 1) and plain["n_programs"] == 2
    second = shares[shares["avoids"].astype(bool)]
    assert second["several"].tolist() == [True, False]
    assert second["another"].tolist() == pytest.approx([2 / 3, 0]) and second["the same"].tolist() == [0, 0.5]
    assert second["right"].tolist() == pytest.approx([2 / 3, 0.5])  # where there is no other, the same is right


def test_a_label_says_that_a_circuit_was_avoided_and_not_which():
    both = [*RECORDS, record("gates/backup", "ugs", found("minimal", (0,)), parameters={"avoid": []})]
    labels = set(plurality_cells(both)["label"])
    assert labels == {"eap", "ugs (avoiding a circuit)", "ugs (avoiding none)"}


def test_the_chapter_has_a_table_for_each_question_and_a_figure():
    chapter = PluralityChapter()
    first, second = chapter.tables(Shown)
    assert (first.rows[0][0].text, first.rows[0][2].sort) == ("eap", 0.5)
    assert len(first.rows) == 1  # and has one circuit only: nothing to choose from
    assert [row[2].text for row in second.rows] == ["yes", "no"] and len(second.headings) == len(second.rows[0])
    (plot,) = chapter.figures(Shown)
    titles = [ax.get_title(loc="left") for ax in plot.draw().axes]
    assert titles == ["several circuits, none avoided", "one avoided, another exists", "one avoided, no other exists"]
    assert len(chapter.data(Shown)["plurality-cells"]) == 8


def test_without_a_choice_there_is_no_chapter():
    class Nothing:
        plurality = plurality_cells(RECORDS[2:4])
        plurality_shares = plurality_shares(plurality)

    chapter = PluralityChapter()
    assert with_a_choice(Nothing.plurality_shares).empty
    assert not chapter.tables(Nothing) and not chapter.figures(Nothing) and not chapter.words(Nothing)
    assert not chapter.data(Nothing)
    assert draw_plurality(pd.DataFrame()).axes is not None
