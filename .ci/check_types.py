"""Runs mypy on the packages as they are installed: `suite/` is `circuitmeter.suite`, and so on.

mypy knows no package-dir, so that it is given a folder of links. Arguments are added to its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKED = ("circuitmeter.suite", "circuitmeter.reports")


def main(arguments: list[str]) -> int:
    """Returns mypy's exit status; its lines name files as they are in the repository."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch) / "circuitmeter"
        top.mkdir()
        for file in (ROOT / folders.pop("circuitmeter")).iterdir():
            os.symlink(file, top / file.name)
        for package, folder in folders.items():
            os.symlink(ROOT / folder, top / package.removeprefix("circuitmeter."))
        packages = [part for package in CHECKED for part in ("-p", package)]
        settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
        command = [sys.executable, "-m", "mypy", *settings, *packages, *arguments]
        ended = subprocess.run(command, cwd=scratch, text=True, stdout=subprocess.PIPE)
    sys.stdout.write(ended.stdout.replace("circuitmeter/", "") if ended.stdout else "")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
