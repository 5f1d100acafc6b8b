"""Opening files in a follower: for reading where they are, for writing where they may be."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from typing import Any

from pellucid.intercept.files import disk
from pellucid.intercept.files.modes import TEMPORARY, WRITING, is_writing
from pellucid.intercept.files.overlay import Overlay

__all__ = ["FollowerPaths", "Opening"]


class Opening:
    """Stands for ``open`` and ``os.open``."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.view = overlay.view

    def open(  # noqa: PLR0913, PLR0917 - the signature of open
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """As open; only how the descriptor is got differs, so everything else stays Python's."""
        if opener is None and not isinstance(file, int):
            if self.view.is_untouched and not is_writing(mode):
                found = disk.open(file, mode, buffering, encoding, errors, newline)
                if self.view.is_untouched:
                    return found
                found.close()
            opener = self._opener
        return disk.open(file, mode, buffering, encoding, errors, newline, closefd, opener)

    def _opener(self, path: Any, flags: int) -> int:
        return self.open_fd(path, flags, 0o666)

    def open_fd(
        self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        """As os.open."""
        try:
            if flags & WRITING:
                return disk.open_fd(self._to_write(path, flags, dir_fd), flags, mode)
            return self._open_to_read(path, flags, dir_fd)
        except OSError as error:
            error.filename = path
            raise

    def _open_to_read(self, path: Any, flags: int, dir_fd: int | None) -> int:
        while True:
            before = self.view.stamp
            try:
                fd = self._open_once(path, flags, dir_fd)
            except OSError:
                if self.view.stamp == before:
                    raise
            else:
                if self.view.stamp == before:
                    return fd
                os.close(fd)  # perhaps the leader's new file: see [Note: steady]

    def _open_once(self, path: Any, flags: int, dir_fd: int | None) -> int:
        if self.view.is_untouched:
            return disk.open_fd(path, flags, dir_fd=dir_fd)
        if dir_fd is None and (quick := self.view.quick(path)) is not None:
            # no such file, or a link: that takes longer
            with contextlib.suppress(OSError):
                return disk.open_fd(quick, flags | os.O_NOFOLLOW)
        place = self.view.locate(path, follow=not flags & os.O_NOFOLLOW, dir_fd=dir_fd)
        return disk.open_fd(self.overlay.present(place), flags)

    def _to_write(self, path: Any, flags: int, dir_fd: int | None) -> str:
        """Get ready to open a file for writing; says where."""
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        follow = not (exclusive or flags & os.O_NOFOLLOW)
        place = self.view.locate(path, follow=follow, dir_fd=dir_fd)
        if place.is_shared or flags & TEMPORARY == TEMPORARY:
            return self.overlay.present(place)
        if exclusive:
            return self.overlay.fresh(place)
        if place.at is None and flags & os.O_CREAT:
            return self.overlay.room(place.path)
        at = self.overlay.present(place)
        regular = place.status is not None and stat.S_ISREG(place.status.st_mode)
        if not regular or not disk.access(at, os.W_OK):
            return at  # opening a pipe or a device is right there, a directory an error
        return self.overlay.own(
            place, empty=bool(flags & os.O_TRUNC), append=bool(flags & os.O_APPEND)
        )


class FollowerPaths:
    """Paths of libraries that open files in C: where the overlay has them."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._view = overlay.view

    def reading(self, path: Any) -> Any:
        """The file will be read."""
        if self._view.is_untouched:
            return path
        place = self._view.locate(path)
        if place.is_shared or place.at == place.path:
            return path
        if place.at is None and not disk.exists(place.path):
            return path  # that it is not there the library shall say in its own words
        return place.at or self._view.upper(place.path)

    def writing(self, path: Any) -> Any:
        """The file will be made, or all of it replaced."""
        return self._writing(path, empty=True)

    def changing(self, path: Any) -> Any:
        """The file will be made if it is not there, or else changed in place."""
        return self._writing(path, empty=False)

    def _writing(self, path: Any, *, empty: bool) -> Any:
        place = self._view.locate(path)
        if place.is_shared:
            return path
        try:
            if place.at is None:
                return self._overlay.room(place.path)
            return self._overlay.own(place, empty=empty)
        except OSError:  # and so shall it say this, but write to no directory of the leader's
            there = disk.exists(posixpath.dirname(place.path))
            return self._view.upper(place.path) if there else path
