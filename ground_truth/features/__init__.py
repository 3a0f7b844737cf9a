"""Compiled programs whose features are known: their directions as dictionaries, and certified feature circuits."""
