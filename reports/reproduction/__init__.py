"""A paper's manifest, the verdict on each of its numbers, its figures, and the page of them."""
