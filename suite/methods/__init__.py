"""The methods, one paper a file. Importing this package registers the built-in ones."""

from . import acdc, baselines, eap, eap_ig, exact  # noqa: F401  (each registers itself)
from .registry import METHODS, Method, load_user_method, method

__all__ = ["METHODS", "Method", "load_user_method", "method"]
