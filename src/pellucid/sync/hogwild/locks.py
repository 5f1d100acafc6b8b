"""A lock between processes that a killed process cannot keep.

Record locks belong to a process: the kernel frees them when it ends, however that came about.
Locks by open file description would not do, for the workers have inherited the same one.
"""

from __future__ import annotations

import fcntl
from types import TracebackType

__all__ = ["Lock"]


class Lock:
    """Held within ``with``, by one process at a time; not for several threads of one.

    Args:
        fd: of a file that the processes share.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1)
