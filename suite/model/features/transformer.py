"""The transformer whose nodes are features: the engine of transformer.py with dictionaries in place of components.

It is the plain, exact version. Every feature reads an input of its own, from which its component is computed anew:

    x[f] = constant + sum over writers it sees of  alternative[w] + mask[w, f] * (out[w] - alternative[w])
    out[f] = activation_f(component(x[f])) * decoder_f,
    out[error] = component(x[error]) - decoder bias - sum over the features that are nodes of what they make of x[error]

So with every edge kept the output is the model's own, whatever the dictionary. The letters are those of transformer.py,
and k features of a site, S the width of what a dictionary decomposes (D, or H * E before the output projection).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from ...errors import ModelError
from ..block import Block
from ..content import content_hash
from ..device import send
from ..graph import Graph, Key, NodeGroup
from ..passes import spend
from ..rules import EXACT, Rules
from ..transformer import Activations, Alternative, CutPass, Projections, Transformer
from .dictionary import FeatureDictionary
from .graph import FeatureGraph, SiteNodes
from .site import Site


class FeatureTransformer(Transformer):
    """A transformer with features and error nodes at some sites. It shares its weights with the one it is made from."""

    graph: FeatureGraph
    reads_apart = True

    @classmethod
    def of(
        cls, model: Transformer, nodes: Mapping[Site, tuple[FeatureDictionary, Sequence[int]]]
    ) -> FeatureTransformer:
        """The model with nodes for some features of a dictionary at each site.

        Args:
            nodes: for each site the dictionary, and which of its features are nodes; the error holds the others.

        Raises:
            ModelError: no site is given, a site or a feature does not exist, or a dictionary has another width.
        """
        if not nodes:
            raise ModelError("no dictionary was given; name one, and the site at which it stands.")
        sites = []
        for site, (dictionary, features) in sorted(nodes.items()):
            check_dictionary_fits(model, site, dictionary)
            chosen = tuple(sorted(set(features)))
            if not chosen or chosen[0] < 0 or chosen[-1] >= dictionary.n_features:
                raise ModelError(
                    f"site {site}: features {list(features)[:5]}; the dictionary has 0 to {dictionary.n_features - 1}, "
                    "and one at least must be a node."
                )
            sites.append(SiteNodes(site, chosen, dictionary.hash))
        twin = copy.copy(model)
        twin.__class__ = cls
        twin.__dict__.pop("weights_hash", None)
        old = {field.name: getattr(model.graph, field.name) for field in fields(Graph)}
        twin.graph = FeatureGraph(**old, sites=tuple(sites))
        twin.dictionaries = {str(site): dictionary for site, (dictionary, _) in nodes.items()}
        return twin

    @property
    def nodes(self) -> dict[Site, tuple[FeatureDictionary, tuple[int, ...]]]:
        """The argument of ``of``: for each site its dictionary, and which of its features are nodes."""
        return {at.site: (self.dictionaries[str(at.site)], at.features) for at in self.graph.sites}

    def content_hash(self) -> str:
        """16 hex digits of the model's weights and of the dictionaries at their sites, read now."""
        digest = hashlib.sha256(content_hash(self).encode())
        for at in self.graph.sites:
            digest.update(f"{at.site}:{self.dictionaries[str(at.site)].content_hash()}:{at.features}".encode())
        return digest.hexdigest()[:16]

    def site_of(self, group: NodeGroup) -> Site:
        """The site of a group of features, or of an error node."""
        return self._at(group)[0].site

    def dictionary_at(self, group: NodeGroup) -> FeatureDictionary:
        """The dictionary at a site's group of nodes, in the model's dtype and on its device."""
        return self._at(group)[1]

    def features_at(self, group: NodeGroup) -> Tensor:
        """Which of its dictionary's features are nodes at a site: long [k]."""
        return self._at(group)[2]

    def _at(self, group: NodeGroup) -> tuple[SiteNodes, FeatureDictionary, Tensor]:
        """A group's site, the dictionary there, and which of its features are nodes [k]."""
        at = self.graph.at[group.nodes[0].partition(".")[0]]
        dictionary = self.dictionaries[str(at.site)].to(self.embed)
        return at, dictionary, torch.tensor(at.features, device=self.device)

    # ---- what nodes compute ------------------------------------------------------------------------------------------

    def _compute(self, group: NodeGroup, x: Tensor, rules: Rules = EXACT) -> Tensor:
        """What a group's nodes compute from their inputs, in the form that Activations hold: [n, ..., P, d].

        Args:
            x: [r, ..., P, D], one per reader, or [1, ..., P, D], one for all of them.
        """
        if group.kind == "head":
            return self._heads(self.blocks[group.layer], x, rules)
        if group.kind == "mlp":
            return self.blocks[group.layer](rules.mlp_of, x.flatten(0, -3)).unflatten(0, x.shape[:-2])
        block = None if group.kind.startswith("residual") else self.blocks[group.layer]
        at, dictionary, features = self._at(group)
        read, whole = self._values(at, block, x, rules)
        if group.kind.endswith("error"):
            made = dictionary.decode(dictionary.encode(read, features), features) + dictionary.b_dec
            return self._into_stream(at, block, whole - made)
        if len(x) == 1:
            return dictionary.encode(read[0], features).movedim(-1, 0)[..., None]
        return dictionary.encode_each(read, features)[..., None]

    def _heads(self, block: Block, x: Tensor, rules: Rules) -> Tensor:
        """Head outputs [H, ..., P, E] from inputs [3H, ..., P, D], or from one shared input [1, ..., P, D]."""
        if len(x) == 1:
            q, k, v = block(rules.qkv, x[0].flatten(0, -3))
        else:
            apart = block(rules.project_apart, x.flatten(1, -3))
            q, k, v = (part.transpose(0, 1) for part in apart.chunk(3))  # [B, H, P, E]
        z = block.attending(rules.attend, q, k, v).transpose(0, 1)
        z = block(rules.shares, z) if self.config.post_norms else z
        return z.unflatten(1, x.shape[1:-2])

    def _values(self, at: SiteNodes, block: Block | None, x: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
        """What the encoder reads [..., P, D_in] and what the decoder decomposes [..., P, S], of inputs [..., P, D]."""
        if block is None:
            return x, x
        if at.kind == "mlp":
            flat = x.flatten(0, -3)
            out = block(rules.mlp_of, flat).unflatten(0, x.shape[:-2])
            return (rules.norm(block.norm_mlp, x), out) if at.site.place == "transcoder" else (out, out)
        z = self._heads(block, x[None], rules)
        if at.site.place == "z":
            out = z.movedim(0, -2).flatten(-2)
        else:
            out = block(Block.write, z.flatten(1, -3)).unflatten(0, x.shape[:-2])
        return out, out

    def _into_stream(self, at: SiteNodes, block: Block | None, values: Tensor) -> Tensor:
        """Values [..., S] as they arrive in the residual stream, [..., D], without the output bias."""
        return values if block is None or at.site.place != "z" else values @ block.W_write

    def _written(self, group: NodeGroup, part: Tensor) -> Tensor:
        """What each node of a group writes [n, ..., D], from what Activations hold of it [n, ..., d]."""
        if group.kind == "head":
            return self.blocks[group.layer](Block.write_apart, part)
        if not group.kind.endswith("feature"):
            return part
        at, dictionary, features = self._at(group)
        block = None if at.kind == "residual" else self.blocks[group.layer]
        rows = self._into_stream(at, block, dictionary.W_dec[features])
        return part * rows.view(len(rows), *[1] * (part.ndim - 2), -1)

    def _together(self, group: NodeGroup, part: Tensor) -> Tensor:
        """The sum of what the nodes of a group write, [..., D]; it never holds each feature's output."""
        if not group.kind.endswith("feature"):
            return self._written(group, part).sum(0)
        at, dictionary, features = self._at(group)
        block = None if at.kind == "residual" else self.blocks[group.layer]
        return self._into_stream(at, block, dictionary.decode(part[..., 0].movedim(0, -1), features))

    def constants(self, n_positions: int) -> dict[Key, Tensor]:
        """What each group's input holds on no edge, [P or 1, D]: position embedding, output and decoder biases."""
        constant = entering = self.constant(n_positions)
        found = {}
        for group in self.graph.groups:
            if group.kind in ("head", "attention feature"):
                entering = constant
            found[group.key] = entering if self.graph.parallel and group.kind.startswith("mlp") else constant
            if group.kind == "head":
                constant = constant + self.blocks[group.layer].b_O
            if group.kind.endswith("error"):
                at, dictionary, _ = self._at(group)
                block = None if at.kind == "residual" else self.blocks[group.layer]
                added = self._into_stream(at, block, dictionary.b_dec)
                added = added if block is None or at.site.place != "z" else added + block.b_O
                constant = added.expand(1, -1) if at.kind == "residual" else constant + added
        return found

    # ---- runs --------------------------------------------------------------------------------------------------------

    def run(
        self,
        inputs: Tensor,
        *,
        read: Tensor | None = None,
        taps: list[dict[str, Tensor]] | None = None,
        rules: Rules = EXACT,
        written: Callable[[str, int, Tensor], Tensor] | None = None,
        projected: Callable[[int, Projections], Projections] | None = None,
        moved: Mapping[Key, Tensor] | None = None,
        record: dict[Key, Tensor] | None = None,
    ) -> tuple[Tensor, Activations]:
        """As ``Transformer.run``; the logits are the model's own to rounding.

        Args:
            moved: for each group that reads, a tensor [r, B, P, D] that is added to its readers' inputs, one part to
                each: zeros, whose gradients are those of the readers. Without it the nodes of a group share an input.
            record: a dict to be filled with what each group reads, [1 or r, B, P, D].

        Raises:
            ModelError: ``taps``, ``written`` or ``projected`` is given; they need components.
        """
        if taps is not None or written is not None or projected is not None:
            raise ModelError("this graph has features in the place of components, which have no taps.")
        spend(forward=inputs.shape[1])
        run, constants = Activations({("input", 0): inputs}), self.constants(inputs.shape[2])
        sums = [
            (self.graph.groups[0].writers.start, inputs.sum(0))
        ]  # the first writer and the sum of each group so far
        for group in self.graph.groups[1:]:
            seen = [total for first, total in sums if group.sees.start <= first < group.sees.stop]
            x = (sum(seen) + constants[group.key])[None]
            x = x if moved is None else x + moved[group.key]
            if record is not None:
                record[group.key] = x
            if group.writes:
                run[group.key] = part = self._compute(group, x, rules)
                sums.append((group.writers.start, self._together(group, part)))
        return self.to_logits(x[0], read, rules), run

    def values_at(self, site: Site, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What a site's dictionary reads [B, P, D_in] and what it decomposes [B, P, S], in the run from ``inputs``."""
        record: dict[Key, Tensor] = {}
        self.run(inputs, record=record)
        for group in self.graph.groups:
            if group.kind.endswith("error") and self.site_of(group) == site:
                at = self._at(group)[0]
                block = None if at.kind == "residual" else self.blocks[group.layer]
                read, whole = self._values(at, block, record[group.key], EXACT)
                return read[0], whole[0]
        raise ModelError(f"no dictionary stands at site {site}.")

    def outputs(self, activations: Activations, n_writers: int | None = None) -> Tensor:
        """As ``Transformer.outputs``: the first ``n_writers`` writers' outputs, [W, B, P, D]."""
        groups = [group for group in self.graph.groups if group.writes]
        batch, positions = (max(activations[g.key].shape[i] for g in groups) for i in (1, 2))
        parts = [self._written(g, activations[g.key]).expand(-1, batch, positions, -1) for g in groups]
        return torch.cat(parts)[:n_writers]

    def alternative(self, activations: Activations, n_positions: int) -> Alternative:
        """As ``Transformer.alternative``."""
        out, constants = self.outputs(activations), self.constants(n_positions)
        reading = [group for group in self.graph.groups if group.reads]
        return Alternative(activations, {g.key: constants[g.key] + out[g.sees].sum(0) for g in reading})

    def _run_cut(self, masks: Tensor, given: CutPass) -> Tensor:
        """Computes every node, whatever the mask; it uses no ``prefix`` and no ``Stream``."""
        masks, alternative, inputs = send(masks.to(self.dtype), self.device), given.alternative, given.inputs
        spend(forward=len(masks) * inputs.shape[1])
        change = (inputs - alternative.activations.inputs).expand(len(masks), *inputs.shape).transpose(0, 1)
        for group in self.graph.groups[1:]:  # change: [W so far, C, B, P, D]
            weights, seen = masks[:, group.sees, group.readers], change[group.sees]
            base = alternative.before[group.key]
            x = base + torch.einsum("cwr,wcbpd->rcbpd", weights, seen)
            if given.offset is not None:
                x = x + given.offset[:, group.readers].transpose(0, 1)[:, :, None, None]
            if given.cut_at is not None:
                x = torch.where(given.cut_at[:, :, None], x, base + seen.sum(0))
            if group.writes:
                new = self._compute(group, x) - alternative.activations[group.key].unsqueeze(1)
                change = torch.cat([change, self._written(group, new)])
        return self.to_logits(x[0], given.read)


def check_dictionary_fits(model: Transformer, site: Site, dictionary: FeatureDictionary) -> None:
    """Raises ModelError for a site that the model lacks, and for a dictionary of another width."""
    site.check_layers(model.config.n_layers)
    config = model.config
    wide = config.n_heads * config.d_head if site.place == "z" else config.d_model
    if site.place in ("mlp_out", "transcoder") and not model.graph.mlps:
        raise ModelError(f"site {site}: this model has no MLPs.")
    if (dictionary.d_in, dictionary.d_out) != (wide, wide):
        raise ModelError(
            f"the dictionary reads {dictionary.d_in} and writes {dictionary.d_out} dimensions; the model has {wide} at "
            f"site {site}."
        )
