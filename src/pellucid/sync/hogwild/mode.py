"""Hogwild mode: where its parts meet the box they work in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from pellucid.errors import StoppedError
from pellucid.sync.hogwild.dealer import BoxDealer
from pellucid.sync.hogwild.table import Table
from pellucid.sync.hogwild.weights import BoxWeights
from pellucid.sync.shared.mode import AsynchronousMode
from pellucid.sync.shared.part import Part
from pellucid.transport.board import Board, Field, Flag

__all__ = ["HogwildMode"]

# enum members cost a lookup by name: too slow for what every step does
_STOP, _LEADER = int(Flag.STOP), int(Flag.LEADER)
PAUSE: Final = 0.0005  # seconds between two looks, while this worker waits for another


class HogwildMode(AsynchronousMode):
    """One worker's hogwild mode.

    Args:
        board: of the box.
        index: of this worker.
        weights_fd: memory made by `pellucid.params.memory.create`.
        passes_fd: memory made by `Table.create`.
        seed: of the run.
        tell: ``tell(event, text)`` says something to the user.
        frames: the script's frames, see `Part`.
        release: lets the followers start.
        on_begin: called when the workers begin to share, before this worker's next batch.
        on_lead: called when this worker has become the leader.
        patience: seconds to wait for a worker that is alive; 0 for ever.
        reason: why so many workers and threads, for the line at the start.
    """

    def __init__(  # noqa: PLR0913 - all that a worker was told
        self,
        board: Board,
        index: int,
        *,
        weights_fd: int,
        passes_fd: int,
        seed: int,
        tell: Callable[[str, str], None],
        frames: Callable[[], Iterator[FrameType]],
        release: Callable[[], None],
        on_begin: Callable[[], None],
        on_lead: Callable[[], None],
        patience: float = 0.0,
        reason: str = "",
    ) -> None:
        self._board = board
        self._index = index
        self._mine, self._flags = board.fields[index], board.flags
        self._release = release
        self._on_begin = on_begin
        self._on_lead = on_lead
        self._reason = reason
        self._begun = False
        self._led = index == 0
        weights = BoxWeights(weights_fd, index, self._leads)
        part = Part(index, seed, self._leads, self._begin, tell, frames)
        table = Table(passes_fd, board.workers)
        dealer = BoxDealer(table, board, index, self._pause, patience=patience)
        super().__init__(part, dealer, weights, self._mine)

    def _leads(self) -> bool:
        return self._flags[_LEADER] == self._index

    def _begin(self) -> None:
        """The first training pass: the others may start."""
        if self._begun:
            return
        self._begun = True
        if self._leads():
            self._release()
            workers = self._reason or f"{self._board.workers} workers"
            parts = [workers, "1 box", "hogwild", "batches are dealt out one by one"]
            self.part.tell("plan", ", ".join([*parts, "weights are shared without locks"]))
        self._on_begin()

    def look_up(self) -> None:
        """What a worker looks at now and then: is it to stop, does it lead?"""
        if self._flags[_STOP]:
            msg = "the run is being stopped"
            raise StoppedError(msg)
        if not self._led and self._leads():
            self._led = True
            self._on_lead()

    def _pause(self) -> None:
        """Wait for another worker, a moment."""
        began = time.perf_counter_ns()
        self.look_up()
        time.sleep(PAUSE)
        self._mine[Field.WAIT_NS] += time.perf_counter_ns() - began
