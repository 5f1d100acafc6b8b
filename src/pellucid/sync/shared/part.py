"""What a worker in an asynchronous mode knows of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

__all__ = ["Part"]


@dataclass(frozen=True)
class Part:
    """One worker's part in the run.

    Attributes:
        number: of this worker among all, for random streams that differ.
        seed: of the run, the same for all workers.
        leads: whether its doings are real, now.
        begin: lets the other workers start; called at the first training pass, again without harm.
        tell: ``tell(event, text)`` says something to the user.
        frames: the frames of the script's own functions that are being run, innermost first.
    """

    number: int
    seed: int
    leads: Callable[[], bool]
    begin: Callable[[], None]
    tell: Callable[[str, str], None]
    frames: Callable[[], Iterator[FrameType]]
