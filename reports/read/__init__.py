"""Stores are read into tidy tables."""
