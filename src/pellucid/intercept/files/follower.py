"""The seams of a follower: functions of files as its script calls them.

Each finds the place that the path leads to (see [Note: places]), lets the overlay get ready for
the act, and acts where the bytes are. Errors name files as the script did. Patching Python's own
functions costs little and reaches all of the standard library, numpy, PIL, pandas' csv and the
like; `formats` has the libraries that open files in C.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable
from typing import Any

from pellucid.intercept.files import disk
from pellucid.intercept.files.listing import Listing
from pellucid.intercept.files.naming import naming, naming_both
from pellucid.intercept.files.opening import Opening
from pellucid.intercept.files.overlay import Overlay, failure
from pellucid.intercept.files.view import Place

__all__ = ["FollowerSeams"]

Function = Callable[..., Any]

# functions of `os` that look at what is at a path: whether they follow a link at its end
LOOKING = {"stat": True, "lstat": False, "readlink": False, "statvfs": True}
LOOKING |= {"listxattr": True, "getxattr": True}
# functions of `os` that change what is at a path, in place
CHANGING = {"chmod": True, "chown": True, "lchown": False, "utime": True, "truncate": True}
CHANGING |= {"setxattr": True, "removexattr": True}
# functions of `os` that make something new of which we need not know more
MAKING = ("mkfifo", "mknod")


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
        self.opening = Opening(overlay)
        self.listing = Listing(overlay)
        self.open = self.opening.open

    def functions(self) -> dict[str, Function]:
        """What shall stand in the module ``os``, by name."""
        found: dict[str, Function] = {name: self._looking(name) for name in LOOKING}
        found |= {name: self._changing(name) for name in CHANGING}
        found |= {name: self._making(name) for name in MAKING}
        found |= {"open": self.opening.open_fd, "access": self.access, "mkdir": self.mkdir}
        found |= {"rmdir": self.rmdir, "remove": self.unlink, "unlink": self.unlink}
        found |= {"rename": self.rename, "replace": self.rename}
        found |= {"link": self.link, "symlink": self.symlink}
        found |= {"listdir": self.listing.listdir, "scandir": self.listing.scandir}
        found |= {"chdir": self.chdir, "fchdir": self.chdir}
        return found | {"getcwd": self.getcwd, "getcwdb": self.getcwdb}

    @naming
    @_steady
    def access(self, path: Any, mode: int, **options: Any) -> bool:
        """As os.access."""
        if isinstance(path, int) or self.view.is_untouched:
            return disk.access(path, mode, **options)
        place = self._locate(path, options)
        return place.at is not None and disk.access(place.at, mode, **options)

    @naming
    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """As os.mkdir."""
        place = self.view.locate(path, follow=False, dir_fd=dir_fd)
        if place.is_shared:
            disk.mkdir(place.path, mode)
        else:
            self.overlay.make_directory(place, mode)

    @naming
    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        """As os.rmdir."""
        place = self.view.locate(path, follow=False, dir_fd=dir_fd)
        if place.is_shared:
            disk.rmdir(place.path)
        else:
            self.overlay.remove_directory(place)

    @naming
    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        """As os.unlink and os.remove."""
        place = self.view.locate(path, follow=False, dir_fd=dir_fd)
        if place.is_shared:
            disk.unlink(place.path)
        else:
            self.overlay.unlink(place)

    @naming_both
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

    @naming_both
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
        # as Python does on Linux, which then makes another name of the link itself
        follow = follow_symlinks and (src_dir_fd is not None or dst_dir_fd is not None)
        source = self.view.locate(src, follow=follow, dir_fd=src_dir_fd)
        target = self.view.locate(dst, follow=False, dir_fd=dst_dir_fd)
        if source.is_shared and target.is_shared:
            disk.link(source.path, target.path)
        elif source.is_shared or target.is_shared:
            raise failure(errno.EXDEV)
        else:
            self.overlay.link(source, target)

    @naming_both
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

    @naming
    def chdir(self, path: Any) -> None:
        """As os.chdir and os.fchdir.

        The process goes to the disk's directory if there is one, for those who start commands
        there. What the script believes is kept apart: the leader may remove that directory.
        """
        place = self.view.locate(path)
        at = self.overlay.present(place)
        real = place.is_shared or disk.is_directory(place.path)
        disk.chdir(place.path if real else at)
        self.view.cwd = None if place.is_shared else place.path

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
            if is_status and not options and (status := self._quick_status(path)) is not None:
                return status
            place = self._locate(path, options, follow)
            at = self.overlay.present(place)
            if is_status and place.status is not None:
                return place.status
            return original(at, *args, **options)

        return functools.partial(naming(seam), self)

    def _quick_status(self, path: Any) -> os.stat_result | None:
        quick = self.view.quick(path)
        if quick is None:
            return None
        try:
            status = disk.lstat(quick)
        except OSError:
            return None
        sure = self.view.is_current and not stat.S_ISLNK(status.st_mode)
        return status if sure else None

    def _changing(self, name: str) -> Function:
        original = getattr(os, name)
        follow = CHANGING[name]

        def seam(self: FollowerSeams, path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, int):
                return original(path, *args, **options)
            place = self._locate(path, options, follow)
            at = place.at if place.is_shared else self.overlay.own(place)
            return original(at, *args, **options)

        return functools.partial(naming(seam), self)

    def _making(self, name: str) -> Function:
        original = getattr(os, name)

        def seam(self: FollowerSeams, path: Any, *args: Any, **options: Any) -> Any:
            place = self._locate(path, options, follow=False)
            at = place.at if place.is_shared else self.overlay.fresh(place)
            return original(at, *args, **options)

        return functools.partial(naming(seam), self)

    def _locate(self, path: Any, options: dict[str, Any], follow: bool = True) -> Place:
        """Locate, by the options of a system call; what is settled by that is taken out."""
        follow = options.get("follow_symlinks", follow)
        return self.view.locate(path, follow=follow, dir_fd=options.pop("dir_fd", None))
