"""The kinds of ablation, a class a file; ``suite/intervention/ablation.py`` finds them here."""
