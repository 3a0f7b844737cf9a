"""``python -m circuitmeter`` is the ``circuitmeter`` command."""

from circuitmeter.suite.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
