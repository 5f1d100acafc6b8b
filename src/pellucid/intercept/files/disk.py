"""The file system's own functions, taken before any of them is patched.

The seams of this package replace ``os.mkdir`` and its like for the script; what they then do
themselves must reach the disk, so it is done with these.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH102, PTH115, PTH211

from __future__ import annotations

import contextlib
import os
import posixpath
import stat as kinds
from io import open  # noqa: UP029 - the one that is meant
from os import (
    access,
    chdir,
    chmod,
    getcwd,
    link,
    listdir,
    lstat,
    mkdir,
    readlink,
    rename,
    rmdir,
    scandir,
    stat,
    symlink,
    unlink,
)
from os import open as open_fd

__all__ = [
    "access",
    "chdir",
    "chmod",
    "copy",
    "exists",
    "getcwd",
    "is_directory",
    "link",
    "listdir",
    "lstat",
    "make_directories",
    "mkdir",
    "open",
    "open_fd",
    "readlink",
    "rename",
    "rmdir",
    "scandir",
    "stat",
    "symlink",
    "unlink",
]

PIECE = 1 << 24  # bytes copied at a time


def exists(path: str) -> bool:
    """Whether there is anything at this path, a dangling link included."""
    try:
        lstat(path)
    except OSError:
        return False
    return True


def is_directory(path: str) -> bool:
    """Whether there is a directory at this very path; a link to one is not."""
    try:
        return kinds.S_ISDIR(lstat(path).st_mode)
    except OSError:
        return False


def make_directories(path: str) -> None:
    """Make a directory and those above it; one that is there already is fine."""
    if is_directory(path):
        return
    make_directories(posixpath.dirname(path))
    # another thread, or a child of ours, may be quicker
    with contextlib.suppress(FileExistsError):
        mkdir(path, 0o700)


def copy(source: str, target: str, size: int | None = None) -> None:
    """Copy a file or a link with its mode and times, at most so many bytes of it."""
    status = lstat(source)
    if kinds.S_ISLNK(status.st_mode):
        symlink(readlink(source), target)
        return
    left = status.st_size if size is None else size
    reader = open_fd(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer = open_fd(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while left > 0 and (done := os.sendfile(writer, reader, None, min(left, PIECE))):
                left -= done
            os.fchmod(writer, kinds.S_IMODE(status.st_mode))
            os.utime(writer, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(writer)
    finally:
        os.close(reader)
