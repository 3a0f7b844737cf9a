"""Dictionaries from files: SAELens's layout, circuit-tracer's, plain state dicts, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from feature_models import dictionary
from safetensors.torch import save_file

from circuitmeter.suite.errors import ModelError
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


def parts(features=9, width=6):
    """Weights and biases of two layers of torch, outputs first: encoder [F, D] and [F], decoder [D, F] and [D]."""
    generator = torch.Generator().manual_seed(4)
    return [
        torch.randn(*shape, generator=generator)
        for shape in ((features, width), (features,), (width, features), (width,))
    ]


def stored(path, **tensors):
    """A file of these tensors; in a name, two underscores stand for a dot."""
    path.parent.mkdir(exist_ok=True)
    save_file({name.replace("__", "."): part.contiguous() for name, part in tensors.items()}, path)
    return path


def test_an_autoencoder_of_dictionary_learning_takes_its_bias_off_its_input(tmp_path):
    encoder, b, decoder, bias = parts()
    file = stored(
        tmp_path / "ae.safetensors", encoder__weight=encoder, encoder__bias=b, decoder__weight=decoder, bias=bias
    )
    book, site = load_dictionary(file)
    active = ((x() - bias) @ encoder.T + b).clamp_min(0)
    torch.testing.assert_close(book.encode(x()), active)
    torch.testing.assert_close(book.reconstruct(x()), active @ decoder.T + bias)
    assert site is None


def test_its_newer_one_does_not(tmp_path):
    encoder, b, decoder, bias = parts()
    names = {"encoder__weight": encoder, "encoder__bias": b, "decoder__weight": decoder, "decoder__bias": bias}
    book = load_dictionary(stored(tmp_path / "ae.safetensors", **names))[0]
    active = (x() @ encoder.T + b).clamp_min(0)
    torch.testing.assert_close(book.encode(x()), active)
    torch.testing.assert_close(book.reconstruct(x()), active @ decoder.T + bias)


def test_its_gated_one_does(tmp_path):
    encoder, b, decoder, bias = parts()
    gate, r_mag = b.flip(0), b / 3
    names = {"encoder__weight": encoder, "decoder__weight": decoder, "decoder_bias": bias}
    book = load_dictionary(stored(tmp_path / "ae.safetensors", **names, r_mag=r_mag, gate_bias=gate, mag_bias=b))[0]
    before = (x() - bias) @ encoder.T
    active = (before + gate > 0) * (r_mag.exp() * before + b).clamp_min(0)
    torch.testing.assert_close(book.encode(x()), active)
    torch.testing.assert_close(book.reconstruct(x()), active @ decoder.T + bias)


@pytest.mark.parametrize("settings", [{"architecture": "topk", "k": 3}, {"architecture": "jumprelu"}])
def test_its_topk_and_batch_topk_have_one_layout_so_that_settings_say_which_it_is(tmp_path, settings):
    encoder, b, decoder, bias = parts()
    names = {"encoder__weight": encoder, "encoder__bias": b, "decoder__weight": decoder, "b_dec": bias}
    file = stored(tmp_path / "sae" / "ae.safetensors", **names, k=torch.tensor(3), threshold=torch.tensor(0.8))
    refused(file, "keeps the k largest.*cfg.json.*architecture")
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(settings))
    book = load_dictionary(tmp_path / "sae")[0]
    active = ((x() - bias) @ encoder.T + b).clamp_min(0)
    smallest = active.topk(3).values[:, -1:] if "k" in settings else active[active > 0.8].min()
    active = active * (active >= smallest)
    torch.testing.assert_close(book.encode(x()), active)
    torch.testing.assert_close(book.reconstruct(x()), active @ decoder.T + bias)


def test_openai_s_files_take_their_bias_off_and_do_not_say_their_activation(tmp_path):
    encoder, b, decoder, bias = parts()
    names = {"pre_bias": bias, "encoder__weight": encoder, "latent_bias": b, "decoder__weight": decoder}
    file = stored(tmp_path / "sae" / "ae.safetensors", **names, stats_last_nonzero=torch.zeros(9, dtype=torch.long))
    refused(file, "whether its activation is ReLU or TopK.*cfg.json.*architecture")
    (tmp_path / "sae" / "cfg.json").write_text('{"architecture": "standard"}')
    book = load_dictionary(tmp_path / "sae")[0]
    active = ((x() - bias) @ encoder.T + b).clamp_min(0)
    torch.testing.assert_close(book.encode(x()), active)
    torch.testing.assert_close(book.reconstruct(x()), active @ decoder.T + bias)


@pytest.mark.parametrize("transcode", [None, False, True])
def test_sparsify_keeps_the_k_largest(tmp_path, transcode):
    encoder, b, decoder, bias = parts()
    skip = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    names = {"encoder__weight": encoder, "encoder__bias": b, "W_dec": decoder.T, "b_dec": bias, "W_skip": skip}
    file = stored(tmp_path / "layers.3" / "sae.safetensors", **names)
    refused(file, "how many features are kept.*cfg.json.*k")
    settings = {
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": 9,
        "k": 3,
        "multi_topk": False,
        "d_in": 6,
    }
    settings |= {} if transcode is None else {"activation": "topk", "skip_connection": True, "transcode": transcode}
    (file.parent / "cfg.json").write_text(json.dumps(settings))
    before = ((x() if transcode else x() - bias) @ encoder.T + b).clamp_min(0)
    values, where = before.topk(3)
    active = torch.zeros_like(before).scatter(1, where, values)
    for path in (file.parent, file):  # the settings of a file of this name are beside it
        book, site = load_dictionary(path)
        torch.testing.assert_close(book.encode(x()), active)
        torch.testing.assert_close(book.reconstruct(x()), active @ decoder.T + bias + x() @ skip.T)
        assert site is None
    (file.parent / "cfg.json").write_text(json.dumps(settings | {"activation": "groupmax"}))
    refused(file.parent, "'groupmax' of sparsify is not computed")
    (file.parent / "cfg.json").write_text(json.dumps(settings | {"signed": True}))
    refused(file.parent, "signed topk")


def test_what_a_file_leaves_open_is_refused(tmp_path):
    encoder, b, decoder, bias = parts()
    plain = {"encoder__weight": encoder, "encoder__bias": b, "decoder__weight": decoder}
    refused(stored(tmp_path / "a.safetensors", **plain, b_dec=bias), "whether b_dec is taken off.*apply_b_dec_to_input")
    gated = {"W_enc": encoder.T, "W_dec": decoder.T, "b_dec": bias, "b_mag": b, "b_gate": b + 1, "r_mag": b / 3}
    refused(stored(tmp_path / "b.safetensors", **gated), "whether b_dec is taken off")
    refused(
        stored(tmp_path / "c.safetensors", **plain, bias=bias, decoder__bias=bias + 1), "are both what is called b_dec"
    )
    saelens = {"W_enc": encoder.T, "W_dec": decoder.T, "b_dec": bias, "b_enc": b}
    refused(stored(tmp_path / "sae_weights.safetensors", **saelens), "whether b_dec is taken off")
    file = stored(tmp_path / "d" / "a.safetensors", **plain, b_dec=bias)
    for centred in (True, False):
        file.with_name("cfg.json").write_text(json.dumps({"architecture": "standard", "apply_b_dec_to_input": centred}))
        active = ((x() - centred * bias) @ encoder.T + b).clamp_min(0)
        torch.testing.assert_close(load_dictionary(file.parent)[0].encode(x()), active)
    file.with_name("cfg.json").write_text('{"k": 3}')
    refused(file.parent, "k=3 and no architecture")
    file.with_name("cfg.json").write_text('{"architecture": "standard", "activation_fn_str": "tanh-relu"}')
    refused(file.parent, "'tanh-relu' is not computed")


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
    encoder, b, decoder, bias = parts(features=6)
    file = stored(
        tmp_path / "ae.safetensors", encoder__weight=encoder, encoder__bias=b, decoder__weight=decoder, bias=bias
    )
    expected = ((x() - bias) @ encoder.T + b).clamp_min(0) @ decoder.T + bias
    torch.testing.assert_close(load_dictionary(file)[0].reconstruct(x()), expected)


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
