"""Conversion of other libraries' models to the transformer that can be cut. Logits in float64 agree to 1e-10.

Each architecture has a file, which gives the configuration and the weights under this project's names.
"""

from .check import check_logits
from .huggingface import CONVERTERS, from_huggingface
from .transformer_lens import from_transformer_lens, outline_of_transformer_lens

__all__ = ["CONVERTERS", "check_logits", "from_huggingface", "from_transformer_lens", "outline_of_transformer_lens"]
