"""Contextual decomposition: against both parts followed by the paper's rules, and against exact patching."""

import pytest
import torch
from discovering import scores
from feature_models import feature_model
from oracles import ARCHITECTURES, linear_model, small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.errors import Undefined
from circuitmeter.suite.intervention.ablation import Ablation, Alternatives
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.plain_runs import Runs
from circuitmeter.suite.methods._attribution import Prompts
from circuitmeter.suite.methods.cd_t import decompose
from circuitmeter.suite.model.block import ACTIVATIONS

CLOSE = dict(rtol=1e-8, atol=1e-10)


def prompts_of(model, data, ablation="mean"):
    runs = Runs(model, data.batch(torch.arange(data.n)))
    alternatives = Alternatives(model, data, Ablation.parse(ablation), seed=0, batch_size=data.n)
    return Prompts(runs, alternatives, OBJECTIVES.get("logit-difference"))


class Plain:
    """Both parts of one source, by the paper's rules, each computed by itself: [B, P, ...] pairs (relevant, rest)."""

    def __init__(self, model, oppose):
        self.model, self.oppose = model, oppose

    def linear(self, pair, weight, bias):
        parts = [x @ weight for x in pair]
        return [x + bias * share for x, share in zip(parts, self.shares(parts), strict=True)]

    def shares(self, parts):
        """How a bias is split: as the parts' sizes are to each other."""
        sizes = [x.abs() for x in parts]
        whole = (sizes[0] + sizes[1]).clamp_min(1e-300)
        return [size / whole for size in sizes]

    def norm(self, norm, pair):
        if norm.kind == "none":
            return pair
        whole = pair[0] + pair[1]
        if norm.kind == "rms":
            scale = (whole.square().mean(-1, keepdim=True) + norm.eps).sqrt()
            return [x / scale * norm.weight for x in pair]
        scale = (whole.var(-1, keepdim=True, correction=0) + norm.eps).sqrt()
        parts = [(x - x.mean(-1, keepdim=True)) / scale * norm.weight for x in pair]
        return [x + norm.bias * share for x, share in zip(parts, self.shares(pair), strict=True)]  # before centring

    def activation(self, pair):
        function = ACTIVATIONS[self.model.config.activation]
        rest = function(pair[1])
        return [function(pair[0] + pair[1]) - rest, rest]

    def tidy(self, pair):
        if not self.oppose:
            return pair
        a, b = pair
        opposed = (a > 0) & (b < 0) | (a < 0) & (b > 0)
        first = a.abs() > b.abs()
        return [
            torch.where(opposed, torch.where(first, a + b, 0), a),
            torch.where(opposed, torch.where(first, 0, a + b), b),
        ]

    def attention(self, block, pair):
        """Pairs of q, k, v and head outputs."""
        inside = self.norm(block.norm_attention, pair)
        weight, bias = block.reader_weights()
        heads = self.model.config.n_heads
        projected = [self.linear(inside, weight[i], bias[i]) for i in range(3 * heads)]
        q, k, v = (
            [torch.stack([projected[i * heads + h][part] for h in range(heads)], 1) for part in (0, 1)]
            for i in range(3)
        )
        relevant = block.scores(q[0], k[0]).softmax(-1) @ v[0]
        total = block.attend(*(part[0] + part[1] for part in (q, k, v)))
        return {"q": q, "k": k, "v": v, "z": [relevant, total - relevant]}

    def mlp(self, block, pair):
        inside = self.norm(block.norm_mlp, pair)
        hidden = self.tidy(self.linear(inside, block.W_in, block.b_in))
        if block.config.gated:
            gate = self.activation(self.tidy(self.linear(inside, block.W_gate, torch.zeros(1))))
            rest = gate[1] * hidden[1]
            hidden = [(gate[0] + gate[1]) * (hidden[0] + hidden[1]) - rest, rest]
        else:
            hidden = self.activation(hidden)
        return self.tidy(self.linear(hidden, block.W_out, block.b_out))


@pytest.mark.parametrize(
    "architecture", [name for name in ARCHITECTURES if name not in ("gemma-2", "olmo-2", "qwen-3")]
)
@pytest.mark.parametrize("oppose", [True, False])
@torch.no_grad()
def test_both_parts_by_the_paper_s_rules_add_up_and_the_relevant_one_is_ours(architecture, oppose):
    model, data = small_model(**{**ARCHITECTURES[architecture], "n_layers": 2}), small_data(n=2)
    prompts = prompts_of(model, data)
    ours, plain, taps = decompose(prompts, oppose, keep=True), Plain(model, oppose), []
    model.run(prompts.clean.inputs, taps=taps)
    for source in (0, 1):  # the input node, and the first head
        relevant = -prompts.damage[source]
        pair = [relevant, taps[0]["residual"] - relevant] if source == 0 else None
        for layer, block in enumerate(model.blocks):
            own = model.graph.heads(layer).start <= source < model.graph.heads(layer).stop
            after = None
            if pair is not None:
                parts = plain.attention(block, pair)
                for name, both in parts.items():
                    assert_close(both[0] + both[1], taps[layer][name], **CLOSE)
                    assert_close(ours.relevant[name, layer][source], both[0], **CLOSE)
                written = plain.linear([x.transpose(1, 2).flatten(-2) for x in parts["z"]], block.W_O, block.b_O)
                after = [x + y for x, y in zip(pair, written, strict=True)]
            following = taps[layer + 1].get("residual", taps[layer + 1].get("logits"))
            middle = following - taps[layer]["m"] if model.graph.mlps else following
            if own:
                whole = block.write(taps[layer]["z"].transpose(0, 1)) - block.b_O
                share = plain.shares([relevant, whole - relevant])[0]
                after = [relevant + block.b_O * share, middle - relevant - block.b_O * share]
            if after is None:
                continue
            if model.graph.mlps:
                reads = after if not model.graph.parallel else pair or [torch.zeros_like(middle), taps[layer]["mlp"]]
                m = plain.mlp(block, reads)
                assert_close(m[0] + m[1], taps[layer]["m"], **CLOSE)
                assert_close(ours.relevant["m", layer][source], m[0], **CLOSE)
                after = [x + y for x, y in zip(after, m, strict=True)]
            pair = plain.tidy(after)
        final = plain.linear(plain.norm(model.norm_final, pair), model.unembed, torch.zeros(1))
        assert_close(ours.relevant["logits", 2][source], final[0][prompts.runs.read], **CLOSE)
        assert_close((final[0] + final[1])[prompts.runs.read], prompts.runs.clean[0], **CLOSE)


@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_on_a_linear_model_without_biases_a_node_s_relevance_is_the_effect_of_patching_it(ablation):
    model, data = linear_model("split"), small_data()
    for name, weight in model.named_parameters():
        if name.split(".")[-1].startswith("b_"):
            weight.data.zero_()
    by_row = scores("exact", model, data, ablation=ablation).sum(1)  # linear: a node's effect is its edges' sum
    found = scores("cd-t", model, data, ablation=ablation, oppose=False)
    assert by_row.abs().max() > 1e-3
    assert_close(found[:, -1], by_row.abs(), rtol=1e-6, atol=1e-8)


@torch.no_grad()
def test_a_source_that_is_everything_is_relevant_for_everything():
    """The input node is all that the first layer reads, and zero the alternative: the rest is nothing."""
    model, data = small_model("sum", n_layers=1, d_mlp=0), small_data(n=2)
    prompts = prompts_of(model, data, "zero")
    found = decompose(prompts, oppose=False, keep=True)
    taps = []
    model.run(prompts.clean.inputs, taps=taps)
    for name in "qkv":
        assert_close(found.relevant[name, 0][0], taps[0][name], rtol=1e-9, atol=1e-9)
    assert_close(found.relevant["z", 0][0], taps[0]["z"], rtol=1e-9, atol=1e-9)


def test_edges_by_targets_and_by_ends():
    model, data = small_model(), small_data(n=3)
    graph = model.graph
    targets, ends = scores("cd-t", model, data), scores("cd-t", model, data, preset="ends")
    relevance = targets[:, -1]
    found = decompose(prompts_of(model, data, "patch"), oppose=True)
    position = {name: i for i, name in enumerate(graph.writers)}
    for w, r in graph.exists.nonzero().tolist():
        if graph.readers[r] == "logits":
            assert ends[w, r] == (relevance[w] if w else relevance[1:].max())
            continue
        reader = relevance[position[graph.node_of_reader(graph.readers[r])]]
        assert abs(targets[w, r] - reader * found.share[w, r] / data.n) < 1e-9
        assert ends[w, r] == (min(relevance[w], reader) if w else reader)
    assert ((found.share / data.n)[graph.exists] <= 1).all()


def test_gemma_2_is_refused():
    with pytest.raises(Undefined, match="no rule for caps or post norm"):
        scores("cd-t", small_model(**ARCHITECTURES["gemma-2"]), small_data(n=2))


@pytest.mark.parametrize("site", ["resid_pre.1", "attn_out.0", "mlp_out.1", "transcoder.1"])
def test_feature_nodes_are_refused(site):
    """The released code has no rule for an encoder or for what a dictionary leaves: scores there would be made up."""
    with pytest.raises(Undefined, match="cd-t has no rule for nodes of the kind"):
        scores("cd-t", feature_model(small_model(), [site]), small_data(n=2))
