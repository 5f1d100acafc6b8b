"""An append-only file of records that several processes write and follow.

Asking whether there are new records costs no system call: beside the log lies one number in shared
memory that changes with every record. So a process may ask before every file it opens.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import weakref
from typing import Any

from pellucid.intercept.files import disk

__all__ = ["Log"]

PIECE = 1 << 20

_touches = itertools.count(1)


class Log:
    """Records, oldest first; each is a short list of plain values.

    A record is in the file before `append` returns, and the number changes after that: whoever acts
    only after `append` can be sure that others learn of the act no later than they see it.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = disk.open_fd(path, flags | os.O_APPEND, 0o600)
        weakref.finalize(self, os.close, self._fd).atexit = False  # it is needed to the very end
        page = disk.open_fd(path + ".stamp", flags, 0o600)
        os.ftruncate(page, 8)
        self.page = memoryview(mmap.mmap(page, 8)).cast("Q")  # one number: see `stamp`
        os.close(page)
        self._read = 0  # bytes of the file that were taken in

    @property
    def stamp(self) -> int:
        """A number that is 0 at first and another one after every change."""
        return self.page[0]

    def append(self, *record: Any) -> None:
        """Add a record."""
        # one write each, so that records of several processes do not mix
        os.write(self._fd, json.dumps(record).encode() + b"\n")
        self.touch()

    def touch(self) -> None:
        """Tell the others that something changed that needs no record."""
        # two processes must never leave the same number behind: hence the process id in it
        self.page[0] = os.getpid() << 32 | next(_touches) & 0xFFFFFFFF

    def take(self) -> list[list[Any]]:
        """The records that were not taken before."""
        data = b""
        while piece := os.pread(self._fd, PIECE, self._read + len(data)):
            data += piece
        whole = data.rfind(b"\n") + 1
        self._read += whole
        return [json.loads(line) for line in data[:whole].splitlines()]
