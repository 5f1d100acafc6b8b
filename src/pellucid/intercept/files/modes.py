"""How a file is opened: which flags, and which modes of ``open``, may change something."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["TEMPORARY", "WRITING", "is_writing"]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TEMPORARY = os.O_TMPFILE  # a file without a name
WRITING_LETTERS = frozenset("wax+")


def is_writing(mode: Any) -> bool:
    """Whether opening a file in this mode may change it."""
    return isinstance(mode, str) and not WRITING_LETTERS.isdisjoint(mode)
