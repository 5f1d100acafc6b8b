"""One chunk, as the box sees it that owns it.

[Note: owner]
The owner adds every delta once, times a weight, to the authoritative values ``G``; see the table in
[Note: messages]. It answers with the difference to what the contributor is known to have
(``shown``), encoded; what the codec loses stays in ``G - shown`` and comes with the next answer, so
errors do not add up. To a contributor of which nothing is known it sends the values themselves,
exactly.

Optional outer momentum is delayed Nesterov (Liu et al. 2024, arXiv 2401.09135, algorithm 3): every
delta is added at once, the momentum only with every n-th, so that it does not amplify the noise of
single, stale deltas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.wire.messages import CODECS, FP32, NEVER, Version

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Answer", "Outer", "OwnedChunk"]

Values = NDArray[np.float32]

REFRESH: Final = (
    256  # so many differences, then the values: should two boxes ever round differently
)
REMEMBERED: Final = 1000  # boxes in the table


@dataclass(frozen=True)
class Outer:
    """Delayed Nesterov momentum at the owner.

    Attributes:
        momentum: 0 for none.
        rate: factor of every delta.
        every: deltas between two uses of the momentum.
    """

    momentum: float = 0.0
    rate: float = 1.0
    every: int = 16


class Answer(NamedTuple):
    """What to tell a contributor: see `pellucid.wire.messages.Reply`."""

    version: Version
    base: Version
    code: int
    payload: Buffer


@dataclass
class _Shown:
    version: Version
    values: Values
    differences: int = 0


@dataclass
class OwnedChunk:
    """See [Note: owner].

    Attributes:
        values: G, its own memory.
        version: how new they are.
        table: the latest delta of each boot that is in them.
        origin: the version that this owner took over.
        outer: momentum.
        averaged: whether it is only averaged, see [Note: averaged values].
    """

    values: Values
    version: Version
    table: dict[int, int]
    origin: Version = NEVER
    outer: Outer = field(default_factory=Outer)
    averaged: bool = False
    _shown: dict[int, _Shown] = field(default_factory=dict)
    _momentum: Values | None = None
    _gathered: Values | None = None
    _count: int = 0

    def accept(self, boot: int, seq: int, values: Values, weight: float | None) -> bool:
        """Add a delta, unless it is in already. Returns whether it was new.

        Args:
            boot: who sends it.
            seq: its number.
            values: the delta; of a chunk that is only averaged, what the contributor has.
            weight: the contributor's; None for a change that counts whole.
        """
        if seq <= self.table.get(boot, 0):
            return False
        self.table.pop(boot, None)  # the table is in order of use
        self.table[boot] = seq
        if len(self.table) > REMEMBERED:
            del self.table[next(iter(self.table))]
        if self.averaged:
            self._approach(values, 1.0 if weight is None else weight)
        else:
            step = values if weight is None else values * np.float32(weight * self.outer.rate)
            self.values += step
            if self.outer.momentum and weight is not None:
                self._gather(step)
        self.version = (self.version[0], self.version[1] + 1)
        return True

    def answer(self, boot: int, have: Version, code: int) -> Answer:
        """The news for a contributor.

        Args:
            boot: who asks.
            have: the version it has.
            code: how to encode a difference.
        """
        if have == self.version:
            return Answer(self.version, self.version, FP32, b"")
        shown = self._shown.get(boot)
        if (
            code == FP32  # as long as a difference, and exact
            or shown is None
            or shown.version != have
            or shown.differences >= REFRESH
        ):
            if code != FP32:
                self._shown[boot] = _Shown(self.version, self.values.copy())
            return Answer(self.version, NEVER, FP32, CODECS[FP32].encode(self.values))
        # adds what it sends, as the contributor will: both have the same bits
        payload = CODECS[code].encode_difference(self.values, shown.values)
        shown.version = self.version
        shown.differences += 1
        return Answer(self.version, have, code, payload)

    def forget(self, boots: Mapping[int, object]) -> None:
        """Keep what was shown to these boots only."""
        self._shown = {boot: shown for boot, shown in self._shown.items() if boot in boots}

    def _approach(self, values: Values, weight: float) -> None:
        """Go part of the way to what a box has, and never beyond, whatever rounding does."""
        low, high = np.minimum(self.values, values), np.maximum(self.values, values)
        self.values += (values - self.values) * np.float32(weight)
        np.clip(self.values, low, high, out=self.values)

    def _gather(self, step: Values) -> None:
        self._gathered = step if self._gathered is None else self._gathered + step
        self._count += 1
        if self._count < self.outer.every:
            return
        mu = np.float32(self.outer.momentum)
        self._momentum = (
            self._gathered if self._momentum is None else mu * self._momentum + self._gathered
        )
        self.values += mu * self._momentum
        self._gathered, self._count = None, 0
