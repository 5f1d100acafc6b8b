"""What signals ask of a training: to snapshot, or to stop.

[Note: asked together]
With several workers every process runs its own copy of the training, and a signal reaches them at
different moments, or only one of them. They must all act at the same iteration. So the question
goes the way the data goes: what each process was asked is a row of a small data set, and a batch
of it, which the loader makes whole for everybody, is the answer for all. The training itself stays
a program of one process, and knows nothing of workers.

A batch costs more than looking at a variable, so it is asked for a few times a second and not in
every iteration. After how many iterations is told along with it, by the first row: the processes'
clocks differ.
"""

from __future__ import annotations

import enum
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch.utils.data import DataLoader, Dataset

__all__ = ["Action", "Requests"]

ROWS: Final = 128  # a loader shares out rows: one for each worker at least
SECONDS: Final = 0.2  # between two questions
LONGEST: Final = 1000  # iterations between two questions


class Action(enum.IntEnum):
    """What is asked for; the larger one wins."""

    NONE = 0
    SNAPSHOT = 1
    STOP = 2


class _Asked(Dataset[tuple[int, int]]):
    """The same row many times: what this process was asked, and when to look again."""

    row = (0, 1)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.row


class Requests:
    """Notes signals, and says what to do about them; see [Note: asked together].

    Args:
        effects: what each signal asks for.
        clock: seconds.
    """

    def __init__(
        self,
        effects: Mapping[signal.Signals, Action],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._effects = {number: effect for number, effect in effects.items() if effect}
        self._clock = clock
        self._noted = Action.NONE
        self._asked = _Asked()
        # a generator of its own: when to ask depends on time, and must not show in the training
        self._loader = DataLoader(self._asked, batch_size=ROWS, generator=torch.Generator())
        self._period = 1
        self._since = 0
        self._last = clock()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Take the signals while inside."""

        def note(number: int, _frame: object) -> None:
            self.note(self._effects[signal.Signals(number)])

        before = {number: signal.signal(number, note) for number in self._effects}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def note(self, action: Action) -> None:
        """Somebody asked this process."""
        self._noted = max(self._noted, action)

    def poll(self) -> Action:
        """What to do now, the same in all workers; to be asked once an iteration."""
        if not self._effects:
            return Action.NONE
        self._since += 1
        if self._since < self._period:
            return Action.NONE
        now = self._clock()
        pace = self._since * SECONDS / max(now - self._last, 1e-6)
        self._asked.row = (int(self._noted), min(max(int(pace), 1), LONGEST))
        self._noted = Action.NONE
        self._since, self._last = 0, now
        actions, periods = next(iter(self._loader))
        self._period = int(periods[0])
        return Action(int(actions.max()))
