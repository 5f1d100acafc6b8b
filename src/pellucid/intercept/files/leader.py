"""The seams of the leader: its script's files are real; what changes is written down first.

Only functions that add, replace or remove something are taken hold of; reading is untouched but
for a glance at the mode of ``open``.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH118

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from pellucid.intercept.files import disk
from pellucid.intercept.files.journal import Journal
from pellucid.intercept.files.modes import TEMPORARY, WRITING, is_writing

__all__ = ["LeaderPaths", "LeaderSeams"]

Function = Callable[..., Any]


class LeaderSeams:
    """Functions to put in place of those of ``os`` and ``io``.

    Args:
        journal: is told of every change.
        shared: beginnings of paths that are nobody's business.
    """

    def __init__(self, journal: Journal, shared: tuple[str, ...]) -> None:
        self.journal = journal
        self.shared = shared

    def functions(self) -> dict[str, Function]:
        """What shall stand in the module ``os``, by name."""
        found: dict[str, Function] = {"open": self.open_fd, "truncate": self._truncating()}
        found |= {name: self._making(name) for name in ("mkdir", "mkfifo", "mknod")}
        found |= {name: self._leaving(name) for name in ("rmdir", "remove", "unlink")}
        found |= {name: self._moving(name) for name in ("rename", "replace")}
        return found | {"link": self._naming("link"), "symlink": self._naming("symlink")}

    def open(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        """As open."""
        # with an opener it is that one's business, and it will come by `os.open`
        if is_writing(mode) and not isinstance(file, int) and options.get("opener") is None:
            self.opening(file, append="a" in mode, exclusive="x" in mode)
        return disk.open(file, mode, *args, **options)

    def open_fd(
        self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        """As os.open."""
        if flags & WRITING and flags & TEMPORARY != TEMPORARY:
            append, exclusive = bool(flags & os.O_APPEND), bool(flags & os.O_EXCL)
            self.opening(path, append=append, exclusive=exclusive, dir_fd=dir_fd)
        return disk.open_fd(path, flags, mode, dir_fd=dir_fd)

    def opening(
        self,
        path: Any,
        *,
        append: bool = False,
        exclusive: bool = False,
        dir_fd: int | None = None,
    ) -> None:
        """A file is about to be opened for writing, by whatever function."""
        name = self._canonical(path, dir_fd, follow=not exclusive)
        if name is None:
            return
        if append:
            self.journal.growing(name)
        if not disk.exists(name):
            self.journal.making(name)
        elif not append and not exclusive:
            self.journal.changing(name)

    def _making(self, name: str) -> Function:
        original = getattr(os, name)

        def seam(path: Any, *args: Any, dir_fd: int | None = None, **options: Any) -> Any:
            self._make(path, dir_fd)
            return original(path, *args, dir_fd=dir_fd, **options)

        return seam

    def _truncating(self) -> Function:
        original = os.truncate

        def seam(path: Any, length: int) -> None:
            if not isinstance(path, int):
                self.opening(path)
            original(path, length)

        return seam

    def _leaving(self, name: str) -> Function:
        original = getattr(os, name)

        def seam(path: Any, *, dir_fd: int | None = None) -> Any:
            place = self._canonical(path, dir_fd)
            if place is not None and _can_leave(place, directory=name == "rmdir"):
                self.journal.leaving(place)
            return original(path, dir_fd=dir_fd)

        return seam

    def _moving(self, name: str) -> Function:
        original = getattr(os, name)

        def seam(
            src: Any,
            dst: Any,
            *,
            src_dir_fd: int | None = None,
            dst_dir_fd: int | None = None,
        ) -> Any:
            source, target = self._canonical(src, src_dir_fd), self._canonical(dst, dst_dir_fd)
            if source is None or target is None or not _are_one(source, target):
                if source is not None:
                    self.journal.leaving(source, moved=True)
                if target is not None:
                    self.journal.leaving(target)
                    self.journal.arriving(target, source)
            return original(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        return seam

    def _naming(self, name: str) -> Function:
        original = getattr(os, name)

        def seam(src: Any, dst: Any, *args: Any, **options: Any) -> Any:
            self._make(dst, options.get("dst_dir_fd", options.get("dir_fd")))
            return original(src, dst, *args, **options)

        return seam

    def _make(self, path: Any, dir_fd: int | None) -> None:
        name = self._canonical(path, dir_fd)
        if name is not None and not disk.exists(name):
            self.journal.making(name)

    def _canonical(self, path: Any, dir_fd: int | None, *, follow: bool = False) -> str | None:
        """The path as followers know it; None if it is shared, or the act is bound to fail."""
        text = os.fsdecode(path)
        if dir_fd is not None:
            text = os.path.join(disk.readlink(f"/proc/self/fd/{dir_fd}"), text)
        if not text or "\0" in text:
            return None
        if follow:
            name = os.path.realpath(text)
        else:
            directory, last = os.path.split(text.rstrip("/"))
            name = os.path.join(os.path.realpath(directory), last)
        return None if name.startswith(self.shared) or text.startswith(self.shared) else name


class LeaderPaths:
    """Paths of libraries that open files in C: nothing but written down."""

    def __init__(self, seams: LeaderSeams) -> None:
        self._seams = seams

    def reading(self, path: Any) -> Any:
        """The file will be read."""
        return path

    def writing(self, path: Any) -> Any:
        """The file will be made, or all of it replaced."""
        self._seams.opening(path)
        return path

    def changing(self, path: Any) -> Any:
        """The file will be made if it is not there, or else changed in place."""
        self._seams.opening(path)
        return path


def _can_leave(path: str, *, directory: bool) -> bool:
    """Whether removing this as a directory, or else as a file, can come to anything."""
    if disk.is_directory(path) != directory:
        return False
    return not directory or not disk.listdir(path)


def _are_one(one: str, two: str) -> bool:
    """Whether these are names of one file, so that moving it from one to the other does nothing."""
    return (
        disk.exists(one) and disk.exists(two) and os.path.samestat(disk.lstat(one), disk.lstat(two))
    )
