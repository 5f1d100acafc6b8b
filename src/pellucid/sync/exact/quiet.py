"""Warnings that nobody is to see."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ["ignored_warnings"]


@contextlib.contextmanager
def ignored_warnings() -> Iterator[None]:
    """As `warnings.catch_warnings`, which would have those shown again that are shown once."""
    everything: Any = ("ignore", None, Warning, None, 0)
    filters: list[Any] = warnings.filters  # type: ignore[assignment] # a list, in fact
    filters.insert(0, everything)
    try:
        yield
    finally:
        filters[:] = [kept for kept in filters if kept is not everything]
