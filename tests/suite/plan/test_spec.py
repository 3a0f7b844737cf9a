"""A benchmark says everything that is wrong with it at once, and expands to cells that mean what it says."""

import dataclasses
import json
import re

import pytest

from circuitmeter import ground_truth
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.job import Sources
from circuitmeter.suite.plan.plan import select
from circuitmeter.suite.plan.spec import Spec, benchmarks
from circuitmeter.suite.store.keys import KEY_VERSION, key_of
from circuitmeter.suite.store.record import Cell

SMALL = {"task": "tracr/xproportion", "method": ["eap", "truth"], "ablation": ["patch", "zero"]}


def load(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return Spec.load(path)


def spec(**grid):
    return Spec.of({"name": "mine", "grid": SMALL | grid})


def problem(**contents):
    with pytest.raises(SpecError) as caught:
        Spec.of({"name": "mine", "grid": SMALL} | contents)
    return str(caught.value)


def test_every_mistake_is_in_one_line(tmp_path):
    with pytest.raises(SpecError) as caught:
        load(
            tmp_path,
            """
            descripton = "misspelt"
            [grid]
            task = ["tracr/revers", "tracr/xproportion"]
            method = ["eapig", { name = "eap-ig", step = 3 }, { name = "eap-ig", preset = "papr" }]
            ablation = ["patch", "zeros", "mean[over=day]"]
            objectives = ["l2"]
            seed = [-1]
            """,
        )
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "the top level has no key 'descripton'. Did you mean 'description'?",
        "no task 'tracr/revers'. Did you mean 'tracr/reverse'?",
        "no method 'eapig'. Did you mean 'eap-ig'? There are eap-ig, ",
        "no parameter 'step'. Did you mean 'steps'?",
        "no preset 'papr'. Did you mean 'paper'?",
        "no ablation 'zeros'. Did you mean 'zero'?",
        "'mean[over=day]'",
        "[grid] has no key 'objectives'. Did you mean 'objective'?",
        "[grid] seed is -1: input should be greater than or equal to 0",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"grid": {"task": "tracr/reverse", "ablation": "zero"}}, "[grid] lacks 'method'"),
        ({"grid": SMALL | {"method": []}}, "[grid] method is empty; give one or more"),
        ({"grid": SMALL | {"seed": ["a"]}}, "[grid] seed is 'a': input should be a valid integer"),
        ({"grid": SMALL | {"objective": "l3"}}, "no objective 'l3'. Did you mean 'l2'?"),
        ({"grid": SMALL | {"task": "trac/*"}}, "no task 'trac/*'"),
        ({"grid": SMALL | {"method": "nowhere.py:discover"}}, "no file"),
        ({"grid": 3}, "[grid] is 3: give a name or a table"),
        ({"grid": []}, "[grid] is empty; give one or more"),
        ({"name": "../x"}, "name is '../x': string should match pattern"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0: input should be greater than 0"),
        ({"except": [{"method": "eap"}]}, "[except] lacks 'because'"),
        ({"except": [{"because": "so"}]}, "give at least one of task, method, ablation, objective"),
        ({"except": [{"because": "so", "method": "eep"}]}, "no method 'eep'. Did you mean 'eap'?"),
        ({"except": [{"because": "so", "ablation": "none"}]}, "no ablation 'none'"),
        ({"seed": [1]}, "'seed' is a key of [grid], and stands above it"),
        ({"selection": "greedy"}, "'selection' is a key of [evaluation], and stands above it"),
        (
            {"except": [{"because": "so", "objectiv": "l2"}]},
            "[except] has no key 'objectiv'. Did you mean 'objective'?",
        ),
    ],
)
def test_each_mistake_says_what_is_allowed(contents, says):
    assert says in problem(**contents)


def test_files_that_are_no_benchmark(tmp_path):
    with pytest.raises(SpecError, match="cannot read .*nothing.toml: No such file"):
        Spec.load(tmp_path / "nothing.toml")
    with pytest.raises(SpecError, match="is not TOML: .*line 2"):
        load(tmp_path, "[grid]\ntask = tracr")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="is not TOML|is not UTF-8"):
        Spec.load(tmp_path / "binary.toml")
    with pytest.raises(SpecError, match="no benchmark 'quik'. Did you mean 'quick'.*give a .toml file"):
        Spec.load("quik")


def test_the_built_in_benchmarks_are_right():
    assert {"quick", "known-circuits-1"} <= set(benchmarks())
    for name in benchmarks():
        found = Spec.load(name)
        assert found.name == name and found.description


def test_a_file_is_named_by_its_stem_and_a_value_stands_for_a_list(tmp_path):
    found = load(tmp_path, '[grid]\ntask = "tracr/xproportion"\nmethod = "eap"\nablation = "zero"\nseed = 3\n')
    assert found.name == "mine" and found.grid[0].method[0].name == "eap" and found.grid[0].seed == (3,)
    assert [(cell.method, cell.ablation, cell.seed) for cell in expand(found).cells] == [("eap", "zero", None)]


def test_the_grid_is_a_product_and_each_cell_is_there_once():
    found = expand(spec(objective=["answer-difference", "l2"], method=["exact", "truth", "exact"])).cells
    expected = [("exact", a, o) for a in ("patch", "zero") for o in ("answer-difference", "l2")]
    expected += [("truth", "patch", None), ("truth", "zero", None)]  # looks at no objective: one cell
    assert [(cell.method, cell.ablation, cell.objective) for cell in found] == expected
    twice = Spec.of({"name": "mine", "grid": [SMALL, SMALL | {"ablation": "zero"}]})
    assert [cell.key for cell in expand(twice).cells] == [cell.key for cell in expand(spec()).cells]


def test_the_objective_is_the_tasks_own_unless_given():
    assert {cell.objective for cell in expand(spec(method="eap")).cells} == {"answer-difference"}


def test_seeds_belong_to_chance_alone():
    cells = expand(
        spec(method=["eap", {"name": "random", "seed": [5, 6]}], ablation=["zero", "resample"], seed=[0, 1])
    ).cells
    assert [(c.method, c.ablation, c.seed) for c in cells] == [
        ("eap", "zero", None),
        ("eap", "resample", 0),
        ("eap", "resample", 1),
        ("random", "zero", 5),
        ("random", "zero", 6),
        ("random", "resample", 5),
        ("random", "resample", 6),
    ]


def test_globs_match_default_domains_and_variants_only_when_asked():
    """On the programs whose names begin with ``re``: each task of a glob takes a model to be loaded."""
    every = {cell.task for cell in expand(spec(task="tracr/re*", method="truth", ablation="zero")).cells}
    fixed = {cell.task for cell in expand(spec(task="tracr/re*@fixed", method="truth", ablation="zero")).cells}
    named = {name for name in ground_truth.names() if name.startswith("tracr/re")}
    assert every == {name for name in named if "@" not in name} and len(every) >= 3
    assert fixed == {name for name in named if name.endswith("@fixed")} and "tracr/reverse@fixed" in fixed
    assert named > every | fixed


def test_what_has_no_meaning_says_why():
    reasons = {
        (job.cell.method, job.cell.objective): job.undefined
        for job in expand(spec(method=["eap", "exact"], objective=["l2", "kl"])).jobs
    }
    assert "gradient" in reasons["eap", "l2"] and reasons["exact", "l2"] is None
    assert "one number" in reasons["exact", "kl"]  # xproportion's output is one number
    left = Spec.of({"name": "mine", "grid": SMALL, "except": [{"method": "e*", "ablation": "zero", "because": "slow"}]})
    assert [job.undefined for job in expand(left).jobs] == [None, "left out of mine: slow", None, None]


def test_an_identity_can_be_read_and_its_key_is_stable():
    cell = expand(spec(method={"name": "eap-ig", "steps": 7})).cells[0]
    identity = cell.as_json()
    assert json.loads(json.dumps(identity)) == identity
    assert list(identity) == (
        "key_version task data model weights graph truth method version parameters ablation objective seed".split()
    )
    assert identity["task"] == identity["model"] == "tracr/xproportion"
    assert identity["method"] == "eap-ig" and identity["parameters"]["steps"] == 7
    assert set(identity["parameters"]) > {"steps"}, "defaults are written out"
    assert (identity["ablation"], identity["objective"], identity["seed"]) == ("patch", "answer-difference", None)
    hashes = [identity[name] for name in ("data", "weights", "graph", "version")]
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in hashes)
    assert expand(spec(method={"name": "eap-ig", "steps": 7})).cells[0].key == cell.key == key_of(identity)


def test_a_key_is_the_same_on_every_machine():
    cell = Cell(
        key_version=KEY_VERSION, task="t", data="d", model="m", weights="w", graph="g", truth=None, method="eap",
        version="v", parameters={"b": 0.1, "a": [1]}, ablation="zero", objective=None, seed=3,
    )  # fmt: skip
    assert cell.key == "343f24e63a2308ef"


OTHER = {"key_version": 99, "parameters": {"x": 1}, "seed": 7}


def test_everything_that_changes_a_number_changes_the_key_and_nothing_else_does():
    job = expand(spec()).jobs[0]
    keys = {job.key}
    for name, value in dict(job.cell).items():
        changed = Cell(**dict(job.cell) | {name: OTHER.get(name, "x")})
        assert changed != job.cell and value != OTHER.get(name, "x")
        keys.add(changed.key)
    assert len(keys) == 15
    assert job.cell.minimal is None and Cell(**dict(job.cell) | {"minimal": None}).key == job.key
    moved = dataclasses.replace(job, sources=Sources("a", "b", "c"), undefined="no")
    assert moved.key == job.key and moved.cell == job.cell and hash(moved) == hash(job)


def test_what_only_costs_is_run_with_and_is_no_part_of_the_identity():
    def job(size, ablation="zero"):
        method = {"name": "magnitude", "batch_size": size}
        return expand(spec(method=method, ablation=ablation, objective="l2")).jobs[0]

    assert job(2).key == job(3).key and job(2).cost_only == {"batch_size": 2}
    assert "batch_size" not in job(2).cell.parameters and job(2).parameters["batch_size"] == 2
    over_the_batch = [job(size, "mean[over=batch]") for size in (2, 3)]
    assert over_the_batch[0].key != over_the_batch[1].key and not over_the_batch[0].cost_only


def test_a_users_method_is_named_by_its_file_wherever_it_is(tmp_path, monkeypatch):
    source = "def discover(model, data, *, ablation, objective, seed, width=2):\n    return {}\n"
    keys = set()
    for folder, words in (("here", ""), ("there", "# elsewhere\n")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "mine.py"
        path.write_text(source + words)
        (job,) = expand(spec(method=f"{path}:discover", ablation="zero")).jobs
        assert job.cell.method == "mine.py:discover" and job.sources.method == f"{path}:discover"
        assert job.cell.parameters == job.parameters == {"width": 2}
        keys.add(job.key)
    assert len(keys) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text(source + "EDITED = True\n")
    monkeypatch.chdir(tmp_path / "other")
    assert expand(spec(method="mine.py:discover", ablation="zero")).cells[0].key not in keys


def test_other_methods_on_the_same_benchmark():
    swapped = spec(objective="l2").with_methods(["truth"])
    assert {cell.method for cell in expand(swapped).cells} == {"truth"} and len(expand(swapped).cells) == 2
    with pytest.raises(SpecError, match="no method 'none'"):
        spec().with_methods(["none"])


def test_filters():
    jobs = expand(spec(method=["exact", "random"], objective=["l2"], seed=[0, 1])).jobs

    def chosen(*only):
        return [(job.cell.method, job.cell.ablation, job.cell.seed) for job in select(jobs, only)]

    assert chosen("method=exact") == [("exact", "patch", None), ("exact", "zero", None)]
    assert chosen("method=r*", "ablation=zero", "seed=1") == [("random", "zero", 1)]
    assert chosen("ablation=zero", "method=exact", "method=random", "seed=none") == [("exact", "zero", None)]
    assert len(chosen()) == len(jobs) == 6
    for only, says in {
        "method": "give KEY=VALUE",
        "metod=eap": "Did you mean 'method'",
        "method=eep": "leaves no cell; there method is exact, random",
    }.items():
        with pytest.raises(SpecError, match=says):
            chosen(only)


def test_the_benchmark_avoids_the_circuits_that_are_listed():
    """``plurality-1``: each of several minimal circuits in turn, or the only one; no circuit is forgotten."""
    avoided = {}
    for grid in Spec.load("plurality-1").grid:
        for choice in grid.method:
            if names := choice.overrides.get("avoid"):
                (task,), (ablation,) = grid.task, grid.ablation
                avoided.setdefault((task, ablation), {}).setdefault(choice.name, []).append(names)
    assert {len(ground_truth.load(task).minimal(ablation).circuits) for task, ablation in avoided} == {1, 2, 3}
    for (task, ablation), by_method in avoided.items():
        for circuits in by_method.values():
            assert circuits == ground_truth.load(task).minimal(ablation).circuits
