"""The memory that the workers of one box exchange values through; made without torch.

It is an anonymous file handed down by file descriptor: it has no name, cannot go stale, and takes
only the pages that were written. See [Note: mailboxes] and [Note: arena] in `shared_memory.py`.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["HALF_BYTES", "SLOT_BYTES", "create", "total_bytes"]

SLOT_BYTES: Final = 64 << 20
HALF_BYTES: Final = 16 << 30  # of address space: pages exist once written


def total_bytes(workers: int) -> int:
    """Address space for this many workers: two slots and two halves each, and one for results."""
    return workers * (2 * SLOT_BYTES + 2 * HALF_BYTES) + HALF_BYTES


def create(workers: int) -> int:
    """Make the memory for a group of workers and return its inheritable file descriptor."""
    fd = os.memfd_create("pellucid-exchange")
    os.ftruncate(fd, total_bytes(workers))
    os.set_inheritable(fd, True)
    return fd
