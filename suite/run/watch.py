"""How one piece of work is going, on stderr: how much of its passes is done, and when it will end.

The engine counts passes as they are run, so that no method has to say anything.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ..model.passes import Passes, count_passes
from ..plan.estimate import spoken

EVERY_SECONDS = 30.0  # where stderr is no terminal
_LIVE_SECONDS = 0.5


@contextmanager
def watched(what: str, expected: float | None, *, stream: TextIO | None = None) -> Iterator[Passes]:
    """Tells how the work inside the block is going: in place on a terminal, a line every 30 seconds elsewhere.

    Args:
        what: the work, in a word or two.
        expected: forward and backward passes that it will take (``Cost.passes``), or at most; ``None`` where unknown.
    """
    stream = stream or sys.stderr
    live, ended, start = stream.isatty(), threading.Event(), time.perf_counter()

    with count_passes() as passes:

        def tell() -> None:
            while not ended.wait(_LIVE_SECONDS if live else EVERY_SECONDS):
                done = passes.forward + passes.backward + passes.spared
                line = line_of(what, done, expected, time.perf_counter() - start)
                print(f"\r\x1b[2K{line}" if live else line, end="" if live else "\n", file=stream, flush=True)

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield passes
        finally:
            ended.set()
            teller.join()
            if live:
                print("\r\x1b[2K", end="", file=stream, flush=True)


def line_of(what: str, done: float, expected: float | None, seconds: float) -> str:
    """How far the work is after some seconds.

    >>> line_of("eap-ig", 50, 200, 30)
    'eap-ig: 25 % after 30 s, ETA 90 s'
    >>> line_of("eap-ig", 0, 200, 30), line_of("mine", 50, None, 30)
    ('eap-ig: 0 % after 30 s, ETA unknown', 'mine: 50 passes after 30 s')
    """
    if not expected:
        return f"{what}: {done:,.0f} passes after {spoken(seconds)}"
    share = min(done / expected, 1.0)
    left = seconds * (1 - share) / share if share else None
    return f"{what}: {100 * share:.0f} % after {spoken(seconds)}, ETA {spoken(left)}"
