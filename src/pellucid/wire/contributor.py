"""One chunk, as the box sees it that trains on it.

[Note: contributor]
``th`` are the weights the script trains; whoever trains may change them between any two calls, and
nobody else does, but `correct`. ``base`` is what the owner said last. ``pending`` is the delta in
flight, if any: at most one, sent again until it is known to be in the owner's weights. What this
box believes the global weights to be is ``V = base + pending``, so ``th - V`` is what nobody
has been told yet, a lossy codec's residue included.

News from the owner become a *correction*, ``V_new - V``, which is added to ``th``, never written
over it: what was trained while bytes were on their way stays.

What the script changes of its own will between passes (it loads a checkpoint) is no training, and
is not averaged with that of others: such a *change* is a delta of its own that counts whole.

Whether a delta has arrived is read from the table that comes with all weights, not from who
answered what: so it may be lost, delayed, doubled, or its owner may die, and it still counts once.

[Note: averaged values]
Buffers (the running variances of BatchNorm) follow the data by themselves, and what a box computed
from old ones is no progress to be added to new ones: sums of stale or coarse deltas can leave the
range of what any box has, and a variance that becomes negative is not a number in evaluation. So
of a chunk that is only averaged a box sends what it *has*, in float32; the owner moves its values
part of the way there; and a correction stops where the owner's values are, or the box's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.wire.codec import LARGE
from pellucid.wire.messages import CODECS, FP32, NEVER, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

__all__ = ["SEED", "ContributedChunk", "Pending", "Weights"]

Values = NDArray[np.float32]

QUIET: Final = np.float32(2**-21)  # of the largest weight: some units in its last place
SEED: Final[tuple[int, int]] = (
    0,
    1,
)  # the version of the first values of the box that seeds a block


class Pending(NamedTuple):
    """A delta in flight.

    Attributes:
        seq: its number.
        values: what it says of the difference to the base.
        told: what its receiver will read: the same, or values, see [Note: averaged values].
        code: how that is encoded.
        payload: the same, encoded.
        whole: whether it counts whole, rather than as its box's share.
    """

    seq: int
    values: Values
    told: Values
    code: int
    payload: Buffer
    whole: bool = False


class Weights(NamedTuple):
    """What an owner said of a chunk.

    Attributes:
        version: how new they are.
        base: the version to which the values are the difference; `NEVER`: they are the weights.
        values: the difference or the weights; None where nothing is new.
        table: the deltas that are in the weights, by boot.
        since: the admission of this box that the owner knew of.
    """

    version: Version
    base: Version
    values: Values | None
    table: Mapping[int, int]
    since: int


class ContributedChunk:
    """See [Note: contributor].

    Args:
        boot: of this box.
        th: the script's weights of the chunk, a view.
        base: memory for the base, a view; overwritten.
        averaged: whether it is only averaged, see [Note: averaged values].
    """

    def __init__(self, boot: int, th: Values, base: Values, *, averaged: bool = False) -> None:
        self.boot = boot
        self.averaged = averaged
        self.th = th
        self.base = base
        np.copyto(base, th)
        self.version: Version = NEVER
        self.table: Mapping[int, int] = {}
        self.since = 0  # the admission under which the base came
        self.pending: Pending | None = None
        self.sent = 0  # number of the latest delta
        self.queued: Values | None = None
        self.change: Values | None = None  # in th, not sent yet
        self._scale = _largest(base)  # the largest weight, now and then

    def seed(self) -> None:
        """The values it has had since it was made are those that all boxes start from."""
        if self.version == NEVER:
            self.version = SEED

    def untold(self) -> Values:
        """``th - V``, queued corrections included."""
        delta = self.th - self.base
        if self.queued is not None:
            delta += self.queued
        if self.pending is not None:
            delta -= self.pending.values
        return delta

    def changed(self, by: Values) -> None:
        """The script has changed ``th`` otherwise than by training; that is in it already."""
        self.change = by.copy() if self.change is None else self.change + by

    def prepare(self, code: int) -> Pending | None:
        """The delta to send: the one in flight, or a new one, or None where there is nothing.

        Args:
            code: how to encode a new one. What is not finite it holds back.
        """
        if self.pending is None and self.averaged:
            self.pending = self._prepare_values()
        elif self.pending is None:
            self.pending = self._prepare_change() or self._prepare_delta(code)
        return self.pending

    def _prepare_change(self) -> Pending | None:
        if self.change is None:
            return None
        values = np.zeros_like(self.change)
        payload = CODECS[FP32].encode_delta(self.change, values.copy(), values)
        self.change = None
        return self._numbered(Pending(0, values, values, FP32, payload, whole=True))

    def _prepare_delta(self, code: int) -> Pending | None:
        now = self._now()
        values = np.zeros_like(now)
        payload = CODECS[code].encode_delta(now, self.base, values)
        return self._numbered(Pending(0, values, values, code, payload))

    def _prepare_values(self) -> Pending | None:
        now = self._now()
        told = np.where(np.abs(now) < LARGE, now, self.base)
        whole, self.change = self.change is not None, None
        payload = CODECS[FP32].encode(told)
        return self._numbered(Pending(0, told - self.base, told, FP32, payload, whole))

    def _numbered(self, said: Pending) -> Pending | None:
        if not self._speaks(said.values):
            return None
        self.sent += 1
        return said._replace(seq=self.sent)

    def receive(self, news: Weights) -> bool:
        """Take what the owner said. Returns whether it was of use.

        What is older than what is known, or a difference to something else, is not. The caller
        makes sure that the sender is the owner in the view of this box.
        """
        if news.version < self.version or (news.values is None and news.version != self.version):
            return False
        if news.values is None or news.version == self.version:
            self.since = news.since
            return True
        if news.base not in (NEVER, self.version):
            return False
        settled = self._settled(news.table)
        if news.base == NEVER:
            self._replace(news.values, settled)
        else:
            np.add(self.base, news.values, out=self.base)  # the same sum as the owner's
            self._queue(news.values, settled)
        self.version, self.table, self.since = news.version, news.table, news.since
        # numbers of a process that came back go on where the table ends, in whatever it has seen
        self.sent = max(self.sent, news.table.get(self.boot, 0))
        return True

    def correct(self) -> bool:
        """Apply queued corrections to ``th``. Returns whether there were any."""
        if self.queued is None:
            return False
        if self.averaged:
            np.copyto(self.th, self._corrected(self.queued))
        else:
            self.th += self.queued
        self.queued = None
        return True

    def _now(self) -> Values:
        """The script's weights, with what is queued for them."""
        return self.th if self.queued is None else self._corrected(self.queued)

    def _corrected(self, correction: Values) -> Values:
        """What the script's weights will be."""
        if not self.averaged:
            return self.th + correction
        own = self.th.copy()  # other workers of the box may be writing it
        low, high = np.minimum(own, self.base), np.maximum(own, self.base)
        corrected: Values = np.clip(own + correction, low, high)
        return corrected

    def _speaks(self, delta: Values) -> bool:
        """Whether a delta is more than what rounding makes of corrections.

        Otherwise boxes at rest would send each other their rounding errors for ever.
        """
        return bool(_largest(delta) > QUIET * self._scale)

    def _settled(self, table: Mapping[int, int]) -> Values | None:
        """The delta that was in flight, if the new weights contain it."""
        pending = self.pending
        if pending is None or table.get(self.boot, 0) < pending.seq:
            return None
        self.pending = None
        return pending.values

    def _replace(self, base: Values, settled: Values | None) -> None:
        """The owner's weights themselves came."""
        if self.version == NEVER:  # th is nobody's work yet: the first weights replace it
            np.copyto(self.th, base)
            self.change = None
        else:
            self._queue(base - self.base, settled)
        np.copyto(self.base, base)
        self._scale = _largest(base)

    def _queue(self, correction: Values, settled: Values | None) -> None:
        """Keep ``V_new - V`` until it is wanted; the array is taken over."""
        if settled is not None:
            correction -= settled
        if self.queued is None:
            self.queued = correction
        else:
            self.queued += correction


def _largest(values: Values) -> np.float32:
    """The largest magnitude."""
    return max(values.max(), -values.min())
