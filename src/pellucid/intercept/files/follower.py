"""The seams of a follower: functions of files as its script calls them.

Each finds the place that the path leads to (see [Note: places]), lets the overlay get ready for
the act, and acts where the bytes are. Errors name files as the script did. Patching Python's own
functions costs little and reaches all of the standard library, numpy, PIL, pandas' csv and the
like; `formats` has the libraries that open files in C.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH118

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable
from typing import Any

from pellucid.intercept.files import disk
from pellucid.intercept.files.entries import Entries, Entry
from pellucid.intercept.files.modes import TEMPORARY, WRITING, is_writing
from pellucid.intercept.files.overlay import Overlay, failure
from pellucid.intercept.files.view import Place

__all__ = ["FollowerPaths", "FollowerSeams"]

Function = Callable[..., Any]

# functions of `os` that look at what is at a path: whether they follow a link at its end
LOOKING = {"stat": True, "lstat": False, "readlink": False, "statvfs": True}
LOOKING |= {"listxattr": True, "getxattr": True}
# functions of `os` that change what is at a path, in place
CHANGING = {"chmod": True, "chown": True, "lchown": False, "utime": True, "truncate": True}
CHANGING |= {"setxattr": True, "removexattr": True}
# functions of `os` that make something new of which we need not know more
MAKING = ("mkfifo", "mknod")


def _naming(act: Function) -> Function:
    """Let errors of a function of one path name the file as the script did."""

    @functools.wraps(act)
    def seam(self: Any, path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        try:
            return act(self, path, *args, **kwargs)
        except OSError as error:
            error.filename = path
            raise

    return seam


def _naming_both(act: Function) -> Function:
    """Let errors of a function of two paths name the files as the script did."""

    @functools.wraps(act)
    def seam(self: Any, src: Any, dst: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return act(self, src, dst, *args, **kwargs)
        except OSError as error:
            error.filename, error.filename2 = src, dst
            raise

    return seam


def _steady(act: Function) -> Function:
    """Look again if the leader changed something meanwhile; see [Note: steady]."""

    @functools.wraps(act)
    def seam(self: Any, *args: Any, **options: Any) -> Any:
        while True:
            before = self.view.stamp
            try:
                found = act(self, *args, **options)
            except OSError:
                if self.view.stamp == before:
                    raise
            else:
                if self.view.stamp == before:
                    return found

    return seam


class FollowerSeams:
    """Functions to put in place of those of ``os`` and ``io``, for one overlay."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.view = overlay.view

    def functions(self) -> dict[str, Function]:
        """What shall stand in the module ``os``, by name."""
        found: dict[str, Function] = {name: self._looking(name) for name in LOOKING}
        found |= {name: self._changing(name) for name in CHANGING}
        found |= {name: self._making(name) for name in MAKING}
        found |= {"open": self.open_fd, "access": self.access, "mkdir": self.mkdir}
        found |= {"rmdir": self.rmdir, "remove": self.unlink, "unlink": self.unlink}
        found |= {"rename": self.rename, "replace": self.rename}
        found |= {"link": self.link, "symlink": self.symlink}
        found |= {"listdir": self.listdir, "scandir": self.scandir}
        return found | {"chdir": self.chdir, "getcwd": self.getcwd, "getcwdb": self.getcwdb}

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
                if self.view.is_untouched:
                    fd = disk.open_fd(path, flags, dir_fd=dir_fd)
                elif dir_fd is None and (quick := self._quick(path)) is not None:
                    fd = disk.open_fd(quick, flags)
                else:
                    place = self.view.locate(path, follow=not flags & os.O_NOFOLLOW, dir_fd=dir_fd)
                    fd = disk.open_fd(self.overlay.present(place), flags)
            except OSError:
                if self.view.stamp == before:
                    raise
            else:
                if self.view.stamp == before:
                    return fd
                os.close(fd)  # perhaps the leader's new file: see [Note: steady]

    def _to_write(self, path: Any, flags: int, dir_fd: int | None) -> str:
        """Get ready to open a file for writing; says where."""
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        follow = not (exclusive or flags & os.O_NOFOLLOW)
        place = self.view.locate(path, follow=follow, dir_fd=dir_fd)
        if place.is_shared or flags & TEMPORARY == TEMPORARY:
            return self.overlay.present(place)
        if exclusive:
            return self.overlay.fresh(place)
        if place.status is None or place.at is None:
            if flags & os.O_CREAT:
                return self.overlay.room(place.path)
            raise failure(errno.ENOENT)
        if not stat.S_ISREG(place.status.st_mode) or not disk.access(place.at, os.W_OK):
            return place.at  # opening a pipe or a device is right there, a directory an error
        return self.overlay.own(
            place, empty=bool(flags & os.O_TRUNC), append=bool(flags & os.O_APPEND)
        )

    @_naming
    @_steady
    def access(self, path: Any, mode: int, **options: Any) -> bool:
        """As os.access."""
        if isinstance(path, int) or self.view.is_untouched:
            return disk.access(path, mode, **options)
        place = self._locate(path, options)
        return place.at is not None and disk.access(place.at, mode, **options)

    @_naming
    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """As os.mkdir."""
        place = self.view.locate(path, follow=False, dir_fd=dir_fd)
        if place.is_shared:
            disk.mkdir(place.path, mode)
        else:
            self.overlay.make_directory(place, mode)

    @_naming
    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        """As os.rmdir."""
        place = self.view.locate(path, follow=False, dir_fd=dir_fd)
        if place.is_shared:
            disk.rmdir(place.path)
        else:
            self.overlay.remove_directory(place)

    @_naming
    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        """As os.unlink and os.remove."""
        place = self.view.locate(path, follow=False, dir_fd=dir_fd)
        if place.is_shared:
            disk.unlink(place.path)
        else:
            self.overlay.unlink(place)

    @_naming_both
    def rename(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        """As os.rename and os.replace."""
        source = self.view.locate(src, follow=False, dir_fd=src_dir_fd)
        target = self.view.locate(dst, follow=False, dir_fd=dst_dir_fd)
        if source.is_shared and target.is_shared:
            disk.rename(source.path, target.path)
        elif source.is_shared or target.is_shared:
            raise failure(errno.EXDEV)  # for those who can copy; others would fail alone, too
        else:
            self.overlay.rename(source, target)

    @_naming_both
    def link(
        self,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """As os.link."""
        source = self.view.locate(src, follow=follow_symlinks, dir_fd=src_dir_fd)
        target = self.view.locate(dst, follow=False, dir_fd=dst_dir_fd)
        if source.is_shared and target.is_shared:
            disk.link(source.path, target.path, follow_symlinks=follow_symlinks)
        elif source.is_shared or target.is_shared:
            raise failure(errno.EXDEV)
        else:
            self.overlay.link(source, target)

    @_naming_both
    def symlink(
        self,
        src: Any,
        dst: Any,
        target_is_directory: bool = False,  # noqa: ARG002 - for another system
        *,
        dir_fd: int | None = None,
    ) -> None:
        """As os.symlink."""
        place = self.view.locate(dst, follow=False, dir_fd=dir_fd)
        if place.is_shared:
            disk.symlink(src, place.path)
        else:
            self.overlay.symlink(src, place)

    @_naming
    def listdir(self, path: Any = None) -> list[Any]:
        """As os.listdir."""
        if self.view.is_untouched:
            found = disk.listdir(path)
            if self.view.is_untouched:
                return found
        place = self._directory("." if path is None else path)
        if place.is_shared:
            return disk.listdir(path)
        names = self.view.names(place.path)
        return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names

    @_naming
    def scandir(self, path: Any = None) -> Any:
        """As os.scandir; all at once, for what the leader adds meanwhile must not show."""
        given = "." if path is None else path
        if self.view.is_untouched:
            found = _entries(given)
            if self.view.is_untouched:
                return Entries(found)
        place = self._directory(given)
        if place.is_shared or (self.view.is_plain(place.path) and _leads_to(given, place)):
            found = _entries(given)
            self.view.refresh()
            if place.is_shared or self.view.is_plain(place.path):
                return Entries(found)
        return Entries([self._entry(given, place, name) for name in self.view.names(place.path)])

    @_naming
    def chdir(self, path: Any) -> None:
        """As os.chdir; where only we have the directory, the process can but be near it."""
        place = self.view.locate(path)
        at = self.overlay.present(place)
        real = place.is_shared or disk.is_directory(place.path)
        disk.chdir(place.path if real else at)
        self.view.cwd = None if real else place.path

    def getcwd(self) -> str:
        """As os.getcwd."""
        return self.view.cwd or disk.getcwd()

    def getcwdb(self) -> bytes:
        """As os.getcwdb."""
        return os.fsencode(self.getcwd())

    def _looking(self, name: str) -> Function:
        original = getattr(os, name)
        follow = LOOKING[name]
        is_status = name in ("stat", "lstat")

        def seam(self: FollowerSeams, path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, int) or self.view.is_untouched:
                return original(path, *args, **options)
            if is_status and not options and (known := self._status(path)) is not None:
                return known
            place = self._locate(path, options, follow)
            at = self.overlay.present(place)
            if is_status and place.status is not None:
                return place.status
            return original(at, *args, **options)

        return functools.partial(_naming(seam), self)

    def _changing(self, name: str) -> Function:
        original = getattr(os, name)
        follow = CHANGING[name]

        def seam(self: FollowerSeams, path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, int):
                return original(path, *args, **options)
            place = self._locate(path, options, follow)
            at = place.at if place.is_shared else self.overlay.own(place)
            return original(at, *args, **options)

        return functools.partial(_naming(seam), self)

    def _making(self, name: str) -> Function:
        original = getattr(os, name)

        def seam(self: FollowerSeams, path: Any, *args: Any, **options: Any) -> Any:
            place = self._locate(path, options, follow=False)
            at = place.at if place.is_shared else self.overlay.fresh(place)
            return original(at, *args, **options)

        return functools.partial(_naming(seam), self)

    def _locate(self, path: Any, options: dict[str, Any], follow: bool = True) -> Place:
        """Locate, by the options of a system call; what is settled by that is taken out."""
        follow = options.get("follow_symlinks", follow)
        return self.view.locate(path, follow=follow, dir_fd=options.pop("dir_fd", None))

    def _directory(self, path: Any) -> Place:
        place = self.view.locate(path)
        self.overlay.present(place)
        if place.status is not None and not stat.S_ISDIR(place.status.st_mode):
            raise failure(errno.ENOTDIR)
        return place

    def _entry(self, given: Any, place: Place, name: str) -> Entry:
        path = os.path.join(place.path, name)

        def look(follow: bool) -> os.stat_result:
            status = self.view.locate(path, follow=follow).status
            if status is None:
                raise failure(errno.ENOENT, path)
            return status

        if isinstance(given, int):
            return Entry(name, name, look)
        shown: Any = os.fsencode(name) if isinstance(os.fspath(given), bytes) else name
        return Entry(shown, os.path.join(given, shown), look)


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
            there = disk.exists(os.path.dirname(place.path))
            return self._view.upper(place.path) if there else path


def _entries(path: Any) -> list[Any]:
    with disk.scandir(path) as entries:
        return list(entries)


def _leads_to(path: Any, place: Place) -> bool:
    """Whether the system, left alone, would find the same thing at this path."""
    try:
        return place.status is not None and os.path.samestat(disk.stat(path), place.status)
    except OSError:
        return False
