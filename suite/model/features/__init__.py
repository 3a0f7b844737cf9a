"""Dictionaries of features in the place of components, and the transformer whose features are nodes."""
