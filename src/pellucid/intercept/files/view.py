"""What the script of a follower sees: its own changes, over what the leader changed, over the disk.

[Note: places]
The script knows a file by a *path*. Its *place* is two things: the canonical path (absolute, links
followed), which stays the same whoever holds the file, and where the bytes are now:

1. in the *upper* directory of this follower, under the same path, if the script wrote it;
2. nowhere, if the script removed it;
3. among the copies that the leader kept, if the leader changed it (see [Note: early and late]);
4. nowhere, if the leader made it late;
5. else on the disk.

A directory's entries are those of all layers together. Removals are records of a log, so that
forked children, who share the upper directory, see each other's; what was looked up is remembered
until that log or the leader's journal changes.

[Note: steady]
The leader writes down what it will do, then does it. So whoever finds something on the disk, and
then that nothing new was written down since he began to look, did not see the leader's doing; else
he looks again.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pellucid.intercept.files import disk
from pellucid.intercept.files.journal import Changes
from pellucid.intercept.files.log import Log
from pellucid.intercept.files.temporary import MARK

__all__ = ["Place", "View"]

T = TypeVar("T")

NOT_NAMES = frozenset(("", ".", ".."))
MOST_LINKS = 40  # as the kernel has it


class Place(NamedTuple):
    """Where a path leads; see [Note: places]."""

    path: str
    at: str | None  # None: nothing is there
    status: os.stat_result | None = None  # of what is there; None for what is shared

    @property
    def is_shared(self) -> bool:
        """Whether this is none of ours: then ``at`` is as the script gave it, made absolute."""
        return self.at is not None and self.status is None


class Folder(NamedTuple):
    """Which layers have a say in a directory's entries."""

    upper: bool  # the upper directory has it
    changed: bool  # the leader changed, or we removed, some of its entries
    real: bool  # the disk's entries show

    @property
    def plain(self) -> bool:
        """Whether its entries are those of the disk, and only those."""
        return self.real and not self.upper and not self.changed


class View:
    """The layers of one follower.

    Args:
        run_dir: directory of the run.
        root: directory for what this follower writes; made if missing.
        shared: beginnings of paths that are never private.
    """

    def __init__(self, run_dir: str, root: str, shared: tuple[str, ...]) -> None:
        self.root = posixpath.join(root, "files")
        disk.make_directories(self.root)
        self.shared = shared
        self.cwd: str | None = None  # where the script believes to be, once it went anywhere
        self.changes = Changes(run_dir)
        self.gone: set[str] = set()
        self._gone_from: set[str] = set()  # directories
        self._log = Log(posixpath.join(root, "removed.jsonl"))
        self._ended = Log(posixpath.join(root, "ended.jsonl"))
        self._own_page, self._leaders_page = self._log.page, self.changes.page
        self._seen = (0, 0)
        self._folders: dict[str, Folder] = {}
        self._directories: dict[str, str] = {}
        self._plain: dict[str, str] = {}  # of these, by the text of the path, only the plain ones

    @property
    def stamp(self) -> tuple[int, int]:
        """Another value whenever somebody changed, or is about to change, anything."""
        return self._own_page[0], self._leaders_page[0]

    @property
    def is_untouched(self) -> bool:
        """Whether nothing at all differs from the disk: the common case until a script writes."""
        return not (self._own_page[0] or self._leaders_page[0])

    @property
    def is_current(self) -> bool:
        """Whether nobody changed, or is about to change, anything since the last look."""
        return self.stamp == self._seen

    def is_shared(self, path: str) -> bool:
        """Whether this path is never private: devices, the run's own files, compilers' caches."""
        return path.startswith(self.shared) or MARK in path or self._ended.stamp != 0

    def end(self) -> None:
        """From now on everything is shared, also for children that were forked before."""
        self._ended.touch()

    def upper(self, path: str) -> str:
        """Where the bytes of a canonical path are once the script wrote them."""
        return self.root + path

    def locate(self, path: Any, *, follow: bool = True, dir_fd: int | None = None) -> Place:
        """Find what a path of the script leads to.

        Args:
            path: as the script gave it; a number stands for an open file.
            follow: whether a link at the end is followed.
            dir_fd: an open directory that a relative path starts from.
        """
        text = self.absolute(path, dir_fd)
        return self._steadily(lambda: self._follow(path, text, follow=follow))

    def quick(self, path: Any) -> str | None:
        """Where an entry of a directory is, or None: then `locate` knows, which takes longer.

        A link is not followed. This is for data sets of many files.
        """
        if not isinstance(path, str) or not self.is_current:
            return None
        text = path if path[:1] == "/" else f"{self.cwd or disk.getcwd()}/{path}"
        head, _, name = text.rpartition("/")
        directory = self._plain.get(head)
        return None if directory is None or name in NOT_NAMES else f"{directory}/{name}"

    def at(self, path: str) -> str | None:
        """Where a canonical path is to be looked for; None if the script would not find it."""
        directory, name = posixpath.split(path)
        return self._entry(directory, name) if name else path

    def names(self, path: str) -> list[str]:
        """What a directory, given by its canonical path, holds; the disk's order first."""
        # listed first: whatever shows in it of the leader's doing is written down by now
        real = self._real_names(path)
        self.refresh()
        folder = self._folder(path)
        if folder.plain:
            return real
        upper = dict.fromkeys(disk.listdir(self.root + path) if folder.upper else ())
        kept = self.changes.kept_names.get(path, ())
        lower = dict.fromkeys(real if folder.real else ())
        lower.update(dict.fromkeys(name for name in kept if self.changes.kept[_join(path, name)]))
        names = [name for name in lower if name in upper or self._lower(_join(path, name), folder)]
        return list(dict.fromkeys([*names, *upper]))

    def is_plain(self, path: str) -> bool:
        """Whether a directory, given by its canonical path, is as it is on disk."""
        return self._folder(path).plain

    def absolute(self, path: Any, dir_fd: int | None = None) -> str:
        """The path as text from the root on, otherwise unchanged."""
        if isinstance(path, int):
            return self.path_of(path)
        text = os.fsdecode(path)
        if text.startswith("/") or not text:
            return text
        start = self.path_of(dir_fd) if dir_fd is not None else self.cwd or disk.getcwd()
        return posixpath.join(start, text)

    def path_of(self, fd: int) -> str:
        """The path by which the script knows an open file."""
        found = disk.readlink(f"/proc/self/fd/{fd}")
        if found.startswith(self.root):
            return found[len(self.root) :] or "/"
        return self.changes.originals.get(found, found)

    def shows_below(self, path: str) -> bool:
        """Whether something would still be seen at a canonical path without the upper directory."""
        return self._steadily(lambda: self._shows_below(path))

    def is_lost(self, path: str) -> bool:
        """Whether the leader removed what was here, and could not keep a copy."""
        return self.changes.kept.get(path, "") is None and path not in self.gone

    def hide_below(self, path: str) -> None:
        """Let what the lower layers have at this canonical path be seen no more."""
        if self.shows_below(path):
            self.hide(path)
        else:
            self.touch()

    def hide(self, path: str) -> None:
        """Let nothing be seen at this canonical path but what the upper directory has."""
        self._log.append(path)
        self.refresh()

    def touch(self) -> None:
        """Something changed in the upper directory, other than a file added or written."""
        self._log.touch()
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes changed since the last look."""
        now = self.stamp
        if now == self._seen:
            return
        self._seen = now
        self._folders.clear()
        self._directories.clear()
        self._plain.clear()
        self.changes.refresh()
        for (path,) in self._log.take():
            self.gone.add(path)
            self._gone_from.add(posixpath.dirname(path))

    def _follow(self, path: Any, text: str, *, follow: bool) -> Place:
        for _ in range(MOST_LINKS):
            if self.is_shared(text) or not text:
                return Place(text, text or None)
            place = self._look(text)
            status = place.status
            if not follow or status is None or not stat.S_ISLNK(status.st_mode):
                return place
            text = posixpath.join(posixpath.dirname(place.path), disk.readlink(place.at or ""))
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _steadily(self, look: Callable[[], T]) -> T:
        """What one sees with up-to-date knowledge; see [Note: steady]."""
        while True:
            self.refresh()
            seen = self._seen
            found = look()
            if self.stamp == seen:
                return found

    def _look(self, text: str) -> Place:
        """What is at an absolute path; a link at its end is not followed."""
        if len(text) > 1 and text[-1] == "/":
            text = text.rstrip("/") or "/"
        head, name = posixpath.split(text)
        if name in NOT_NAMES:
            path = self._directory(text)
            at = self.at(path)
        else:
            directory = self._directory(head)
            path = _join(directory, name)
            at = self._entry(directory, name)
            if self._folder(directory).plain:
                self._plain[head] = directory
        if at is None:
            return Place(path, None)
        try:
            return Place(path, at, disk.lstat(at))
        except (FileNotFoundError, NotADirectoryError):
            return Place(path, None)

    def _shows_below(self, path: str) -> bool:
        below = self._lower(path, self._folder(posixpath.dirname(path)))
        return below is not None and disk.exists(below)

    def _entry(self, directory: str, name: str) -> str | None:
        path = _join(directory, name)
        folder = self._folder(directory)
        if folder.upper and disk.exists(self.root + path):
            return self.root + path
        return self._lower(path, folder)

    def _lower(self, path: str, folder: Folder) -> str | None:
        """Where the layers below the upper directory have this entry of that folder."""
        if folder.changed:
            if path in self.gone:
                return None
            if (kept := self.changes.kept.get(path)) is not None:
                return kept
            if path in self.changes.late and path not in self.changes.kept:
                return None
        return path if folder.real else None

    def _folder(self, path: str) -> Folder:
        if (known := self._folders.get(path)) is not None:
            return known
        changed = path in self.changes.directories or path in self._gone_from
        directory, name = posixpath.split(path)
        if not name:
            folder = Folder(upper=True, changed=changed, real=True)
        elif (above := self._folder(directory)).plain:
            folder = Folder(upper=False, changed=changed, real=True)
        else:
            at = self._entry(directory, name)
            # a directory that the script made where the leader had made one: both show
            both = at is not None and above.real and disk.is_directory(path)
            folder = Folder(at == self.root + path, changed, at == path or both)
        self._folders[path] = folder
        return folder

    def _directory(self, path: str, links: int = 0) -> str:
        """The canonical path of a directory: links followed, `..` taken."""
        if (known := self._directories.get(path)) is not None:
            return known
        head, name = posixpath.split(path)
        if head == path:
            return "/"
        base = self._directory(head, links)
        if name in ("", "."):
            return base
        if name == "..":
            return posixpath.dirname(base)
        found = _join(base, name)
        at = self._entry(base, name)
        try:
            is_link = at is not None and stat.S_ISLNK(disk.lstat(at).st_mode)
        except OSError:  # not there yet, perhaps: not to be remembered
            return found
        if is_link and at is not None:
            if links == MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            found = self._directory(posixpath.join(base, disk.readlink(at)), links + 1)
        if at is not None:
            self._directories[path] = found
        return found

    def _real_names(self, path: str) -> list[str]:
        try:
            return disk.listdir(path)
        except (FileNotFoundError, NotADirectoryError):  # only others have it, or a directory
            return []


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory != "/" else f"/{name}"
