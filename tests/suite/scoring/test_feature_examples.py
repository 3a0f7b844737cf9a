"""The prompts on which a feature is most active, beside a loop over prompts and positions."""

import pytest
import torch
from feature_models import feature_model
from oracles import small_data, small_model

from circuitmeter.suite.data import Data
from circuitmeter.suite.scoring.feature_examples import top_examples


def prompts():
    """Ten of unlike length: two batches of each length."""
    data = small_data(n=10)
    lengths = torch.tensor([5, 5, 4, 5, 4, 5, 5, 4, 5, 5])
    read = torch.zeros_like(data.read)
    read[torch.arange(10), lengths - 1] = True
    return Data(data.clean, None, read, lengths=lengths)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_examples_are_those_of_a_plain_loop(batch_size):
    model, data = feature_model(small_model(), ["mlp_out.1", "resid_pre.2"]), prompts()
    nodes = ["m1.f0", "m1.f5", "r2.f8"]
    found = top_examples(model, data, nodes, 3, batch_size=batch_size)
    for node in nodes:
        at = model.graph.at[node.partition(".")[0]]
        each = []
        for row in range(data.n):
            tokens = data.clean[row : row + 1, : int(data.lengths[row])]
            read = model.values_at(at.site, model.input_nodes(tokens))[0]
            active = model.dictionaries[str(at.site)].encode(read)[0, :, int(node.partition(".f")[2])]
            each.append((-float(active.max()), row, int(active.argmax())))
        wanted = [(row, position, -value) for value, row, position in sorted(each)[:3] if value < 0]
        assert [tuple(example)[:2] for example in found[node]] == [(row, position) for row, position, _ in wanted]
        assert [example.activation for example in found[node]] == pytest.approx([value for *_, value in wanted])


def test_a_feature_that_is_never_active_has_no_example():
    model = feature_model(small_model(), ["mlp_out.1"])
    model.dictionaries["mlp_out.1"].b_enc.fill_(-1e6)
    assert top_examples(model, prompts(), ["m1.f2"], 3) == {"m1.f2": []}
