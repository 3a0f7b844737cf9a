"""Dictionaries that are trained here and ship with the package: on compiled models in a random basis, on ``mini``, and
on SmolLM2.

``shipped.py`` reads them; ``train.py`` makes those of programs again, and ``suite/model/load/train_dictionaries.py``
those of language models.
"""
