"""How long a script may be kept waiting at the end of a pass, for others and for their weights."""

from __future__ import annotations

from typing import Final

__all__ = ["patience"]

LEAST_SECONDS: Final = 2.0
SHARE: Final = 0.1


def patience(took: float) -> float:
    """Seconds to wait, at most: a small part of what the pass took.

    Args:
        took: seconds.
    """
    return LEAST_SECONDS + SHARE * took
