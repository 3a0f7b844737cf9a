"""Dictionaries of features, and the transformer whose nodes are features in place of components."""
