"""Tables and circuits as text, and the self-contained pages they stand in."""
