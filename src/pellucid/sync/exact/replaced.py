"""Attributes that are something else for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["replaced"]


@contextmanager
def replaced(values: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """While the body runs, attributes have other values.

    Args:
        values: triples (owner, name, value).
    """
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in values]
    for owner, name, value in values:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
