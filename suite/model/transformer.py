"""The engine: a transformer whose edges can be cut. block.py holds a layer's weights; the rest is here.

It is a plain decoder, and also the same decoder with an input of its own for every reader:

    x[reader] = constant + sum over writers of  alternative[w] + mask[w, reader] * (out[w] - alternative[w])

A mask of ones gives the plain model; under a mask of zeros every edge carries the ablation's activations. The letters
in the shape comments: C masks, B examples, P positions, n = B * P, D d_model, E d_head, H query heads, G key-value
heads, W writers, R readers, r some of the readers or heads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DataError
from .block import Block, Config, Norm
from .content import content_hash
from .device import send
from .gradient_stream import BufferedStream
from .graph import Graph, InputNodes, Key
from .in_parts import masks_at_once, run_in_parts
from .passes import spend
from .rules import EXACT, Rules
from .stream import PositionStream, Stream, slice_or_index

__all__ = ["Activations", "Alternative", "Config", "CutPass", "Projections", "Transformer"]

Projections = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values [B, H, P, E] of a layer's heads."""


class Activations(dict[Key, Tensor]):
    """What every writer wrote in one run, by kind and layer of node: ``run["mlp", 3]``.

    Each is [nodes, B, P, d]. d is d_model for input nodes and MLPs, and d_head for heads, which are held before the
    output projection and, where a norm follows attention, as shares of the normed sum (see Config). A batch or position
    axis of size 1 stands for all examples or positions (means, zeros).
    """

    @property
    def inputs(self) -> Tensor:
        """What the input nodes wrote: [n_inputs, B, P, D]."""
        return self["input", 0]

    def map(self, function: Callable[[Tensor], Tensor]) -> Activations:
        """``function`` of every tensor."""
        return Activations({key: function(part) for key, part in self.items()})

    def with_each(self, function: Callable[..., Tensor], *others: Activations) -> Activations:
        """``function`` of each tensor and its counterparts in the other activations."""
        return Activations({key: function(part, *(other[key] for other in others)) for key, part in self.items()})


@dataclass
class Alternative:
    """What cut edges carry, and the residual stream when every edge is cut.

    Args:
        activations: what cut edges carry.
        before: what each group of nodes, the logits among them, reads when every edge is cut: [B, P, D], by kind and
            layer.
        a_run: whether the activations are those of a whole run of the model, so that a node all of whose edges are cut
            writes them again.
    """

    activations: Activations
    before: dict[Key, Tensor]
    a_run: bool = False


@dataclass(frozen=True)
class CutPass:
    """The arguments of ``Transformer.run_cut``, which explains them, without the masks."""

    alternative: Alternative
    inputs: Tensor
    prefix: Tensor | None = None
    read: Tensor | None = None
    offset: Tensor | None = None
    cut_at: Tensor | None = None
    gradient_stream: type[Stream] = BufferedStream

    @property
    def fixed(self) -> bool:
        """Whether nothing needs a gradient but the masks and the offset."""
        carried = (*self.alternative.activations.values(), *self.alternative.before.values())
        return not any(each is not None and each.requires_grad for each in (self.inputs, self.prefix, *carried))


class Transformer(nn.Module):
    """A decoder each of whose edges can be cut.

    Args:
        config: the architecture.
        inputs: which input nodes the graph has (see Graph). ``with_inputs`` gives the same model with another choice.
    """

    reads_apart = False  # whether only ``run_cut`` knows how edges are cut: fast ways to cut one edge do not apply

    def __init__(self, config: Config, inputs: InputNodes = "token") -> None:
        super().__init__()
        self.config = config
        self.graph = Graph(config.n_layers, config.n_heads, inputs, mlps=config.d_mlp > 0, parallel=config.parallel)
        self.embed = nn.Parameter(torch.zeros(config.d_vocab, config.d_model), requires_grad=False)
        if config.positions == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(config.n_positions, config.d_model), requires_grad=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm_final = Norm(config)
        self.unembed = nn.Parameter(torch.zeros(config.d_model, config.d_out), requires_grad=False)
        if config.unembed_bias:
            self.unembed_bias = nn.Parameter(torch.zeros(config.d_out), requires_grad=False)

    @property
    def device(self) -> torch.device:
        return self.embed.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.dtype

    @cached_property
    def weights_hash(self) -> str:
        """``content_hash``, computed once."""
        return self.content_hash()

    def content_hash(self) -> str:
        """16 hex digits of the configuration and of the weights as they are stored, read now (see content.py)."""
        return content_hash(self)

    def with_inputs(self, inputs: InputNodes) -> Transformer:
        """The same model (weights shared) with another choice of input nodes."""
        twin = copy.copy(self)
        twin.graph = replace(self.graph, inputs=inputs)
        return twin

    # ---- the plain model -------------------------------------------------------------------------------------------

    def forward(self, tokens: Tensor, read: Tensor | None = None) -> Tensor:
        """Logits of the plain model.

        Args:
            tokens: long [B, P].
            read: bool [B, P], the positions whose logits are wanted; all when omitted. It should be on the CPU: to read
                it from another device takes a wait.

        Returns:
            [B, P, d_out], or [n_read, d_out] in row-major order of ``read``.
        """
        return self.run(self.input_nodes(tokens), read=read)[0]

    def input_nodes(self, tokens: Tensor) -> Tensor:
        """What the input nodes write: [n_inputs, B, P, D]. Raises DataError for prompts longer than the model takes."""
        if tokens.shape[1] > self.config.n_positions:
            raise DataError(
                f"a prompt has {tokens.shape[1]} tokens, and the model takes {self.config.n_positions}; shorten it."
            )
        token = F.embedding(tokens, self.embed)
        if self.graph.inputs == "token" or self.config.positions != "learned":
            # Without a position embedding there is nothing to add, and nothing for a second node to write.
            extra = [torch.zeros_like(token)] if self.graph.inputs == "split" else []
            return torch.stack([token, *extra])
        position = self.pos_embed[: tokens.shape[1]].expand_as(token)
        return torch.stack([token, position]) if self.graph.inputs == "split" else (token + position)[None]

    def constant(self, n_positions: int) -> Tensor:
        """What is in the residual stream before any node writes, and so belongs to no edge: [P, D] or [1, D]."""
        if self.graph.inputs == "token" and self.config.positions == "learned":
            return self.pos_embed[:n_positions]
        return self.embed.new_zeros(1, self.config.d_model)

    def run(
        self,
        inputs: Tensor,
        *,
        read: Tensor | None = None,
        taps: list[dict[str, Tensor]] | None = None,
        rules: Rules = EXACT,
        written: Callable[[str, int, Tensor], Tensor] | None = None,
        projected: Callable[[int, Projections], Projections] | None = None,
    ) -> tuple[Tensor, Activations]:
        """One plain pass from what the input nodes write.

        Args:
            inputs: [n_inputs, B, P, D] (see ``input_nodes``).
            read: as in ``forward``.
            taps: a list to which one dict per layer is appended, and one for the logits. It has the readers' inputs
                (``residual``, ``mlp``, ``logits``: [B, P, D]) and the projections ``q``, ``k``, ``v`` [B, H, P, E]. The
                gradient of ``residual`` is the whole stream's, through all that is above; those of ``mlp``, of
                ``logits`` and of the projections are the reader's alone. It also has what the layer computed, before
                ``written`` changes it: ``z`` [B, H, P, E] and ``m`` [B, P, D]. ``mixed`` is z before the norm behind
                attention, and equal to z in a model without that norm.
            rules: how gradients are carried back; the values do not depend on them.
            written: called with the kind and layer of a group and with what its nodes write (as in Activations);
                returns what goes into the residual stream instead. It is not called for the input nodes.
            projected: called with a layer and its q, k and v; returns those that attend instead. ``taps`` hold the
                former.

        Returns:
            The logits, and what every writer wrote.
        """
        spend(forward=inputs.shape[1])
        residual = inputs.sum(0) + self.constant(inputs.shape[2])
        run = Activations({("input", 0): inputs})
        for layer, block in enumerate(self.blocks):
            qkv = block(rules.qkv, residual)
            mixing = qkv if projected is None else projected(layer, qkv)
            z = mixed = block.attending(rules.attend, *mixing)
            if self.config.post_norms:
                z = block(rules.shares, mixed.transpose(0, 1)).transpose(0, 1)
            tap = {"residual": residual, **dict(zip("qkv", qkv, strict=True)), "mixed": mixed, "z": z}
            heads = z.transpose(0, 1)
            run["head", layer] = heads = heads if written is None else written("head", layer, heads)
            after = residual + block(Block.write, heads)
            if self.graph.mlps:
                reader = (residual if self.config.parallel else after).view_as(after)  # an alias with its own gradient
                m = block(rules.mlp_of, reader)
                tap |= {"mlp": reader, "m": m}
                run["mlp", layer] = m = m[None] if written is None else written("mlp", layer, m[None])
                after = after + m[0]
            residual = after
            if taps is not None:
                taps.append(tap)
        if taps is not None:
            taps.append({"logits": residual})
        return self.to_logits(residual, read, rules), run

    def to_logits(self, residual: Tensor, read: Tensor | None = None, rules: Rules = EXACT) -> Tensor:
        """Logits of the last residual stream [..., B, P, D]: [..., B, P, d_out], or [..., n_read, d_out]."""
        if read is not None:
            where = send(read.flatten().nonzero().flatten(), residual.device)
            residual = residual.flatten(-3, -2).index_select(-2, where)
        logits = F.linear(rules.norm(self.norm_final, residual), self.unembed.T, getattr(self, "unembed_bias", None))
        cap = self.config.logit_cap
        return logits if cap is None else cap * (logits / cap).tanh()

    # ---- what writers wrote, in the residual stream ------------------------------------------------------------------

    def outputs(self, activations: Activations, n_writers: int | None = None) -> Tensor:
        """A copy of what the first ``n_writers`` writers (all when omitted) write: [W, B, P, D]."""
        n_writers = len(self.graph.writers) if n_writers is None else n_writers
        batch, positions = (max(activations.inputs.shape[i], activations["head", 0].shape[i]) for i in (1, 2))
        out = activations.inputs.new_empty(n_writers, batch, positions, self.config.d_model)
        for group in self.graph.groups:
            if group.writes and group.writers.start < n_writers:
                part = activations[group.key]
                out[group.writers] = self.blocks[group.layer](Block.write_apart, part) if group.kind == "head" else part
        return out

    def difference(self, run: Activations, other: Activations) -> Tensor:
        """Writers' outputs in ``run`` minus those in ``other``: [W, B, P, D]. Heads are projected once, from d_head."""
        return self.outputs(run.with_each(torch.sub, other))

    def alternative(self, activations: Activations, n_positions: int) -> Alternative:
        """``activations`` as what cut edges carry, with the residual streams of ``n_positions`` that they add up to."""
        residual, before = activations.inputs.sum(0) + self.constant(n_positions), {}
        for layer, block in enumerate(self.blocks):
            after = residual + block(Block.write, activations["head", layer])
            before["head", layer] = residual
            if self.graph.mlps:
                before["mlp", layer] = residual if self.config.parallel else after
                after = after + activations["mlp", layer][0]
            residual = after
        before["logits", self.graph.n_layers] = residual
        return Alternative(activations, before)

    # ---- the model with its edges cut --------------------------------------------------------------------------------

    def run_cut(
        self,
        masks: Tensor,
        alternative: Alternative,
        *,
        inputs: Tensor,
        prefix: Tensor | None = None,
        read: Tensor | None = None,
        offset: Tensor | None = None,
        cut_at: Tensor | None = None,
        gradient_stream: type[Stream] = BufferedStream,
    ) -> Tensor:
        """Logits under many masks at once. They are differentiable in the masks, also where a mask is zero or one.

        Args:
            masks: [C, W, R], one where an edge is kept and zero where it is cut. A value between mixes the two; values
                where no edge exists are ignored. Without gradients, masks on the CPU avoid a wait for the device. With
                one more axis, [C, W, R, P], an edge is kept or cut at each position of its reader's input; that of a
                key or value is the key's.
            alternative: what a cut edge carries (see ``alternative``).
            inputs: what the input nodes write, [n_inputs, B, P, D].
            prefix: ``difference(plain run, alternative.activations)``, [W, B, P, D]. When it is given, the pass starts
                at the first layer that a cut can change.
            read: as in ``forward``.
            offset: [C, R, D], added to each reader's input at every position (learned constants on cut edges), or
                [C, R, P, D], at each.
            cut_at: bool [B, P], the positions at which edges are cut; all when omitted.
            gradient_stream: what holds the residual stream while gradients are recorded. With ``BufferedStream``, masks
                that would keep too much for the backward pass are run a part at a time (see in_parts.py).

        Returns:
            [C, B, P, d_out], or [C, n_read, d_out].

        Layers before the first cut reader, and nodes from which no path of kept edges leads to the logits, are not
        computed, nor are, where the alternative is a run, nodes to which none leads from an input. Without gradients:
        with them they are, because edges that are wholly kept or cut have gradients, too.
        """
        given = CutPass(alternative, inputs, prefix, read, offset, cut_at, gradient_stream)
        if torch.is_grad_enabled() and gradient_stream is BufferedStream:
            at_once = self.masks_at_once(inputs.shape[1] * inputs.shape[2])
            if at_once < len(masks) and given.fixed:
                return run_in_parts(
                    lambda part, own: self._run_cut(part, replace(given, offset=own)), masks, offset, at_once
                )
        return self._run_cut(masks, given)

    def masks_at_once(self, tokens: int) -> int:
        """How many masks a pass with gradients runs at once on so many tokens (see in_parts.py)."""
        return masks_at_once(len(self.graph.writers), len(self.graph.readers), self.config.d_model, tokens)

    def _run_cut(self, masks: Tensor, given: CutPass) -> Tensor:
        """What ``run_cut`` returns. Other kinds of transformers override this."""
        graph, config, alternative, prefix = self.graph, self.config, given.alternative, given.prefix
        masks, kept = masks.to(self.dtype), graph.exists  # kept: the edges that some mask may keep, on the CPU
        if torch.is_grad_enabled():
            start, live = 0, [True] * len(graph.writers)
        else:  # before the masks leave the CPU, so that no device is waited for
            known = masks.cpu()
            cut, some = known != 1, known != 0
            if masks.ndim == 4:
                cut, some = cut.any(-1), some.any(-1)
            start = 0 if prefix is None else self.first_cut_layer(cut & kept)
            if given.cut_at is None:
                kept = kept & some.any(0)
            computed = self.live_writers(kept)
            if alternative.a_run and given.offset is None and given.cut_at is None:
                computed &= self.fed_writers(kept)
            kept, live = kept & computed[:, None], computed.tolist()
        masks = send(masks, self.device)
        if prefix is None:
            prefix = given.inputs - alternative.activations.inputs
        spend(forward=len(masks) * given.inputs.shape[1] * (config.n_layers - start) / config.n_layers)

        kind = given.gradient_stream if torch.is_grad_enabled() else Stream
        kind = kind if masks.ndim == 3 else PositionStream
        shape = given.inputs.shape[1], given.inputs.shape[2]
        stream = kind(masks, prefix[: graph.visible(start)], kept, live, shape, given.offset, given.cut_at)
        for layer in range(start, config.n_layers):
            block, heads = self.blocks[layer], [h for h, alive in enumerate(live[graph.heads(layer)]) if alive]
            if heads:
                base, cut = alternative.before["head", layer], alternative.activations["head", layer]
                z = self._attend_apart(stream, layer, heads, base)
                chosen = slice_or_index(heads, self.device)
                change = block(Block.write_apart, z - cut[chosen].unsqueeze(1), chosen)  # [r, C, B, P, D]
                stream.write(change.flatten(2, 3).transpose(0, 1))
            if graph.mlps and live[graph.mlp(layer)]:
                reader = range(graph.mlp_reader(layer), graph.mlp_reader(layer) + 1)
                x = stream.read(reader, graph.visible(layer, to_mlp=True), alternative.before["mlp", layer])
                out = block(Block.mlp_of, x[0]) - alternative.activations["mlp", layer][0]
                stream.write(out.flatten(1, 2).unsqueeze(1))
        logits, base = range(len(graph.readers) - 1, len(graph.readers)), alternative.before["logits", graph.n_layers]
        return self.to_logits(stream.read(logits, len(graph.writers), base)[0], given.read)

    def _attend_apart(self, stream: Stream, layer: int, heads: list[int], base: Tensor) -> Tensor:
        """Head outputs [r, C, B, P, E] of the ``heads`` of a layer, each q, k and v from an input of its own."""
        graph, block = self.graph, self.blocks[layer]
        parts, first = [head + part * graph.n_heads for part in range(3) for head in heads], graph.qkv(layer).start
        reading = stream.are_read([first + part for part in parts])
        if all(reading):
            x = stream.read([first + part for part in parts], graph.visible(layer), base)
            everyone = len(heads) == graph.n_heads
            projected = block(Block.project_apart, x, None if everyone else send(torch.tensor(parts), self.device))
        else:
            projected = self._project_some(stream, layer, parts, reading, base)
        q, k, v = projected.chunk(3)
        if self.config.joint_qk_norms:
            z = block.attending(Block.attend, *(part.movedim(0, -3) for part in (q, k, v))).movedim(-3, 0)
        else:
            z = block.attending(Block.attend, q, k, v)
        return block(Block.shares, z) if self.config.post_norms else z

    def _project_some(self, stream: Stream, layer: int, parts: list[int], reading: list[bool], base: Tensor) -> Tensor:
        """Queries, keys and values [r, C, B, P, E] of the ``parts`` (indices into the 3H), most of which read nothing.

        Those all of whose edges are cut project the same input, ``base``, which is normed once.
        """
        graph, block = self.graph, self.blocks[layer]
        first, wide = graph.qkv(layer).start, self.config.d_head
        projected = base.new_empty(len(parts), stream.n_masks, *stream.shape, wide)
        for read in (True, False):
            places = [place for place, own in enumerate(reading) if own == read]
            if not places:
                continue
            where, readers = (
                send(torch.tensor(each), self.device) for each in (places, [parts[place] for place in places])
            )
            if read:
                own = [first + parts[place] for place in places]
                found = block(Block.project_apart, stream.read(own, graph.visible(layer), base), readers)
            else:
                found = block(Block.project_alike, base, readers).unsqueeze(1)
            projected.index_copy_(0, where, found.expand(-1, *projected.shape[1:]))
        return projected

    def first_cut_layer(self, cut: Tensor) -> int:
        """The lowest layer with a reader into which some mask cuts an edge; ``n_layers`` where that is the logits.

        Args:
            cut: bool [C, W, R], the edges that each mask cuts.
        """
        readers = cut.flatten(0, 1).any(0).nonzero()
        return self.graph.reader_layer(int(readers[0])) if len(readers) else self.config.n_layers

    def live_writers(self, kept: Tensor) -> Tensor:
        """Which writers a path of kept edges [W, R] connects with the logits, so that they are computed: bool [W]."""
        graph, kept = self.graph, kept.cpu()
        live = kept[:, -1].clone()
        for layer in reversed(range(graph.n_layers)):
            if graph.mlps and live[graph.mlp(layer)]:
                live |= kept[:, graph.mlp_reader(layer)]
            into_heads = kept[:, graph.qkv(layer)].unflatten(1, (3, -1)).any(1)
            if self.config.heads_together:  # one norm scales all heads of a layer
                live[graph.heads(layer)] = live[graph.heads(layer)].any()
            live |= into_heads[:, live[graph.heads(layer)]].any(1)
        return live

    def fed_writers(self, kept: Tensor) -> Tensor:
        """Which writers a path of kept edges [W, R] leads to from an input node, so that they may differ: bool [W]."""
        graph, kept = self.graph, kept.cpu()
        fed = torch.zeros(len(graph.writers), dtype=torch.bool)
        fed[graph.group["input", 0].writers] = True
        for layer in range(graph.n_layers):
            into_heads = (kept[:, graph.qkv(layer)] & fed[:, None]).any(0).unflatten(0, (3, -1)).any(0)
            fed[graph.heads(layer)] = into_heads.any() if self.config.heads_together else into_heads
            if graph.mlps:
                fed[graph.mlp(layer)] = (kept[:, graph.mlp_reader(layer)] & fed).any()
        return fed
