"""Is splitting worth its while? Decided from what the first steps took.

Plain python computes with all threads by itself, within each operation. Where operations are large,
or slices so small that each costs about as much as the whole, several workers can be slower than
that; then one worker goes on alone (see `alone.py`).

What a step takes now is measured: the least disturbed of some *laps* of a few steps counts. What it
would take alone is estimated: the time that it computes (not exchanges, waits, or keeps the books),
by as much longer or shorter as forward and backward of the whole batch with all threads are than
those of a slice (the *races*, one for each kind of call).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["BACKWARD", "COST_SECONDS", "GRADIENT_SECONDS", "Lap", "Laps", "Race", "is_faster_alone"]

# forward and backward together take about three times what forward takes
BACKWARD: Final = 3
# what a split call costs by itself: two exchanges and the crossings
COST_SECONDS: Final = 250e-6
# and what a byte of gradients costs: written once, read by everybody, added
GRADIENT_SECONDS: Final = 0.2e-9
# what plain python may be faster by before it is worth giving up the other workers
LEAD: Final = 1.05
STEPS: Final = 4  # of a lap: scripts with several optimizers step them in turn
LAPS: Final = 4


@dataclass(frozen=True)
class Race:
    """One training call both ways, forward and backward; the same numbers on all workers.

    Attributes:
        split: seconds on slices, as long as the slowest worker took; a median.
        alone: seconds of the whole on one worker, with all threads; a median.
    """

    split: float
    alone: float


@dataclass(frozen=True)
class Lap:
    """Some steps, one after the other.

    Attributes:
        seconds: they took.
        compute: of these, how many the script computed.
    """

    seconds: float
    compute: float


class Laps:
    """Times the steps of a split training."""

    def __init__(self) -> None:
        self.done: list[Lap] = []
        self._steps = 0
        self._began = (0, 0)

    def step(self, now: int, spent: int) -> bool:
        """A step has ended.

        Args:
            now: nanoseconds.
            spent: nanoseconds so far on exchanging, waiting and keeping the books.

        Returns:
            Whether all laps are done.
        """
        if self._steps % STEPS == 0:
            if self._steps:
                seconds, other = (
                    1e-9 * (b - a) for a, b in zip(self._began, (now, spent), strict=True)
                )
                self.done.append(Lap(seconds, seconds - other))
            self._began = (now, spent)
        self._steps += 1
        return len(self.done) >= LAPS

    def best(self) -> Lap:
        """The least disturbed."""
        return min(self.done, key=lambda lap: lap.seconds)


def is_faster_alone(races: Sequence[Race], lap: Lap) -> bool:
    """Whether one worker with all threads would train faster than several."""
    alone = lap.compute * sum(r.alone for r in races) / sum(r.split for r in races)
    return lap.seconds > LEAD * alone
