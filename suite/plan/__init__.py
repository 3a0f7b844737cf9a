"""From a benchmark to what is to be run: its specification, cells, identities, subjects and estimated times."""
