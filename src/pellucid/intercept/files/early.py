"""Which of what the leader made before the followers start they make again themselves.

A script that refuses to overwrite its results, counts its runs by folders or takes a lock must find
none of that when a follower comes to the same lines. A script that downloads a data set must find
it. Both look for a path and make it if it is not there; they differ in what it costs. So what is
small is hidden from the followers, who make it again, and what is large is there for all.

What belongs together is hidden or shown together: a directory that the leader made, with all it
made below; and the files that it made in one directory that was there before.
"""

from __future__ import annotations

import posixpath
import stat
from collections import defaultdict
from collections.abc import Collection
from typing import Final

from pellucid.intercept.files import disk

__all__ = ["LARGE", "made_again"]

LARGE: Final = 4 << 20  # bytes that belong together: less is soon written, and soon downloaded


def made_again(early: Collection[str]) -> list[str]:
    """Which of these canonical paths the followers shall not find, but make themselves."""
    together: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(early):
        together[_together(path, early)].append(path)
    return [path for group in together.values() if sum(map(_size, group)) < LARGE for path in group]


def _together(path: str, early: Collection[str]) -> str:
    """What this path shares with those that it belongs to."""
    top = path
    while (above := posixpath.dirname(top)) in early:
        top = above
    return top if disk.is_directory(top) else posixpath.dirname(top) + "/*"


def _size(path: str) -> int:
    try:
        status = disk.lstat(path)
    except OSError:  # it was there for a while
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
