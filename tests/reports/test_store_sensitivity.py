"""The sensitivity card of a store: its medians, its numbers, its words, and what it says when there is little."""

import numpy as np
import pandas as pd
import pytest
from synthetic import evaluate_all, identity, make_store, record_of, setting, write_evaluation

from circuitmeter.reports.card.figure import draw_card
from circuitmeter.reports.card.tables import share_table, value_table, verdict_table
from circuitmeter.reports.chapters.sensitivity import in_words
from circuitmeter.reports.read.evaluations import evaluation_table
from circuitmeter.reports.read.sensitivity import medians, sensitivity
from circuitmeter.suite.store.store import Store


def evaluated(path, faithful):
    """Evaluations of eap's cells, found under patch: program -> {evaluation ablation: faithfulness}."""
    store = Store(path, create=True)
    records = [record_of(identity(program, "eap", "patch")) for program in faithful]
    for record, values in zip(records, faithful.values(), strict=True):
        write_evaluation(store, record.key, {name: [value] for name, value in values.items()}, sizes=("true",))
    return evaluation_table(records, store.evaluations())


def test_medians_of_resamples_are_those_of_the_programs_drawn():
    generator = np.random.default_rng(1)
    values = generator.normal(size=(7, 4))
    values[[0, 2, 5], [1, 1, 3]] = np.nan
    counts = generator.multinomial(7, np.full(7, 1 / 7), size=50)
    drawn = [np.repeat(values, row, axis=0) for row in counts]
    np.testing.assert_allclose(medians(values, counts), [np.nanmedian(rows, axis=0) for rows in drawn], atol=1e-12)


def test_worst_best_and_where_it_holds(tmp_path):
    table = evaluated(
        tmp_path / "s",
        {name: {"patch": 1.0, "mean": 0.9 + d, "zero": 0.1 + d} for name, d in (("a", 0), ("b", 0.05), ("c", -0.05))},
    )
    row = sensitivity(table).table.iloc[0]
    assert (row["worst_setting"], row["best_setting"], row["n_settings"], row["n_programs"]) == ("zero", "patch", 3, 3)
    assert row["worst"] == pytest.approx(0.1) and row["best"] == 1.0 and row["range"] == pytest.approx(0.9)
    assert row["range_low"] == pytest.approx(0.85) and row["range_high"] == pytest.approx(0.95)
    assert row["hold"] == row["surely"] == pytest.approx(2 / 3) and row["surely_not"] == pytest.approx(1 / 3)
    assert row["factor"] == "ablation" and row["share"] == pytest.approx(1)


def test_words_name_the_contradiction(tmp_path):
    faithful = {name: {"patch": 1.0, "zero": 0.1} for name in "abc"}
    first, second = in_words(sensitivity(evaluated(tmp_path / "s", faithful)))
    assert "Of 1 pairs of method and discovery ablation" in first and "beyond their 95 % intervals in 1:" in first
    assert "Settings, of 2, in which the circuits are faithful: 1 (eap)" in second
    assert "from 0.10 [0.10, 0.10] (zero) to 1.00 [1.00, 1.00] (patch)" in second
    agreed = in_words(sensitivity(evaluated(tmp_path / "t", {name: {"patch": 1.0, "zero": 0.9} for name in "abc"})))
    assert "intervals in 0:" in agreed[0] and "All settings surely agree in 1." in agreed[0]


def test_a_cut_circuit_speaks_for_itself_when_nothing_is_left(tmp_path):
    store = Store(tmp_path / "s", create=True)
    records = [record_of(identity(program, "eap", "patch")) for program in "ab"]
    for record in records:
        rows = [
            {"setting": name, "undefined": None, "full": 1.0, "nothing": 0.0, "values": [0.2], "uncertain": False}
            | {"faithfulness": [0.2]}
            for name in (setting("patch"), setting("patch").replace("patch", "patch/circuit", 1))
        ]
        write_evaluation(store, record.key, {}, sizes=("true",), rows=rows)
    found = sensitivity(evaluation_table(records, store.evaluations()))
    row = found.table.iloc[0]
    assert (row["worst_setting"], row["best_setting"]) == ("complement", "circuit")
    assert (row["worst"], row["best"]) == pytest.approx((0.2, 0.8))


@pytest.fixture(scope="module")
def of_store(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("card") / "s", programs=3, methods=("eap", "exact"), failures=False)
    evaluate_all(store)
    return sensitivity(evaluation_table(list(store.records()), store.evaluations()))


def test_the_card_compares_what_the_leading_method_found_under_each_ablation(of_store):
    assert set(of_store.table["label"]) == {"eap", "exact"} and set(of_store.table["ablation"]) == {"patch", "zero"}
    assert of_store.subject.startswith("exact")
    assert [circuit.name for circuit in of_store.card.circuits] == ["found by patch", "found by zero"]
    values = value_table(of_store.card)
    assert set(values["setting"]) == {"patch", "mean", "zero"}
    # Found by patch, patch is best; found by zero, zero.
    best = values.loc[values.groupby("circuit")["value"].idxmax()].set_index("circuit")["setting"]
    assert best.to_dict() == {"found by patch": "patch", "found by zero": "zero"}


def test_the_card_is_drawn(of_store):
    card = of_store.card
    figure = draw_card(value_table(card), share_table(card), verdict_table(card), card.settings.varying)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][:2] == [
        "found by patch",
        "found by zero",
    ]


def test_nothing_to_compare_is_no_card(tmp_path):
    for table in (evaluation_table([], []), evaluated(tmp_path / "s", {"a": {"patch": 1.0}, "b": {"patch": 1.0}})):
        found = sensitivity(table)
        assert found.card is None and found.table.empty and in_words(found) == ()
    assert isinstance(found.table, pd.DataFrame) and "range_low" in found.table
