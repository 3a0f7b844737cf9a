"""Sites of dictionaries: the activation that a dictionary decomposes, which decides what nodes its features replace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from ...errors import ModelError, unknown

Place = Literal["resid_pre", "resid_post", "attn_out", "z", "mlp_out", "transcoder"]
_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "attn.hook_z": "z",
    "hook_mlp_out": "mlp_out",
    "ln2.hook_normalized": "transcoder",
    "mlp.hook_in": "transcoder",
}


@dataclass(frozen=True, order=True)
class Site:
    """One place of one layer. Prints as it parses.

    ``resid_pre`` and ``resid_post``: the residual stream before and behind the block; features hide every earlier
    writer from every later reader. ``attn_out`` and ``z``: what the attention of the layer writes, behind and before
    the output projection; ``mlp_out``: what its MLP writes; the features replace these nodes. ``transcoder``: the same
    as ``mlp_out``, but the features read the MLP's normed input instead of its output.

    >>> str(Site.parse("blocks.3.hook_mlp_out")), Site.parse("resid_pre.0")
    ('mlp_out.3', Site(layer=0, place='resid_pre'))
    """

    layer: int
    place: Place

    @classmethod
    def parse(cls, text: str) -> Site:
        """Reads ``mlp_out.3`` or the hook's name in TransformerLens and SAELens, ``blocks.3.hook_mlp_out``.

        Raises:
            ModelError: another text.
        """
        hook = re.fullmatch(r"blocks\.(\d+)\.(.+)", text)
        place, _, layer = (_HOOKS.get(hook[2], ""), "", hook[1]) if hook else text.partition(".")
        if place not in get_args(Place) or not re.fullmatch(r"\d{1,4}", layer):
            examples = [f"{each}.0" for each in get_args(Place)]
            raise ModelError(unknown("site", text, examples, "A site is a place and a layer."))
        return cls(int(layer), cast(Place, place))

    def __str__(self) -> str:
        return f"{self.place}.{self.layer}"

    def check_layers(self, n_layers: int) -> None:
        """Raises ModelError for a layer that a model of ``n_layers`` layers lacks."""
        if self.layer >= n_layers:
            raise ModelError(f"site {self}: the model has the layers 0 to {n_layers - 1}.")
