"""Is splitting worth its while? Decided from what the trials of the first calls took.

Plain python computes with all threads by itself, within each operation. Where operations are large,
or slices so small that each costs about as much as the whole, several workers can be slower than
that; then one worker goes on alone (see `alone.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["BACKWARD", "COST_SECONDS", "GRADIENT_SECONDS", "Race", "is_faster_alone"]

# forward and backward together take about three times what forward takes
BACKWARD: Final = 3
# what a split call costs by itself: two exchanges and the crossings
COST_SECONDS: Final = 250e-6
# and what a byte of gradients costs: written once, read by everybody, added
GRADIENT_SECONDS: Final = 0.2e-9
# what plain python may be faster by before it is worth giving up the other workers
LEAD: Final = 1.05


@dataclass(frozen=True)
class Race:
    """One training call both ways, without its backward; the same numbers on all workers.

    Attributes:
        split: seconds on slices, as long as the slowest worker took.
        alone: seconds of the whole on one worker, with all threads.
        gradient_bytes: that must be summed when it is split.
    """

    split: float
    alone: float
    gradient_bytes: int


def is_faster_alone(races: Sequence[Race]) -> bool:
    """Whether one worker with all threads would train faster than several."""
    exchange = sum(2 * COST_SECONDS + r.gradient_bytes * GRADIENT_SECONDS for r in races)
    split = BACKWARD * sum(r.split for r in races) + exchange
    return split > LEAD * BACKWARD * sum(r.alone for r in races)
