"""What a sampler drew: it must be the same in all workers."""

from __future__ import annotations

import zlib
from typing import Any, Final

__all__ = ["DISPUTE", "hash_of"]

DISPUTE: Final = (
    "the workers drew different batches from the same loader: their random states or datasets "
    "differ. If the script prepares or caches data in its first run, run it again; if it seeds "
    "from the clock or the process id, seed it with a number"
)


def hash_of(indices: list[Any]) -> int:
    """The same for the same indices in all workers."""
    if set(map(type, indices)) == {int}:
        return hash(tuple(indices))
    return zlib.crc32(repr(indices).encode())
