"""Random file operations: a follower sees, and in the end makes real, what python does.

The leader runs the same sequence; who is how far ahead of the other is random, too.
"""

# ruff: noqa: PTH102, PTH103, PTH104, PTH106, PTH108, PTH110, PTH112, PTH113, PTH114, PTH123, PTH202, PTH208, PTH211

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.intercept.files import FollowerFiles, LeaderFiles

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "e", "e/a", "d/e", "d/e/a", "l", "l/a"])
Step = tuple[str, str, str]


def _write(mode: str) -> Callable[[str, str], Any]:
    def act(path: str, other: str) -> None:
        with open(path, mode) as file:
            file.write(f"{other};")

    return act


def _read(path: str, _: str) -> str:
    with open(path) as file:
        return file.read()


def _list(path: str, _: str) -> list[str]:
    return sorted(os.listdir(path))


def _scan(path: str, _: str) -> list[Any]:
    with os.scandir(path) as entries:
        return sorted((e.name, e.path, e.is_dir(), e.is_file(), e.is_symlink()) for e in entries)


def _walk(path: str, _: str) -> list[Any]:
    return sorted((root, sorted(dirs), sorted(files)) for root, dirs, files in os.walk(path))


def _copytree(path: str, other: str) -> None:
    # not into itself: that would go on for ever
    if not f"{os.path.realpath(path)}/".startswith(f"{os.path.realpath(other)}/"):
        shutil.copytree(other, path, symlinks=True)


ACTS: dict[str, Callable[[str, str], Any]] = {
    "write": _write("w"),
    "append": _write("a"),
    "update": _write("r+"),
    "exclusive": _write("x"),
    "read": _read,
    "mkdir": lambda path, _: os.mkdir(path),
    "makedirs": lambda path, _: os.makedirs(path, exist_ok=True),
    "rmdir": lambda path, _: os.rmdir(path),
    "unlink": lambda path, _: os.unlink(path),
    "rmtree": lambda path, _: shutil.rmtree(path),
    "rename": lambda path, other: os.rename(path, other),  # noqa: PLW0108 - to be looked up
    "symlink": lambda path, other: os.symlink(other, path),
    "link": lambda path, other: os.link(other, path),
    "copy": lambda path, other: shutil.copy(other, path) and None,
    "copytree": _copytree,
    "list": _list,
    "scan": _scan,
    "walk": _walk,
    "exists": lambda path, _: (os.path.exists(path), os.path.islink(path), os.path.isdir(path)),
    "size": lambda path, _: os.path.getsize(path) if os.path.isfile(path) else None,
    "real": lambda path, _: os.path.relpath(os.path.realpath(path), os.path.realpath(".")),
    "truncate": lambda path, _: os.truncate(path, 1),
}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(ACTS)), NAMES, NAMES), max_size=12)


def _do(step: Step) -> Any:
    act, path, other = step
    try:
        return ACTS[act](path, other)
    except shutil.Error as error:
        return type(error)
    except OSError as error:
        # which of two errors comes first, where there are two paths, is of no account
        code = None if error.filename2 is not None else error.errno
        return code, error.filename, error.filename2


def _tree() -> list[Any]:
    found: list[Any] = []
    for path in sorted(Path().rglob("*")):
        if path.is_symlink():
            found.append((path, path.readlink()))
        else:
            found.append((path, path.read_text() if path.is_file() else None))
    return found


def _in(folder: str, before: list[Step]) -> None:
    os.mkdir(folder)
    os.chdir(folder)
    for step in before:
        _do(step)


@settings(max_examples=100, deadline=None)
@given(
    before=STEPS,
    steps=STEPS,
    early=st.integers(0, 4),
    turns=st.lists(st.integers(0, 4), max_size=8),
)
def test_a_follower_sees_what_python_does(
    before: list[Step], steps: list[Step], early: int, turns: list[int]
) -> None:
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as base:
        try:
            _in(f"{base}/plain", before)
            expected = [_do(step) for step in steps], _tree()
            _in(f"{base}/both", before)
            os.mkdir(f"{base}/run")
            leader, follower = LeaderFiles(f"{base}/run"), FollowerFiles(f"{base}/run", 1)
            seen: dict[int, list[Any]] = {0: [], 1: []}
            leader.install()
            seen[0] += [_do(step) for step in steps[:early]]
            leader.settle()
            leader.undo()
            for number, turn in enumerate([*turns, len(steps), len(steps)]):
                files, done = (leader, follower)[number % 2], seen[number % 2]
                files.install()
                done += [_do(step) for step in steps[len(done) : len(done) + turn]]
                files.undo()
            assert (seen[0], _tree()) == expected
            assert seen[1] == expected[0]
            follower.promote()
            assert _tree() == expected[1]
        finally:
            os.chdir(home)
