"""Seeded damages of every file that a user gives, and what the readers of ``fuzz_readers.py`` make of them.

``python tests/fuzzing.py CASES [SEED [READER...]]`` runs so many in a process that may take one gigabyte more than it
has after its imports, each case at most five seconds of the processor's, and prints what was neither read nor
refused in one line.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fuzz_readers import Reader, readers

SECONDS, WAITING, GIGABYTE, LONGEST = 5, 60, 1 << 30, 2000
NASTY = [
    None, True, False, 0, -1, 1, 2, 10**7, 10**30, -(10**400), 0.5, 1e308, -0.0, "", "x", "a" * 5000, "\u2028", "\x00",
    "a0.h0->m0", "m0", "../../x", [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, list(range(300)),
]  # fmt: skip
RAW = [b"NaN", b"-Infinity", b"1e999", b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b"\xff", b"\xef\xbb\xbf", b"\x00",
       b"->", b"\n", b"\r", b",", b'"', b"9" * 5000,
       b"\xe2\x80\xa8", b"{}", b"'''", b"[[", b"]]", b"*", b"@", b"="]  # fmt: skip


WHOLE = [
    lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    lambda content: content.decode("latin-1").encode("utf-16"),
    lambda content: content.decode("latin-1").encode("utf-32"),
    lambda content: b"\xef\xbb\xbf" + content,
    lambda content: content.replace(b"\n", b"\r"),
    lambda content: content.replace(b"\n", b"\r\n"),
    lambda content: content.replace(b",", b";"),
    lambda content: content.replace(b'"', b"'"),
    lambda content: content * 2,
    lambda content: content[: len(content) // 2],
    lambda content: bytes(len(content)),
    lambda content: b"",
    lambda content: b"\x80\x04.",
    lambda content: b"PK\x03\x04" + bytes(99),
    lambda content: b"<!DOCTYPE html><html>404</html>",
]  # fmt: skip
# What is at a file's place and is none: nothing, a folder, a pipe that nobody writes to, a link to itself.
PLACES = {
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
}


def damaged(content: bytes, chance: random.Random) -> bytes | str:
    """The content with one to three damages: of its JSON where it is some, or of its bytes; or one of ``PLACES``."""
    which = chance.random()
    if which < 0.02:
        return chance.choice(sorted(PLACES))
    if which < 0.06:
        return chance.choice(WHOLE)(content)
    for _ in range(chance.randint(1, 3)):
        content = _in_json(content, chance) if chance.random() < 0.6 else _in_bytes(content, chance)
    return content


def _in_json(content: bytes, chance: random.Random) -> bytes:
    size = struct.unpack("<Q", content[:8])[0] if len(content) > 8 and content[8:9] == b"{" else len(content)
    if 2 <= size <= len(content) - 8:  # the header of safetensors
        header = _in_json(content[8 : 8 + size], chance)
        return struct.pack("<Q", len(header)) + header + content[8 + size :]
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _in_bytes(content, chance)
    places = list(_places(value))
    if not places:
        return json.dumps(chance.choice(NASTY)).encode()
    holder, key = chance.choice(places)
    what = chance.random()
    if what < 0.6:
        holder[key] = chance.choice(NASTY)
    elif what < 0.8:
        del holder[key]
    elif isinstance(holder, dict):
        holder[chance.choice(["a", "m0->", "graph", "format", str(key) + "x"])] = holder.pop(key)
    else:
        holder.insert(key, chance.choice(NASTY))
    return json.dumps(value).encode()


def _places(value: object) -> Iterator[tuple]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        for key in list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ():
            yield item, key
            waiting.append(item[key])


def _in_bytes(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    stop = min(len(content), start + chance.choice([0, 1, 1, 8, 64, 1000]))
    what = chance.random()
    if what < 0.4:
        return content[:start] + chance.choice(RAW) + content[stop:]
    if what < 0.6:
        return content[:start] + content[stop:]
    if what < 0.8:
        return content[:stop] + content[start:]
    return content[:start] + bytes(chance.randrange(256) for _ in range(stop - start)) + content[stop:]


class TooLong(BaseException):
    """A case took more than it may."""


def _stop(*_: object) -> None:
    raise TooLong


def _timers(computing: float, waiting: float) -> None:
    """Seconds of the processor's after which a case is stopped, and of the clock's, for one that waits; 0 for none."""
    signal.setitimer(signal.ITIMER_PROF, computing)
    signal.setitimer(signal.ITIMER_REAL, waiting)


def cases(known: dict[str, Reader], n: int, seed: int) -> Iterator[tuple[str, str, bytes | str]]:
    """(reader, file, damaged content, or what is at its place) of n cases; the same for the same seed and readers."""
    names = sorted(known)
    for i in range(n):
        chance = random.Random(f"{seed}:{i}")
        name = names[i % len(names)]
        file = chance.choice(sorted(known[name].files))
        yield name, file, damaged(known[name].files[file], chance)


class Tried:
    """Folders with what each reader reads, in which one file after another is damaged."""

    def __init__(self, known: dict[str, Reader], scratch: Path) -> None:
        self.known, self.folders = known, {}
        signal.signal(signal.SIGALRM, _stop)
        signal.signal(signal.SIGPROF, _stop)
        for i, (name, reader) in enumerate(sorted(known.items())):
            self.folders[name] = scratch / str(i) / "given"
            for file, content in reader.files.items():
                (self.folders[name] / file).parent.mkdir(parents=True, exist_ok=True)
                (self.folders[name] / file).write_bytes(content)
            reader.read(self.folders[name])  # undamaged, it is read

    def fault(self, name: str, file: str, content: bytes | str) -> str | None:
        """What is wrong with how a damaged file is read; None where it is read, or refused in one line."""
        from circuitmeter.suite.errors import CircuitMeterError

        path = self.folders[name] / file
        path.unlink()
        PLACES[content](path) if isinstance(content, str) else path.write_bytes(content)
        try:
            _timers(SECONDS, WAITING)
            try:
                self.known[name].read(self.folders[name])
            finally:
                _timers(0, 0)
        except CircuitMeterError as error:
            if "\n" in str(error) or len(str(error)) > LONGEST:
                return f"{name}, {file}: a message of {len(str(error))} characters: {str(error)[:200]!r}"
        except (Exception, TooLong) as error:
            return f"{name}, {file}: {type(error).__name__}: {str(error)[:200]} for {content[:300]!r}"
        finally:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            path.write_bytes(self.known[name].files[file])
        return None


def failures(n: int, seed: int = 0, known: dict[str, Reader] | None = None) -> list[str]:
    """What is neither read nor refused in one line, of n cases: the reader, the error, the file's beginning."""
    known = readers() if known is None else known
    with tempfile.TemporaryDirectory() as scratch:
        tried = Tried(known, Path(scratch))
        return [fault for case in cases(known, n, seed) if (fault := tried.fault(*case)) is not None]


def main(n: int, seed: int = 0, *names: str) -> int:
    """Prints what ``failures`` finds, of all readers or of those whose names contain one of ``names``."""
    known = {name: each for name, each in readers().items() if not names or any(part in name for part in names)}
    failures(0, 0, known)  # what they import takes memory of its own
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + GIGABYTE, taken + GIGABYTE))
    start, found = time.time(), failures(n, seed, known)
    print("\n".join(found))
    print(f"{len(found)} of {n} cases of {len(known)} readers in {time.time() - start:.0f} s", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), *sys.argv[3:]))
