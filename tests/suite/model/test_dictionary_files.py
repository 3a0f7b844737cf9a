"""Dictionaries from files: SAELens's layout, circuit-tracer's, plain state dicts, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from feature_models import dictionary
from safetensors.torch import save_file

from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.model.features.dictionary import FeatureDictionary
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.load.dictionary import load_dictionary, save_dictionary


def x(width=6):
    return torch.randn(5, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk", "gated", "identity"])
@pytest.mark.parametrize("place", ["mlp_out", "z", "resid_pre", "transcoder"])
def test_what_is_written_is_read_again(tmp_path, activation, place):
    book = dictionary(6, activation, centred=activation != "gated").to(torch.zeros(()))
    site = Site(3, place)
    save_dictionary(book, tmp_path, site)
    again, found = load_dictionary(tmp_path)
    assert found == site
    torch.testing.assert_close(again.encode(x()), book.encode(x()))
    torch.testing.assert_close(again.reconstruct(x()), book.reconstruct(x()))


def sae_lens(folder, book, **settings):
    """A folder as SAELens 6 writes it."""
    content = {
        "d_in": 6,
        "d_sae": book.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.16.3", "model_name": "gpt2-small", "hook_name": "blocks.8.hook_resid_pre"},
        "architecture": "standard",
    }
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(content | settings))
    save_file(
        {name: getattr(book, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}, folder / "sae_weights.safetensors"
    )
    return folder


def test_a_folder_of_saelens(tmp_path):
    book = dictionary(6, centred=True).to(torch.zeros(()))
    again, site = load_dictionary(sae_lens(tmp_path / "sae", book))
    assert str(site) == "resid_pre.8"
    torch.testing.assert_close(again.reconstruct(x()), book.reconstruct(x()))


def test_topk_scaled_by_decoder_norms_is_folded(tmp_path):
    book = dictionary(6).to(torch.zeros(()))
    folder = sae_lens(tmp_path / "sae", book, architecture="topk", k=3, rescale_acts_by_decoder_norm=True)
    again, _ = load_dictionary(folder)
    norms = book.W_dec.norm(dim=1)
    before = ((x() - book.b_dec) @ book.W_enc + book.b_enc) * norms
    values, where = before.relu().topk(3)
    active = torch.zeros_like(before).scatter(1, where, values)
    torch.testing.assert_close(again.decode(again.encode(x())), (active / norms) @ book.W_dec)


def test_transcoders_of_circuit_tracer_in_either_orientation(tmp_path):
    book = dictionary(6).to(torch.zeros(()))
    skip = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    stored = {"W_enc": book.W_enc.T, "W_dec": book.W_dec.T, "b_enc": book.b_enc, "b_dec": book.b_dec, "W_skip": skip}
    save_file({name: part.contiguous() for name, part in stored.items()}, tmp_path / "layer_3.safetensors")
    again, site = load_dictionary(tmp_path / "layer_3.safetensors")
    assert site is None
    torch.testing.assert_close(again.reconstruct(x()), book.reconstruct(x()) + x() @ skip.T)
    jump = {"W_enc": book.W_enc, "W_dec": book.W_dec, "b_enc": book.b_enc, "b_dec": book.b_dec}
    save_file(jump | {"threshold": torch.full((9,), 0.3)}, tmp_path / "params.safetensors")
    jumped = load_dictionary(tmp_path / "params.safetensors")[0]
    before = x() @ book.W_enc + book.b_enc
    torch.testing.assert_close(jumped.encode(x()), torch.where(before > 0.3, before, 0.0))


def test_a_plain_state_dict(tmp_path):
    book = dictionary(6).to(torch.zeros(()))
    state = {
        "encoder.weight": book.W_enc.T,
        "encoder.bias": book.b_enc,
        "decoder.weight": book.W_dec.T,
        "b_dec": book.b_dec,
    }
    save_file({name: part.contiguous() for name, part in state.items()}, tmp_path / "ae.safetensors")
    again, _ = load_dictionary(tmp_path / "ae.safetensors")
    torch.testing.assert_close(again.reconstruct(x()), book.reconstruct(x()))


def refused(path, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_dictionary(path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_one_line(tmp_path):
    book = dictionary(6).to(torch.zeros(()))
    refused(tmp_path / "absent", "safetensors")
    refused(tmp_path, "is missing")
    (tmp_path / "weights.pt").write_bytes(b"\x80\x02")
    refused(tmp_path / "weights.pt", "pickles")
    (tmp_path / "broken.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(tmp_path / "broken.safetensors", "Git LFS pointer.*git lfs pull")
    save_file({"W_enc": book.W_enc}, tmp_path / "half.safetensors")
    refused(tmp_path / "half.safetensors", "W_dec")
    broken = {"W_enc": book.W_enc[:, :4], "W_dec": book.W_dec, "b_enc": book.b_enc, "b_dec": book.b_dec}
    save_file({name: part.contiguous() for name, part in broken.items()}, tmp_path / "narrow.safetensors")
    refused(tmp_path / "narrow.safetensors", "W_enc has shape")
    save_file({**broken, "W_enc": torch.full_like(book.W_enc, float("nan"))}, tmp_path / "nan.safetensors")
    refused(tmp_path / "nan.safetensors", "NaN")
    whole = {name: getattr(book, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    for name, content, match in (
        ("integers", {"b_enc": torch.zeros(9, dtype=torch.int8)}, "b_enc is of type I8"),
        ("eight bits", {"b_enc": torch.zeros(9).to(torch.float8_e4m3fn)}, "b_enc is of type F8_E4M3"),
        ("a number", {"b_dec": torch.tensor(1.0)}, r"b_dec has shape \(\), and a dictionary's has 1"),
        ("a cube", {"W_skip": torch.ones(6, 6, 1)}, "W_skip has shape"),
    ):
        save_file({**whole, **content}, tmp_path / f"{name}.safetensors")
        refused(tmp_path / f"{name}.safetensors", match)
    save_file({"b_gate": book.b_enc} | {n: whole[n] for n in whole if n != "b_enc"}, tmp_path / "gate.safetensors")
    refused(tmp_path / "gate.safetensors", "b_enc missing")
    square = {"W_enc": torch.ones(6, 6), "W_dec": torch.ones(6, 6), "b_enc": torch.ones(6), "b_dec": torch.ones(6)}
    save_file(square, tmp_path / "square.safetensors")
    refused(tmp_path / "square.safetensors", "W_enc is 6 by 6.*which side")


def test_a_square_state_dict_of_linear_layers_is_turned(tmp_path):
    book = FeatureDictionary(torch.randn(6, 6), torch.randn(6), torch.randn(6, 6), torch.randn(6))
    state = {"encoder.weight": book.W_enc.T, "encoder.bias": book.b_enc, "decoder.weight": book.W_dec.T}
    state = {name: part.contiguous() for name, part in state.items()} | {"bias": book.b_dec}
    save_file(state, tmp_path / "ae.safetensors")
    torch.testing.assert_close(load_dictionary(tmp_path / "ae.safetensors")[0].reconstruct(x()), book.reconstruct(x()))


RELEASED = Path(__file__).parents[2] / "released_dictionaries"
COMPUTED = json.loads((RELEASED / "computed.json").read_text())
SITES = {
    "saelens_standard": "resid_pre.8",
    "saelens_uncentred": "mlp_out.8",
    "saelens_jumprelu": "attn_out.2",
    "saelens_topk": "z.2",
    "saelens_topk_rescaled": "resid_post.2",
    "saelens_gated": "mlp_out.0",
    "saelens_transcoder": "transcoder.1",
    "saelens_skip_transcoder": "transcoder.1",
    "saelens_jumprelu_transcoder": "transcoder.1",
}


@pytest.mark.parametrize("name", sorted(COMPUTED.keys() - {"x"}))
def test_files_of_the_libraries_own_writers_compute_what_the_libraries_do(name):
    """Written by SAELens 6.54.12 and circuit-tracer 0.5.0, with what their own code makes of five inputs."""
    path = RELEASED / name if name.startswith("saelens") else RELEASED / name / "layer_1.safetensors"
    book, site = load_dictionary(path)
    assert (None if site is None else str(site)) == SITES.get(name)
    inputs, wanted = torch.tensor(COMPUTED["x"]), COMPUTED[name]
    rough = {"atol": 0.05, "rtol": 0.02} if "skip" in name and "tracer" in name else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(book.encode(inputs), torch.tensor(wanted["activations"]), **rough)
    torch.testing.assert_close(book.reconstruct(inputs), torch.tensor(wanted["reconstruction"]), **rough)
    assert 0 < float((book.encode(inputs) != 0).float().mean()) < 1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"architecture": "crosscoder"}, "crosscoder"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"normalize_activations": "expected_average_only_in"}, "fold"),
        ({"k": -1}, "k is -1"),
        ({"k": "3"}, "k is '3'"),
        ({"activation_fn_kwargs": {"k": "many"}}, "activation_fn_kwargs.k is 'many'"),
        ({"activation_fn_kwargs": {"k": [3]}}, r"activation_fn_kwargs.k is \[3\]"),
        ({"apply_b_dec_to_input": "False"}, "apply_b_dec_to_input is 'False'"),
        ({"metadata": {"hook_name": "blocks.0.hook_q"}}, "no site"),
        ({"architecture": "topk", "k": 10}, "1 to 9"),
    ],
)
def test_settings_that_cannot_be_computed_are_refused(tmp_path, settings, match):
    refused(sae_lens(tmp_path / "sae", dictionary(6).to(torch.zeros(())), **settings), match)


def test_damaged_settings_are_refused(tmp_path):
    folder = sae_lens(tmp_path / "sae", dictionary(6).to(torch.zeros(())))
    for text, match in (
        ("{", "is not JSON"),
        ("[" * 100_000, "50 deep"),
        ('"x"', "JSON object"),
        ("\xff", "not UTF-8"),
        ('{"k": 1, "k": 2}', "twice"),
        ('{"k": NaN}', "NaN is no number"),
    ):
        (folder / "cfg.json").write_bytes(text.encode("latin-1"))
        refused(folder, f"cfg.json.*{match}")
    (folder / "cfg.json").write_text(" " * 2_000_000)
    refused(folder, "bytes")
