"""How much the verdict on a circuit depends on how it is evaluated: measured over a grid of settings."""
