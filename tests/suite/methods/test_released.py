"""RelP and UGS beside the numbers of their released codes, and what those differ in, by plain programs."""

import math

import pytest
import released
import torch
from discovering import discover, scores
from oracles import small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import ugs
from circuitmeter.suite.methods._masks import TrainingBatches, to_matrix
from circuitmeter.suite.methods._seeds import Seeds

# ---- RelP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", released.CONFIGS)
@pytest.mark.parametrize("run", released.RELP)
def test_relp_is_the_released_code_s(name, run):
    """Equal without the identity rule; with it, up to the 1e-6 that the released code adds to the denominator."""
    theirs = released.relp_scores(name, run)
    ours = scores("relp", released.model(name), released.relp_prompts(), **released.RELP[run])
    size = theirs.abs().max()
    difference = (ours - theirs).abs().max() / size
    assert difference < 1e-12 if run == "as its README says" else 1e-8 < difference < 1e-3


def test_the_released_identity_rule_adds_a_millionth_to_the_denominator_and_ours_does_not():
    model, data = released.model("gpt2"), released.relp_prompts()
    run = "identity rule set before the model is made"
    assert_close(plain_relp(model, data, stabiliser=1e-6), released.relp_scores("gpt2", run), rtol=1e-10, atol=1e-13)
    ours = scores("relp", model, data, **released.RELP[run])
    assert_close(plain_relp(model, data, stabiliser=0.0), ours, rtol=1e-10, atol=1e-13)
    assert (ours - released.relp_scores("gpt2", run)).abs().max() > 1e-8


def plain_relp(model, data, stabiliser):
    """Edge scores [W, R]: one head and reader at a time, gradients by autograd at the corrupted runs."""
    graph, readers, rows = model.graph, {}, torch.arange(data.n)
    clean, corrupt = (
        [written(model, prompt) for prompt in tokens.unbind()] for tokens in (data.clean, data.counterfactual)
    )
    with torch.enable_grad():
        logits = relp_run(model, data.counterfactual, readers, stabiliser)
        (logits[rows, data.answers[:, 0]] - logits[rows, data.wrong[:, 0]]).mean().backward()
    found = torch.zeros(graph.exists.shape, dtype=torch.float64)
    for w, r in graph.exists.nonzero().tolist():
        gradient = readers[graph.readers[r]].grad
        for row in range(data.n):
            found[w, r] += ((clean[row][graph.writers[w]] - corrupt[row][graph.writers[w]]) * gradient[row]).sum()
    return found


def relp_run(model, tokens, readers, stabiliser):
    """Logits [B, d_out] at the last position of [B, P]; ``readers`` gets a copy of the stream for each reader."""

    def read(reader, wrote, bias):
        readers[reader] = bias + sum(wrote.values()) + torch.zeros_like(bias, requires_grad=True)
        readers[reader].retain_grad()
        return readers[reader]

    def activation(x):
        under = x + stabiliser * x.detach().sign()
        return under * (gelu(x) / under).detach()

    return plain_gpt2(model, tokens, read, activation, hold_norms=True)


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def plain_gpt2(model, tokens, read, activation=gelu, hold_norms=False):
    """Logits [..., d_out] of a GPT-2 at the last position of tokens [..., P], head by head.

    ``read(reader, wrote, bias)`` is what a reader reads, of what writers wrote and of biases that are on no edge.
    """
    config, n = model.config, tokens.shape[-1]

    def normed(norm, x):
        x = x - x.mean(-1, keepdim=True)
        scale = (x.square().mean(-1, keepdim=True) + config.norm_eps).sqrt()
        return x / (scale.detach() if hold_norms else scale) * norm.weight + norm.bias

    wrote, bias = (
        {"input": model.embed[tokens] + model.pos_embed[:n]},
        torch.zeros(*tokens.shape, config.d_model).double(),
    )
    for layer, block in enumerate(model.blocks):
        columns, rows = block.W_QKV.split(config.d_head, 1), block.b_QKV.split(config.d_head)
        heads = {}
        for h in range(config.n_heads):
            q, k, v = (
                normed(block.norm_attention, read(f"a{layer}.h{h}<{part}>", wrote, bias)) @ columns[at] + rows[at]
                for part, at in (("q", h), ("k", config.n_heads + h), ("v", 2 * config.n_heads + h))
            )
            weights = (q @ k.mT / math.sqrt(config.d_head)).masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
            heads[f"a{layer}.h{h}"] = weights.softmax(-1) @ v @ block.W_O.split(config.d_head)[h]
        wrote, bias = wrote | heads, bias + block.b_O
        x = normed(block.norm_mlp, read(f"m{layer}", wrote, bias)) @ block.W_in + block.b_in
        wrote = wrote | {f"m{layer}": activation(x) @ block.W_out + block.b_out}
    return (normed(model.norm_final, read("logits", wrote, bias)) @ model.unembed)[..., -1, :]


# ---- uniform gradient sampling ---------------------------------------------------------------------------------------

SMALL = {"regularisations": [2e-3], "steps": 3, "samples": 2, "batch_size": 3, "initial": -0.5, "clip": 0.01}


@pytest.mark.parametrize(("ablation", "clip"), released.UGS_RUNS)
def test_the_reference_code_of_ugs_is_the_released_code(ablation, clip):
    """Six steps: gates, loose ends, losses, gradients, clipping, constants and both optimisers."""
    losses, logits = released.ugs_run(ablation, clip)
    model = released.model("gpt2")
    given = {"ablation": ablation, "objective": "kl", "preset": "reference-code", "clip": clip, **released.UGS}
    with released.random_numbers():
        found = discover("ugs", model, released.ugs_prompts(), **given)
    ours = found.scores.values[model.graph.exists].logit()
    assert (logits - 1).abs().max() > 0.03  # they have moved
    assert_close(ours, logits, rtol=0, atol=1e-10)
    assert [row[0] for row in found.diagnostics["curve"]["loss"]] == pytest.approx(losses, rel=1e-5)


def test_the_read_out_of_ugs_is_the_released_code_s():
    graph = released.model("gpt2").graph
    for each in released.record("ugs")["read-out"]:
        logits = torch.tensor([each["logits"]], dtype=torch.float64)
        found = ugs.read_out(graph, (1e-3,), logits, 0.5, {}).circuits[0].circuit
        assert torch.equal(found.edges, to_matrix(graph, torch.tensor(each["kept"])).bool())
    assert len({sum(each["kept"]) for each in released.record("ugs")["read-out"]}) > 2


@pytest.mark.parametrize("ablation", ["patch", "optimal"])
@pytest.mark.parametrize("own", [None, *ugs.CHOICES])
def test_each_way_in_which_the_released_ugs_differs_is_a_plain_program_s(ablation, own):
    """The preset ``reference-code``, and the preset with one choice as the project has it."""
    chosen = {name: released_way for name, (_, released_way) in ugs.CHOICES.items()}
    if own is not None:
        chosen[own] = ugs.CHOICES[own][0]
    model, data = small_model("sum", n_layers=1, activation="gelu_tanh", n_positions=12), ugs_prompts()
    found = discover("ugs", model, data, ablation=ablation, objective="kl", **SMALL, **chosen)
    assert_close(
        found.scores.values[model.graph.exists].logit(), plain_ugs(model, data, ablation, **chosen), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("own", ugs.CHOICES)
def test_each_way_in_which_the_released_ugs_differs_changes_what_is_found(own):
    model, data = small_model("sum", n_layers=1, activation="gelu_tanh", n_positions=12), ugs_prompts()
    given = {"ablation": "optimal", "objective": "kl", "preset": "reference-code", **SMALL, "steps": 8}
    change = scores("ugs", model, data, **given) - scores("ugs", model, data, **given, **{own: ugs.CHOICES[own][0]})
    assert change.abs().max() > 1e-6


@pytest.mark.parametrize("ablation", ["zero", "optimal"])
def test_strengths_trained_together_come_out_as_each_alone_in_the_released_ways_too(ablation):
    """Its loose ends are found over the samples of a strength; another strength's samples are another run there."""
    model, data = small_model("sum", n_layers=1, activation="gelu_tanh", n_positions=12), ugs_prompts()
    given = {"ablation": ablation, "objective": "kl", "preset": "reference-code", **SMALL, "initial": -1.0, "steps": 8}
    alone = [scores("ugs", model, data, **given | {"regularisations": [each]}) for each in (1.0, 1e-4)]
    together = scores("ugs", model, data, **given | {"regularisations": [1.0, 1e-4]})
    assert_close(together, sum(alone) / 2, rtol=1e-9, atol=1e-12)


def ugs_prompts():
    data = small_data(n=3, positions=11)
    data.clean[:, 0] = data.counterfactual[:, 0] = 0
    return Data(data.clean, data.counterfactual, data.read)


def plain_ugs(model, data, ablation, *, masks, dangling, first_position, constants, gradients):
    """Logits [E] after ``SMALL['steps']`` steps: every sample and prompt by itself, every head's constant by itself."""
    graph, n, samples = model.graph, data.n, SMALL["samples"]
    strength, edges = SMALL["regularisations"][0], graph.exists.nonzero().tolist()
    kl = OBJECTIVES.get("kl")
    drawn = n if masks == "prompt" else 1
    order = TrainingBatches(model, data, Ablation.parse("patch"), kl, seeds=(0,), batch_size=n // drawn)
    noise = Seeds((0,), model)
    clean = [written(model, tokens) for tokens in data.clean]
    corrupt = [written(model, tokens) for tokens in data.counterfactual]
    targets = [model(tokens[None])[0, -1].log_softmax(-1) for tokens in data.clean]
    head_of = {f"a0.h{h}": model.blocks[0].W_O[6 * h : 6 * h + 6] for h in range(2)}

    logits = torch.full((len(edges),), SMALL["initial"], dtype=torch.float64, requires_grad=True)
    first = 9 if constants == "values" else 0
    start = {w: torch.cat([run[w][first:] for run in clean]).mean(0) for w in graph.writers}
    if constants == "values":  # what the head's output matrix writes to the mean: its rows are independent
        start |= {w: torch.linalg.lstsq(W.T, start[w][:, None]).solution[:, 0] for w, W in head_of.items()}
    learned = {w: value.clone().requires_grad_() for w, value in start.items()}
    gates = torch.optim.AdamW([logits], lr=0.05 / (5 if ablation == "patch" else 1), betas=(0.9, 0.995), weight_decay=0)
    moving = torch.optim.AdamW(list(learned.values()), lr=2e-3, weight_decay=0)
    kind = [("h" in graph.writers[w], "<" in graph.readers[r]) for w, r in edges]

    for _ in range(SMALL["steps"]):
        theta = logits.detach().sigmoid()
        width = theta * (1 - theta)
        u = noise.uniform(samples * drawn, len(edges))[0]
        gate = (1 - ((u - theta) / width + 0.5)).clamp(0, 1)
        kept = torch.stack([loose_ends_cut(graph, each > 0) for each in to_matrix(graph, gate)])
        if dangling == "batch":
            kept = torch.stack([loose_ends_cut(graph, each > 0, fed_elsewhere=kept) for each in to_matrix(graph, gate)])
        batches = [order.draw().batch.rows.tolist() for _ in range(drawn)]
        with torch.enable_grad():
            total, slope = torch.zeros((), dtype=torch.float64), torch.zeros_like(logits)
            inputs = []
            for s, sample in enumerate(gate):
                mask = sample.clone().requires_grad_()
                inputs.append(mask)
                rows = batches[s % drawn]
                for row in rows:
                    other = corrupt[row] if ablation == "patch" else learned_outputs(learned, head_of, constants)
                    left = mask * torch.tensor([bool(kept[s][w, r]) for w, r in edges])
                    out = one_run(model, data.clean[row], other, left, edges, ablation, first_position)
                    loss = (targets[row].exp() * (targets[row] - out.log_softmax(-1))).sum()
                    total = total + loss / (len(gate) * len(rows))
            total.backward()
            inside = ((gate > 0) & (gate < 1)).double()
            margin = 1e-3 if gradients == "kind" else 0.0
            counted = ((gate > margin) & (gate < 1 - margin)).sum(0)
            for mask, within in zip(inputs, inside, strict=True):
                slope += torch.where(counted > 0, mask.grad * within * len(gate) / counted.clamp_min(1), 0.0)
            soft = logits.sigmoid()
            heads = 0.0
            for h in range(2):
                ends = [
                    i
                    for i, (w, r) in enumerate(edges)
                    if graph.writers[w] == f"a0.h{h}" or graph.readers[r].startswith(f"a0.h{h}<")
                ]
                heads = heads + torch.tanh(2 * soft[ends].sum() / 2) * 2 / 2
            (strength * soft.sum() + min(strength / 2, 2e-4) * heads + (soft * slope.detach()).sum()).backward()
        for each in set(kind) if gradients == "kind" else [None]:
            part = torch.tensor([each is None or k == each for k in kind])
            norm = logits.grad[part].norm()
            logits.grad[part] *= min(1.0, SMALL["clip"] / (float(norm) + 1e-6))
        gates.step()
        gates.zero_grad()
        if ablation == "optimal":
            moving.step()
        moving.zero_grad()
    return logits.detach()


def learned_outputs(learned, head_of, constants):
    if constants == "outputs":
        return learned
    return {w: value @ head_of[w] if w in head_of else value for w, value in learned.items()}


def loose_ends_cut(graph, kept, fed_elsewhere=None):
    """bool [W, R]; with the masks of all samples given, m0 counts as fed when one of them has an edge into it."""
    found = Circuit(graph, kept & graph.exists).pruned().edges
    m0, logits = graph.readers.index("m0"), graph.readers.index("logits")
    w = graph.writers.index("m0")
    if fed_elsewhere is not None and bool(fed_elsewhere[:, :, m0].any()):
        found = found.clone()
        found[w, logits] = kept[w, logits]  # the only edge that leaves the MLP of one layer
    return found


def one_run(model, tokens, alternative, mask, edges, ablation, first_position):
    """Logits [d_out] at the last position of one prompt under a mask [E]; constants learn from edges wholly cut."""
    names = model.graph.writers, model.graph.readers
    share = {(names[0][w], names[1][r]): mask[i] for i, (w, r) in enumerate(edges)}

    def read(reader, wrote, bias):
        x = bias.clone()
        for writer, out in wrote.items():
            kept, other = share[writer, reader], alternative[writer]
            if ablation == "optimal" and kept >= 1e-3:
                other = other.detach()
            x = x + kept * out + (1 - kept) * other
        return torch.cat([(bias + sum(wrote.values()))[:1], x[1:]]) if first_position == "whole" else x

    return plain_gpt2(model, tokens, read)
