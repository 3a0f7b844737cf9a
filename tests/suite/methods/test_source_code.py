"""A method's version follows its code, not the words about it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from circuitmeter.suite.methods import METHODS, load_user_method, source_code
from circuitmeter.suite.methods.source_code import SourceCode

PLAIN = '''
from ._shared import LARGEST

class Kept(dict):
    size = 1

def discover(model, data, **given):
    text = """a text

    # no comment
    """
    total = 1 + \\
        2
    return f"{text} {total:>{LARGEST}} {'é'}" ; "é"; x = 1
'''
WITH_WORDS = '''"""A method: somebody's paper."""  # that paper
# The number of it.

from ._shared import LARGEST  # the largest
"""It is a number."""


class Kept(dict):
    """Kept "things"."""
    size = 1
    "one" "alone"

# é
def discover(model, data, **given):
    """What it does, \\d.

    # no comment
    """

    text = """a text

    # no comment
    """  # é
    # before a line that goes on
    total = 1   +  \\
        2  # three
    ("it is returned")
    return f"{text} {total:>{LARGEST}} {'é'}" ; "returned"; x = 1

# the end'''


def version(folder: Path, text: str | bytes, shared: str = "LARGEST = 3\n") -> str:
    (folder / "_shared.py").write_text(shared)
    (folder / "mine.py").write_bytes(text.encode() if isinstance(text, str) else text)
    return SourceCode(folder / "mine.py").hash


def test_words_do_not_change_it(tmp_path):
    plain = version(tmp_path, PLAIN)
    assert version(tmp_path, WITH_WORDS) == plain
    assert version(tmp_path, WITH_WORDS.replace("\n", "\r\n").encode("utf-8-sig")) == plain
    assert version(tmp_path, ("# coding: latin-1\n" + WITH_WORDS).encode("latin-1")) == plain
    assert version(tmp_path, PLAIN, '"""Shared."""\n\nLARGEST = 3  # most\n') == plain


@pytest.mark.parametrize(
    "old, new",
    [
        ("size = 1", "size = 2"),
        ("a text", "another text"),
        ("    # no comment\n", "    # a comment\n"),  # it stands in a string
        ("a text\n\n", "a text\n"),  # so does this blank line
        ("{total:", "{ total:"),
        ("'é'", "'e'"),
        ("1 + \\\n", "1\n        +"),  # a statement of its own
        ("    size = 1", "    size = 1\nx = 1"),
        ("    total = 1", "    if x:\n     total = 1"),
        ("return f", "return (f"),
    ],
)
def test_code_changes_it(tmp_path, old, new):
    assert PLAIN.count(old) == 1
    assert version(tmp_path, PLAIN.replace(old, new)) != version(tmp_path, PLAIN)


def test_a_string_in_use_and_the_end_of_a_statement_count(tmp_path):
    assert version(tmp_path, 'name = "a"\n') != version(tmp_path, 'name = "b"\n')
    assert version(tmp_path, 'f("a")\n') != version(tmp_path, 'f("b")\n')
    assert version(tmp_path, 'def f(): "of it"\nx = 1\n') != version(tmp_path, "def f(): x = 1\n")
    assert version(tmp_path, 'def f():\n    "of it"\nx = 1\n') != version(tmp_path, "def f():\n    x = 1\n")
    assert version(tmp_path, 'x = 1; "x"\ny = 1\n') == version(tmp_path, 'x = 1; "y"\ny = 1\n')


def test_shared_files_count_and_those_that_they_share(tmp_path):
    plain = version(tmp_path, PLAIN)
    assert version(tmp_path, PLAIN, "LARGEST = 4\n") != plain
    (tmp_path / "_deeper.py").write_text("LEAST = 1\n")
    with_deeper = version(tmp_path, PLAIN, "from ._deeper import LEAST\nfrom ._mine import nothing\n")
    (tmp_path / "_deeper.py").write_text('"""Least."""\nLEAST = 1\n')
    assert version(tmp_path, PLAIN, "from ._deeper import LEAST\nfrom ._mine import nothing\n") == with_deeper
    (tmp_path / "_deeper.py").write_text("LEAST = 2\n")
    assert version(tmp_path, PLAIN, "from ._deeper import LEAST\nfrom ._mine import nothing\n") != with_deeper


@pytest.mark.parametrize("text", [b"def f(:\n", b"x = 1\n\x00", b"# coding: utf-8\nx = '\xff'\n", b"# coding: no\n"])
def test_what_is_not_python_counts_byte_by_byte(tmp_path, text):
    assert version(tmp_path, text) == version(tmp_path, text) != version(tmp_path, text + b"\n")


def test_the_code_that_runs_counts_not_what_the_file_became(tmp_path):
    hashes = [version(tmp_path, PLAIN), version(tmp_path, PLAIN.replace("size = 1", "size = 2"))]
    (tmp_path / "mine.py").write_text(PLAIN)
    code = SourceCode(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text(PLAIN.replace("size = 1", "size = 2"))
    assert code.hash == hashes[0] != hashes[1]


def test_a_users_method_keeps_its_version_with_other_words(tmp_path):
    file = tmp_path / "mine.py"
    versions = []
    for text in (
        "def f(model, data, **given):\n    return {}\n",
        "# mine\ndef f(model, data, **given):\n    return {}",
    ):
        file.write_text(text)
        versions.append(load_user_method(f"{file}:f").version)
    assert versions[0] == versions[1] and len(versions[0]) == 16


def test_methods_of_two_files_have_two_versions():
    files = {name: Path(METHODS.get(name).function.__code__.co_filename) for name in METHODS}
    pairs = {(files[name], METHODS.get(name).version) for name in METHODS}
    assert len(pairs) == len(set(files.values())) == len({version for _, version in pairs}) > 20


_OTHER_PYTHONS = [python for python in map(shutil.which, ("python3.11", "python3.12", "python3.13")) if python]


@pytest.mark.parametrize("python", _OTHER_PYTHONS)
def test_the_same_on_other_pythons(tmp_path, python):
    """The module imports nothing of the package, so that Pythons without torch can run it."""
    files = sorted(Path(source_code.__file__).parent.glob("*.py"))
    (tmp_path / "mine.py").write_text(WITH_WORDS)
    (tmp_path / "_shared.py").write_text("LARGEST = 3\n")
    files.append(tmp_path / "mine.py")
    asked = (
        "import json, pathlib, runpy, sys; Code = runpy.run_path(sys.argv[1])['SourceCode']; "
        "print(json.dumps([Code(pathlib.Path(each)).hash for each in sys.argv[2:]]))"
    )
    done = subprocess.run([python, "-c", asked, source_code.__file__, *map(str, files)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{python} does not run: {done.stderr[-200:]}")
    assert json.loads(done.stdout) == [SourceCode(file).hash for file in files]
