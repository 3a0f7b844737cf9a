"""Plain, slow, independent versions of what the project does fast, and the small models they are compared on."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from circuitmeter.suite.data import Data
from circuitmeter.suite.model.transformer import Config, Transformer

# One small architecture of every kind that the engine claims, as changes to a base.
ARCHITECTURES = {
    "gpt2": {},
    "one head": {"n_heads": 1, "d_head": 7},
    "one layer": {"n_layers": 1},
    "attention only": {"d_mlp": 0},
    "parallel blocks": {"parallel": True},
    "no layer norm, ReLU, bidirectional": {"norm": "none", "activation": "relu", "causal": False},
    "llama": {
        "n_heads": 4,
        "n_kv_heads": 2,
        "norm": "rms",
        "positions": "rotary",
        "rotary_dims": 4,
        "gated": True,
        "activation": "silu",
    },
    "pythia": {"parallel": True, "positions": "rotary", "rotary_dims": 2, "activation": "gelu"},
    "scaled rotations": {
        "norm": "rms",
        "positions": "rotary",
        "rotary_dims": 6,
        "rotary_frequencies": (1.0, 0.3, 0.02),
        "rotary_scale": 1.1,
    },
    "gemma-2": {
        "n_heads": 4,
        "n_kv_heads": 2,
        "norm": "rms",
        "post_norms": True,
        "positions": "rotary",
        "rotary_dims": 6,
        "gated": True,
        "attention_scale": 0.7,
        "score_cap": 2.0,
        "logit_cap": 3.0,
    },
}
ARCHITECTURES["qwen-3"] = {**ARCHITECTURES["llama"], "rotary_dims": 6, "qk_norms": True}
ARCHITECTURES["olmo-2"] = {**ARCHITECTURES["qwen-3"], "pre_norms": False, "post_norms": True, "joint_qk_norms": True}
ARCHITECTURES["windows"] = {"positions": "rotary", "rotary_dims": 4, "norm": "rms", "windows": (2, None, 3)}
INPUTS = ("token", "sum", "split")


def small_model(inputs: str = "token", seed: int = 0, **changes) -> Transformer:
    """A random float64 model of a few thousand weights."""
    base = dict(n_layers=3, n_heads=2, d_model=12, d_head=6, d_mlp=20, d_vocab=11, d_out=11, n_positions=8)
    base |= changes
    if base.get("windows"):
        base["windows"] = base["windows"][: base["n_layers"]]
    model = Transformer(Config(**base), inputs).double()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        weight.data = 0.4 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        if "norm_" in name and name.endswith(("attention.weight", "norm_mlp.weight", "_q.weight", "_k.weight")):
            weight.data += 1
    return model


def linear_model(inputs: str = "token", **changes) -> Transformer:
    """A model whose logits are linear in every writer: constant attention, identity activation, no norm."""
    model = small_model(inputs, norm="none", activation="identity", **changes)
    wide = model.config.n_heads * model.config.d_head
    for block in model.blocks:
        block.W_QKV.data[:, : 2 * wide] = 0
    return model


def small_data(n: int = 6, positions: int = 5, seed: int = 1, vocabulary: int = 11) -> Data:
    """Random token prompts with a counterfactual, one right and one wrong answer, read at the last position."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocabulary, (2, n, positions), generator=generator)
    right = torch.randint(0, vocabulary, (n, 1), generator=generator)
    read = torch.zeros(n, positions, dtype=torch.bool)
    read[:, -1] = True
    return Data(tokens[0], tokens[1], read, answers=right, wrong=(right + 1) % vocabulary)


def plain_cut(
    model: Transformer,
    tokens: Tensor,
    alternative: dict[str, Tensor],
    kept: Tensor,
    fixed: dict[str, Tensor] | None = None,
    record: dict[str, Tensor] | None = None,
) -> Tensor:
    """Logits [P, d_out] of one prompt [P] with edges cut: a loop over readers, a sum over writers, heads one by one.

    Args:
        alternative: what each writer writes on a cut edge, by name, [P, D].
        kept: [n_writers, n_readers], the share of each edge that is kept; [n_writers, n_readers, P], at each position.
        fixed: what some writers write whatever they read, by name, [P, D].
        record: filled with what every writer wrote.
    """
    fixed = fixed or {}
    graph, config = model.graph, model.config
    n = len(tokens)
    wrote: dict[str, Tensor] = {}
    constant = torch.zeros(n, config.d_model, dtype=model.dtype)
    token = model.embed[tokens]
    position = model.pos_embed[:n] if config.positions == "learned" else torch.zeros_like(token)
    if graph.inputs == "token":
        wrote["input"], constant = token, position.clone()
    elif graph.inputs == "sum":
        wrote["input"] = token + position
    else:
        wrote["tok_embed"], wrote["pos_embed"] = token, position
    wrote |= {name: fixed[name] for name in graph.input_nodes if name in fixed}

    def read(reader: str) -> Tensor:
        total = constant.clone()
        for name, out in wrote.items():
            share = kept[graph.writers.index(name), graph.readers.index(reader)].reshape(-1, 1)  # [1 or P, 1]
            total += alternative[name] + share * (out - alternative[name])
        return total

    def scaled(norm, x: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt() * norm.weight

    def normed(norm, x: Tensor) -> Tensor:
        if norm.kind == "none":
            return x
        return scaled(norm, x - x.mean(-1, keepdim=True)) + norm.bias if config.norm == "layer" else scaled(norm, x)

    def rotated(x: Tensor) -> Tensor:
        out, half = x.clone(), config.rotary_dims // 2
        for p in range(n):
            for i in range(half):
                angle = p * config.rotary_base ** (-2 * i / config.rotary_dims)
                if config.rotary_frequencies:
                    angle = p * config.rotary_frequencies[i]
                cos, sin = (config.rotary_scale * f(angle) for f in (math.cos, math.sin))
                out[p, i] = x[p, i] * cos - x[p, i + half] * sin
                out[p, i + half] = x[p, i + half] * cos + x[p, i] * sin
        return out

    def capped(x: Tensor, cap: float | None) -> Tensor:
        return x if cap is None else cap * torch.tanh(x / cap)

    def mlp(block, x: Tensor) -> Tensor:
        hidden = x @ block.W_in + block.b_in
        act = {
            "relu": torch.relu,
            "identity": lambda y: y,
            "silu": lambda y: y * torch.sigmoid(y),
            "gelu": lambda y: 0.5 * y * (1 + torch.erf(y / math.sqrt(2))),
            "gelu_tanh": lambda y: 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))),
        }[config.activation]
        hidden = act(x @ block.W_gate) * hidden if config.gated else act(hidden)
        out = hidden @ block.W_out + block.b_out
        return normed(block.norm_after_mlp, out) if config.post_norms else out

    for layer, block in enumerate(model.blocks):
        size, groups = config.d_head, config.kv_heads
        heads, projected = {}, []
        for head in range(config.n_heads):
            shared = head // (config.n_heads // groups)
            columns = {"q": head, "k": config.n_heads + shared, "v": config.n_heads + groups + shared}
            q, k, v = (
                normed(block.norm_attention, read(f"a{layer}.h{head}<{part}>"))
                @ block.W_QKV[:, column * size : (column + 1) * size]
                + block.b_QKV[column * size : (column + 1) * size]
                for part, column in columns.items()
            )
            projected.append((q, k, v))
        for head, (q, k, v) in enumerate(projected):
            if config.joint_qk_norms:
                shared = head // (config.n_heads // groups)
                over = [sum(part[i].pow(2).sum(-1, keepdim=True) for part in projected) for i in range(2)]
                q, k = (
                    x / (total / (config.n_heads * size) + config.norm_eps).sqrt() * gain[at * size : (at + 1) * size]
                    for x, total, gain, at in (
                        (q, over[0], block.norm_q.weight, head),
                        (k, over[1], block.norm_k.weight, shared),
                    )
                )
            elif config.qk_norms:
                q, k = scaled(block.norm_q, q), scaled(block.norm_k, k)
            if config.positions == "rotary":
                q, k = rotated(q), rotated(k)
            weights = capped(q @ k.T * config.scale, config.score_cap)
            if config.causal:
                weights = weights.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
            for query in range(n if config.windows and config.windows[layer] else 0):
                weights[query, : max(0, query - config.windows[layer] + 1)] = -math.inf
            heads[f"a{layer}.h{head}"] = weights.softmax(-1) @ v @ block.W_O[head * size : (head + 1) * size]
        if config.post_norms:
            scale = 1 / (sum(heads.values()).pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt()
            heads = {name: out * scale * block.norm_after_attention.weight for name, out in heads.items()}
        before = (dict(wrote), constant.clone())
        wrote |= heads | {name: fixed[name] for name in heads if name in fixed}
        constant += block.b_O
        if graph.mlps:
            after = (wrote, constant)
            if config.parallel:
                wrote, constant = before
            out = mlp(block, normed(block.norm_mlp, read(f"m{layer}")))
            wrote, constant = after
            wrote[f"m{layer}"] = fixed.get(f"m{layer}", out)
    if record is not None:
        record |= wrote
    return capped(normed(model.norm_final, read("logits")) @ model.unembed, config.logit_cap)


def written(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    """What every writer writes in the plain run of one prompt [P]: [P, D] by name."""
    with torch.no_grad():
        _, run = model.run(model.input_nodes(tokens[None]))
        out = model.outputs(run)
    return {name: out[i, 0] for i, name in enumerate(model.graph.writers)}


def plain_acdc(loss, exists: Tensor, edges: list[tuple[int, int]], dead, tau: float) -> Tensor:
    """ACDC one edge at a time: kept [n_writers, n_readers].

    Args:
        loss: kept edges to a number.
        edges: (writer, reader) in the order of the visit.
        dead: (kept, reader index) to whether the reader's node leads nowhere.
    """
    kept, current = exists.clone(), loss(exists)
    for w, r in edges:
        if dead(kept, r):
            kept[w, r] = False
            continue
        without = kept.clone()
        without[w, r] = False
        new = loss(without)
        if new - current < tau:
            kept, current = without, new
    return kept


class Wide(TorchFunctionMode):
    """float64 wherever the code inside asks for float32.

    transformers takes norms, softmax and rotations in float32 whatever the model's dtype, which alone would keep two
    float64 models 1e-7 apart.
    """

    def __torch_function__(self, function, types, given=(), options=None):
        function = torch.Tensor.double if function is torch.Tensor.float else function
        given = [torch.float64 if value is torch.float32 else value for value in given]
        options = {k: torch.float64 if value is torch.float32 else value for k, value in (options or {}).items()}
        return function(*given, **options)
