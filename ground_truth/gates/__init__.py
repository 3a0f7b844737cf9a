"""Transformers wired by hand, each with one structure that methods miss, and its circuit in closed form."""
