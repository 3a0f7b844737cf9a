"""Training a dictionary: it finds directions that are there, the same each time, and goes on where it stopped."""

import pytest
import torch

from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.model.features.scores import dictionary_scores, match
from circuitmeter.suite.model.features.training import DictionaryTraining, TrainingRecipe


def sparse(n=4000, directions=8, width=12, active=2, seed=0):
    """Activations [n, width] that are sums of few of some directions, and these [directions, width]."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.linalg.qr(torch.randn(width, directions, generator=generator))[0].T
    on = torch.zeros(n, directions)
    on.scatter_(1, torch.rand(n, directions, generator=generator).topk(active).indices, 1.0)
    return (on * (0.5 + torch.rand(n, directions, generator=generator))) @ rows, rows


@pytest.mark.parametrize("k", [0, 2])
def test_directions_that_are_there_are_found(k):
    data, rows = sparse()
    training = DictionaryTraining(data, TrainingRecipe(16, k=k, steps=1500, rows=256, sparsity=0.01))
    losses = [loss for _, loss in training.run()]
    assert losses[-1] < 0.2 * losses[0]
    found = dictionary_scores(training.dictionary(), data, directions=rows)
    assert found.found >= 0.75
    assert found.unexplained < 0.2
    assert found.l0 <= (k or 6)
    untrained = DictionaryTraining(data, TrainingRecipe(16, k=k)).dictionary()
    assert dictionary_scores(untrained, data, directions=rows).found == 0


def test_a_training_that_was_stopped_ends_at_the_same_bits():
    data, _ = sparse(n=500)
    recipe = TrainingRecipe(8, k=2, steps=20, rows=32)
    whole, half = DictionaryTraining(data, recipe), DictionaryTraining(data, recipe)
    for _ in whole.run():
        pass
    for step, _ in half.run():
        if step == 9:
            break
    rest = DictionaryTraining(data, recipe, half.state)
    assert rest.step == 9
    assert [step for step, _ in rest.run()] == list(range(10, 21))
    for name, part in whole.state.items():
        assert torch.equal(part, rest.state[name])
    other = DictionaryTraining(data, TrainingRecipe(8, k=2, steps=20, rows=32, seed=1))
    assert not torch.equal(other.dictionary().W_enc, DictionaryTraining(data, recipe).dictionary().W_enc)


def test_scores_of_dictionaries_that_are_perfect_empty_and_random():
    data, rows = sparse(n=200)
    perfect = DictionaryTraining(data, TrainingRecipe(8, k=2)).dictionary()
    perfect = type(perfect)(rows.T.contiguous(), torch.full((8,), -1e-4), rows, torch.zeros(12))
    found = dictionary_scores(perfect, data, directions=rows)
    assert found.unexplained < 1e-5 and found.found == 1 and found.dead == 0
    assert found.l0 == pytest.approx(2, abs=0.05)
    dead = type(perfect)(rows.T.contiguous(), torch.full((8,), -100.0), rows, data.mean(0))
    empty = dictionary_scores(dead, data)
    assert empty.dead == 1 and empty.l0 == 0 and empty.unexplained == pytest.approx(1) and empty.found is None


def test_the_matching_is_one_to_one():
    directions = torch.eye(3)
    decoder = torch.tensor([[1.0, 0.1, 0.0], [0.9, 0.0, 0.0]])
    feature, cosine = match(decoder, directions)
    assert sorted(feature.tolist()) == [-1, 0, 1]
    assert float(cosine[feature == -1]) == 0
    assert feature[0] == 1 and feature[1] == 0  # the other way round the cosines sum to less


@pytest.mark.parametrize("wrong", [{"n_features": 0}, {"n_features": 4, "k": 5}, {"n_features": 4, "steps": 0}])
def test_numbers_that_mean_nothing_are_refused(wrong):
    with pytest.raises(SpecError):
        TrainingRecipe(**wrong)
