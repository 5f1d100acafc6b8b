"""The thread that trains: in any other, workers are not in step, and loops are the script's own."""

from __future__ import annotations

import threading

__all__ = ["in_script_thread"]

_SCRIPT_THREAD = threading.main_thread().ident


def in_script_thread() -> bool:
    """Whether this is the thread that trains."""
    return threading.get_ident() == _SCRIPT_THREAD
