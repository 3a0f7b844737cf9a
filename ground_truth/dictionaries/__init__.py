"""Dictionaries that are trained here and ship with the package: on compiled models in a random basis, and on ``mini``.

``shipped.py`` reads them; ``train.py`` makes those of programs again, and ``tasks/mini/dictionaries.py`` those of
``mini``.
"""
