"""Gradients of every reader's input, contracted with writers' differences into edge scores, layer by layer.

    score(w, r) = sum over examples and positions of <difference[w], d loss / d input[r]>          (EAP, eq. 2)

The gradients are taken at q, k and v, which are d_head wide, and carried back through the projection and the layer
norm once for all heads of a layer; no copy of the residual stream per reader is ever made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import Undefined
from .block import Block
from .graph import Key
from .passes import spend
from .rules import EXACT, Rules
from .transformer import Activations, Transformer

Written = Callable[[str, int, Tensor], Tensor]

# Readers whose gradients are multiplied with the writers' differences at once (see _Products).
_TOGETHER = 96


@dataclass
class Gradients:
    """The gradient of a loss, summed over examples, at everything that a plain pass computes.

    Args:
        taps: the values at the places of ``layers`` (see ``Transformer.run``).
        run: what every writer wrote.
        layers: one dict per layer. ``q``, ``k``, ``v`` [B, H, P, E], behind the projection; ``mlp`` [B, P, D], at the
            MLP's input before its norm. Only when asked for: ``z`` [B, H, P, E] and ``m`` [B, P, D], at what heads and
            MLPs write, and ``mixed``, at z before a norm behind attention.
        logits: [B, P, D], at the final residual stream.
        rules: how gradients were carried back.
        readers: in a graph of features, whose nodes read inputs of their own: the gradient [r, B, P, D] at each
            reader's input, by group, in place of ``layers`` and ``logits``.
    """

    taps: list[dict[str, Tensor]]
    run: Activations
    layers: list[dict[str, Tensor]]
    logits: Tensor | None
    rules: Rules
    readers: dict[Key, Tensor] | None = None


def gradients(
    model: Transformer,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    read: Tensor | None = None,
    *,
    rules: Rules = EXACT,
    written: Written | None = None,
    through_inputs: bool = True,
    of_writers: bool = False,
    ran: Callable[[Tensor, Activations], None] | None = None,
) -> Gradients:
    """One forward and one backward pass.

    Args:
        inputs: what the input nodes write, [n_inputs, B, P, D]; integrated gradients take others than a prompt's.
        loss: logits (at ``read`` positions) to a scalar, summed over examples.
        read: bool [B, P], the positions whose logits are wanted.
        rules, written: as in ``Transformer.run``.
        through_inputs: false when ``written`` starts the differentiated part itself. Gradients before that part are
            then zero.
        of_writers: whether the gradients at ``z`` and ``m`` are wanted too.
        ran: called with the logits and with what writers wrote, before the loss is taken, so that a loss that compares
            with this very run needs no second one.
    """
    if model.reads_apart:
        if written is not None or of_writers:
            raise Undefined("a path through components has no meaning where features stand in their place.")
        return _at_readers(model, inputs, loss, read, rules, ran)
    taps: list[dict[str, Tensor]] = []
    with torch.enable_grad():
        start = inputs.detach().requires_grad_(through_inputs)
        logits, run = model.run(start, read=read, taps=taps, rules=rules, written=written)
        if ran is not None:
            ran(logits.detach(), run.map(Tensor.detach))
        value = loss(logits)
    names = ["q", "k", "v", *(["mlp"] if model.graph.mlps else [])]
    if of_writers:
        names += ["mixed", "z", *(["m"] if model.graph.mlps else [])]
    wanted = [tap[name] for tap in taps[:-1] for name in names] + [taps[-1]["logits"]]
    reached = [part for part in wanted if part.requires_grad]
    spend(backward=inputs.shape[1])
    # Where the loss does not depend on a part, autograd gives no gradient; it is zero.
    found = iter(torch.autograd.grad(value, reached, allow_unused=True, materialize_grads=True))
    every = [next(found) if part.requires_grad else torch.zeros_like(part) for part in wanted]
    parts = iter(every)
    layers = [{name: next(parts) for name in names} for _ in taps[:-1]]
    return Gradients(
        [{name: part.detach() for name, part in tap.items()} for tap in taps],
        run.map(Tensor.detach),
        layers,
        next(parts),
        rules,
    )


def _at_readers(
    model: Transformer,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    read: Tensor | None,
    rules: Rules,
    ran: Callable[[Tensor, Activations], None] | None,
) -> Gradients:
    """The gradient [r, B, P, D] at every reader's own input, by group, taken at zeros that are added to the input."""
    groups = [group for group in model.graph.groups if group.reads]
    shape = inputs.shape[1:]
    with torch.enable_grad():
        moved = {g.key: inputs.new_zeros(g.readers.stop - g.readers.start, *shape).requires_grad_() for g in groups}
        plain: Callable[..., tuple[Tensor, Activations]] = model.run  # a model whose nodes read apart takes ``moved``
        logits, run = plain(inputs.detach(), read=read, rules=rules, moved=moved)
        if ran is not None:
            ran(logits.detach(), run.map(Tensor.detach))
        value = loss(logits)
    spend(backward=inputs.shape[1])
    found = torch.autograd.grad(value, list(moved.values()), allow_unused=True, materialize_grads=True)
    return Gradients([], run.map(Tensor.detach), [], None, rules, dict(zip(moved, found, strict=True)))


@torch.no_grad()
def contract(
    model: Transformer, found: Gradients, difference: Tensor, *, writers: slice = slice(None), by_example: bool = False
) -> Tensor:
    """The products of the writers' ``difference`` [W, B, P, D] with the gradient at every reader that sees them.

    Args:
        writers: the writers whose rows are wanted; the rows of others are zero.
        by_example: whether to keep the examples apart.

    Returns:
        Scores [W, R], summed over examples, or [B, W, R] by example; in float32 or wider; zero where no edge exists.
    """
    graph, shape = model.graph, difference.shape[1:3]
    products = _Products(model, difference, writers, by_example)
    if found.readers is not None:
        for group in graph.groups:
            if group.reads:
                products.add(group.readers, group.sees, found.readers[group.key])
        return products.scores()
    for layer, parts in enumerate(found.layers):
        sees = slice(0, graph.visible(layer))
        if products.any_of(sees):
            narrow = torch.stack([parts[name] for name in "qkv"])
            into_heads = _through_norm(model, layer, found.taps[layer], narrow, found.rules)
            products.add(graph.qkv(layer), sees, into_heads.unflatten(1, shape))
        if graph.mlps:
            reader = slice(graph.mlp_reader(layer), graph.mlp_reader(layer) + 1)
            products.add(reader, slice(0, graph.visible(layer, to_mlp=True)), parts["mlp"][None])
    if found.logits is not None:
        products.add(
            slice(len(graph.readers) - 1, len(graph.readers)), slice(0, len(graph.writers)), found.logits[None]
        )
    return products.scores()


def contract_by_position(model: Transformer, found: Gradients, difference: Tensor) -> Tensor:
    """``contract`` without the sum over examples and positions: [B, P, W, R]. The position is that of the reader's
    input: of a key or value its own, not that of the queries that see it."""
    examples, positions = difference.shape[1:3]

    def apart(part: Tensor) -> Tensor:  # each position of each example as an example of one position
        if part.ndim == 4:  # [B, H, P, E]
            return part.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        return part.flatten(0, 1).unsqueeze(1)  # [B, P, D]

    places = replace(
        found,
        taps=[{name: apart(part) for name, part in tap.items()} for tap in found.taps],
        layers=[{name: apart(part) for name, part in layer.items()} for layer in found.layers],
        logits=None if found.logits is None else apart(found.logits),
    )
    products = contract(model, places, difference.flatten(1, 2).unsqueeze(2), by_example=True)
    return products.unflatten(0, (examples, positions))


class _Products:
    """The scores of ``contract``, from the gradients at one group of readers after another.

    The product of all writers' differences with the gradients at a few readers reads every difference for few
    operations: with the 27 heads' readers of a layer with nine heads it reaches a third of the processor's speed, with
    one reader (an MLP's) an eighth. So the gradients of several layers wait in one array of up to ``_TOGETHER``; the
    products of a reader with writers that it does not see are dropped.
    """

    def __init__(self, model: Transformer, difference: Tensor, writers: slice, by_example: bool) -> None:
        self.wide = torch.promote_types(model.dtype, torch.float32)
        self.first, self.stop, _ = writers.indices(len(difference))
        flat = difference[self.first : self.stop].to(self.wide)
        self.by_example, shape, self.exists = by_example, difference.shape[1:], model.graph.exists
        self.flat = flat.flatten(2).transpose(0, 1) if by_example else flat.flatten(1)  # [B, w, P * D] or [w, n * D]
        self.found = flat.new_zeros((shape[0], *self.exists.shape) if by_example else self.exists.shape)
        self.gradients = flat.new_empty(min(_TOGETHER, self.exists.shape[1]), *shape)  # [r, B, P, D]
        self.waiting: list[tuple[slice, slice]] = []
        self.n = 0  # gradients that wait

    def any_of(self, sees: slice) -> bool:
        """Whether scores of any of these writers are wanted."""
        return max(sees.start, self.first) < min(sees.stop, self.stop)

    def add(self, readers: slice, sees: slice, gradient: Tensor) -> None:
        """Adds readers that see these writers, with the gradients [r, B, P, D] at their inputs."""
        if not self.any_of(sees):
            return
        if self.n + len(gradient) > len(self.gradients):
            self._multiply_waiting()
        if len(gradient) > len(self.gradients) // 2:  # nothing would share the product with it
            self._multiply(gradient.to(self.wide), [(readers, sees)])
            return
        self.gradients[self.n : self.n + len(gradient)] = gradient
        self.waiting.append((readers, sees))
        self.n += len(gradient)

    def scores(self) -> Tensor:
        """All scores, [W, R] or [B, W, R]."""
        self._multiply_waiting()
        return self.found

    def _multiply_waiting(self) -> None:
        if self.waiting:
            self._multiply(self.gradients[: self.n], self.waiting)
        self.waiting, self.n = [], 0

    def _multiply(self, gradients: Tensor, of: list[tuple[slice, slice]]) -> None:
        """Fills in the scores of some readers, each group given with the writers that it sees."""
        low = max(self.first, min(sees.start for _, sees in of))
        high = min(self.stop, max(sees.stop for _, sees in of))
        columns = gradients.flatten(2).permute(1, 2, 0) if self.by_example else gradients.flatten(1).T
        products, column = self.flat[..., low - self.first : high - self.first, :] @ columns, 0
        for readers, sees in of:
            seen = slice(max(low, sees.start), min(high, sees.stop))
            after = column + readers.stop - readers.start
            self.found[..., seen, readers] = products[..., seen.start - low : seen.stop - low, column:after]
            column = after


def input_gradient(
    model: Transformer, inputs: Tensor, loss: Callable[[Tensor], Tensor], read: Tensor | None = None
) -> Tensor:
    """The gradient [n_inputs, B, P, D] of a loss, with respect to what the input nodes write.

    Args:
        inputs: what the input nodes write, [n_inputs, B, P, D].
        loss: logits (at ``read`` positions) to a scalar.
        read: bool [B, P], the positions whose logits the loss takes; all when omitted.
    """
    with torch.enable_grad():
        start = inputs.detach().requires_grad_()
        value = loss(model.run(start, read=read)[0])
    spend(backward=inputs.shape[1])
    return torch.autograd.grad(value, start)[0]


def _through_norm(model: Transformer, layer: int, tap: dict[str, Tensor], gradients: Tensor, rules: Rules) -> Tensor:
    """Gradients at q, k, v, [3, B, H, P, E], carried back to each reader's residual input: [3H, n, D].

    The backward pass of a norm at x is linear in the gradient g behind its gain, with y the standardised x:
    (g - mean(g) - y mean(y g)) / scale. mean(g) vanishes when the weights are centred over d_model (layer norm only);
    1 / scale is applied while the gradient is still d_head wide; mean(y g) is g.q / d_model, with q without its biases.
    The last term is the scale's gradient, which a frozen norm leaves out.
    """
    wide = torch.promote_types(model.dtype, torch.float32)
    values = {name: tap[name].to(wide) for name in ("residual", "q", "k", "v")}
    return model.blocks[layer](_into_readers, values, gradients.to(wide), rules)


def _into_readers(block: Block, tap: dict[str, Tensor], gradients: Tensor, rules: Rules) -> Tensor:
    norm, wide = block.norm_attention, gradients.dtype
    weight, bias = (part.to(wide) for part in block.reader_weights())  # [3H, D, E], [3H, E]

    def by_reader(parts: Tensor) -> Tensor:  # [3, B, H, P, E] to [3H, n, E]
        return parts.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    narrow = by_reader(gradients)
    if norm.kind == "none":
        return narrow.bmm(weight.transpose(1, 2))
    if norm.kind == "layer":
        bias = bias + norm.bias.to(wide) @ weight
    weight = weight * norm.weight.to(wide)[:, None]
    standardised, inverse = (part.flatten(0, 1) for part in norm.standardised(tap["residual"]))  # [n, D], [n, 1]
    narrow = narrow * inverse
    if norm.kind == "layer":
        weight = weight - weight.mean(1, keepdim=True)
    found = narrow.bmm(weight.transpose(1, 2))
    if rules.freeze_norm:
        return found
    unbiased = by_reader(torch.stack([tap["q"], tap["k"], tap["v"]])) - bias[:, None]
    along = (narrow * unbiased).sum(-1, keepdim=True) / standardised.shape[-1]  # mean(y g)
    return found.addcmul_(along, standardised[None], value=-1)
