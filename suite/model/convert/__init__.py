"""From other libraries' models to the transformer that can be cut, exactly: float64 logits agree to 1e-10.

One file an architecture; each gives the configuration and the weights under the names of this project.
"""

from .check import check_logits
from .huggingface import CONVERTERS, from_huggingface
from .transformer_lens import from_transformer_lens, outline_of_transformer_lens

__all__ = ["CONVERTERS", "check_logits", "from_huggingface", "from_transformer_lens", "outline_of_transformer_lens"]
