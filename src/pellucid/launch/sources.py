"""Which files belong to a script: what another box needs in order to run it.

In a git work tree: the tracked files as they are now, changed or not, and the script itself. Files
that git does not know may be anything, results of a week of training for instance, so they stay;
how many do is said. Elsewhere: the script's folder, all of it but caches and environments.

Only reads; what the files are packed into is `bundle`.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pellucid.errors import LaunchError

__all__ = ["MOST_FILES", "Found", "Place", "Sources", "find_place", "find_sources", "is_inner_link"]

# made anew wherever they are needed, or a whole installation
SKIPPED: Final = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", "venv", "node_modules"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".tox"}
)
GIT_SECONDS: Final = 60
MOST_FILES: Final = 50_000


@dataclass(frozen=True)
class Place:
    """Where things are within what is sent; paths with ``/``, relative to the joiner's folder.

    Attributes:
        prefix: where the root of the files goes.
        folder: the working directory.
        target: the script as seen from the working directory, or the name of the module.
    """

    prefix: str
    folder: str
    target: str


@dataclass(frozen=True)
class Found:
    """One file to send.

    Attributes:
        path: relative to the root, with ``/``.
        size: in bytes; of a link, 0.
        executable: whether its owner may run it.
        link: where a symbolic link leads to; empty for a file.
    """

    path: str
    size: int
    executable: bool = False
    link: str = ""


@dataclass(frozen=True)
class Sources:
    """The files of a script.

    Attributes:
        root: the folder they all lie in.
        files: sorted by path.
        left_out: what was found and is not sent, each with the reason.
        tracked: whether git told which they are.
    """

    root: Path
    files: tuple[Found, ...]
    left_out: tuple[str, ...]
    tracked: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def find_sources(
    target: str, *, is_module: bool, cwd: Path, without: Sequence[Path] = ()
) -> Sources:
    """Look for the files of a script.

    Args:
        target: a file or folder, or the name of a module.
        is_module: whether ``target`` is the name of a module, which is looked for from ``cwd``.
        cwd: the working directory.
        without: files and folders of ours, which are none of the script's.

    Raises:
        LaunchError: there are too many to be only a script's.
    """
    script = None if is_module else (cwd / target).resolve()
    beside = cwd if script is None else script if script.is_dir() else script.parent
    top = _work_tree(beside)
    root = top or beside.resolve()
    left_out: list[str] = []
    if top is not None:
        names = set(_git_names(root, "--cached", "--recurse-submodules"))
        unknown = _git_names(root, "--others", "--exclude-standard")
        if script is not None and script.is_file():
            names.add(script.relative_to(root).as_posix())
        strangers = sorted(set(unknown) - names)
        if strangers:
            left_out.append(f"{_few(strangers)}: not known to git (`git add` sends them)")
    else:
        names = set(_folder_names(root))
    ours = [path.absolute() for path in without]
    wanted = [n for n in sorted(names) if not any((root / n).is_relative_to(path) for path in ours)]
    files = tuple(_look(root, wanted, left_out))
    return Sources(root, files, tuple(left_out), tracked=top is not None)


def find_place(sources: Sources, target: str, *, is_module: bool, cwd: Path) -> Place:
    """Where the working directory and the script are to be on another box: as they are here.

    Seen from the working directory the script has the path that it has here, if that is relative
    and leads to where the files are; a working directory apart from the files is an empty one.
    """
    root, here = sources.root, cwd.resolve()
    if here.is_relative_to(root):
        prefix, folder = "", here.relative_to(root)
    elif root.is_relative_to(here):
        prefix, folder = root.relative_to(here).as_posix(), Path()
    else:
        prefix, folder = "files", Path("cwd")
    if not is_module:
        inside = Path(prefix) / (cwd / target).resolve().relative_to(root)
        target = os.path.relpath(inside, folder)
    return Place(prefix, folder.as_posix(), target)


def _work_tree(folder: Path) -> Path | None:
    """The top of the git work tree a folder lies in, if it does and git is there."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or not (name := os.fsdecode(top.rstrip(b"\n"))):
        return None
    # a folder that git was told to ignore is no part of that work tree
    if _git(folder, "check-ignore", "-q", ".") is not None:
        return None
    return Path(name).resolve()


def _git_names(root: Path, *which: str) -> list[str]:
    listed = _git(root, "ls-files", "-z", *which)
    if listed is None:
        msg = (
            f"git cannot list the files of {root}. See `git -C {root} ls-files`; to send the "
            "folder instead, copy it out of the work tree"
        )
        raise LaunchError(msg)
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _git(folder: Path, *words: str) -> bytes | None:
    """What git says; None when it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", folder, *words],
            capture_output=True,
            timeout=GIT_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _folder_names(root: Path) -> Iterator[str]:
    seen = 0
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(set(folders) - SKIPPED - set(links))
        for name in (*names, *links):
            seen += 1
            if seen > MOST_FILES:
                msg = (
                    f"{root} holds more than {MOST_FILES:,} files, too many to be only a script's. "
                    "Put the script into a folder of its own, or into a git work tree"
                )
                raise LaunchError(msg)
            yield (Path(folder) / name).relative_to(root).as_posix()


def _look(root: Path, names: Iterable[str], left_out: list[str]) -> Iterator[Found]:
    """What there is under these names; what cannot be sent is left out and said to be."""
    for name in names:
        path = root / name
        try:
            facts = path.lstat()
        except OSError:
            continue  # tracked, and deleted
        if stat.S_ISLNK(facts.st_mode):
            link = os.readlink(path)  # noqa: PTH115 - Path would tidy it up
            if not is_inner_link(name, link):
                left_out.append(f"{name}: a link that leads out of {root}, to {link}")
            else:
                yield Found(name, 0, link=link)
        elif stat.S_ISREG(facts.st_mode):
            yield Found(name, facts.st_size, executable=bool(facts.st_mode & stat.S_IXUSR))
        elif not stat.S_ISDIR(facts.st_mode):
            left_out.append(f"{name}: no file")


def is_inner_link(name: str, link: str) -> bool:
    """Whether a symbolic link stays in the folder that its name is relative to.

    Only leading ``..`` are allowed: a later one may follow another link, and be more than one up.

    Args:
        name: of the link, with ``/``.
        link: where it leads to.
    """
    steps = link.split("/")
    ups = next((i for i, step in enumerate(steps) if step != ".."), len(steps))
    if link.startswith("/") or "\0" in link or ".." in steps[ups:]:
        return False
    return ups <= name.count("/")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
