"""The transformer whose edges are cut at single positions: the engine of transformer.py with masks by position."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor

from ..errors import DataError, ModelError
from .graph import Graph
from .position_graph import PositionGraph
from .transformer import CutPass, Transformer


class PositionTransformer(Transformer):
    """A transformer with a reader for each position. It shares its weights with the one it is made from.

    Plain runs are those of the model. Masks are [C, n_writers, n_readers] on ``graph``; ``whole`` runs them.
    """

    graph: PositionGraph
    reads_apart = True

    @classmethod
    def of(cls, model: Transformer, n_positions: int) -> PositionTransformer:
        """The model with edges told apart by position, for prompts of so many tokens.

        Raises:
            ModelError: a model whose nodes are features, or one that is spread over processes.
            DataError: more positions than the model takes, or none.
        """
        if type(model) is not Transformer:
            raise ModelError(
                "edges are told apart by position between heads and MLPs of a model in one process; this model has "
                "features as nodes or is spread over processes."
            )
        if n_positions > model.config.n_positions:
            raise DataError(f"{n_positions} positions were asked for; the model takes {model.config.n_positions}.")
        twin = copy.copy(model)
        twin.__class__ = cls
        assert isinstance(twin, cls)
        twin.graph = PositionGraph.of(model.graph, n_positions, model.config.causal)
        return twin

    @property
    def whole(self) -> Transformer:
        """The same model, weights shared, with edges that are the same at all positions."""
        return _plain(self, self.graph.whole)

    def input_nodes(self, tokens: Tensor) -> Tensor:
        """As ``Transformer.input_nodes``. Raises DataError for prompts of another length than the graph is for."""
        if tokens.shape[1] != self.graph.n_positions:
            raise DataError(
                f"a prompt has {tokens.shape[1]} tokens, and the graph is of {self.graph.n_positions} positions; all "
                f"prompts must have one length."
            )
        return super().input_nodes(tokens)

    def masks_at_once(self, tokens: int) -> int:
        """As ``Transformer.masks_at_once``: a token is at one position."""
        return self.whole.masks_at_once(tokens)

    def _run_cut(self, masks: Tensor, given: CutPass) -> Tensor:
        """What ``whole`` makes of the masks by position."""
        if given.offset is not None:
            by_position = self.graph.by_position(given.offset.mT).permute(0, 2, 3, 1)  # [C, R, P, D]
            given = replace(given, offset=by_position)
        return self.whole._run_cut(self.graph.by_position(masks), given)


def _plain(model: Transformer, graph: Graph) -> Transformer:
    """The model, weights shared, as the plain engine has it on a graph."""
    twin = copy.copy(model)
    twin.__class__ = Transformer
    twin.graph = graph
    return twin
