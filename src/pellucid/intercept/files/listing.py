"""Listing directories in a follower, whose entries may come from several layers."""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH118

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import Any

from pellucid.intercept.files import disk
from pellucid.intercept.files.entries import Entries, Entry
from pellucid.intercept.files.naming import naming
from pellucid.intercept.files.overlay import Overlay, failure
from pellucid.intercept.files.view import Place

__all__ = ["Listing"]


class Listing:
    """Stands for ``os.listdir`` and ``os.scandir``."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.view = overlay.view

    @naming
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

    @naming
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

    def _directory(self, path: Any) -> Place:
        place = self.view.locate(path)
        self.overlay.present(place)
        if place.status is not None and not stat.S_ISDIR(place.status.st_mode):
            raise failure(errno.ENOTDIR)
        return place

    def _entry(self, given: Any, place: Place, name: str) -> Entry:
        path = posixpath.join(place.path, name)

        def look(follow: bool) -> os.stat_result:
            status = self.view.locate(path, follow=follow).status
            if status is None:
                raise failure(errno.ENOENT, path)
            return status

        if isinstance(given, int):
            return Entry(name, name, look)
        shown: Any = os.fsencode(name) if isinstance(os.fspath(given), bytes) else name
        return Entry(shown, os.path.join(given, shown), look)


def _entries(path: Any) -> list[Any]:
    with disk.scandir(path) as entries:
        return list(entries)


def _leads_to(path: Any, place: Place) -> bool:
    """Whether the system, left alone, would find the same thing at this path."""
    try:
        return place.status is not None and os.path.samestat(disk.stat(path), place.status)
    except OSError:
        return False
