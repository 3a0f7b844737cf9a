"""Reports that are made from a store: they are put into place whole, and covered by checksums.

A report is written to a folder of its own first. Its files replace the old ones only when all of them are there, so
that a full disk or an interruption leaves the old report as it was. The page comes last: when a process is killed
between two of the files, the page is still the old one, so that `run` writes the report again. Other files in the same
folder are not touched.
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

_PAGE, REPRODUCTION = "report.html", "reproduction.html"
# The page -> files beside it by which a published report is recognised when its checksums are gone.
_KNOWN_BY = {_PAGE: {_PAGE, "brief.html", "leaderboard.json"}, REPRODUCTION: {REPRODUCTION, "verdicts.json"}}
_BEGUN = ".report-"  # folders of reports that are being written


def sums_name(page: str) -> str:
    """The file beside a page with the checksums of all that was published with it, readable by ``sha256sum -c``."""
    return f"{Path(page).stem}.sha256"


@contextmanager
def publishing(folder: Path, page: str = _PAGE) -> Iterator[Path]:
    """Gives an empty folder to write to, and puts what is in it into ``folder`` when the block ends without an error.

    Files of the old report that the new one does not have are removed.

    Args:
        folder: the folder to publish in.
        page: the name of the file that is put into place last.

    Raises:
        StoreError: the folder cannot be written to, or the disk is full. The old report then stays whole.
    """
    temporary = folder / f"{_BEGUN}{socket.gethostname()}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary.mkdir()
        yield temporary
        _put_into_place(temporary, folder, page)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"cannot write the report to {folder}: {reason}; name another folder with --out.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes the folders that killed processes of this machine, or earlier attempts of this process, have left."""
    for left in folder.glob(f"{_BEGUN}*"):
        host, _, process = left.name.removeprefix(_BEGUN).rpartition("-")
        if host == socket.gethostname() and process.isdigit():
            if int(process) == os.getpid() or not process_lives(int(process)):
                shutil.rmtree(left, ignore_errors=True)


def _put_into_place(temporary: Path, folder: Path, page: str) -> None:
    names = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
    sums = "".join(f"{hashlib.sha256((temporary / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    write_synced(temporary / sums_name(page), sums.encode())
    outdated = set(_listed(folder / sums_name(page))) - set(names)
    _move([name for name in names if name != page], temporary, folder)
    for name in outdated:
        (folder / name).unlink(missing_ok=True)
    _move([sums_name(page), *(name for name in names if name == page)], temporary, folder)
    fsync_folder(folder)


def _move(names: Iterable[str], temporary: Path, folder: Path) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary / name, folder / name)


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file inside the folder, and not of one elsewhere on the machine."""
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts and "\0" not in name


def _listed(sums: Path) -> list[str]:
    """The files of the report that is there; empty when its list is damaged."""
    try:
        lines = sums.read_text().splitlines()
    except (OSError, ValueError):
        return []
    names = [line.partition("  ")[2] for line in lines]
    return [name for name in names if _is_inside(name)]


def published_faults(folder: Folder) -> dict[str, str]:
    """Path -> what is wrong with a published file; empty when nothing was published, or all files are whole."""
    top, found = set(folder.names("")), {}
    for page, known_by in _KNOWN_BY.items():
        if (sums := sums_name(page)) in top:
            found |= _unlike(folder, sums)
        elif top & known_by:
            verb = "report" if page == _PAGE else "reproduce"
            found[sums] = f"is missing: nothing covers {page}; `circuitmeter {verb}` writes it again"
    return found


def _unlike(folder: Folder, listed: str) -> dict[str, str]:
    """Path -> what is wrong with it, for the files in a list of checksums."""
    try:
        text = folder.read(listed).decode()
    except (OSError, ValueError):
        return {listed: "cannot be read"}
    sums = dict(line.split("  ", 1)[::-1] for line in text.split("\n") if "  " in line)
    if text != "".join(f"{value}  {name}\n" for name, value in sums.items()):
        return {listed: "is garbled"}
    if outside := [name for name in sums if not _is_inside(name)]:
        return {listed: f"is garbled: it names {shown(outside[0])}, which is no file of the report"}
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
