"""Which rows of a batch are whose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

__all__ = ["Rows", "split_rows"]

# a slice of at least this many bytes stays split: to gather less costs no more than any exchange
LARGE_BYTES: Final = 16 << 10


@dataclass(frozen=True)
class Rows:
    """The division of one batch among the living workers.

    Attributes:
        total: rows of the whole batch.
        sizes: rows of each worker's slice, by worker index; 0 for the dead.
        start: first row of this worker's slice.
        stop: one past its last row.
    """

    total: int
    sizes: tuple[int, ...]
    start: int
    stop: int

    @property
    def local(self) -> int:
        """Rows of this worker's slice."""
        return self.stop - self.start

    def stay_split(self, row_bytes: int) -> bool:
        """Whether a tensor with so many bytes a row is better left split; the same for all.

        Slices differ in length by one row, so the longest decides.
        """
        return row_bytes * max(self.sizes) >= LARGE_BYTES

    @cached_property
    def sharers(self) -> set[int]:
        """Workers that have any."""
        return {worker for worker, size in enumerate(self.sizes) if size}


@lru_cache(maxsize=256)
def split_rows(total: int, living: tuple[int, ...], workers: int, index: int) -> Rows:
    """Divide a batch evenly: slices differ by one row at most, earlier workers get the longer ones.

    Args:
        total: rows of the whole batch.
        living: workers that take part, in order.
        workers: number of workers there were at the start.
        index: whose slice `start` and `stop` tell.
    """
    each, longer = divmod(total, len(living))
    sizes = [0] * workers
    for place, worker in enumerate(living):
        sizes[worker] = each + (place < longer)
    start = sum(sizes[:index])
    return Rows(total, tuple(sizes), start, start + sizes[index])
