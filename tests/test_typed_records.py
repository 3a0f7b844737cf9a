"""What one folder hands to another is read by attribute: no public name that crosses folders has a string-keyed record.

Read from the source: every public function, method and field that another folder imports, by its annotations.
"""

import ast
import re

import pytest
from test_layers import imported_names, modules

# Mappings whose keys are not this project's to name, and what becomes a file or comes out of one.
ARGUMENTS = "arguments by name, as a method's or an ablation's own function takes them"
FILES = "what a file holds before it is checked, or is made of what is"
FOREIGN = "the configuration of another library's model"
SAYS = "what a method says of its search, as it likes"
ALLOWED = {
    "ground_truth.files.write_json": FILES,
    "suite.circuit.Discovery.diagnostics": SAYS,
    "suite.interchange.external.ExportedModel.config": FOREIGN,
    "suite.intervention.ablation.Ablation.named": ARGUMENTS,
    "suite.intervention.ablation.Ablation.options": ARGUMENTS,
    "suite.json_model.Kept.as_json": FILES,
    "suite.json_model.json_hash": FILES,
    "suite.methods.registry.Method.cost_of": ARGUMENTS,
    "suite.methods.registry.Method.parameters": ARGUMENTS,
    "suite.methods.registry.Method.presets": ARGUMENTS,
    "suite.methods.registry.Method.resolve": ARGUMENTS,
    "suite.model.convert.transformer_lens.from_transformer_lens": FOREIGN,
    "suite.model.convert.transformer_lens.is_transformer_lens": FOREIGN,
    "suite.model.convert.transformer_lens.outline_of_transformer_lens": FOREIGN,
    "suite.plan.job.Job.cost_only": ARGUMENTS,
    "suite.plan.job.Job.parameters": ARGUMENTS,
    "suite.plan.plan.Plan.as_json": FILES,
    "suite.plan.spec.MethodChoice.overrides": ARGUMENTS,
    "suite.plan.spec.MethodChoice.parameters": ARGUMENTS,
    "suite.plan.spec.Spec.of": FILES,
    "suite.plan.spec.Spec.with_methods": FILES,
    "suite.reading.read_toml": FILES,
    "suite.scoring.sensitivity.card_model.SensitivityCard.as_json": FILES,
    "suite.store.check.Check.as_json": FILES,
    "suite.store.keys.key_of": FILES,
    "suite.store.reading.unsealed": FILES,
    "suite.store.record.failure": SAYS,
}
RECORD = re.compile(r"\b([dD]ict|(Mutable)?Mapping)\b(\[str, (Any|object)\]|(?!\[))")


def is_record(annotation: ast.expr | None) -> bool:
    """Whether an annotation has a mapping with strings for keys and anything for values, or a mapping of anything."""
    return annotation is not None and RECORD.search(ast.unparse(annotation)) is not None


def annotations(node: ast.stmt, prefix: str) -> list[tuple[str, ast.expr | None]]:
    """(dotted name, annotation) of all that a function's signature, or a class's public methods and fields, have."""
    if isinstance(node, ast.FunctionDef):
        named = node.args
        every = [*named.posonlyargs, *named.args, *named.kwonlyargs]
        return [
            (f"{prefix}.{node.name}", each) for each in (*(argument.annotation for argument in every), node.returns)
        ]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [(f"{prefix}.{node.target.id}", node.annotation)]
    if isinstance(node, ast.ClassDef):
        inside = [each for part in node.body for each in annotations(part, f"{prefix}.{node.name}")]
        return [
            each for each in inside if not each[0].rpartition(".")[2].startswith("_") or each[0].endswith("__init__")
        ]
    return []


def crossing() -> set[str]:
    """The public names that have a string-keyed record and that a module of another folder imports."""
    taken: dict[str, set[str]] = {}
    for importer in modules():
        for name in imported_names(importer):
            taken.setdefault(name, set()).add(folder(importer))
    found = set()
    for module, file in modules().items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            own = {f"{module}.{getattr(node, 'name', '')}", f"{folder(module)}.{getattr(node, 'name', '')}"}
            others = set().union(*(taken.get(each, set()) for each in own)) - {folder(module)}
            if others:
                found |= {name for name, annotation in annotations(node, module) if is_record(annotation)}
    return found


def folder(module: str) -> str:
    """The folder that a module is in; a package is its own."""
    return module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]


def test_no_string_keyed_record_crosses_a_folder():
    found = crossing()
    assert found - ALLOWED.keys() == set(), "give these a dataclass or a pydantic model"
    assert ALLOWED.keys() - found == set(), "these are no more: take them off the list"


@pytest.mark.parametrize(
    ("annotation", "is_one"),
    [("dict[str, Any]", True), ("list[Mapping[str, object]] | None", True), ("Sequence[dict]", True), ("dict", True),
     ("Mapping", True), ("dict[str, float]", False), ("tuple[str, Any]", False),
     ("Mapping[Key, Cell]", False), ("None", False)],
)  # fmt: skip
def test_a_record_is_known_by_its_annotation(annotation, is_one):
    assert is_record(ast.parse(annotation, mode="eval").body) is is_one
