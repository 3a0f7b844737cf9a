"""Which structures a method misses: what counts as found, and what the gates tell about methods."""

from __future__ import annotations

import functools

import matplotlib
import numpy as np
import pytest

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.gates.catalogue import GATES
from circuitmeter.reports.chapters.structures import missed_by, structure_misses
from circuitmeter.reports.draw.structures import structures as draw
from circuitmeter.reports.read.stores import Stores
from circuitmeter.reports.read.structures import finds, structure_table, structures_found
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.run import run


def scored(graph, **scores):
    return np.array([scores.get(str(edge), 0.0) for edge in graph.edges])


def test_any_minimal_circuit_counts_and_a_tie_across_its_border_does_not():
    graph = ground_truth.load("gates/backup").graph
    claim = ground_truth.load("gates/backup").certificate.ablations["zero"]
    first, second = claim.circuits
    assert len(first) == 5 and set(first) & set(second) == {"m0->logits"}
    for circuit in (first, second):
        scores = scored(graph, **{edge: -1.0 - i for i, edge in enumerate(circuit)})
        assert finds(scores, graph, claim.circuits)  # the sign does not matter
        tied = scores.copy()
        tied[np.abs(tied) == 1.0] = 0
        assert not finds(tied, graph, claim.circuits)
    mixed = scored(graph, **{edge: 1.0 for edge in [*first[:3], *[e for e in second if e not in first][:2]]})
    assert not finds(mixed, graph, claim.circuits)
    assert not finds(np.zeros(graph.n_edges), graph, claim.circuits)


def test_the_gates_certificates_hold_their_minimal_circuits():
    for gate in GATES.values():
        for ablation, known in gate.known.items():
            claim = ground_truth.load(f"gates/{gate.name}").certificate.ablations[ablation]
            assert len(claim.circuits) == known.n_circuits
            assert set.intersection(*map(set, claim.circuits)) == known.core


@functools.cache
def found(method, gate, objective, ablation="patch", **parameters):
    return found_by_seed(method, gate, objective, ablation, (0,), **parameters)[0]


def found_by_seed(method, gate, objective, ablation, seeds, **parameters):
    """Whether the method finds a circuit, for each seed; those that run together do."""
    task, truth, chosen = tasks.load(f"gates/{gate}"), ground_truth.load(f"gates/{gate}"), METHODS.get(method)
    discoveries = chosen.discover_each(
        truth.model(),
        task.data(),
        ablation=Ablation.parse(ablation),
        objective=OBJECTIVES.get(objective),
        seeds=seeds,
        truth=truth.reference(ablation),
        **chosen.resolve({name: list(v) if isinstance(v, tuple) else v for name, v in parameters.items()}),
    )
    circuits = truth.certificate.ablations[ablation].circuits
    return [finds(each.scores.flat(), truth.graph, circuits) for each in discoveries]


@pytest.mark.parametrize(
    ("gate", "objective", "by"),
    [
        ("adder", "answer-difference", {"eap": True, "eap-ig": True, "exact": True}),
        ("adder", "l2", {"exact": True}),
        ("saturation", "answer-difference", {"eap": False, "eap-ig": True, "exact": True}),
        ("redundant", "answer-difference", {"eap": False, "exact": False}),
        # Signed effects of the pair cancel over prompts; squared ones are as large as those of what matters.
        ("cancelling", "answer-difference", {"exact": True}),
        ("cancelling", "l2", {"exact": False}),
        ("distractors", "answer-difference", {"eap": True, "exact": True, "magnitude": False}),
        ("position", "answer-difference", {"eap": True, "magnitude": False}),
    ],
)
def test_what_methods_miss(gate, objective, by):
    assert {method: found(method, gate, objective) for method in by} == by


SINGLE_EDGE = ("eap", "eap-ig", "eap-path", "eap-gp", "atp-star", "relp", "gim", "exact")
MASKS = {"steps": 500, "regularisations": (1.0,)}  # as in diagnostics-1


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_methods_that_cut_single_edges_miss_backup_heads_and_joint_ones_need_not(ablation):
    assert not any(found(method, "backup", "answer-difference", ablation) for method in SINGLE_EDGE)
    assert not any(found(method, "backup", "l2", ablation) for method in ("eap-ig", "exact"))
    assert found("acdc", "backup", "answer-difference", ablation) and found("acdc", "backup", "l2", ablation)
    # Where the backup does not step in, it takes no joint method.
    assert found("exact", "backup", "answer-difference", "patch")


@pytest.mark.parametrize("gate", ["backup", "cancelling"])
def test_masks_find_a_backup_head_and_drop_a_cancelling_pair(gate):
    """With most seeds: training is short, and some seeds end beside the circuit."""
    assert sum(found_by_seed("subnetwork-probing", gate, "l2", "zero", range(3), **MASKS)) >= 2


def test_methods_that_cut_single_edges_keep_a_cancelling_pair():
    # One by one too: cutting either of the two alone does harm, whatever was cut before.
    assert not any(found(method, "cancelling", "l2", "zero") for method in ("eap-ig", "exact", "acdc"))
    # Signed effects of the pair cancel over prompts, and then nothing is seen of it.
    assert found("exact", "cancelling", "answer-difference", "zero")


@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_saturation_separates_eap_from_its_integrated_forms(ablation):
    assert not any(found(method, "saturation", "answer-difference", ablation) for method in ("eap", "relp", "gim"))
    assert found("eap-ig", "saturation", "answer-difference", ablation)


def test_the_path_of_edges_and_guided_paths_see_saturation_too():
    assert found("eap-path", "saturation", "answer-difference") and found("eap-gp", "saturation", "answer-difference")


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_constant_paths_need_an_objective_that_is_no_difference_of_answers(ablation):
    # What adds the same to every answer changes no difference between two.
    assert not any(found(method, "position", "answer-difference", ablation) for method in ("exact", "eap-ig", "acdc"))
    assert all(found(method, "position", "l2", ablation) for method in ("exact", "eap-ig", "acdc"))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    (folder / "few.toml").write_text(
        '[[grid]]\ntask = ["gates/adder", "gates/saturation", "tracr/hist", "trained/shift1", "trained/shift1-norm"]\n'
        'method = ["eap", "exact", "truth", { name = "random", seed = [0, 1] }]\n'
        'ablation = ["patch", "zero"]\nobjective = ["answer-difference"]\n'
    )
    run(Spec.load(folder / "few.toml"), folder / "store", executor="serial")
    return Stores([folder / "store"])


def test_the_table_is_made_from_a_store_alone(few):
    table = structures_found(structure_table(few, list(few.records())))
    assert set(table["structure"]) == {"adder", "saturation", "trained", "trained, norms"}
    assert set(table.loc[table["structure"].str.startswith("trained"), "ablation"]) == {
        "patch"
    }  # no other is certified
    assert set(table["label"]) == {"eap", "exact", "random"}
    shares = table.set_index(["label", "ablation", "structure"])["found"]
    assert shares["eap", "patch", "adder"] == 1 and shares["eap", "patch", "saturation"] == 0
    assert table.loc[table["label"] == "random", "n_cells"].tolist() == [2] * 6
    assert list(dict.fromkeys(table["label"])) == ["exact", "eap", "random"]  # the best first, baselines last
    assert structures_found(structure_table(few, [])).empty


def test_words_and_table_say_who_misses_what(few):
    table = structures_found(structure_table(few, list(few.records())))
    said = dict(text.split(": ", 1) for text in missed_by(table))
    assert "Found under every ablation by exact; under none by eap." in said["saturation"]
    assert "random" not in " ".join(said.values())
    shown = structure_misses(table)
    texts = {row[0].text: dict(zip(shown.headings, (cell.text for cell in row), strict=True)) for row in shown.rows}
    assert texts["eap"]["saturation"] == "misses patch, zero" and texts["exact"]["saturation"] == "found"


def test_the_figure_has_a_mark_for_every_method_and_structure(few):
    table = structures_found(structure_table(few, list(few.records())))
    figure = draw(table)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["patch ablation", "zero ablation"]
    for ax in figure.axes:
        marks = sorted(tuple(map(int, point)) for line in ax.lines for point in line.get_xydata())
        structures_there = range(4) if ax is figure.axes[0] else range(2)
        assert marks == [(x, y) for x in structures_there for y in range(3)]
    full, missed = figure.axes[0].lines
    assert (1, 1) in set(map(tuple, missed.get_xydata())) and (0, 1) in set(map(tuple, full.get_xydata()))
    assert len({line.get_marker() for line in (full, missed)}) == 2  # told apart in grey
    assert draw(structures_found(structure_table(few, []))).texts


def test_long_names_leave_room_for_marks(few):
    table = structures_found(structure_table(few, list(few.records())))
    figure = draw(table.replace({"label": {"eap": f"eap ({'steps=1, ' * 20})"}}))
    width = figure.get_figwidth()
    assert all(ax.get_position().width * width > 1 for ax in figure.axes)
    with matplotlib.rc_context({"text.parse_math": False}):
        assert figure.get_tightbbox().x0 >= 0
