"""Imported by the fork server alone, when it starts: it outlives those who ask it for processes.

Python's server ends when a process that has just connected is killed before it says what it wants, and with the server
every worker counts as lost. Here such a connection is one that was aborted, after which the server goes on.
"""

from __future__ import annotations

import errno
from multiprocessing import reduction
from socket import socket

_receive = reduction.recvfds


def _receive_or_abort(sock: socket, size: int) -> list[int]:
    try:
        return _receive(sock, size)
    except (EOFError, OSError, RuntimeError) as error:
        raise ConnectionAbortedError(errno.ECONNABORTED, "who asked for a process is gone") from error


reduction.recvfds = _receive_or_abort
