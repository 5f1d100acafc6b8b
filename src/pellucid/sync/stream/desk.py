"""What the parts of a node share: who we are, whom we know, and the tray of outgoing messages."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pellucid.cluster.membership import Membership, Timing
from pellucid.wire.messages import BF16, FP32, INT8, Body, Member, Message, View
from pellucid.wire.owner import Outer

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Desk", "Identity", "NodeSettings", "Note"]


@dataclass(frozen=True)
class Identity:
    """Which box this is.

    Attributes:
        box: its number, in order of joining.
        boot: drawn anew by each process, 1 to 2**62.
        address: where it listens, for others' drivers.
        founder: whether it begins the cluster; exactly one box does.
    """

    box: int
    boot: int
    address: str = ""
    founder: bool = False


@dataclass(frozen=True)
class NodeSettings:
    """How a node behaves.

    Attributes:
        timing: heartbeats and deaths.
        codec: how deltas and answers are encoded: int8, bf16 or fp32.
        credit: chunks in flight to one box.
        cycle: seconds between two exchanges of a chunk, at least.
        share: of a processor's time that the exchange may take; see `Node.pace`.
        idle: the same where the last one brought nothing new.
        retry: seconds after which a question of the protocol is asked again.
        resend: seconds after which an unanswered delta is sent again to a box that is still
            connected; a connection that broke is noticed at once.
        gain: the weight of a delta is its box's share times N**gain, 1 at most.
        outer: momentum at the owners.
        least: leases a box asks for at once, at the start.
        most: likewise at most; it asks for more whenever it had to wait.
    """

    timing: Timing = field(default_factory=Timing)
    codec: str = "int8"
    credit: int = 4
    cycle: float = 0.1
    share: float = 0.03
    idle: float = 0.5
    retry: float = 1.0
    resend: float = 30.0
    gain: float = 0.0
    outer: Outer = field(default_factory=Outer)
    least: int = 2
    most: int = 8


@dataclass(frozen=True)
class Note:
    """Something a user wants to know, once.

    Attributes:
        event: joined, died, left, returned, leads, waits, goes-on, refused, mismatch, lost.
        box: whom it is about; None for all.
        text: in words.
    """

    event: str
    box: int | None
    text: str


class Desk:
    """See the module.

    Args:
        identity: who we are.
        settings: how we behave.
        rng: for the order of things.
    """

    def __init__(self, identity: Identity, settings: NodeSettings, rng: random.Random) -> None:
        self.box = identity.box
        self.boot = identity.boot
        self.settings = settings
        self.rng = rng
        self.code = {"fp32": FP32, "bf16": BF16, "int8": INT8}[settings.codec]
        self.membership = Membership(identity.box, identity.boot, settings.timing, identity.address)
        self.connected: set[int] = set()
        self.rate = 0.0  # own samples/s
        self.local: deque[Message] = deque()  # to ourselves
        self._out: list[tuple[int, Message]] = []
        self._notes: list[Note] = []

    @property
    def view(self) -> View | None:
        """What the boxes agree on."""
        return self.membership.view

    @property
    def me(self) -> Member | None:
        """This box as a member of the view, if it is one."""
        return self.membership.me

    def send(self, peer: int, body: Body, payload: Buffer = b"") -> None:
        """Put a message into the tray."""
        if peer == self.box:
            self.local.append(Message(body, payload))
        elif peer in self.connected:
            self._out.append((peer, Message(body, payload)))

    def outgoing(self) -> list[tuple[int, Message]]:
        """Empty the tray."""
        out, self._out = self._out, []
        return out

    def note(self, event: str, box: int | None, text: str) -> None:
        """Tell the user."""
        self._notes.append(Note(event, box, text))

    def notes(self) -> list[Note]:
        """What was noted since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def rates(self) -> dict[int, float]:
        """Samples/s of the members that train, as they said last."""
        rates = {}
        for member in self.view.members if self.view is not None else ():
            beat = self.membership.beat(member.box)
            rate = self.rate if member.box == self.box else 0.0 if beat is None else beat.rate
            if rate > 0:
                rates[member.box] = rate
        return rates

    def stride(self, power: float) -> float:
        """How many times as long the steps of all boxes should be; see docs/design/0007-stream.md.

        The effective number of boxes, ``(sum of rates)**2 / sum of rates**2``, to a power.
        """
        rates = list(self.rates().values())
        if not rates:
            return 1.0
        count = sum(rates) ** 2 / sum(rate * rate for rate in rates)
        return math.pow(count, power)

    def weight(self, box: int, gain: float) -> float:
        """What a delta of a box counts.

        Its share of the samples of all that train, times N**gain, 1 at most. A box that has not
        said its rate yet counts like the average of the others.
        """
        rates = self.rates()
        if box not in rates:
            members = () if self.view is None else self.view.members
            count = max(1, sum(1 for member in members if member.blocks))
            rates[box] = sum(rates.values()) / len(rates) if rates else 1.0
            if len(rates) == 1:
                return min(1.0, math.pow(count, gain - 1))
        share = rates[box] / sum(rates.values())
        return min(1.0, share * math.pow(len(rates), gain))
