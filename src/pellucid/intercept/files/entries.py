"""What ``os.scandir`` gives for a directory whose entries come from several layers."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

__all__ = ["Entries", "Entry"]


class Entry:
    """Stands for an ``os.DirEntry``, which nobody but the system can make.

    Args:
        name: as the script shall see it, text or bytes.
        path: what the script gave to ``scandir``, joined with the name.
        look: gives the status of the entry; a link is followed if told so.
    """

    __slots__ = ("_look", "name", "path")

    def __init__(self, name: Any, path: Any, look: Callable[[bool], os.stat_result]) -> None:
        self.name = name
        self.path = path
        self._look = look

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def inode(self) -> int:
        """The inode number."""
        return self._look(False).st_ino

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """The status."""
        return self._look(follow_symlinks)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a directory."""
        return self._is(stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a regular file."""
        return self._is(stat.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._is(stat.S_ISLNK, False)

    def is_junction(self) -> bool:
        """Whether it is a junction: never, these are of another system."""
        return False

    def _is(self, kind: Callable[[int], bool], follow: bool) -> bool:
        try:
            return kind(self._look(follow).st_mode)
        except FileNotFoundError:  # a dangling link
            return False


class Entries:
    """The iterator, which may also be closed; gives `Entry` or the system's own."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> Entries:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give no more."""
        self._entries = iter(())
