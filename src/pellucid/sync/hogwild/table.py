"""The table of passes: what all workers of a box know of the batches that are dealt out.

[Note: table]
It lies in anonymous shared memory, handed down by the launcher:

    header   how many rows there are, and where the next order goes
    left     for each worker, the latest row it has left, and 1 more
    cells    for each worker, and one more, the leases that it holds
    rows     one for each pass, in the order in which they were first opened
    orders   what the first openers deposited

Rows and the count of batches dealt change under a lock that the kernel frees with its holder. A
cell is a single number, written by its worker: it says which batch of which pass, or nothing. A
worker that dies leaves its cells as they are, and others take them over. The worker that does not
exist, the last, holds what was taken and given back.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final

from pellucid.errors import ExchangeError

__all__ = ["CELLS", "Column", "Table"]

CELLS: Final = 1024  # leases that a worker can hold
ROW: Final = 16  # numbers
ROWS: Final = 1 << 20
ORDERS_BYTES: Final = 64 << 30  # of address space
HEADER: Final = 16
_COUNT, _ORDER_END = 0, 1
_BATCH_BITS: Final = 40


class Column(IntEnum):
    """Of a row."""

    LOADER = 0
    NUMBER = 1
    ROLE = 2  # of the pass, see `Roles` in the dealer
    NATURE = 3  # what later passes of the loader are taken for
    TRIER = 4  # the worker that tries it
    TOTAL = 5  # batches, -1 when not known
    NEXT = 6  # the batch to be dealt next
    BEFORE = 7  # batches dealt in earlier passes of the loader, when this one was opened
    ORDER_AT = 8
    ORDER_BYTES = 9
    OVER = 10  # not 0: all batches are done, and the order is dropped


class Table:
    """See [Note: table].

    Args:
        fd: of memory made by `create`.
        workers: how many there are.
    """

    def __init__(self, fd: int, workers: int) -> None:
        self.fd = fd
        self.workers = workers
        self._map = mmap.mmap(fd, self.size(workers))
        self._numbers = memoryview(self._map)[: self._orders_start(workers)].cast("q")

    @classmethod
    def create(cls, workers: int) -> int:
        """Make the memory and return its inheritable file descriptor."""
        fd = os.memfd_create("pellucid-passes")
        os.ftruncate(fd, cls.size(workers))
        os.set_inheritable(fd, True)
        return fd

    @classmethod
    def size(cls, workers: int) -> int:
        """Bytes of address space."""
        return cls._orders_start(workers) + ORDERS_BYTES

    @staticmethod
    def _orders_start(workers: int) -> int:
        numbers = HEADER + workers + (workers + 1) * CELLS + ROWS * ROW
        return -(-numbers * 8 // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._numbers[_COUNT]

    def row(self, number: int) -> memoryview:
        """A row; what is written to it is there for all."""
        start = self._cells(self.workers + 1) + number * ROW
        return self._numbers[start : start + ROW]

    def add_row(self) -> memoryview:
        """A further row, all zeros; it counts once `publish_row` is called."""
        if self.rows >= ROWS:
            msg = f"more than {ROWS:,} training passes in one run do not fit the table of passes"
            raise ExchangeError(msg)
        return self.row(self.rows)

    def publish_row(self) -> None:
        """The row that `add_row` gave is filled in."""
        self._numbers[_COUNT] += 1

    # progress

    def has_left(self, worker: int, row: int) -> bool:
        """Whether a worker has come to the end of a row's pass."""
        return self._numbers[HEADER + worker] > row

    def leave(self, worker: int, row: int) -> None:
        """A worker has come to the end of a row's pass."""
        self._numbers[HEADER + worker] = max(self._numbers[HEADER + worker], row + 1)

    # orders

    def put_order(self, row: memoryview, order: bytes) -> None:
        """Keep a pass's order."""
        at = self._numbers[_ORDER_END]
        # whole pages, so that they can be given back one pass at a time
        length = -(-len(order) // mmap.PAGESIZE) * mmap.PAGESIZE
        if at + length > ORDERS_BYTES:
            msg = f"the orders of all passes take more than {ORDERS_BYTES >> 30} GiB"
            raise ExchangeError(msg)
        start = self._orders_start(self.workers) + at
        self._map[start : start + len(order)] = order
        row[Column.ORDER_AT], row[Column.ORDER_BYTES] = at, len(order)
        self._numbers[_ORDER_END] = at + length

    def order(self, row: memoryview) -> bytes:
        """A pass's order; empty when it was dropped."""
        start = self._orders_start(self.workers) + row[Column.ORDER_AT]
        return self._map[start : start + row[Column.ORDER_BYTES]]

    def drop_order(self, row: memoryview) -> None:
        """Give back the memory of an order that nobody needs any more."""
        length = row[Column.ORDER_BYTES]
        if not length:
            return
        row[Column.ORDER_BYTES] = 0
        start = self._orders_start(self.workers) + row[Column.ORDER_AT]
        length = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_REMOVE, start, length)

    # cells

    def _cells(self, worker: int) -> int:
        return HEADER + self.workers + worker * CELLS

    def hold(self, worker: int, row: int, batch: int) -> None:
        """Write a lease into a free cell of a worker."""
        start = self._cells(worker)
        numbers = self._numbers
        for cell in range(start, start + CELLS):
            if not numbers[cell]:
                numbers[cell] = (row + 1) << _BATCH_BITS | batch
                return
        msg = f"worker {worker} holds {CELLS} batches at once: prefetch fewer (prefetch_factor)"
        raise ExchangeError(msg)

    def drop(self, worker: int, row: int, batch: int) -> None:
        """Clear the cell that holds a lease."""
        start = self._cells(worker)
        held = (row + 1) << _BATCH_BITS | batch
        numbers = self._numbers
        for cell in range(start, start + CELLS):
            if numbers[cell] == held:
                numbers[cell] = 0
                return

    def held(self, worker: int, rows: range) -> tuple[int, int] | None:
        """A lease of these rows that a worker holds, as (row, batch); None if there is none."""
        start = self._cells(worker)
        for value in self._numbers[start : start + CELLS]:
            if value and (value >> _BATCH_BITS) - 1 in rows:
                return (value >> _BATCH_BITS) - 1, value & ((1 << _BATCH_BITS) - 1)
        return None
