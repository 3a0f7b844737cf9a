"""How well a method did: recovery of a known circuit, with intervals and tests over programs."""
