"""Which programs are trained, on which of their inputs, in which models, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ...suite.model.block import Config
from ..rasp.program import Value


@dataclass(frozen=True)
class Recipe:
    """How a program's models are trained.

    Args:
        program: one of the shipped compiled programs, which is the teacher.
        length: of the inputs, in tokens; the longest where they vary.
        vocabulary: the tokens they are made of; all of the program's when empty.
        kind: of the domain, see ``Domain``.
        strict: ``edge``: the model behaves as the compiled one when edges are cut, any of those that should be inert
            included. ``node``: when all edges out of one node are cut at once, which is what strict interchange
            intervention training (Gupta et al. 2024) does; single edges are left to themselves.
        norm: layer norm before every reader, as in GPT-2, or none.
        n_layers: at least the teacher's; the layers on top of those have nothing to do.
        attempts: initial weights that a seed stands for; after ``choose_at`` steps the most promising one goes on. With
            one attempt, one model in three or so never learns where to look.
        steps: of Adam, with its rate rising for ``warmup_steps`` and falling to ``last_rate`` of it by a cosine.
        batch_size: rows with cut edges in a step; the plain pass is over the whole domain every time.
        gradient_norm: the longest gradient that is followed, of each model by itself.
        enough: deviations from the target outputs, none larger, at which training ends early.
        check_every: steps between two looks at how far each model is; the best one found is what is kept.
    """

    program: str
    length: int = 4
    vocabulary: tuple[Value, ...] = ()
    kind: Literal["fixed", "variable"] = "fixed"
    strict: Literal["edge", "node"] = "edge"
    norm: bool = False
    n_layers: int = 2
    n_heads: int = 2
    d_model: int = 24
    d_head: int = 8
    d_mlp: int = 48
    attempts: int = 2
    choose_at: int = 300
    steps: int = 1800
    batch_size: int = 96
    learning_rate: float = 8e-3
    last_rate: float = 0.02
    warmup_steps: int = 50
    betas: tuple[float, float] = (0.9, 0.98)
    gradient_norm: float = 0.5
    enough: float = 0.02
    check_every: int = 150

    def config(self, teacher: Config) -> Config:
        """The architecture: GPT-2's blocks, with or without their norms, at the size of the recipe."""
        return Config(
            n_layers=max(self.n_layers, teacher.n_layers),
            n_heads=max(self.n_heads, teacher.n_heads),
            d_model=self.d_model,
            d_head=self.d_head,
            d_mlp=self.d_mlp,
            d_vocab=teacher.d_vocab,
            d_out=teacher.d_out,
            n_positions=self.length + 1,
            norm="layer" if self.norm else "none",
            activation="gelu_tanh",
            causal=teacher.causal,
        )

    def name(self, seed: int) -> str:
        """What a model is shipped as: ``hist``, ``hist-norm``, ``hist-seed1``, ``hist-norm-seed1``."""
        return self.program + "-norm" * self.norm + (f"-seed{seed}" if seed else "")


RECIPES = {
    recipe.program: recipe
    for recipe in (
        Recipe("hist"),
        Recipe("count_a"),
        Recipe("shift1", vocabulary=("a", "b", "c")),
        Recipe("trend"),
        Recipe("remove_consec_dups"),
        Recipe("next_token"),
        Recipe("xproportion", vocabulary=("w", "x", "y")),
        Recipe("fraction_a"),
        Recipe("detect_ab"),
        Recipe("pair_balance"),
        Recipe("equal_neighbours"),
        Recipe("window_sum", length=5),
        Recipe("shift2"),
        Recipe("seen_a"),
    )
}
SLOW_WITH_NORM = ("hist",)  # which of them find their heads late when there are norms


def recipe_of(program: str, norm: bool = False, strict: Literal["edge", "node"] = "edge") -> Recipe:
    """The recipe of a program's models with or without norms."""
    longer = {"attempts": 6, "choose_at": 450, "steps": 3600} if norm and program in SLOW_WITH_NORM else {}
    return replace(RECIPES[program], norm=norm, strict=strict, **longer)
