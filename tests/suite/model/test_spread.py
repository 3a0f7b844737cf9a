"""Layers in main memory and on disk: the same numbers, and no more weights held than one layer's."""

import json

import pytest
import torch
from discovering import discover, scores
from oracles import ARCHITECTURES, small_data, small_model
from second_device import second_device

from circuitmeter.suite.circuit import top_n
from circuitmeter.suite.errors import ModelError, SpecError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.load.devices import memory_of, over_all, placement, shared_out, spread_over_devices

pytest.importorskip("accelerate")
DISK = ["cpu", "disk", "disk"]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "pythia", "gemma-2", "attention only", "olmo-2"])
@pytest.mark.parametrize("method", ["eap", "eap-ig"])
def test_scores_are_those_of_the_model_in_one_piece(architecture, method, tmp_path):
    data = small_data()
    whole = small_model(**ARCHITECTURES[architecture])
    parted = spread_over_devices(small_model(**ARCHITECTURES[architecture]), DISK, folder=tmp_path)
    assert [block.W_O.device.type for block in parted.blocks] == ["cpu", "meta", "meta"]
    assert torch.equal(scores(method, parted, data), scores(method, whole, data))
    assert parted.weights_hash == whole.weights_hash
    assert [block.W_O.device.type for block in parted.blocks] == ["cpu", "meta", "meta"]


def test_circuits_and_trained_masks_too(tmp_path):
    data, found = small_data(), []
    for model in (small_model(), spread_over_devices(small_model(), DISK, folder=tmp_path)):
        circuit = top_n(discover("eap", model, data).scores, 20)
        evaluator = Evaluator(model, data, Ablation.parse("mean"), OBJECTIVES.get("kl"))
        masks = torch.stack([circuit.edges, ~circuit.edges])
        trained = discover("edge-pruning", model, data, objective="kl", preset="quick", steps=4, warmup=2)
        found.append((evaluator.per_example(masks), trained.scores.values.nan_to_num()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_backward_pass_brings_weights_again_and_holds_one_layer_s(tmp_path, monkeypatch):
    import weakref

    from accelerate.utils import OffloadedWeightsLoader

    model = spread_over_devices(small_model(n_layers=6), ["disk"] * 6, folder=tmp_path)
    loaded, most = [], 0
    original = OffloadedWeightsLoader.__getitem__

    def counted(self, key):
        nonlocal most
        weight = original(self, key)
        if key == "W_out":
            loaded.append(weakref.ref(weight.untyped_storage()))
            most = max(most, sum(one() is not None for one in loaded))
        return weight

    monkeypatch.setattr(OffloadedWeightsLoader, "__getitem__", counted)
    inputs = model.input_nodes(small_data().clean).requires_grad_()
    logits = model.run(inputs)[0]
    forwards = len(loaded)
    logits.sum().backward()
    assert len(loaded) > forwards >= 6  # brought again
    assert most <= 2  # of six layers', and one that is being replaced


def test_a_plan_fills_memory_and_then_the_disk():
    model = small_model(n_layers=4)
    layer = sum(weight.nbytes for weight in model.blocks[0].parameters())
    rest = sum(weight.nbytes for weight in model.parameters()) - 4 * layer
    assert placement(model, {"cpu": rest + 10 * layer}) == ["cpu"] * 4
    places = placement(model, {"cpu": rest + 3 * layer})
    assert places[0] == "cpu" and places[-1] == "disk"
    with pytest.raises(ModelError, match="the embeddings do not fit"):
        placement(model, {"cpu": 100})


@pytest.mark.parametrize(
    "sizes, n, memory, places",
    [
        ([10] * 8, 3, 1000, [1, 1, 1, 1, 2, 2, 2, 2]),  # the first one has what writers write, and no layer
        ([10] * 8, 2, 1000, [1] * 8),
        ([10] * 8, 3, 40, [0, 0, 1, 1, 1, 2, 2, 2]),  # .8 of 40 is three layers
        ([10] * 3, 4, 1000, [1, 2, 3]),
        ([1, 1, 1, 9], 3, 100, [1, 1, 1, 2]),
    ],
)
def test_layers_are_shared_out_among_gpus(sizes, n, memory, places):
    assert shared_out(sizes, n, memory) == places


@pytest.mark.parametrize("method", ["eap", "eap-ig"])
def test_scores_on_two_devices_are_those_of_one(method):
    data, near = small_data(), torch.device("cpu")
    whole = scores(method, small_model(), data)
    with second_device() as far:
        parted = over_all(small_model(), [near, far], 10**9)
        assert {block.W_O.device for block in parted.blocks} == {far} and parted.device == near
        assert torch.equal(scores(method, parted, data), whole)


def test_a_cell_s_model_is_spread_where_its_weights_do_not_fit_one_gpu(monkeypatch):
    """``cuda`` as a worker is told it; here it stands for the CPU and a second device."""
    from circuitmeter.suite.model import device
    from circuitmeter.suite.plan.subject import forget_subjects, subject

    weights = sum(weight.nbytes for weight in subject("ioi", "mini").model.parameters())
    try:
        with second_device() as far:
            monkeypatch.setattr(device, "all_of", lambda kind: [torch.device("cpu"), far])
            found = []
            for memory in (2 * weights, weights):
                forget_subjects()
                monkeypatch.setattr(device, "memory_of_device", lambda each, memory=memory: memory)
                model = subject("ioi", "mini", "cpu").model
                found.append(({block.W_O.device.type for block in model.blocks}, model.weights_hash))
    finally:
        forget_subjects()
    assert found[0][0] == {"cpu"} and found[1][0] == {"far"}
    assert found[0][1] == found[1][1]


def test_what_a_gpu_s_name_stands_for(monkeypatch):
    from circuitmeter.suite.model.device import all_of

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert all_of(torch.device("cuda")) == [torch.device("cuda", i) for i in range(3)]
    assert all_of(torch.device("cuda:1")) == [torch.device("cuda:1")]
    assert all_of(torch.device("cpu")) == [torch.device("cpu")]


def test_what_cannot_be_spread_is_said(tmp_path):
    with pytest.raises(ModelError, match="2 places for 3 layers"):
        spread_over_devices(small_model(), ["cpu", "disk"], folder=tmp_path)
    with pytest.raises(ModelError, match="need a folder that exists"):
        spread_over_devices(small_model(), DISK, folder=tmp_path / "none")


def test_a_command_line_spreads_a_model_and_finds_the_same(tmp_path, monkeypatch, capsys):
    from circuitmeter.suite import cli
    from circuitmeter.suite.model.load import devices as module
    from circuitmeter.suite.model.load.by_name import load_model

    places = []
    monkeypatch.setattr(
        module,
        "spread_over_devices",
        lambda *given, **more: places.append(given[1]) or spread_over_devices(*given, **more),
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    monkeypatch.setattr(module.tempfile, "tempdir", None)  # it is remembered otherwise
    (tmp_path / "disk").mkdir()
    model = load_model("mini", device="cpu")
    one = sum(weight.nbytes for weight in model.blocks[0].parameters()) // 1000
    rest = sum(weight.nbytes for weight in model.parameters()) // 1000 - 2 * one
    asked = ["--task", "ioi", "--model", "mini", "--device", "cpu", "--prompts", "8"]
    found = []
    for name, more in {"whole": [], "parted": ["--memory", f"cpu={rest + 2 * one - 10}KB"]}.items():
        out = tmp_path / f"{name}.json"
        assert cli.main(["discover", *asked, "--method", "eap", "--top", "30", "--out", str(out), *more]) == 0
        found.append(json.loads(out.read_text())["edges"])
        if more:
            capsys.readouterr()
            assert cli.main(["evaluate", str(out), *asked, *more, "--json"]) == 0
    assert found[0] == found[1] and places and all("disk" in place for place in places)
    assert not list((tmp_path / "disk").glob("circuitmeter-*"))  # deleted with the model


@pytest.mark.parametrize("written", ["70GB", "0=70", "gpu=70GB", "disk=1GB"])
def test_memory_that_is_written_otherwise_is_refused(written):
    with pytest.raises(SpecError, match="PLACE is a GPU's number or cpu"):
        memory_of(["cpu=1GB", written])


def test_memory_by_place():
    assert memory_of(["0=70GB", "1=1.5GiB", "cpu=200MB"]) == {0: "70GB", 1: "1.5GiB", "cpu": "200MB"}
