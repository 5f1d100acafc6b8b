"""Boxes in one process: a network in memory with faults, whose clock is the caller's.

A `Loopback` is the medium, and `Loopback.box` plugs a box into it. Time stands still until
`advance` moves it; what is on its way then arrives, in the order of arrival. All chance comes
from one seed, so a run can be repeated exactly.

Faults are properties of a `Link`, one for each direction between two boxes: latency, jitter, loss,
duplication, a bandwidth. A cable can be `cut`, one way or both, which nobody is told of, and a box
can `crash`, which its peers notice as they do when a process dies: their connection ends.

    medium = Loopback(seed=1, link=Link(latency=0.01, loss=0.05))
    left, right = medium.box(0), medium.box(1)
    left.send(1, 16, [b"hello"])
    medium.advance(0.1)
    right.poll(0)
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pellucid.errors import LinkError
from pellucid.transport.network import (
    Address,
    Connected,
    Event,
    Lost,
    PeerStatistics,
    Received,
    Statistics,
)
from pellucid.wire.framing import HEADER
from pellucid.wire.rules import Rule
from pellucid.wire.session import Hello

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Link", "Loopback", "LoopbackNetwork"]


@dataclass(frozen=True)
class Link:
    """One direction between two boxes.

    Attributes:
        latency: seconds from the last byte's leaving to its arrival.
        jitter: up to so many seconds more, by chance.
        ordered: whether what was sent later arrives later, as TCP sees to.
        loss: chance of a frame to be lost.
        duplicate: chance of a frame to arrive twice.
        bandwidth: bytes/s; None is without limit.
        cut: whether nothing passes.
    """

    latency: float = 0.001
    jitter: float = 0.0
    ordered: bool = True
    loss: float = 0.0
    duplicate: float = 0.0
    bandwidth: float | None = None
    cut: bool = False


class Loopback:
    """See the module.

    Args:
        seed: of all chance.
        link: between any two boxes, until `set` says otherwise.
    """

    def __init__(self, seed: int = 0, link: Link | None = None) -> None:
        self.now = 0.0
        self._rng = random.Random(seed)
        self._link = link or Link()
        self._links: dict[tuple[int, int], Link] = {}
        self._free: dict[tuple[int, int], float] = {}  # when a link has sent all it was given
        self._latest: dict[tuple[int, int], float] = {}  # the latest arrival on a link
        self._boxes: dict[int, LoopbackNetwork] = {}
        self._untold: list[tuple[int, int]] = []  # (who ended, who could not be told)
        self._coming: list[tuple[float, int, int, int, Event]] = []
        self._order = itertools.count()

    def box(self, number: int, boot: int = 1) -> LoopbackNetwork:
        """Plug in a box, connected with all others; one that crashed may come back."""
        network = self._boxes[number] = LoopbackNetwork(self, number, boot)
        for other in self._boxes.values():
            if other.number != number:
                self._arrive(self.now, other.number, number, _connected(network))
                self._arrive(self.now, number, other.number, _connected(other))
        return network

    def link(self, source: int, target: int) -> Link:
        """The link of one direction."""
        return self._links.get((source, target), self._link)

    def set(self, source: int, target: int, **changes: float | bool | None) -> None:
        """Change the link of one direction; the arguments are fields of `Link`."""
        self._links[source, target] = replace(self.link(source, target), **changes)  # type: ignore[arg-type]

    def cut(self, source: int, target: int, *, both: bool = True) -> None:
        """Pull a cable; what is on it is lost. Nobody is told."""
        for pair in [(source, target), (target, source)][: 1 + both]:
            self.set(*pair, cut=True)
        self._coming = [one for one in self._coming if not self._lost_on_the_way(one)]
        heapq.heapify(self._coming)

    def heal(self) -> None:
        """Plug all cables in again."""
        for source, target in list(self._links):
            self.set(source, target, cut=False)
        untold, self._untold = self._untold, []
        for number, other in untold:  # whoever writes to a process that is no more is told so
            self._end(number, other)

    def crash(self, number: int) -> None:
        """End a box's process; its peers see their connections end, once cables permit."""
        self._boxes.pop(number).gone = True
        for other in self._boxes:
            if self.link(number, other).cut:
                self._untold.append((number, other))
            else:
                self._end(number, other)

    def power_off(self, number: int) -> None:
        """End a box without a word to anybody."""
        self._boxes.pop(number).gone = True

    def advance(self, now: float) -> None:
        """Let time pass; what arrives until then can be polled."""
        while self._coming and self._coming[0][0] <= now:
            at, _, target, source, event = heapq.heappop(self._coming)
            self.now = max(self.now, at)
            if target in self._boxes:
                self._boxes[target].deliver(source, event)
        self.now = max(self.now, now)

    def next_arrival(self) -> float | None:
        """When something arrives next."""
        return self._coming[0][0] if self._coming else None

    def carry(self, source: int, target: int, kind: int, body: bytes) -> None:
        """Send a frame on its way."""
        link = self.link(source, target)
        size = len(body) + HEADER.size
        leaves = self.now
        if link.bandwidth is not None:
            begin = max(self.now, self._free.get((source, target), 0.0))
            leaves = self._free[source, target] = begin + size / link.bandwidth
        if link.cut or target not in self._boxes or self._rng.random() < link.loss:
            return
        for _ in range(1 + (self._rng.random() < link.duplicate)):
            at = leaves + link.latency + link.jitter * self._rng.random()
            if link.ordered:
                at = self._latest[source, target] = max(at, self._latest.get((source, target), 0.0))
            received = Received(source, kind, memoryview(bytearray(body)))
            self._arrive(at, target, source, received)

    def queued(self, source: int, target: int) -> int:
        """Bytes that have not left yet."""
        link = self.link(source, target)
        if link.bandwidth is None:
            return 0
        return int(max(0.0, self._free.get((source, target), 0.0) - self.now) * link.bandwidth)

    def goodbye(self, source: int, target: int, reason: str) -> None:
        """End a connection in good order."""
        at = self.now + self.link(source, target).latency
        self._arrive(at, target, source, Lost(source, reason))
        self._arrive(self.now, source, target, Lost(target, reason))

    def call(self, source: int, address: Address) -> None:
        """Connect again; a box's address is its number."""
        target = int(address[0])
        if target in self._boxes and not self.link(source, target).cut:
            self._arrive(self.now, target, source, _connected(self._boxes[source]))
            self._arrive(self.now, source, target, _connected(self._boxes[target]))

    def _end(self, number: int, other: int) -> None:
        """Tell a box that another one's process has ended, unless it was started again."""
        if number not in self._boxes:
            error = LinkError(f"box {number} ended the connection without a word", Rule.END)
            at = self.now + self.link(number, other).latency
            self._arrive(at, other, number, Lost(number, "its process ended", error))

    def _arrive(self, at: float, target: int, source: int, event: Event) -> None:
        heapq.heappush(self._coming, (at, next(self._order), target, source, event))

    def _lost_on_the_way(self, one: tuple[float, int, int, int, Event]) -> bool:
        return isinstance(one[4], Received) and self.link(one[3], one[2]).cut


class LoopbackNetwork:
    """One box's plug: a `pellucid.transport.network.Network`."""

    def __init__(self, medium: Loopback, number: int, boot: int) -> None:
        self.number = number
        self.boot = boot
        self.gone = False
        self._medium = medium
        self._events: list[Event] = []
        self._peers: set[int] = set()
        self._sent: dict[int, int] = defaultdict(int)
        self._received: dict[int, int] = defaultdict(int)

    def send(self, peer: int, kind: int, buffers: Sequence[Buffer]) -> None:
        """Queue one frame."""
        if self.gone or peer not in self._peers:
            return
        body = b"".join(bytes(buffer) for buffer in buffers)
        self._sent[peer] += len(body) + HEADER.size
        self._medium.carry(self.number, peer, kind, body)

    def backlog(self, peer: int) -> int:
        """Bytes that have not left yet."""
        return self._medium.queued(self.number, peer)

    def poll(self, timeout: float) -> list[Event]:
        """What arrived; it never waits, for time is the medium's."""
        del timeout
        events, self._events = self._events, []
        return events

    def connect(self, address: Address) -> None:
        """Call a box again."""
        self._medium.call(self.number, address)

    def drop(self, peer: int, reason: str) -> None:
        """Say goodbye."""
        self._medium.goodbye(self.number, peer, reason)

    def close(self) -> None:
        """Say goodbye to all."""
        for peer in sorted(self._peers):
            self.drop(peer, "it has finished")

    def statistics(self) -> Statistics:
        """What was sent and received so far."""
        peers = {
            peer: PeerStatistics(
                sent=self._sent[peer], received=self._received[peer], backlog=self.backlog(peer)
            )
            for peer in self._peers
        }
        return Statistics(sum(self._sent.values()), sum(self._received.values()), peers)

    def deliver(self, source: int, event: Event) -> None:
        """Something arrived; called by the medium."""
        if isinstance(event, Connected):
            self._peers.add(source)
        elif isinstance(event, Lost):
            self._peers.discard(source)
        elif isinstance(event, Received):
            self._received[source] += len(event.body) + HEADER.size
        self._events.append(event)


def _connected(network: LoopbackNetwork) -> Connected:
    hello = Hello(box=network.number, boot=network.boot)
    return Connected(network.number, hello, (str(network.number), 0))
