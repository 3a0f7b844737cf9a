"""A function called in a process of its own, which ends with the call: whatever it changes, it changes there only.

What comes back are bytes and JSON, so nothing that the process made is unpickled. New processes are forked from a small
server that has imported torch and computed nothing, which takes milliseconds; they are spawned where that is not to be
had.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver, reduction, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from .errors import CircuitMeterError, one_line

# What a search and its scoring import, so that each process need not; and what the server itself needs.
_PRELOADED = [
    "circuitmeter.suite.fork_server",
    "circuitmeter.suite.run.family_work",
    "circuitmeter.suite.run.evaluation",
    "circuitmeter.suite.methods",
    "circuitmeter.suite.scoring.recovery",
    "circuitmeter.suite.intervention.faithfulness",
    "circuitmeter.suite.model.load.by_name",
    "circuitmeter.tasks",
    "safetensors.torch",
]
UNKNOWN_STATUS = 255  # what Python says of a process whose server is gone, with or without the process
_EXIT_SECONDS = 5.0  # for a process that has closed its pipe to end


class Ended(CircuitMeterError):
    """A process that ended, or was ended, before it answered.

    Args:
        kind: ``killed``, ``timeout`` or ``memory``, as a failed row says it.
        reason: one line.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Raised(CircuitMeterError):
    """What a function raised in its process: ``error`` is the class's name, ``trace`` the lines of the traceback."""

    def __init__(self, error: str, message: str, trace: list[str]) -> None:
        super().__init__(message)
        self.error, self.trace = error, trace


def start(target: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A new process that runs ``target(*arguments)``, prepared (see ``_prepare``).

    It is no copy of this one, which would inherit torch's threads, locked, but of the server.
    """
    if sys.platform != "linux":
        process = multiprocessing.get_context("spawn").Process(
            target=_begin, args=(None, _Stderr(), dict(os.environ), target, arguments)
        )
        process.start()
        return process
    try:
        return _forked(target, arguments)
    except (EOFError, OSError):  # the server is gone: somebody killed it
        server: Any = forkserver._forkserver
        if "ensure_running" in vars(server):  # it was an ancestor's; from now on this process has one of its own
            del server.ensure_running
            server._forkserver_address = server._forkserver_alive_fd = None
        return _forked(target, arguments)


def _forked(target: Callable[..., None], arguments: tuple[Any, ...]) -> multiprocessing.process.BaseProcess:
    """A process that the server has forked, after the server was started where there was none."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    server: Any = forkserver._forkserver  # its address is private to Python
    server.ensure_running()
    process = context.Process(
        target=_begin, args=(server._forkserver_address, _Stderr(), dict(os.environ), target, arguments)
    )
    process.start()
    return process


class _Stderr:
    """This process's stderr, which in a new process is a descriptor of it: the server may have been started with
    another one."""

    def __reduce__(self) -> tuple[Callable[..., int], tuple[Any, ...]]:
        return _opened, (reduction.DupFd(sys.stderr.fileno() if _has_descriptor(sys.stderr) else 2),)


def _opened(duplicate: Any) -> int:
    return duplicate.detach()


def _has_descriptor(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError, AttributeError):  # a notebook's, or a test's
        return False


def _begin(
    server: str | None,
    stderr: int,
    environment: dict[str, str],
    target: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """The first thing that a new process does.

    Args:
        server: the address of the one that forked it, whose environment is that of its own start.
        environment: as it is now where the process was asked for: it may say which GPUs to use.
    """
    os.dup2(stderr, sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(environment)
    if server is not None:  # it forks this process's own ones, too; Python would start another one here
        ours: Any = forkserver._forkserver
        ours._forkserver_address = server
        ours.ensure_running = resource_tracker._resource_tracker.ensure_running
    _prepare()
    target(*arguments)


def call_apart(function: Callable[..., bytes], *arguments: Any, seconds: float | None = None) -> bytes:
    """What ``function(*arguments)`` returns, called in a process that is ended afterwards, with all that it started.

    Args:
        function: of a module, so that the process finds it by name.
        seconds: after which the process is ended; ``None``: it may take as long as it needs.

    Raises:
        Ended: the process ended before it answered, with the cause as far as it can be told.
        Raised: the function raised.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    kills = out_of_memory_kills()
    process = start(_answer, theirs, function, arguments)
    theirs.close()
    try:
        # Not the pipe alone: a copy of the process that a method forked holds the pipe open.
        if not wait([ours, process.sentinel], seconds):
            raise Ended("timeout", f"no result within {seconds:g} seconds")
        with suppress(EOFError, OSError):
            if ours.poll():
                return _understood(json.loads(ours.recv_bytes()), ours)
        process.join(_EXIT_SECONDS)
        raise Ended(*cause_of_death(process.exitcode, kills))
    finally:
        _end(process)
        ours.close()


def _understood(head: dict[str, Any], pipe: Connection) -> bytes:
    match head:
        case {"answer": True}:
            return pipe.recv_bytes()
        case {"exit": status}:
            raise Ended("killed", f"the method called sys.exit({status})")
        case _:
            raise Raised(*head["raised"])


def _answer(pipe: Connection, function: Callable[..., bytes], arguments: tuple[Any, ...]) -> None:
    """The life of the process: one call, one answer."""
    os.setpgid(0, 0)  # so that what it starts can be ended with it
    own = os.getpid()
    answer: bytes | None = None
    head: dict[str, Any] = {"answer": True}
    try:
        answer = function(*arguments)
    except SystemExit as error:
        head = {"exit": one_line(repr(error.code), 80)}
    except BaseException as error:  # whatever it is, it is the answer to give
        head = {"raised": told(error)}
    if os.getpid() != own:  # a copy that the function forked, which has nothing to say
        os._exit(0)
    with suppress(OSError):
        pipe.send_bytes(json.dumps(head).encode())
        if answer is not None:
            pipe.send_bytes(answer)
    pipe.close()


class Told(NamedTuple):
    """An error as another process can be told it: its class, its message, and the lines of its traceback."""

    error: str
    message: str
    trace: list[str]


def told(error: BaseException) -> Told:
    """An error, shortened: one line of each part, and the first and the last lines of the traceback."""
    lines = [one_line(line, 200) for line in "".join(traceback.format_exception(error)).splitlines()]
    return Told(type(error).__name__, one_line(str(error)), lines[:5] + lines[5:][-45:])


def _prepare() -> None:
    """Makes a new process quiet on stdout, deaf to Ctrl-C, and one that does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a method prints must not mix with --json
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # nor be lost when the process is killed
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process, and what it started in its own group, when its parent is gone: nobody waits any more."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end(process: multiprocessing.process.BaseProcess) -> None:
    """Ends a process and everything in the group that it leads, and waits for it."""
    with suppress(ProcessLookupError, PermissionError):
        if process.pid is not None:
            os.killpg(process.pid, signal.SIGKILL)
    kill(process)
    process.close()


def kill(process: multiprocessing.process.BaseProcess) -> None:
    """Ends a process, if it has not ended, and waits for it."""
    process.kill()
    process.join()
    if process.exitcode == UNKNOWN_STATUS and process.pid is not None:  # nobody tells whether it still runs
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)


def cause_of_death(status: int | None, kills_before: int) -> tuple[str, str]:
    """(kind, reason) of a process that ended without an answer.

    Args:
        status: as ``Process.exitcode``: negative for a signal.
        kills_before: ``out_of_memory_kills()`` when it started.
    """
    if status is None:
        return "killed", "the process closed its connection and went on"
    if status == UNKNOWN_STATUS:
        return "killed", f"the process ended with status {status}, or the server that had forked it was killed"
    if status >= 0:
        return "killed", f"the process ended with status {status} (os._exit, or a library that ends the process)"
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL and out_of_memory_kills() > kills_before:
        return "memory", f"the process was ended by {name}: the system was out of memory"
    return "killed", f"the process was ended by {name}"


def out_of_memory_kills() -> int:
    """How many processes the system has ended for want of memory; 0 where it does not say."""
    for file, word in ((Path("/sys/fs/cgroup/memory.events"), "oom_kill"), (Path("/proc/vmstat"), "oom_kill")):
        with suppress(OSError):
            counts = dict(line.split()[:2] for line in file.read_text().splitlines())
            if word in counts:
                return int(counts[word])
    return 0
