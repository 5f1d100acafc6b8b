"""A lock between processes that a killed process cannot keep.

Record locks belong to a process: the kernel frees them when it ends, however that came about.
Locks by open file description would not do, for the workers have inherited the same one.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["locked"]


@contextmanager
def locked(fd: int) -> Iterator[None]:
    """Hold the lock of a file that the processes share; not for several threads of one."""
    fcntl.lockf(fd, fcntl.LOCK_EX, 1)
    try:
        yield
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1)
