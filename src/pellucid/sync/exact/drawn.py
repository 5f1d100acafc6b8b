"""What the workers' samplers drew: it must be the same in all."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from pellucid.errors import DivergenceError

__all__ = ["check_same", "hash_of"]


def hash_of(indices: list[Any]) -> int:
    """The same for the same indices in all workers."""
    if all(type(i) is int for i in indices):
        return hash(tuple(indices))
    return zlib.crc32(repr(indices).encode())


def check_same(hashes: Sequence[Any]) -> None:
    """Raise if the workers' hashes differ.

    Raises:
        DivergenceError: they do.
    """
    if any(h != hashes[0] for h in hashes):
        msg = (
            "the workers drew different batches from the same loader: their random states or "
            "datasets differ. If the script prepares or caches data in its first run, run it "
            "again; if it seeds from the clock or the process id, seed it with a number"
        )
        raise DivergenceError(msg)
