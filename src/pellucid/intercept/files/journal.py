"""What the leader changes on disk, written down before it does so.

[Note: early and late]
A follower runs the same program, but not at the same moment. It must see the disk as the script
alone would see it at that line, whatever the leader did meanwhile.

- *early*: before the followers start. What is large of this is there for all (a download, a
  cache), and a follower that makes it again (``mkdir``, ``open(..., "x")``) is let do so once. What
  is small becomes late when the followers start; `early` has the reasons.
- *late*: after the followers start. What the leader makes late is hidden from the followers: they
  are about to make it themselves, and must not find it there half a line too soon.
- *kept*: what was there before and the leader then overwrites, moves or removes: a copy is kept,
  and followers see that until they do the same.
- *grown*: what the leader made early and early appended to, with the size it had: a follower that
  appends starts there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import posixpath
import stat

from pellucid.intercept.files import disk
from pellucid.intercept.files.early import made_again
from pellucid.intercept.files.log import Log

__all__ = ["Changes", "Journal"]

JOURNAL = "journal.jsonl"
STARTED = "started.jsonl"  # touched when the followers start

MOST_COPIED = 1 << 30  # bytes a run; to keep more would cost the leader too much time and room

_copies = itertools.count()


class Changes:
    """A follower's knowledge of what the leader changed; see [Note: early and late]."""

    def __init__(self, run_dir: str) -> None:
        self._log = Log(posixpath.join(run_dir, JOURNAL))
        self.early: set[str] = set()
        self.late: set[str] = set()
        self.kept: dict[str, str | None] = {}  # where the copy is; None: it was too big for one
        self.kept_names: dict[str, list[str]] = {}  # by directory
        self.grown: dict[str, int] = {}
        self.directories: set[str] = set()  # that hold anything late or kept
        self.originals: dict[str, str] = {}  # path of each copy

    @property
    def page(self) -> memoryview:
        """One number, another one after every change."""
        return self._log.page

    def refresh(self) -> None:
        """Take in what is new."""
        for act, path, detail in self._log.take():
            if act == "grown":
                self.grown.setdefault(path, detail)
            elif act == "made":
                (self.late if detail else self.early).add(path)
                (self.early if detail else self.late).discard(path)
            elif path not in self.kept:
                self.kept[path] = detail
                if detail is not None:
                    self.originals[detail] = path
                directory, name = posixpath.split(path)
                self.kept_names.setdefault(directory, []).append(name)
            if path in self.late or path in self.kept:
                self.directories.add(posixpath.dirname(path))


class Journal:
    """The leader's side: is told of every change before it happens.

    Args:
        run_dir: directory of the run.
    """

    def __init__(self, run_dir: str) -> None:
        self._log = Log(posixpath.join(run_dir, JOURNAL))
        self._started = Log(posixpath.join(run_dir, STARTED))
        # what was written down already, also by children of this process and by leaders before it
        self._known = Changes(run_dir)
        self._copies = posixpath.join(run_dir, "kept")
        disk.make_directories(self._copies)
        self._copied = 0  # bytes

    def settle(self) -> None:
        """The followers start: what is made from now on is late. Doing it again does nothing."""
        if self._started.stamp:
            return
        self._known.refresh()
        for path in made_again(self._known.early):
            self._log.append("made", path, True)
        self._started.touch()

    def making(self, path: str) -> None:
        """Something new comes to be at this path."""
        self._known.refresh()
        late = self._started.stamp != 0
        if path not in self._known.late and (late or path not in self._known.early):
            self._log.append("made", path, late)

    def arriving(self, path: str, source: str | None) -> None:
        """What is at another path, with all below it, will be at this one."""
        self.making(path)
        if source is not None and disk.is_directory(source):
            for name in disk.listdir(source):
                self.arriving(posixpath.join(path, name), posixpath.join(source, name))

    def growing(self, path: str) -> None:
        """The file at this path is about to be appended to."""
        self.changing(path)
        self._known.refresh()
        if path in self._known.kept or path in self._known.grown:
            return
        if not self._started.stamp:
            self._log.append("grown", path, disk.lstat(path).st_size if disk.exists(path) else 0)

    def changing(self, path: str) -> None:
        """The content of the file at this path is about to change in place."""
        if self._is_worth_keeping(path):
            self._log.append("kept", path, self._copy(path))
        else:
            self._separate(path)

    def leaving(self, path: str, *, moved: bool = False) -> None:
        """What is at this path is about to be removed, replaced or moved."""
        if not self._is_worth_keeping(path):
            return
        if disk.is_directory(path):
            for name in disk.listdir(path):
                self.leaving(posixpath.join(path, name), moved=moved)
        self._log.append("kept", path, self._copy(path) if moved else self._link(path))

    def _is_worth_keeping(self, path: str) -> bool:
        """Whether followers may still need what is there: they do not if the script made it."""
        self._known.refresh()
        if path in self._known.late or path in self._known.kept:
            return False
        if path in self._known.early and not self._started.stamp:
            return False
        return disk.exists(path)

    def _link(self, path: str) -> str | None:
        """A second name for what is about to lose this one: cheaper than a copy.

        It must have no third name, under which its content could be changed.
        """
        if disk.lstat(path).st_nlink == 1:
            copy = self._new_name()
            # not on another file system, nor on one without such links
            with contextlib.suppress(OSError):
                disk.link(path, copy, follow_symlinks=False)
                return copy
        return self._copy(path)

    def _separate(self, path: str) -> None:
        """Let a kept file be one of its own, if what was to remove this one failed."""
        copy = self._known.kept.get(path)
        if copy is None or not disk.exists(path):
            return
        if os.path.samestat(disk.lstat(path), disk.lstat(copy)):
            own = self._new_name()
            disk.copy(path, own)
            disk.rename(own, copy)

    def _copy(self, path: str) -> str | None:
        status = disk.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            copy = self._new_name()
            disk.mkdir(copy, 0o700)
            return copy
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            return None
        self._copied += status.st_size
        if self._copied > MOST_COPIED:
            return None
        copy = self._new_name()
        try:
            disk.copy(path, copy)
        except OSError:  # not readable, or no room: the act itself must go on
            return None
        return copy

    def _new_name(self) -> str:
        return posixpath.join(self._copies, f"{os.getpid()}-{next(_copies)}")
