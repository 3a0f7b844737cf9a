"""What is made from a store and published: put into place whole, and covered by checksums.

A report is written to a folder of its own first. Its files replace the old ones only when all of them are there, so
that a full disk or an interruption leaves the old report as it was. The page comes last: where a process is killed
between two of the files, the page is the old one, and `run` sees that it is to be written again. Files of others in the
same folder are not touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreError
from ..reading import shown
from .files import fsync_folder, process_lives, write_synced
from .folder import Folder

SUMS = "report.sha256"  # readable by sha256sum -c
PAGE = "report.html"
_BEGUN = ".report-"  # folders of reports that are being written


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write to, and puts what is in it into ``folder`` when the block ends without an error.

    Files of the report before that the new one does not have are removed.

    Raises:
        StoreError: the folder cannot be written, or the disk is full; the old report is whole then.
    """
    temporary = folder / f"{_BEGUN}{socket.gethostname()}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary.mkdir()
        yield temporary
        _put_into_place(temporary, folder)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"cannot write the report to {folder}: {reason}; name another folder with --out.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what processes of this machine that were killed have left, and this process before."""
    for left in folder.glob(f"{_BEGUN}*"):
        host, _, process = left.name.removeprefix(_BEGUN).rpartition("-")
        if host == socket.gethostname() and process.isdigit():
            if int(process) == os.getpid() or not process_lives(int(process)):
                shutil.rmtree(left, ignore_errors=True)


def _put_into_place(temporary: Path, folder: Path) -> None:
    names = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
    sums = "".join(f"{hashlib.sha256((temporary / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    write_synced(temporary / SUMS, sums.encode())
    outdated = set(_listed(folder)) - set(names)
    _move([name for name in names if name != PAGE], temporary, folder)
    for name in outdated:
        (folder / name).unlink(missing_ok=True)
    _move([SUMS, *(name for name in names if name == PAGE)], temporary, folder)
    fsync_folder(folder)


def _move(names: Iterable[str], temporary: Path, folder: Path) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary / name, folder / name)


def _is_inside(name: str) -> bool:
    """Whether a name leads to a file below the folder that it is in, and not elsewhere on the machine."""
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts and "\0" not in name


def _listed(folder: Path) -> list[str]:
    """The files of the report that is there; none where its list is damaged."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, ValueError):
        return []
    names = [line.partition("  ")[2] for line in lines]
    return [name for name in names if _is_inside(name)]


def published_faults(folder: Folder) -> dict[str, str]:
    """Path -> what is wrong with a file of the report; empty where there is no report, or it is what was written."""
    top = set(folder.names(""))
    if SUMS not in top:
        has_report = top & {"report.html", "brief.html", "leaderboard.json"}
        return (
            {SUMS: "is missing: nothing covers the report; `circuitmeter report` writes it again"} if has_report else {}
        )
    try:
        text = folder.read(SUMS).decode()
    except (OSError, ValueError):
        return {SUMS: "cannot be read"}
    sums = dict(line.split("  ", 1)[::-1] for line in text.split("\n") if "  " in line)
    if text != "".join(f"{value}  {name}\n" for name, value in sums.items()):
        return {SUMS: "is garbled"}
    if outside := [name for name in sums if not _is_inside(name)]:
        return {SUMS: f"is garbled: it names {shown(outside[0])}, which is no file of the report"}
    found = {}
    for name, wanted in sums.items():
        try:
            data = folder.read(name)
        except (OSError, ValueError):
            found[name] = "is missing, or cannot be read"
            continue
        if hashlib.sha256(data).hexdigest() != wanted:
            found[name] = "is not what was written: its checksum differs"
    return found
