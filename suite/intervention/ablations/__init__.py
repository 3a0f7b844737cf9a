"""The kinds of ablation, one class per file; ``suite/intervention/ablation.py`` finds them here."""
