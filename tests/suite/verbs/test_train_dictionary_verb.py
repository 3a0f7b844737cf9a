"""``circuitmeter train-dictionary``: trains, goes on where it stopped, and refuses in one line."""

import pytest
import torch

from circuitmeter.suite.cli import main
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.load.dictionary import load_dictionary

MINI = ["train-dictionary", "--task", "ioi", "--model", "mini", "--device", "cpu"]


def train(out, *more):
    return main(
        [
            *MINI,
            "--site",
            "mlp_out.1",
            "--features",
            "12",
            "--k",
            "3",
            "--steps",
            "6",
            "--rows",
            "16",
            "--out",
            str(out),
            *more,
        ]
    )


def test_a_dictionary_of_mini(tmp_path, capsys):
    assert train(tmp_path / "one") == 0
    assert "12 features" in capsys.readouterr().out
    book, site = load_dictionary(tmp_path / "one")
    assert site == Site.parse("mlp_out.1")
    assert book.n_features == 12 and book.activation == "topk"
    assert train(tmp_path / "two") == 0
    again = load_dictionary(tmp_path / "two")[0]
    assert torch.equal(book.W_enc, again.W_enc)


def test_an_interrupted_training_goes_on_to_the_same_dictionary(tmp_path, capsys, monkeypatch):
    from circuitmeter.suite.verbs import train_dictionary

    monkeypatch.setattr(train_dictionary, "SAVE_EVERY", 2)
    saved = train_dictionary._save

    def save_and_stop(training, *given):
        saved(training, *given)
        if training.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_dictionary, "_save", save_and_stop)
    assert train(tmp_path / "half") == 130
    monkeypatch.setattr(train_dictionary, "_save", saved)
    assert main([*MINI, "--site", "mlp_out.1", "--out", str(tmp_path / "half")]) == 2
    assert "other prompts or settings" in capsys.readouterr().err
    assert train(tmp_path / "half") == 0
    assert "going on from step 4" in capsys.readouterr().err
    assert train(tmp_path / "whole") == 0
    assert torch.equal(load_dictionary(tmp_path / "half")[0].W_dec, load_dictionary(tmp_path / "whole")[0].W_dec)
    assert train(tmp_path / "half") == 2
    assert "holds a dictionary already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--site", "mlp_out.9"], "layers 0 to"),
        (["--site", "nowhere"], "no site"),
        (["--site", "transcoder.0"], "mlp_out"),
        (["--site", "mlp_out.0", "--features", "4", "--k", "9"], "k=9"),
        (["--site", "mlp_out.0", "--rate", "nan"], "rate"),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, capsys, arguments, said):
    assert main([*MINI, *arguments, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
