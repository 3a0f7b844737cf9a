"""Labels say what differs and nothing else; orders are fixed."""

from synthetic import identity

from circuitmeter.reports.read.labels import method_labels, ordered_ablations, ordered_labels, program_of


def labels_of(*cells):
    return list(method_labels({str(i): cell for i, cell in enumerate(cells)}).values())


def test_a_method_with_one_setting_is_called_by_its_name():
    cells = [identity(task, "eap-ig", "patch", parameters={"steps": 5}) for task in "ab"]
    assert labels_of(*cells) == ["eap-ig", "eap-ig"]


def test_only_parameters_that_vary_are_named():
    cells = [identity("a", "eap-ig", "patch", parameters={"steps": steps, "path": "inputs"}) for steps in (5, 30)]
    assert labels_of(*cells) == ["eap-ig (steps=5)", "eap-ig (steps=30)"]


def test_objectives_and_versions_that_vary_are_named():
    cells = [identity("a", "exact", "patch", objective=objective) for objective in ("l2", "kl")]
    assert labels_of(*cells) == ["exact (l2)", "exact (kl)"]
    cells = [identity(task, "exact", "patch", objective=own) for task, own in (("a", "l2"), ("b", "kl"))]
    assert labels_of(*cells) == ["exact", "exact"]
    cells = [identity("a", "mine", "patch", version=version * 8) for version in ("12", "ab")]
    assert labels_of(*cells) == ["mine (version 1212)", "mine (version abab)"]


def test_orders():
    assert ordered_ablations(["zero", "mean-positional", "patch", "strange", "mean"]) == [
        *("patch", "mean", "mean-positional", "zero", "strange")
    ]
    assert ordered_labels(["truth", "random", "mine", "acdc"]) == ["acdc", "mine", "random", "truth"]


def test_variants_belong_to_one_program():
    assert program_of("tracr/reverse@fixed") == program_of("tracr/reverse") == "tracr/reverse"
