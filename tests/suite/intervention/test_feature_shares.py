"""What features keep of a model's behaviour, and what error nodes keep: known where the dictionary is, and by hand."""

import math

import pytest
import torch
from feature_models import dictionary
from oracles import small_data, small_model

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.feature_shares import feature_shares, parts_of
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.features.dictionary import FeatureDictionary
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.features.transformer import FeatureTransformer

OBJECTIVE = OBJECTIVES.get("logit-difference")


@pytest.mark.parametrize("ablation", ["zero", "patch"])
def test_directions_of_a_program_keep_all_and_leave_nothing_to_the_error_nodes(ablation):
    truth = ground_truth.load("tracr-rotated-features/fraction_a")
    found = feature_shares(
        truth.model(),
        tasks.load(truth.name).data(),
        ablation=Ablation.parse(ablation),
        objective=OBJECTIVES.get("answer-difference"),
    )
    assert found.features == pytest.approx(1, abs=1e-4) and found.errors == pytest.approx(0, abs=1e-4)


def shares(model, book, ablation="zero"):
    whole = FeatureTransformer.of(model, {Site.parse("mlp_out.2"): (book, range(book.n_features))})
    return feature_shares(whole, small_data(), ablation=Ablation.parse(ablation), objective=OBJECTIVE)


def test_a_dictionary_of_nothing_leaves_all_to_the_error_nodes():
    model = small_model()
    nothing = FeatureDictionary(*(torch.zeros(*shape).double() for shape in ((12, 3), (3,), (3, 12), (12,))))
    found = shares(model, nothing)
    assert found.features == pytest.approx(0) and found.errors == pytest.approx(1)


def test_under_zero_the_features_share_is_the_loss_recovered():
    """The model with its last MLP's output replaced by the reconstruction, between itself and the bias alone."""
    model, book, data = small_model(), dictionary(12), small_data()

    def loss(change):
        taken = model.blocks[2].mlp_out if hasattr(model.blocks[2], "mlp_out") else None
        assert taken is None  # there is no hook: the MLP's own output is replaced in a whole graph of one feature more
        _, run = model.run(model.input_nodes(data.clean))
        out = run["mlp", 2][0]
        before = model.outputs(run)[:-1].sum(0) + model.constant(data.clean.shape[1])
        before = before + sum(block.b_O for block in model.blocks)
        logits = model.to_logits(before + change(out), data.read)
        answers = logits.gather(1, data.answers) - logits.gather(1, data.wrong)
        return -float(answers.mean())

    whole, made, neither = loss(lambda x: x), loss(book.reconstruct), loss(lambda x: book.b_dec.expand_as(x))
    assert shares(model, book).features == pytest.approx((neither - made) / (neither - whole))


def test_where_nothing_is_lost_there_is_no_share():
    model = small_model()
    model.blocks[2].W_out.data.zero_()
    model.blocks[2].b_out.data.zero_()
    nothing = FeatureDictionary(*(torch.zeros(*shape).double() for shape in ((12, 3), (3,), (3, 12), (12,))))
    found = shares(model, nothing)
    assert math.isnan(found.features) and math.isnan(found.errors)


def test_the_parts_of_a_circuit_lack_what_its_error_nodes_write_and_what_its_features_write():
    graph = FeatureTransformer.of(small_model(), {Site.parse("mlp_out.1"): (dictionary(12), [2, 5])}).graph
    both = ["input->m1.f2", "input->m1.error", "a0.h1->m1.error"]
    circuit = Circuit.of(graph, [*both, "m1.f2->logits", "m1.f5->m2", "m1.error->m2", "m1.error->logits"])
    of_features, of_errors = parts_of(circuit)
    assert set(of_features.names) == {*both, "m1.f2->logits", "m1.f5->m2"}
    assert set(of_errors.names) == {*both, "m1.error->m2", "m1.error->logits"}
