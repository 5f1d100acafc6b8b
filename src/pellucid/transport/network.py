"""The seam between a box's part in the cluster and what moves its bytes.

A *peer* is a connection that is open, by number: the number of the other box, or a negative one
for a visitor that has none yet (who is about to join). All calls return at once; what happens is
told by `Network.poll`, each thing once, in the order in which it happened to a peer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pellucid.errors import NetworkError
    from pellucid.wire.session import Hello

__all__ = [
    "Address",
    "Connected",
    "Event",
    "Lost",
    "Network",
    "PeerStatistics",
    "Received",
    "Refused",
    "Statistics",
]

Address = tuple[str, int]  # of numbers: "10.0.0.1", "fe80::1%eth0"; and the port


@dataclass(frozen=True, slots=True)
class Connected:
    """A peer proved itself and said hello. After a `Lost` it may come again.

    Attributes:
        peer: its box number, or a negative number for a visitor.
        hello: what it said of itself.
        address: where it is; of a box that was not dialled, the port is not one to dial.
    """

    peer: int
    hello: Hello
    address: Address


@dataclass(frozen=True, slots=True)
class Received:
    """A frame came. The body is the receiver's to keep, and to change."""

    peer: int
    kind: int
    body: memoryview


@dataclass(frozen=True, slots=True)
class Lost:
    """A peer is connected no more; what was sent and not yet taken by the kernel is gone.

    Attributes:
        peer: as in `Connected`.
        reason: for the user.
        error: who broke what; None if one of both sides said goodbye.
    """

    peer: int
    reason: str
    error: NetworkError | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A connection never opened: nobody answers, another secret, another version, too late.

    Attributes:
        address: where it would have gone to, or came from.
        error: who broke what; its text is for the user.
        dialled: whether it was this side that called.
    """

    address: Address
    error: NetworkError
    dialled: bool


Event = Connected | Received | Lost | Refused


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """What went to and came from a peer.

    Attributes:
        sent: bytes the kernel took, frames' headers included, encryption not.
        received: bytes that came.
        backlog: bytes queued that the kernel has not taken yet.
        rate: bytes/s of the link, as measured; 0 before there was anything to measure.
        round_trip: seconds, smoothed; 0 if not known.
        silent: seconds since anything came, be it a part of a frame.
    """

    sent: int = 0
    received: int = 0
    backlog: int = 0
    rate: float = 0.0
    round_trip: float = 0.0
    silent: float = 0.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """A network at one moment.

    Attributes:
        sent: bytes sent to all peers there ever were.
        received: bytes that came from them.
        peers: of those connected now.
    """

    sent: int = 0
    received: int = 0
    peers: Mapping[int, PeerStatistics] = field(default_factory=dict)


class Network(Protocol):
    """What moves frames between boxes."""

    def send(self, peer: int, kind: int, buffers: Sequence[Buffer]) -> None:
        """Queue one frame, whose body is the buffers one after the other.

        The buffers are kept, not copied: do not change them afterwards. To a peer that is not
        connected (any more) nothing is sent: its `Lost` was told, or is about to be.

        Raises:
            LocalProtocolError: the kind is unknown, or the body longer than it allows.
        """

    def backlog(self, peer: int) -> int:
        """Bytes queued for the peer that the kernel has not taken yet."""

    def poll(self, timeout: float) -> list[Event]:
        """What happened; waits for the first event, at most so many seconds."""

    def connect(self, address: Address) -> None:
        """Call; what comes of it is a `Connected` or a `Refused`."""

    def drop(self, peer: int, reason: str) -> None:
        """Say goodbye and why; `Lost` follows when it is done."""

    def close(self) -> None:
        """Say goodbye to all, send what is queued (for a moment), and free everything."""

    def statistics(self) -> Statistics:
        """A record of this moment."""
