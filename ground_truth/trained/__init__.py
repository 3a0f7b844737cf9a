"""Transformers with dense weights, trained to have exactly the edges that a compiled program has."""
