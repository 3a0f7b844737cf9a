"""Labels say what differs and nothing else; orders are fixed."""

from synthetic import identity

from circuitmeter.reports.read.labels import method_labels, ordered_ablations, ordered_labels, program_of


def labels_of(*cells, prompts=()):
    asked = {str(i): number for i, number in enumerate(prompts)}
    return list(method_labels({str(i): cell for i, cell in enumerate(cells)}, asked).values())


def on(data, task="a", method="eap", **changes):
    return identity(task, method, "patch", **changes).model_copy(update={"data": data * 16, "model": "mini"})


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


def test_the_number_of_prompts_is_named_where_a_task_has_runs_on_several():
    """On every task, so that the runs of one number are one method; of another method that has one number it is not."""
    cells = [on("1"), on("2"), on("3", "b"), on("3", "b", "ifr")]
    of_many = "eap (prompts=64)"
    assert labels_of(*cells, prompts=[8, 64, 64, 64]) == ["eap (prompts=8)", of_many, of_many, "ifr"]
    assert labels_of(*cells, prompts=[8, None, None, 8]) == ["eap (prompts=8)", "eap", "eap", "ifr"]


def test_prompts_of_one_number_are_told_apart_by_their_hash():
    assert labels_of(on("1"), on("2"), on("3", "b")) == ["eap (data 1111)", "eap (data 2222)", "eap"]
    asked = [8, 8, 8]
    assert labels_of(on("1"), on("2"), on("3", "b"), prompts=asked) == [
        *("eap (prompts=8, data 1111)", "eap (prompts=8, data 2222)", "eap (prompts=8)")
    ]


def test_seeds_tasks_and_models_have_their_own_prompts_and_one_label():
    cells = [on("1", seed=seed) for seed in range(3)] + [on("2", "b")]
    other_model = on("3").model_copy(update={"model": "mini-seed1"})  # another tokenizer, other tokens
    assert set(labels_of(*cells, other_model, prompts=[8] * 5)) == {"eap"}


def test_orders():
    assert ordered_ablations(["zero", "mean-positional", "patch", "strange", "mean"]) == [
        *("patch", "mean", "mean-positional", "zero", "strange")
    ]
    assert ordered_labels(["truth", "random", "mine", "acdc"]) == ["acdc", "mine", "random", "truth"]


def test_variants_belong_to_one_program():
    assert program_of("tracr/reverse@fixed") == program_of("tracr/reverse") == "tracr/reverse"
