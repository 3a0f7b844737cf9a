"""DiscoGP's report on its circuit: density, faithfulness and completeness of weights, edges, and both."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..circuit import Circuit
from ..data import Data
from ..intervention.ablation import Ablation
from ..intervention.evaluator import Evaluator
from ..intervention.objective import OBJECTIVES
from ..model.device import send
from ..model.transformer import Transformer
from ._answers import over_answers
from ._weights import cut_output_bias, with_weights


def report(
    judge: Judge, kept_weights: Mapping[str, Tensor], circuit: Circuit, flip_both: bool
) -> dict[str, dict[str, float]]:
    """Density, faithfulness and completeness of the weights, of the edges, and of both together.

    The complement of the weights is all other weights; that of the edges, and of both, is all other edges.

    Args:
        judge: compares masked models with the whole one.
        kept_weights: 1 for each weight that is kept and 0 for the others, by the name of the parameter.
        circuit: the edges that are kept.
        flip_both: whether complements are those of the released code: for weights, the other weights without any edge;
            for both, the other weights and the other edges.
    """
    model = judge.model
    every, kept, closed = model.graph.exists, circuit.edges, model.graph.exists & ~circuit.edges
    masked = with_weights(model, kept_weights)
    others = with_weights(model, {name: 1 - gate for name, gate in kept_weights.items()})
    own = {"weights": (masked, every), "edges": (model, kept), "both": (masked, kept)}
    complement = {"weights": (others, every), "edges": (model, closed), "both": (masked, closed)}
    if flip_both:
        complement |= {"weights": (others, every & ~every), "both": (others, closed)}
    n_weights = sum(gate.numel() for gate in kept_weights.values())
    weight_density = float(sum(gate.sum() for gate in kept_weights.values())) / n_weights
    return {
        name: {
            "weight_density": 1.0 if name == "edges" else weight_density,
            "edge_density": 1.0 if name == "weights" else circuit.n_edges / model.graph.n_edges,
        }
        | judge.faithful(*own[name])
        | judge.complete(*complement[name])
        for name in own
    }


class Judge:
    """Compares masked models with the whole one.

    Args:
        model, data, ablation, seed, batch_size: as in ``Evaluator``.
        among_answers: whether outputs are compared over each prompt's right and wrong answers alone.
        bias_on_heads: whether an edge cut to zero loses its share of the output bias.
    """

    def __init__(
        self,
        model: Transformer,
        data: Data,
        ablation: Ablation,
        among_answers: bool,
        bias_on_heads: bool,
        *,
        seed: int,
        batch_size: int,
    ) -> None:
        self.model, self._among_answers, self._bias_on_heads = model, among_answers, bias_on_heads
        self._evaluator: Callable[[Transformer], Evaluator] = lambda other: Evaluator(
            other, data, ablation, OBJECTIVES.get("kl"), seed=seed, batch_size=batch_size
        )
        self.whole = self._outputs(model, model.graph.exists)  # [n_read, d_out]
        self.prediction = self.whole.argmax(-1)

    @torch.no_grad()
    def _outputs(self, model: Transformer, edges: Tensor) -> Tensor:
        """Outputs [n_read, d_out] of a model that keeps only ``edges`` [W, R], the batches one behind the other."""
        masks, found = send(edges[None].to(model.dtype), model.device), []
        offset = cut_output_bias(model, masks) if self._bias_on_heads else None
        for ready in self._evaluator(model).prepared():
            inputs, read = ready.inputs, ready.runs.read
            outputs = model.run_cut(masks, ready.alternative, inputs=inputs, read=read, offset=offset)[0]
            found.append(over_answers(outputs, ready.batch) if self._among_answers else outputs)
        return torch.cat(found)

    def faithful(self, model: Transformer, edges: Tensor) -> dict[str, float]:
        """Accuracy and divergence (nats) of a model that keeps only ``edges`` [W, R], against the whole model."""
        outputs = self._outputs(model, edges)
        log_whole, log_found = (F.log_softmax(each.double(), -1) for each in (self.whole, outputs))
        return {
            "accuracy": float((outputs.argmax(-1) == self.prediction).double().mean()),
            "kl": float(F.kl_div(log_found, log_whole, reduction="none", log_target=True).nan_to_num().sum(-1).mean()),
        }

    def complete(self, model: Transformer, edges: Tensor) -> dict[str, float]:
        """The accuracy of a complement, and chance. Each answer that the whole model predicts has the same weight."""
        right = (self._outputs(model, edges).argmax(-1) == self.prediction).double()
        classes, which = self.prediction.unique(return_inverse=True)
        by_class = torch.zeros(len(classes), dtype=torch.float64, device=right.device).index_add(0, which, right)
        accuracy = float((by_class / which.bincount().double()).mean())
        return {"complement_accuracy": accuracy, "chance": 1 / len(classes)}
