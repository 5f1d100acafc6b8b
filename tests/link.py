"""A link made of numbers: it carries so many bytes a second, and queues the rest in the kernel."""

from __future__ import annotations

from collections import deque

from pellucid.transport.pace import Kernel, Pace

STEP = 0.001  # seconds; how exactly a thread wakes up


class Link:
    """Moves a simulated clock, a sender that always has more, and what it sends.

    Args:
        rate: bytes/s.
        round_trip: seconds.
    """

    def __init__(self, rate: float, *, round_trip: float = 0.001) -> None:
        self.rate = rate
        self.round_trip = round_trip
        self._way: deque[float] = deque(maxlen=max(round(round_trip / STEP), 1))
        self.detour = 0.0  # seconds that a round trip takes longer, of late
        self.now = 0.0
        self.queued = 0.0  # in the kernel
        self.carried = 0.0
        self.log: list[tuple[float, int]] = []  # when how much was handed to the kernel
        self.longest = 0.0  # seconds of queue

    def run(self, pace: Pace, seconds: float, *, hungry: bool = True) -> float:
        """Let time pass; returns the bytes/s that were carried."""
        begin, until = self.carried, self.now + seconds
        while self.now < until:
            self.now += STEP
            moved = min(self.queued, self.rate * STEP)
            self.queued -= moved
            self.carried += moved
            self._way.append(moved)
            if hungry:
                self._send(pace)
            else:
                pace.idle()
            if pace.is_due(self.now):
                acknowledged = int(self.carried - sum(self._way))
                longer = self.round_trip + self.detour
                kernel = Kernel(acknowledged, int(self.queued), longer, self.round_trip)
                pace.observe(self.now, kernel)
            self.longest = max(self.longest, self.queued / self.rate)
        return (self.carried - begin) / seconds

    def _send(self, pace: Pace) -> None:
        pace.resumed(self.now)
        allowed = pace.allowance(self.now)
        if not allowed:
            return
        taken = int(min(allowed, max(pace.buffer - self.queued, 0)))
        pace.took(taken)
        self.queued += taken
        self.log.append((self.now, taken))
        if taken < allowed:
            pace.refused(self.now)
