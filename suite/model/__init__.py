"""One transformer that can be cut: its graph, its forward pass, what it captures, and conversion to it."""
