"""One TCP connection between two boxes: moves bytes between a socket and a session.

All calls come from the network's thread, except for `backlog`, which anybody may read.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Final

from pellucid.errors import LinkError, MismatchError, NetworkError, RemoteProtocolError
from pellucid.transport.channel import Channel, open_channel
from pellucid.transport.network import Address, PeerStatistics
from pellucid.transport.pace import Kernel, Pace
from pellucid.wire.rules import Rule
from pellucid.wire.session import Event, Role, Session, State

if TYPE_CHECKING:
    from pellucid.transport.identity import Identity

__all__ = ["Connection", "prepare"]

SEND_BYTES: Final = 1 << 20  # handed to the kernel at once
URGENT_BYTES: Final = 16 << 10  # go without asking the pace
RECEIVE_BYTES: Final = 2 << 20  # received from one peer before others have their turn
LINGER_SECONDS: Final = 2.0  # for the last words to be sent, and heard
UNSENT_BYTES: Final = 64 << 10  # the kernel holds no more than that, at first
UNANSWERED_SECONDS: Final = 10  # after that a connection is dead
KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
TCP_NOTSENT_LOWAT: Final = 25  # linux/tcp.h; not in the module before Python 3.12
# of struct tcp_info in linux/tcp.h: tcpi_rtt, tcpi_bytes_acked, tcpi_notsent_bytes, tcpi_min_rtt
TCP_INFO: Final = struct.Struct("=68x I 48x Q 16x I I")


def prepare(sock: socket.socket) -> None:
    """Set what a socket between boxes needs.

    A peer that is gone without a word (a cable pulled, a power cut) is noticed while we send
    (`TCP_USER_TIMEOUT`) and while we do not (keep-alive).
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    milliseconds = 1000 * UNANSWERED_SECONDS
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class Connection:
    """A socket, its session, and how fast it may send.

    Args:
        sock: prepared; if we dial, possibly still connecting.
        address: of the other end.
        session: new.
        identity: for its encryption.
        pace: for its sending.
        now: seconds.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        session: Session,
        identity: Identity,
        *,
        pace: Pace,
        now: float,
    ) -> None:
        self.socket = sock
        self.address = address
        self.session = session
        self.pace = pace
        self.peer: int | None = None  # its number, once it is connected
        self.queued = 0  # bytes that other threads gave to the network, and it not yet to us
        self.is_spare = False  # another connection to the same box is used
        self.received = 0
        self.heard = now
        self.blocked = session.role is Role.DIALS  # the kernel will say when it takes more
        self.is_dead = False  # nothing can be sent or received any more
        self._identity = identity
        self._channel: Channel | None = None  # once the call is answered
        self._until: float | None = None  # by then the last words are heard, or never
        self._is_shut = False
        self._unsent = UNSENT_BYTES

    @property
    def dialled(self) -> bool:
        """Whether we called."""
        return self.session.role is Role.DIALS

    @property
    def is_open(self) -> bool:
        """Whether the peer has proven itself and neither side has closed."""
        return self.session.state is State.OPEN

    @property
    def is_unproven(self) -> bool:
        """Whether the peer has yet to open it."""
        return self.peer is None and not self.session.is_closed

    @property
    def backlog(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.queued + self.session.backlog

    @property
    def sent(self) -> int:
        """Bytes the kernel took."""
        return self._channel.taken if self._channel else 0

    def begin(self, now: float) -> list[Event]:
        """The call is answered."""
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return self._broken(OSError(error, os.strerror(error)))
        try:
            self._channel = open_channel(self.socket, self._identity, dials=self.dialled)
        except OSError as failure:
            return self._broken(failure)
        return self.write(now)

    def read(self, now: float) -> list[Event]:
        """There may be something to receive."""
        if self._until is not None:
            self._discard()
            return []
        if self._channel is None:
            return []  # that the call failed is told to `write`
        events: list[Event] = []
        budget = RECEIVE_BYTES

        def filled(count: int) -> bool:
            nonlocal budget
            budget -= count
            self.received += count
            events.extend(self.session.filled(count))
            return not self.session.is_closed and budget > 0

        try:
            goes_on = self._channel.receive(self.session.space, filled)
        except OSError as failure:
            return events + self._broken(failure)
        self.heard = now
        if not goes_on:
            events += self.session.ended()
            self.is_dead = True
        return events

    def write(self, now: float) -> list[Event]:
        """Send what may be sent now."""
        self.blocked = False
        if self._channel is None:
            return self.begin(now)
        self.pace.resumed(now)
        try:
            while not self.blocked and self._write_once(self._channel, now):
                pass
            self._say_last_words()
            self._observe(now)
        except OSError as failure:
            return self._broken(failure)
        return []

    def _write_once(self, channel: Channel, now: float) -> bool:
        """Send one portion. Returns whether another one may follow."""
        session = self.session
        if not channel.is_ready:
            channel.send([])
            self.blocked = channel.waiting
            return False
        limit = min(self.pace.allowance(now), SEND_BYTES) if session.backlog else 0
        if session.is_urgent:
            limit = max(limit, URGENT_BYTES)
        before = channel.taken
        views = session.take(limit, self.pace.piece) if limit else []
        accepted = channel.send(views)
        session.sent(accepted)
        self.pace.took(channel.taken - before)
        if channel.waiting or accepted < sum(map(len, views)):
            self.blocked = True
            self.pace.refused(now)
        if not session.backlog:
            self.pace.idle()
        return bool(accepted and session.backlog)

    def _observe(self, now: float) -> None:
        """Let the pace see what the kernel saw, and the kernel hold what the pace wants it to."""
        if not self.pace.is_due(now):
            return
        kernel = self._kernel()
        self.pace.observe(now, kernel)
        if not 0.5 < self.pace.buffer / self._unsent < 2:
            self._unsent = self.pace.buffer
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, self._unsent)

    def _kernel(self) -> Kernel:
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
        round_trip, acknowledged, unsent, least = TCP_INFO.unpack(info)
        # who has not been answered yet reports a least of all bits
        least = min(least, round_trip)
        return Kernel(acknowledged, unsent, round_trip / 1e6, least / 1e6)

    def wait(self, now: float) -> float | None:
        """Seconds until it wants to `write` without being told to; None if it does not."""
        is_ready = self._channel is not None and self._channel.is_ready
        if self.blocked or self.is_dead or not is_ready or not self.session.backlog:
            return None
        return 0.0 if self.session.is_urgent else self.pace.wait(now)

    def wants(self, now: float) -> bool:
        """Whether it wants to `write`."""
        return self.wait(now) == 0.0

    def tick(self, now: float) -> list[Event]:
        """Time has passed: who is slow to open is sent away, who lingers too."""
        if self._until is not None:
            self.is_dead = self.is_dead or now >= self._until
            return []
        return self.session.tick(now)

    def finish(self, now: float) -> None:
        """The session is closed: send its last words if there are any, and hear the peer out.

        To end at once would take the last words away from a peer that is still sending.
        """
        self._until = now + LINGER_SECONDS
        self.is_dead = self.is_dead or self._channel is None or not self.session.backlog
        if not self.is_dead:
            self.write(now)

    def end(self) -> None:
        """Free the socket. A process that the script has forked may hold it open: shut it down."""
        with contextlib.suppress(OSError):  # it was not connected any more
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def statistics(self, now: float) -> PeerStatistics:
        """A record of this moment."""
        try:
            round_trip = self._kernel().round_trip
        except OSError:
            round_trip = 0.0  # it is gone
        return PeerStatistics(
            sent=self.sent,
            received=self.received,
            backlog=self.backlog,
            rate=self.pace.rate,
            round_trip=round_trip,
            silent=now - self.heard,
        )

    def _say_last_words(self) -> None:
        """When all is sent that was to be sent, let the peer know that there is no more."""
        if self._until is None or self.session.backlog or self.blocked or self._is_shut:
            return
        self._is_shut = True
        self.socket.shutdown(socket.SHUT_WR)

    def _discard(self) -> None:
        """Read, so that the peer can end its side; nothing of it is looked at."""
        try:
            self.is_dead = self.is_dead or not self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            pass
        except OSError:
            self.is_dead = True

    def _broken(self, failure: OSError) -> list[Event]:
        self.is_dead = True
        if isinstance(failure, ssl.SSLError):
            return self.session.refuse(_explain(failure))
        cause = failure.strerror or str(failure)
        if self._channel is None:
            return self.session.refuse(LinkError(f"nobody answers: {cause}", Rule.LINK))
        if isinstance(failure, ConnectionResetError | BrokenPipeError):
            return self.session.ended()  # by its system, which lives, for a process that does not
        return self.session.ended(cause)


_NOT_TLS: Final = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNEXPECTED_MESSAGE",
    "RECORD_LAYER_FAILURE",
}


def _explain(failure: ssl.SSLError) -> NetworkError:
    """What an error of encryption means between boxes."""
    reason = failure.reason or str(failure)
    if isinstance(failure, ssl.SSLCertVerificationError) or "ALERT_UNKNOWN_CA" in reason:
        text = "the peer does not know this run's secret: give both sides the same one"
        return MismatchError(text, Rule.PROOF)
    if reason in _NOT_TLS:
        text = (
            "the peer does not speak pellucid's protocol, or is not encrypted as this side is; "
            f"then give both the same settings ({reason})"
        )
        return RemoteProtocolError(text, Rule.GREETING)
    return RemoteProtocolError(f"encryption failed: {reason}", Rule.LINK)
