"""The rooms of the house are in an order: no import goes up, and no module's imports lead back to it.

Read from the source, at import time and inside functions alike; imports for annotations alone (TYPE_CHECKING) count for
the order too, because whoever names a type of an upper room depends on it.
"""

import ast
import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"suite": "suite", "tasks": "tasks", "ground_truth": "ground_truth", "reports": "reports"}
# Lower rooms first; a room may import itself and what is above it in this list. A longer name wins over a shorter one.
ROOMS = (
    "suite.errors",
    "suite.users_line",
    "suite.registry",
    "suite.reading",
    "suite.json_model",
    "suite.fork_server",
    "suite.process",
    "suite.users_file",
    "suite.rounding",
    "suite.data",
    "suite.model",
    "suite.circuit",
    "suite.selection",
    "suite.intervention",
    "ground_truth",
    "tasks",
    "suite.model.load",  # models by name: those of tasks and truths ship with them
    "suite.methods",
    "suite.scoring",
    "suite.interchange",
    "suite.store",
    "suite.plan",
    "suite.run",
    "reports.read",
    "reports.page.table",  # the one file that turns numbers into text
    "reports.draw",
    "reports.page",
    "reports.card",
    "reports.chapters",
    "reports.reproduction",
    "reports",
    "suite.verbs",
    "suite.cli",
    "suite",
)
# Arrows that still run up, each to be taken out with its mend: (module, imported module).
STILL_UP: set[tuple[str, str]] = set()


@lru_cache
def modules() -> dict[str, Path]:
    """Name (``suite.model.graph``) -> file, of every module but those of the top package."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if "_top" not in file.parts:
                parts = file.relative_to(ROOT).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@lru_cache
def imports(name: str) -> tuple[tuple[str, bool, bool], ...]:
    """(module, at import time, for annotations alone) of everything of this project that a module imports."""
    known = modules()
    tree = ast.parse(known[name].read_text(encoding="utf-8"))
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    found = []

    def visit(node: ast.AST, at_import: bool, annotation: bool) -> None:
        if isinstance(node, ast.ImportFrom):
            found.extend((target, at_import, annotation) for target in _targets(node, package, known))
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.iter_child_nodes(node):
            visit(child, at_import and not inside, annotation or typing)

    visit(tree, True, False)
    return tuple(found)


def _whole(node: ast.ImportFrom, package: str) -> str | None:
    """The module of this project that is imported from; None where it is of another."""
    if node.level:
        parts = package.split(".")
        up = node.level - 1
        base = parts[: len(parts) - up] if up < len(parts) else []  # the top package
        return ".".join([*base, *([node.module] if node.module else [])])
    top, _, rest = (node.module or "").partition(".")
    return rest if top == "circuitmeter" else None


def _targets(node: ast.ImportFrom, package: str, known: dict[str, Path]) -> list[str]:
    whole = _whole(node, package)
    if whole is None:
        return []
    names = [f"{whole}.{alias.name}".lstrip(".") for alias in node.names]
    return [each if each in known else whole for each in names if each in known or whole in known]


def imported_names(name: str) -> set[str]:
    """The dotted names of this project that a module uses: imported by name, or read of an imported module."""
    known = modules()
    tree = ast.parse(known[name].read_text(encoding="utf-8"))
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    called: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (whole := _whole(node, package)) is not None:
            for alias in node.names:
                found.add(f"{whole}.{alias.name}".lstrip("."))
                called[alias.asname or alias.name] = f"{whole}.{alias.name}".lstrip(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called:
            found.add(f"{called[node.value.id]}.{node.attr}")
    return found


def room(module: str) -> int:
    """The number of a module's room."""
    fits = [place for place in ROOMS if module == place or module.startswith(f"{place}.")]
    return ROOMS.index(max(fits, key=len))


def arrows_up() -> set[tuple[str, str]]:
    return {(name, target) for name in modules() for target, _, _ in imports(name) if room(target) > room(name)}


@lru_cache
def circles(at_import: bool) -> list[list[str]]:
    """Groups of modules each of which leads to all others by imports (strongly connected components)."""
    edges = {
        name: {
            target
            for target, early, annotation in imports(name)
            if target != name and (early and not annotation if at_import else True)
        }
        for name in modules()
    }
    reach = {name: _reached(name, edges) for name in edges}
    groups = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in edges if name in reach[name]
    }
    return [sorted(group) for group in groups]


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        for target in edges[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


def test_every_module_has_a_room():
    assert len(modules()) > 150
    for name in modules():
        assert room(name) >= 0


def test_the_rooms_are_those_of_the_guide_for_contributors():
    """Its table has each room once and in this order; several in one line are of one folder."""
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("| room |")[2].partition("\n\n")[0]
    named = []
    for line in table.splitlines()[2:]:
        first, *others = re.findall(r"`([^`]+)`", line.split("|")[1])
        parent = first.rpartition("/")[0]
        named += [first, *(other if "/" in other else f"{parent}/{other}" for other in others)]
    assert [place.removesuffix("/*.py").replace("/", ".") for place in named] == [place for place in ROOMS[:-1]]


def test_no_import_goes_up():
    up = arrows_up()
    assert up - STILL_UP == set(), "these import from a room above theirs"
    assert STILL_UP - up == set(), "these are mended: take them off the list"


def test_no_module_leads_back_to_itself_when_it_is_imported():
    assert circles(at_import=True) == []


def test_nor_inside_functions_or_annotations():
    assert circles(at_import=False) == []


def test_the_test_sees_what_it_is_there_for():
    seen = imports("suite.plan.subject")
    assert any(target.startswith("suite.model") for target, _, _ in seen)
    assert ("suite.model.load.by_name", False, False) in seen, "an import inside a function"
    assert ("suite.model.transformer", True, True) in seen, "an import for annotations"
    assert room("suite.model.load.by_name") < room("suite.plan.job") < room("suite.run.executors.local")
    assert room("reports.write") > room("reports.chapters.sections") > room("reports.draw.style")
