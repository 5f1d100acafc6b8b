"""Memory for the flat arrays that the workers of one box share; made without torch.

It is an anonymous file handed down by file descriptor: it has no name, so no earlier run can have
left one behind, and it is gone with the last process that holds it, however that one died. It
takes only the pages that were written.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["WEIGHTS_BYTES", "create"]

WEIGHTS_BYTES: Final = 1 << 40  # of address space


def create() -> int:
    """Make memory for all weights of a box and return its inheritable file descriptor."""
    fd = os.memfd_create("pellucid-weights")
    os.ftruncate(fd, WEIGHTS_BYTES)
    os.set_inheritable(fd, True)
    return fd
