"""How fast to send: measures a link while using it, and leaves some of it to others.

[Note: pace]
A full link makes everything wait behind everything: heartbeats behind weights, and other people's
traffic behind ours. So we stay a little below what it carries, by a *head-room*. What it carries
is seen from what the kernel gets rid of, and a queue from what it holds back and from round trips
that take longer than they could. The phases are those of BBR (Cardwell et al., ACM Queue 14(5),
2016), on top of whatever congestion control the system has:

    STARTUP  twice what was carried last, until a queue builds up or nothing is gained any more
    STEADY   the measured rate less the head-room
    PROBE    once in a while a quarter more, for a moment: the link may have become faster
    DRAIN    half of it, until the queue that has built up is gone

Bytes are handed out by a token bucket a few milliseconds deep: after a silence there is no burst.
Pure: the time and what the kernel holds are arguments.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["Kernel", "Pace", "Phase"]

HEAD_ROOM: Final = 0.05
BUCKET_SECONDS: Final = 0.01
SMALLEST_BUCKET: Final = 16 << 10  # bytes; on a slow link a few packets are not a burst
FIRST_RATE: Final = 1e6  # bytes/s, of a link nothing is known of
SLOWEST: Final = 16e3  # bytes/s; below it nothing could be measured any more
INTERVAL_SECONDS: Final = 0.03  # between two looks, at least
INTERVAL_BYTES: Final = 32 << 10  # carried between two looks, if they come within ...
LONGEST_INTERVAL: Final = 0.5
PROBE_SECONDS: Final = 1.0
QUEUE_SECONDS: Final = 0.01  # of delay, beside that of our own portions, are a queue
REFUSED_SHARE: Final = 0.3  # of the time, in which the kernel takes no more, is a queue as well
PLATEAU: Final = 3  # intervals of STARTUP without a gain
PIECE_SECONDS: Final = 0.05  # what is urgent waits no longer for a piece to end
BUFFER_SECONDS: Final = 0.05  # of the link, that the kernel may hold: several buckets
SMALLEST_BUFFER: Final = 48 << 10
LARGEST_BUFFER: Final = 4 << 20
SMALLEST_PIECE: Final = 16 << 10
LARGEST_PIECE: Final = 1 << 20


class Phase(Enum):
    """What the sender is trying; see [Note: pace]."""

    STARTUP = "startup"
    STEADY = "steady"
    PROBE = "probe"
    DRAIN = "drain"


GAIN: Final = {Phase.STARTUP: 2.0, Phase.PROBE: 1.25, Phase.DRAIN: 0.5}


class Kernel(NamedTuple):
    """What the kernel saw of a connection.

    Attributes:
        acknowledged: bytes the peer has acknowledged so far.
        unsent: bytes it took and has not sent yet.
        round_trip: seconds, smoothed.
        least_round_trip: seconds, of late.
    """

    acknowledged: int
    unsent: int
    round_trip: float
    least_round_trip: float


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
        self._acknowledged = 0
        self._idle = False  # in this interval, there was nothing to send at times
        self._settling = False  # this interval has not begun yet
        self._refused = 0.0  # seconds of this interval in which the kernel took no more
        self._refused_at: float | None = None
        self._tolerated = 0.0  # seconds of delay that are not our doing
        self._plateau = 0

    @property
    def piece(self) -> int:
        """Bytes of a frame to send before others may go in between."""
        return int(min(max(self._speed * PIECE_SECONDS, SMALLEST_PIECE), LARGEST_PIECE))

    @property
    def buffer(self) -> int:
        """Bytes that the kernel should hold unsent, at most: what we wait for is not far away."""
        return int(min(max(self._speed * BUFFER_SECONDS, SMALLEST_BUFFER), LARGEST_BUFFER))

    def allowance(self, now: float) -> int:
        """Bytes that may go now; 0 until it is worth the while."""
        self._fill(now)
        if self._tokens >= self._portion:
            return int(self._tokens)
        return 0

    def wait(self, now: float) -> float:
        """Seconds until there is an `allowance`."""
        self._fill(now)
        return max(self._portion - self._tokens, 0) / self._speed

    def took(self, count: int) -> None:
        """The kernel took so many bytes; those that are urgent may go without an allowance."""
        self._tokens -= count

    def refused(self, now: float) -> None:
        """The kernel takes no more."""
        self._refused_at = now

    def resumed(self, now: float) -> None:
        """The kernel takes more again."""
        if self._refused_at is not None:
            self._refused += now - max(self._refused_at, self._since)
            self._refused_at = None

    def idle(self) -> None:
        """There was nothing to send: what is carried now says little about the link."""
        self._idle = True

    def is_due(self, now: float) -> bool:
        """Whether `observe` wants to know what the kernel saw."""
        return now - self._since >= INTERVAL_SECONDS

    def observe(self, now: float, kernel: Kernel) -> None:
        """End the interval, if it is long enough, and decide on the next one."""
        seconds = now - self._since
        if self._settling:  # what is acknowledged now was sent at the speed before
            if seconds >= kernel.round_trip:
                self._begin(now, kernel, settling=False)
            return
        carried = kernel.acknowledged - self._acknowledged
        enough = carried >= INTERVAL_BYTES and seconds >= kernel.round_trip
        if not self.is_due(now) or not (enough or seconds >= LONGEST_INTERVAL):
            return
        sample = max(carried / seconds, SLOWEST)
        if self._refused_at is not None:
            self.resumed(now)
            self.refused(now)
        if self._idle:
            self.rate = max(self.rate, sample)
        else:
            self._decide(sample, kernel, now)
        gain = GAIN.get(self.phase, 1 - self._head_room)
        self._speed = min(max(gain * self.rate, SLOWEST), self._ceiling)
        self._begin(now, kernel, settling=kernel.round_trip > INTERVAL_SECONDS / 4)

    def _begin(self, now: float, kernel: Kernel, *, settling: bool) -> None:
        """Begin an interval."""
        self._since, self._acknowledged = now, kernel.acknowledged
        self._settling = settling
        self._idle, self._refused = False, 0.0

    def _fill(self, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._filled) * self._speed, self._depth)
        self._filled = now

    @property
    def _depth(self) -> float:
        return max(self._speed * BUCKET_SECONDS, SMALLEST_BUCKET)

    @property
    def _portion(self) -> float:
        """What is worth the while."""
        return min(self._depth / 2, LARGEST_PIECE)

    def _decide(self, sample: float, kernel: Kernel, now: float) -> None:
        """Find the next phase and the rate, after an interval in which there was enough to send."""
        longer = kernel.round_trip - kernel.least_round_trip
        self._tolerated = min(self._tolerated, longer)
        delay = longer - self._tolerated + kernel.unsent / sample
        queue = delay > QUEUE_SECONDS + self._depth / sample
        if self.phase is Phase.DRAIN:
            self._drain(sample, longer, queue=queue)
        elif queue or self._refused > REFUSED_SHARE * (now - self._since):
            dip = self.phase is Phase.STEADY and sample < self.rate  # may be a moment's
            self.rate = (self.rate + sample) / 2 if dip else sample
            self.phase = Phase.DRAIN
        elif self.phase is Phase.STARTUP:
            self._start(sample)
        elif self.phase is Phase.PROBE:
            self._probe(sample)
        elif now - self._probed > PROBE_SECONDS:
            self.phase = Phase.PROBE
            self._probed = now

    def _drain(self, sample: float, longer: float, *, queue: bool) -> None:
        if not queue:
            self.phase = Phase.STEADY
        elif sample < 1.1 * self._speed:
            # all that we send is carried, so it is not our queue: the way has become longer
            self._tolerated = longer
            self.phase = Phase.STEADY
        else:
            self.rate = (self.rate + sample) / 2

    def _start(self, sample: float) -> None:
        self._plateau = 0 if sample > 1.25 * self.rate else self._plateau + 1
        self.rate = max(self.rate, sample)
        if self._plateau == PLATEAU:
            self.phase = Phase.STEADY

    def _probe(self, sample: float) -> None:
        self.phase = Phase.STEADY
        if sample > 1.15 * self.rate:  # there is more, perhaps much more
            self.phase = Phase.STARTUP
            self._plateau = 0
        self.rate = max(self.rate, sample)
