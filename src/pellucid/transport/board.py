"""The board: one small shared page of facts that every worker of a box and its launcher read.

[Note: board]
One row of int64 *fields* a worker (written by that worker, except ``STATE`` which the launcher may
set to ``DEAD``), one row of *flags* for the box (written by the launcher, except ``GO``, set by
the leader), and one line of text a worker: what it is doing, for errors that show where each
worker is. The memory is an anonymous file handed down by file descriptor: there is no name that
could go stale, and it is gone when the last process is, however that one died.

The numbers are read as plain integers, not as an array: to compare one of an array's with a member
of an enum, numpy runs Python code and ignores what that raises, so that a Ctrl-C that comes just
then would be lost.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final

__all__ = ["Board", "Field", "Flag", "State"]

TEXT_BYTES: Final = 512
PAD: Final = 32  # int64 values a row: four cache lines, so that no two workers write one line


class State(IntEnum):
    """What a worker is doing; ``Field.STATE`` holds one of these."""

    STARTING = 0  # the process is importing
    PARKED = 1  # ready; a follower waits here for the leader's GO
    RUNNING = 2  # its copy of the script runs
    FINISHED = 3  # its copy of the script has ended (by return, exit or exception)
    DEAD = 4  # set by the launcher, after the process is certainly gone
    RETIRED = 5  # it has nothing to do in this run, and ends before the script does


class Field(IntEnum):
    """Columns of a worker's row."""

    STATE = 0
    PID = 1
    ARRIVED = 2  # number of exchanges this worker has put its part into
    STEPS = 3  # backward passes (gradient exchanges) so far
    SAMPLES = 4  # rows of whole batches that entered training forwards so far
    EXCHANGE_NS = 5  # time spent moving bytes
    WAIT_NS = 6  # time spent waiting for other workers
    OVERHEAD_NS = 7  # our own bookkeeping
    TRAIN_NS = 8  # wall time from the first to the latest step, the first audits left out
    BYTES = 9  # payload bytes this worker put into exchanges
    STDOUT_BYTES = 10  # bytes the script wrote to stdout so far
    POSTED = 11  # gradient buckets put into the arena so far
    REDUCED = 12  # gradient buckets whose own shard is reduced so far
    PEAK_RSS = 13  # bytes
    DIED = 14  # set by the launcher with STATE=DEAD: the Flag.EPOCH this death began (1, 2, ...)


class Flag(IntEnum):
    """Columns of the box's row."""

    GO = 0  # the leader met the first split batch or call: followers may start
    LEADER = 1  # index of the worker that is leader now
    STOP = 2  # not 0: every worker is to stop, by raising StoppedError
    EPOCH = 3  # grows by one, last of all, with each death that training goes on after
    LEAVE = 4  # not 0: this box is to leave the others gracefully, and its worker 0 to end


class Board:
    """Shared page of the workers of one box; see [Note: board].

    Args:
        fd: an inherited file descriptor of a board made by `create`.
        workers: number of workers it was made for.

    Attributes:
        fields: each worker's row of int64 numbers, to be read and written.
        flags: the box's row.
    """

    def __init__(self, fd: int, workers: int) -> None:
        self.fd = fd
        self.workers = workers
        self._map = mmap.mmap(fd, self.size(workers))
        self._text_start = self._texts(workers)
        numbers = memoryview(self._map)[: self._text_start].cast("q")
        rows = [numbers[start : start + PAD] for start in range(0, len(numbers), PAD)]
        self.fields, self.flags = rows[:workers], rows[workers]

    @classmethod
    def size(cls, workers: int) -> int:
        """Bytes a board for this many workers takes."""
        return cls._texts(workers) + workers * TEXT_BYTES

    @staticmethod
    def _texts(workers: int) -> int:
        """Where the texts begin, behind the numbers."""
        return (workers + 1) * PAD * 8

    @classmethod
    def create(cls, workers: int) -> Board:
        """Make a new board, all zeros, in anonymous memory; pass its ``fd`` on to children."""
        fd = os.memfd_create("pellucid-board")
        os.ftruncate(fd, cls.size(workers))
        os.set_inheritable(fd, True)
        return cls(fd, workers)

    def column(self, field: Field) -> list[int]:
        """One field of every worker, at this moment."""
        return [row[field] for row in self.fields]

    def write_text(self, worker: int, text: str) -> None:
        """Say what a worker is doing, for whoever asks; cut to fit."""
        data = text.encode("utf-8", "replace")[: TEXT_BYTES - 1]
        start = self._text_start + worker * TEXT_BYTES
        self._map[start : start + len(data) + 1] = data + b"\0"

    def read_text(self, worker: int) -> str:
        """What a worker said it was doing."""
        start = self._text_start + worker * TEXT_BYTES
        return self._map[start : start + TEXT_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")

    def alive(self) -> list[int]:
        """Workers that are not dead, in order."""
        states = enumerate(self.column(Field.STATE))
        return [worker for worker, state in states if state != State.DEAD]
