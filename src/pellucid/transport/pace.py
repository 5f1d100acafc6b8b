"""How fast to send: measures a link while using it, and leaves some of it to others.

[Note: pace]
A full link makes everything wait behind everything: heartbeats behind weights, and other people's
traffic behind ours. So we stay a little below what it carries, by a *head-room*. What it carries
is seen from what the kernel gets rid of: bytes it took, less those it still holds. The phases are
those of BBR (Cardwell et al., ACM Queue 14(5), 2016), on top of whatever congestion control
the system has:

    STARTUP  twice what was carried last, until a queue builds up or nothing is gained any more
    STEADY   the measured rate less the head-room
    PROBE    once in a while a quarter more, for a moment: the link may have become faster
    DRAIN    a quarter less, for a moment: what the probe has queued must go

Bytes are handed out by a token bucket a few milliseconds deep: after a silence there is no burst.
Pure: the time and what the kernel holds are arguments.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

__all__ = ["Pace", "Phase"]

HEAD_ROOM: Final = 0.05
BUCKET_SECONDS: Final = 0.005
SMALLEST_BUCKET: Final = 16 << 10  # bytes; on a slow link a few packets are not a burst
FIRST_RATE: Final = 1e6  # bytes/s, of a link nothing is known of
SLOWEST: Final = 2e3  # bytes/s; below it nothing could be measured any more
INTERVAL_SECONDS: Final = 0.05  # between two looks, at least
INTERVAL_BYTES: Final = 32 << 10  # carried between two looks, if they come within ...
LONGEST_INTERVAL: Final = 0.5
PROBE_SECONDS: Final = 1.0
QUEUE_SECONDS: Final = 0.03  # more than the least ever seen is a queue
PLATEAU: Final = 3  # intervals of STARTUP without a gain
GAIN: Final = {"startup": 2.0, "probe": 1.25, "drain": 0.75}
PIECE_SECONDS: Final = 0.05  # what is urgent waits no longer for a piece to end
SMALLEST_PIECE: Final = 16 << 10
LARGEST_PIECE: Final = 1 << 20


class Phase(Enum):
    """What the sender is trying; see [Note: pace]."""

    STARTUP = "startup"
    STEADY = "steady"
    PROBE = "probe"
    DRAIN = "drain"


class Pace:
    """The pace of one connection.

    Args:
        now: seconds.
        head_room: share of the link to leave to others.
        ceiling: bytes/s never to exceed.
    """

    def __init__(
        self, now: float, *, head_room: float = HEAD_ROOM, ceiling: float = math.inf
    ) -> None:
        self.phase = Phase.STARTUP
        self.rate = 0.0  # bytes/s the link carries, as far as known
        self._head_room = head_room
        self._ceiling = ceiling
        self._speed = min(FIRST_RATE, ceiling)  # bytes/s tokens come at
        self._tokens = 0.0
        self._filled = now
        self._since = now  # this interval began
        self._probed = now
        self._taken = 0
        self._held = 0
        self._hungry = False  # in this interval, more could have been sent
        self._refused = False  # in this interval, the kernel took no more
        self._least_delay = math.inf
        self._plateau = 0

    @property
    def piece(self) -> int:
        """Bytes of a frame to send before others may go in between."""
        return int(min(max(self._speed * PIECE_SECONDS, SMALLEST_PIECE), LARGEST_PIECE))

    def allowance(self, now: float) -> int:
        """Bytes that may go now; 0 until it is worth the while."""
        self._fill(now)
        if self._tokens >= self._depth / 2:
            return int(self._tokens)
        self._hungry = True
        return 0

    def wait(self, now: float) -> float:
        """Seconds until there is an `allowance`."""
        self._fill(now)
        return max(self._depth / 2 - self._tokens, 0) / self._speed

    def took(self, count: int) -> None:
        """The kernel took so many bytes; those that are urgent may go without an allowance."""
        self._tokens -= count
        self._taken += count

    def refused(self) -> None:
        """The kernel took less than was offered."""
        self._refused = self._hungry = True

    def is_due(self, now: float) -> bool:
        """Whether `observe` wants to know what the kernel holds."""
        return now - self._since >= INTERVAL_SECONDS

    def observe(self, now: float, held: int) -> None:
        """End the interval, if it is long enough, and decide on the next one.

        Args:
            now: seconds.
            held: bytes the kernel took and the peer has not acknowledged.
        """
        seconds = now - self._since
        carried = self._taken - (held - self._held)
        if not self.is_due(now) or (carried < INTERVAL_BYTES and seconds < LONGEST_INTERVAL):
            return
        sample = max(carried / seconds, SLOWEST)
        if self._hungry or sample > self.rate:
            self._decide(sample, now, full=self._is_full(sample, held))
        self._since, self._taken, self._held = now, 0, held
        self._hungry = self._refused = False

    def _fill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._filled) * self._speed, self._depth)
        self._filled = now

    @property
    def _depth(self) -> float:
        return max(self._speed * BUCKET_SECONDS, SMALLEST_BUCKET)

    def _is_full(self, sample: float, held: int) -> bool:
        """Whether the link has more than it can carry: a queue has built up before it."""
        delay = held / sample
        self._least_delay = min(self._least_delay, delay)
        return self._refused or delay > self._least_delay + QUEUE_SECONDS

    def _decide(self, sample: float, now: float, *, full: bool) -> None:
        if self.phase is Phase.STARTUP:
            self._start(sample, full=full)
        elif full:
            steady = self.phase is Phase.STEADY  # a dip may be a moment's
            self.rate = (self.rate + sample) / 2 if steady else sample
            self.phase = Phase.DRAIN
        elif self.phase is Phase.PROBE and sample > self.rate * (1 + self._head_room):
            self.rate = sample  # it has become faster: go on
        elif self.phase is Phase.STEADY and now - self._probed > PROBE_SECONDS:
            self.phase = Phase.PROBE
            self._probed = now
        else:
            self.phase = Phase.STEADY
        gain = GAIN.get(self.phase.value, 1 - self._head_room)
        self._speed = min(max(gain * self.rate, SLOWEST), self._ceiling)

    def _start(self, sample: float, *, full: bool) -> None:
        gained = sample > 1.25 * self.rate
        self.rate = sample if full else max(self.rate, sample)
        self._plateau = 0 if gained or not self._hungry else self._plateau + 1
        if full or self._plateau == PLATEAU:
            self.phase = Phase.DRAIN
