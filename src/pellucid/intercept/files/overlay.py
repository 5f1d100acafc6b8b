"""What a follower's script does to files, done in its upper directory; see [Note: places].

Every method takes places and leaves behind what the same act would have left on the disk; errors
are those of the system. File names in errors are the seams' business.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import Any

from pellucid.intercept.files import disk
from pellucid.intercept.files.view import Place, View

__all__ = ["Overlay", "failure"]


def failure(code: int, path: Any = None) -> OSError:
    """The error that the system would raise."""
    return OSError(code, os.strerror(code), path)


class Overlay:
    """Changes to one follower's view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._copies = 0

    def present(self, place: Place) -> str:
        """Where what is at a place is found.

        Raises:
            FileNotFoundError: nothing is there.
            NotADirectoryError: nor can there be, below a file.
        """
        if place.at is None:
            raise failure(errno.ENOTDIR if self._is_below_a_file(place.path) else errno.ENOENT)
        return place.at

    def fresh(self, place: Place) -> str:
        """Get ready to make something new at a place; says where.

        Raises:
            FileExistsError: something is there, and the script alone would find it too.
        """
        if place.at is not None and not self._is_unclaimed(place):
            raise failure(errno.EEXIST)
        return self.room(place.path)

    def room(self, path: str) -> str:
        """Get ready to add an entry to a directory; says where."""
        directory = posixpath.dirname(path)
        at = self.present(Place(directory, self.view.at(directory)))
        if not stat.S_ISDIR(disk.stat(at).st_mode):
            raise failure(errno.ENOTDIR)
        if not disk.access(at, os.W_OK | os.X_OK):
            raise failure(errno.EACCES)
        self._mirror(directory)
        return self.view.upper(path)

    def own(self, place: Place, *, empty: bool = False, append: bool = False) -> str:
        """Get ready to change what is at a place: says where our copy is.

        Args:
            place: where something is.
            empty: the content will be replaced, so it need not be copied.
            append: the content will be added to; what the leader added already is left out.
        """
        upper = self.view.upper(place.path)
        if place.at == upper:
            return upper
        at = self.present(place)
        if disk.is_directory(at):
            self._mirror(place.path)
            return upper
        self._mirror(posixpath.dirname(place.path))
        # into place in one move: a thread, or a child of ours, may be at the same file
        self._copies += 1
        copy = f"{self.view.root}-{os.getpid()}-{self._copies}"
        while not self._copy(place.path, copy, empty=empty, append=append):
            disk.unlink(copy)
        disk.rename(copy, upper)
        return upper

    def _copy(self, path: str, copy: str, *, empty: bool, append: bool) -> bool:
        """Copy what is at a path; says whether it was the right thing: see [Note: steady]."""
        at = self.present(Place(path, self.view.at(path)))
        size = self.view.changes.grown.get(path) if append else None
        try:
            disk.copy(at, copy, 0 if empty else size)
        except FileNotFoundError:
            self.view.refresh()
            if self.view.at(path) == at:
                raise
            return self._copy(path, copy, empty=empty, append=append)
        self.view.refresh()
        return self.view.at(path) == at

    def make_directory(self, place: Place, mode: int) -> None:
        """As mkdir."""
        disk.mkdir(self.fresh(place), mode)
        self.view.touch()

    def remove_directory(self, place: Place) -> None:
        """As rmdir."""
        at = self.present(place)
        if not disk.is_directory(at):
            raise failure(errno.ENOTDIR)
        if self.view.names(place.path):
            raise failure(errno.ENOTEMPTY)
        self._writable_parent(place.path)
        if at == self.view.upper(place.path):
            disk.rmdir(at)
        self.view.hide_below(place.path)

    def unlink(self, place: Place) -> None:
        """As unlink."""
        if place.at is None and self.view.is_lost(place.path):
            self.view.hide(place.path)
            return
        at = self.present(place)
        if disk.is_directory(at):
            raise failure(errno.EISDIR)
        self._writable_parent(place.path)
        if at == self.view.upper(place.path):
            disk.unlink(at)
        self.view.hide_below(place.path)

    def rename(self, source: Place, target: Place) -> None:
        """As rename, which replaces a file or an empty directory."""
        at = self.present(source)
        if source.path == target.path or _are_one(source, target):
            return
        if target.path.startswith(source.path + "/"):
            raise failure(errno.EINVAL)
        if target.at is not None:
            self._check_replacing(disk.is_directory(at), target)
        self._writable_parent(source.path)
        upper = self.room(target.path)
        self._own_tree(source)
        paths = self._tree(source.path)
        if target.at == upper and disk.is_directory(upper):
            disk.rmdir(upper)
        disk.rename(self.view.upper(source.path), upper)
        for path in paths:
            self.view.hide_below(path)

    def link(self, source: Place, target: Place) -> None:
        """As link: two names of one file."""
        self.present(source)
        upper = self.fresh(target)
        disk.link(self.own(source), upper, follow_symlinks=False)

    def symlink(self, text: Any, place: Place) -> None:
        """As symlink; the text is the script's and is followed only by us."""
        disk.symlink(text, self.fresh(place))
        self.view.touch()

    def _is_below_a_file(self, path: str) -> bool:
        while path not in ("/", ""):
            path = posixpath.dirname(path)
            at = self.view.at(path)
            if at is not None and disk.exists(at):
                return not disk.is_directory(at)
        return False

    def _is_unclaimed(self, place: Place) -> bool:
        """Whether the leader made this early, and our script is just about to make it itself."""
        return place.at == place.path and place.path in self.view.changes.early

    def _writable_parent(self, path: str) -> None:
        at = self.view.at(posixpath.dirname(path))
        if at is not None and not disk.access(at, os.W_OK | os.X_OK):
            raise failure(errno.EACCES)

    def _check_replacing(self, directory: bool, target: Place) -> None:
        replaced = disk.is_directory(target.at or "")
        if directory and not replaced:
            raise failure(errno.ENOTDIR)
        if replaced and not directory:
            raise failure(errno.EISDIR)
        if replaced and self.view.names(target.path):
            raise failure(errno.ENOTEMPTY)

    def _mirror(self, directory: str) -> None:
        """Let the upper directory have this directory, with the mode that it has elsewhere."""
        upper = self.view.upper(directory)
        if disk.is_directory(upper):
            return
        at = self.view.at(directory)
        self._mirror(posixpath.dirname(directory))
        try:
            disk.mkdir(upper, 0o700)
        except FileExistsError:
            return  # another thread, or a child of ours, was quicker
        if at is not None:
            disk.chmod(upper, stat.S_IMODE(disk.stat(at).st_mode) | stat.S_IRWXU)
        self.view.touch()

    def _own_tree(self, place: Place) -> None:
        upper = self.own(place)
        if disk.is_directory(upper):
            for name in self.view.names(place.path):
                child = posixpath.join(place.path, name)
                self._own_tree(Place(child, self.view.at(child)))

    def _tree(self, path: str) -> list[str]:
        """The path and all below it, deepest first."""
        found = []
        if disk.is_directory(self.view.upper(path)):
            for name in self.view.names(path):
                found += self._tree(posixpath.join(path, name))
        return [*found, path]


def _are_one(one: Place, two: Place) -> bool:
    """Whether these are two names of one file."""
    if one.status is None or two.status is None:
        return False
    return os.path.samestat(one.status, two.status)
