"""SmolLM2 as it is in the package: the engine against transformers, whole and with single edges cut by other hooks."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite.errors import ModelAbsent
from circuitmeter.suite.model.load import gguf_file
from circuitmeter.suite.model.load.by_name import load_model, on_model

pytestmark = pytest.mark.slow

# Of all kinds: from embeddings, heads and MLPs, near and far, into queries, keys, values, MLPs and the logits.
EDGES = (
    "input->a0.h0<q>",
    "input->m0",
    "a0.h3->a2.h4<k>",
    "a1.h2->a5.h1<v>",
    "m3->a10.h8<q>",
    "m5->m20",
    "m12->a14.h5<k>",
    "a12.h3->m29",
    "a23.h0->logits",
    "m29->logits",
    "input->m20",
)


@pytest.fixture(scope="module")
def models():
    try:
        gguf_file.find("smollm2")
    except ModelAbsent as error:
        pytest.skip(str(error))
    import transformers

    folder = gguf_file.converted_folder("smollm2")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return load_model("smollm2", device="cpu"), theirs.eval()


@pytest.fixture(scope="module")
def prompt():
    data = on_model(tasks.load("ioi"), "smollm2").data("validation")
    batch = data.batch(torch.tensor([0]))
    return batch.clean, batch.counterfactual


@torch.no_grad()
def test_logits_equal_those_of_transformers(models, prompt):
    ours, theirs = models
    expected = theirs(prompt[0]).logits
    assert (ours(prompt[0]) - expected).abs().max() < 1e-3 * expected.square().mean().sqrt()
    assert ours.graph.n_edges == 123_211 and ours.config.kv_heads == 3


@torch.no_grad()
def test_single_edges_have_the_effect_that_hooks_on_transformers_have(models, prompt):
    ours, theirs = models
    clean, other = prompt
    inputs = ours.input_nodes(clean)
    _, run = ours.run(inputs)
    _, far = ours.run(ours.input_nodes(other))
    masks = ours.graph.exists.repeat(len(EDGES), 1, 1)
    for mask, edge in zip(masks, EDGES, strict=True):
        mask[ours.graph.index(edge)] = False
    cut = ours.run_cut(masks, ours.alternative(far, clean.shape[1]), inputs=inputs)[:, 0, -1]
    found = cut - ours(clean)[0, -1]
    whole = theirs(clean).logits[0, -1]
    for edge, effect in zip(EDGES, found, strict=True):
        expected = cut_by_hooks(theirs, edge, clean, other)[0, -1] - whole
        assert (effect - expected).abs().max() < 2e-3, edge
        assert expected.abs().max() > 0, f"{edge}: the hooks change something"
    assert found.abs().amax(1).max() > 0.5, "some edge matters"


# ---- the same cuts on transformers' model, by hooks of the test's own ------------------------------------------------


def cut_by_hooks(model, edge: str, clean, other):
    """Logits with one edge carrying the other prompt's activation, everything else as the pass computes it."""
    writer, reader = edge.split("->")
    change = written(model, writer, other) - written(model, writer, clean)
    with reading(model, reader, change):
        return model(clean).logits


def written(model, writer: str, tokens):
    """What a node writes into the residual stream: [1, P, D]."""
    kept = {}

    def keep(module, given, out):
        kept["out"] = out

    def keep_input(module, given):
        kept["in"] = given[0]

    if writer == "input":
        return model.model.embed_tokens(tokens)
    layer, _, head = writer[1:].partition(".h")
    block = model.model.layers[int(layer)]
    if writer[0] == "m":
        with hooked(block.mlp.register_forward_hook(keep)):
            model(tokens)
        return kept["out"]
    projection = block.self_attn.o_proj
    with hooked(projection.register_forward_pre_hook(keep_input)):
        model(tokens)
    wide = model.config.head_dim
    columns = slice(int(head) * wide, (int(head) + 1) * wide)
    return kept["in"][..., columns] @ projection.weight[:, columns].T


@contextmanager
def reading(model, reader: str, change):
    """Inside, one reader sees the residual stream with a change added."""
    with ExitStack() as stack:
        if reader == "logits" or reader[0] == "m":
            norm = model.model.norm
            if reader != "logits":
                norm = model.model.layers[int(reader[1:])].post_attention_layernorm
            stack.enter_context(hooked(norm.register_forward_pre_hook(lambda module, given: (given[0] + change,))))
        else:
            stack.enter_context(changed_projection(model, reader, change))
        yield


@contextmanager
def changed_projection(model, reader: str, change):
    """A head's query, or its own view of the key or value that it shares with others, from a changed input."""
    from transformers.models.llama import modeling_llama

    layer, _, rest = reader[1:].partition(".h")
    head, part = int(rest[:-3]), rest[-2]
    attention, norm = model.model.layers[int(layer)].self_attn, model.model.layers[int(layer)].input_layernorm
    wide, groups = model.config.head_dim, model.config.num_attention_heads // model.config.num_key_value_heads
    seen = {}

    def keep(module, given):
        seen["x"] = given[0]

    def projected():
        """[1, heads, P, E] of the changed input."""
        weight = getattr(attention, f"{part}_proj").weight
        return (plain_norm(norm, seen["x"] + change) @ weight.T).unflatten(-1, (-1, wide)).transpose(1, 2)

    def change_query(module, given, out):
        out = out.clone()
        out[..., head * wide : (head + 1) * wide] = projected()[:, head]
        return out

    plain, calls = modeling_llama.repeat_kv, []

    def change_shared(states, n):
        out, number = plain(states, n).clone(), len(calls)
        calls.append(number)
        if number == 2 * int(layer) + "kv".index(part):  # keys, then values, layer by layer
            new = projected()
            if part == "k":
                positions = torch.arange(new.shape[2])[None]
                cos, sin = model.model.rotary_emb(new, positions)
                new, _ = modeling_llama.apply_rotary_pos_emb(new, new, cos, sin)
            out[:, head] = new[:, head // groups]
        return out

    with hooked(norm.register_forward_pre_hook(keep)):
        if part == "q":
            with hooked(attention.q_proj.register_forward_hook(change_query)):
                yield
            return
        modeling_llama.repeat_kv = change_shared
        try:
            yield
        finally:
            modeling_llama.repeat_kv = plain
            assert len(calls) == 2 * len(model.model.layers), "keys and values of every layer were seen"


def plain_norm(norm, x):
    return norm.weight * x * (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()


@contextmanager
def hooked(handle):
    try:
        yield
    finally:
        handle.remove()
