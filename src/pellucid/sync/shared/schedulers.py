"""Schedulers that are stepped once a batch follow the batches of all workers.

A worker sees only its own batches. So where the script steps a scheduler within a training pass,
the step is repeated until the scheduler has made as many as it would have made if this worker had
had all batches: own steps x (batches of all workers / own batches). Between passes, and where the
script names the epoch or hands over a metric, a step is what it always was.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import lr_scheduler

__all__ = ["Pace", "Schedulers"]


@dataclass(frozen=True)
class Pace:
    """Batches of the loader that is iterated, over all its passes.

    Attributes:
        own: of this worker.
        everybodys: of all workers.
    """

    own: int
    everybodys: int


@dataclass
class _Count:
    asked: int = 0  # steps by the script, within training passes
    made: int = 0  # what they came to


class Schedulers:
    """Answers ``scheduler.step()``.

    Args:
        pace: tells of the training pass that is under way; None between passes.
    """

    def __init__(self, pace: Callable[[], Pace | None]) -> None:
        self._pace = pace
        self._counts: weakref.WeakKeyDictionary[Any, _Count] = weakref.WeakKeyDictionary()
        self._inside = False

    def seams(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        """Triples (owner, name, handler) for `patch_functions`: every scheduler's ``step``."""
        base = lr_scheduler.LRScheduler
        kinds = [kind for kind in vars(lr_scheduler).values() if isinstance(kind, type)]
        own = [k for k in kinds if issubclass(k, base) and "step" in vars(k)]
        plateau = lr_scheduler.ReduceLROnPlateau
        return [(kind, "step", self.step) for kind in dict.fromkeys(own) if kind is not plateau]

    def step(self, original: Callable[..., Any], scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        """What ``scheduler.step()`` does."""
        pace = None if self._inside or args or kwargs else self._pace()
        if pace is None:
            return original(scheduler, *args, **kwargs)
        count = self._counts.setdefault(scheduler, _Count())
        count.asked += 1
        due = round(count.asked * pace.everybodys / max(1, pace.own))
        self._inside = True  # a scheduler of schedulers steps them itself
        try:
            while count.made < due:
                count.made += 1
                original(scheduler)
        finally:
            self._inside = False
        return None
