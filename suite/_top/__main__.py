"""``python -m circuitmeter`` is the ``circuitmeter`` command."""

from circuitmeter.suite.cli import main

raise SystemExit(main())
