"""Prompts: checks, batches by length, content hash."""

import subprocess
import sys

import pytest
import torch
from oracles import small_data

from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import DataError


def ragged():
    data = small_data()
    lengths = torch.tensor([3, 5, 3, 5, 4, 4])
    read = torch.zeros_like(data.read)
    read[torch.arange(6), lengths - 1] = True
    return Data(data.clean, data.counterfactual, read, lengths, data.answers, data.wrong)


def test_batches_are_of_one_length_and_hold_every_row_once():
    seen = []
    for batch in ragged().batches(1000):
        assert len(batch.lengths.unique()) == 1 and batch.clean.shape[1] == batch.lengths[0]
        assert torch.equal(batch.clean, ragged().clean[batch.rows, : batch.clean.shape[1]])
        assert batch.valid.all() and (batch.read.nonzero()[:, 0] == batch.example_of_read).all()
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(6))
    (padded,) = ragged().batches(1000, padded=True)
    assert padded.clean.shape == (6, 5) and padded.valid.sum(1).tolist() == [3, 5, 3, 5, 4, 4]


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"counterfactual": torch.zeros(6, 4, dtype=torch.long)}, "same length"),
        ({"read": torch.zeros(6, 5, dtype=torch.bool)}, "read"),
        ({"lengths": torch.full((6,), 4)}, "within its own length"),
        ({"answers": torch.zeros(5, 1, dtype=torch.long)}, "one per prompt"),
        ({"clean": torch.zeros(0, 5, dtype=torch.long)}, "at least one row"),
    ],
)
def test_what_does_not_fit_is_refused(changes, hint):
    data = small_data()
    given = {"clean": data.clean, "counterfactual": data.counterfactual, "read": data.read, "answers": data.answers}
    with pytest.raises(DataError, match=hint):
        Data(**{**given, **changes})


def test_the_hash_is_of_the_content():
    data = small_data()
    assert data.hash == small_data().hash
    changed = data.clean.clone()
    changed[0, 0] += 1
    others = [
        Data(changed, data.counterfactual, data.read, answers=data.answers, wrong=data.wrong),
        Data(data.clean, None, data.read, answers=data.answers, wrong=data.wrong),
        Data(data.clean, data.counterfactual, data.read, answers=data.wrong, wrong=data.answers),
        Data(data.clean, data.counterfactual, data.read, answers=data.answers, wrong=data.wrong, reference=data.clean),
    ]
    assert len({data.hash, *(other.hash for other in others)}) == 5


def test_the_hash_is_the_same_in_another_process():
    code = (
        "import torch; from circuitmeter.suite.data import Data; t = torch.arange(10).view(2, 5);"
        "print(Data(t, t + 1, t % 5 == 4).hash)"
    )
    found = subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": "1"}, text=True)
    tokens = torch.arange(10).view(2, 5)
    assert found == Data(tokens, tokens + 1, tokens % 5 == 4).hash + "\n"


def test_named_positions_and_templates_travel_with_their_rows_and_change_the_hash():
    tokens = torch.arange(12).reshape(3, 4)
    read = torch.zeros(3, 4, dtype=torch.bool)
    read[:, 3] = True
    at = torch.eye(3, 4, dtype=torch.bool)
    plain = Data(tokens, None, read)
    named = Data(tokens, None, read, positions={"subject": at}, templates=torch.tensor([0, 0, 1]))
    assert named.hash != plain.hash
    assert named.hash != Data(tokens, None, read, positions={"object": at}, templates=torch.tensor([0, 0, 1])).hash
    part = named.select(torch.tensor([2, 0]))
    assert part.templates.tolist() == [1, 0]
    assert part.positions["subject"].tolist() == at[[2, 0]].tolist()
    assert named.batch(torch.tensor([1])).positions["subject"].tolist() == at[[1]].tolist()


def test_named_positions_are_not_on_padding():
    tokens, read = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool)
    read[:, 0] = True
    at = torch.zeros(2, 3, dtype=torch.bool)
    at[1, 2] = True
    with pytest.raises(DataError, match=r"positions\['end'\]"):
        Data(tokens, None, read, lengths=torch.tensor([3, 2]), positions={"end": at})


def test_positions_of_a_batch_weigh_so_that_rows_count_alike():
    plain = Data(torch.ones(3, 7, dtype=torch.long), None, torch.ones(3, 7, dtype=torch.bool))
    assert torch.equal(plain.batch(torch.arange(3)).weights, torch.ones(3, 7, dtype=torch.float64))  # to the last bit
    lengths = torch.tensor([3, 2])
    answers = torch.tensor([[[1, 2, 3], [4, -1, -1]], [[5, 6, -1], [-1, -1, -1]]])
    wrong = torch.tensor([[[7, 8, -1]], [[9, -1, -1]]])
    last = torch.arange(3) == lengths[:, None] - 1
    data = Data(torch.ones(2, 3, dtype=torch.long), None, last, lengths, answers=answers, wrong=wrong)
    batch = data.batch(torch.arange(2))
    assert torch.equal(batch.weights > 0, batch.valid) and batch.valid.shape == (5, 5)
    of_runs = torch.tensor([1 / 3, 1 / 2], dtype=torch.float64)[batch.example]
    torch.testing.assert_close(batch.weights.mean(1), of_runs)
    torch.testing.assert_close(batch.weights.amax(1), of_runs * 5 / batch.lengths)
