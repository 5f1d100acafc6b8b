"""A cluster in one process, on the network in memory: for tests, simulations, and the curious.

Time passes only in `Rehearsal.run`. Boxes can be started late, frozen, crashed, and started again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from pellucid.sync.stream.node import Identity, Node, NodeSettings, Note
from pellucid.transport.loopback import Link, Loopback, LoopbackNetwork
from pellucid.transport.network import Connected, Lost, Received
from pellucid.wire.messages import decode, encode

__all__ = ["Box", "Rehearsal"]


@dataclass
class Box:
    """One box of a rehearsal.

    Attributes:
        node: its part in the cluster.
        network: its plug.
        frozen: whether its process is stopped: it neither hears nor speaks.
        notes: what its user was told.
    """

    node: Node
    network: LoopbackNetwork
    frozen: bool = False
    notes: list[Note] = field(default_factory=list)

    def drive(self, now: float) -> None:
        """What the driver of a node does, once."""
        for event in self.network.poll(0):
            if isinstance(event, Received):
                self.node.receive(event.peer, decode(event.kind, event.body), now)
            elif isinstance(event, Connected):
                self.node.connected(event.peer, now)
            elif isinstance(event, Lost):
                self.node.lost(event.peer, now, closed=True)
        self.node.tick(now)
        self.notes += self.node.notes()
        self.send()

    def send(self) -> None:
        """Hand over to the network what the node has to say."""
        for peer, message in self.node.outgoing():
            self.network.send(peer, *encode(message))


class Rehearsal:
    """See the module.

    Args:
        settings: of all nodes.
        link: between any two boxes, at the start.
        seed: of all chance.
        step: seconds between two calls of `Box.drive`.
    """

    def __init__(
        self,
        settings: NodeSettings | None = None,
        link: Link | None = None,
        seed: int = 0,
        step: float = 0.02,
    ) -> None:
        self.medium = Loopback(seed, link)
        self.settings = settings or NodeSettings()
        self.boxes: dict[int, Box] = {}
        self._rng = random.Random(seed)
        self._step = step

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.medium.now

    def start(self, number: int, *, founder: bool | None = None) -> Box:
        """Start a box's process, the first time or again.

        Args:
            number: of the box.
            founder: whether it begins the cluster; by default the first that is started does.
        """
        boot = self._rng.randrange(1, 1 << 62)
        found = not self.boxes if founder is None else founder
        node = Node(
            Identity(number, boot, str(number), founder=found),
            self.settings,
            random.Random(self._rng.random()),
        )
        self.boxes[number] = Box(node, self.medium.box(number, boot))
        return self.boxes[number]

    def crash(self, number: int) -> None:
        """End a box's process."""
        self.medium.crash(number)
        del self.boxes[number]

    def power_off(self, number: int) -> None:
        """End a box without a word."""
        self.medium.power_off(number)
        del self.boxes[number]

    def split(self, *sides: set[int]) -> None:
        """Cut all cables between sides."""
        for at, side in enumerate(sides):
            for other in sides[at + 1 :]:
                for a in side:
                    for b in other:
                        self.medium.cut(a, b)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass.

        Args:
            seconds: at most.
            until: stop when this is so.

        Returns:
            Whether it is so; True without a condition.
        """
        end = self.now + seconds
        while self.now < end:
            if until is not None and until():
                return True
            self.medium.advance(min(end, self.now + self._step))
            for box in list(self.boxes.values()):
                if not box.frozen:
                    box.drive(self.now)
        return until is None or until()

    def settle(self, seconds: float = 600.0) -> bool:
        """Let all boxes give away their deltas, and collect everybody's. Returns success."""
        for _ in range(2):  # the second time, nobody has anything left to give
            for box in self.boxes.values():
                box.node.settle()
            if not self.run(seconds, lambda: all(b.node.settled for b in self.boxes.values())):
                return False
        for box in self.boxes.values():
            box.node.correct()
        return True
