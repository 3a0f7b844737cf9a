"""Whether a circuit is stable, whether it is the only one, and whether a model of random weights has one as good."""
