"""The bytes of one connection, plain or encrypted; never waits.

Encryption happens between memory and memory, and the socket sees large pieces: with the standard
library's own encrypted socket every record of 16 KiB is two calls of the system, which costs a
third more to receive (docs/design/0005-secure-boxes.md).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pellucid.transport.identity import Identity

__all__ = ["Channel", "open_channel"]

RECORD_BYTES: Final = 16 << 10  # what TLS encrypts at once
RAW_BYTES: Final = 256 << 10  # encrypted bytes between us and the socket, at most


class Channel(Protocol):
    """What a connection sends and receives through.

    Attributes:
        taken: bytes the kernel took so far.
        waiting: whether it holds bytes of its own that the kernel did not take.
        is_ready: whether it can `send`, which it cannot before a handshake.
    """

    taken: int
    waiting: bool
    is_ready: bool

    def send(self, views: Sequence[memoryview]) -> int:
        """Send what can be sent now; returns how many of these bytes were accepted."""

    def receive(self, space: Callable[[], memoryview], filled: Callable[[int], bool]) -> bool:
        """Receive what there is, for a while, into one space after the other.

        Args:
            space: where the next bytes go.
            filled: told how many were put there; returns whether to go on.

        Returns:
            False once the peer has ended the connection.
        """


class _Plain:
    """Bytes as they are."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.taken = 0
        self.waiting = False
        self.is_ready = True

    def send(self, views: Sequence[memoryview]) -> int:
        try:
            count = self._socket.sendmsg(views) if views else 0
        except BlockingIOError:
            return 0
        self.taken += count
        return count

    def receive(self, space: Callable[[], memoryview], filled: Callable[[int], bool]) -> bool:
        try:
            for _ in range(8):  # others want their turn
                view = space()
                count = self._socket.recv_into(view)
                if not count:
                    return False
                if not filled(count) or count < len(view):
                    break
        except BlockingIOError:
            pass
        return True


class _Encrypted:
    """Bytes under TLS."""

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self._socket = sock
        self._tls = tls
        self._incoming, self._outgoing = incoming, outgoing
        self._raw = memoryview(bytearray(RAW_BYTES))
        self._rest = memoryview(b"")  # encrypted, for the kernel
        self.is_ready = False
        self.taken = 0
        self.waiting = False
        self._shake()

    def send(self, views: Sequence[memoryview]) -> int:
        self._flush()
        if not self.is_ready or self.waiting:
            return 0
        accepted = 0
        for record in _records(views):
            if record:
                accepted += self._tls.write(record)
            if self._outgoing.pending >= RAW_BYTES:
                break
        self._flush()
        return accepted

    def receive(self, space: Callable[[], memoryview], filled: Callable[[int], bool]) -> bool:
        try:
            count = self._socket.recv_into(self._raw)
        except BlockingIOError:
            return True
        self._incoming.write(self._raw[:count])
        if self.is_ready or self._shake():
            count = min(count, self._decrypt(space, filled))
        return count > 0

    def _decrypt(self, space: Callable[[], memoryview], filled: Callable[[int], bool]) -> int:
        """Hand out all there is: nobody would tell that there are bytes left in here.

        Returns:
            0 if the peer said that there is no more to come.
        """
        try:
            while True:
                view = space()
                count: Any = self._tls.read(len(view), view)  # of which it returns the length
                if not count or not filled(count):
                    return bool(count)
        except ssl.SSLWantReadError:
            return 1
        except ssl.SSLZeroReturnError:
            return 0

    def _shake(self) -> bool:
        """Go on with the handshake; returns whether it is done."""
        try:
            self._tls.do_handshake()
            self.is_ready = True
        except ssl.SSLWantReadError:
            pass
        finally:
            self._flush()  # in an error, an alert says why
        return self.is_ready

    def _flush(self) -> None:
        """Give the kernel what is encrypted."""
        while self._rest or self._outgoing.pending:
            if not self._rest:
                self._rest = memoryview(self._outgoing.read())
            try:
                count = self._socket.send(self._rest)
            except BlockingIOError:
                break
            self.taken += count
            self._rest = self._rest[count:]
        self.waiting = bool(self._rest or self._outgoing.pending)


def _records(views: Sequence[memoryview]) -> Iterator[memoryview | bytes]:
    """Cut long ones into records, and put short ones together."""
    short: list[memoryview] = []
    size = 0
    for view in views:
        if size + len(view) > RECORD_BYTES:
            yield b"".join(short)
            short, size = [], 0
        whole = len(view) - len(view) % RECORD_BYTES
        for begin in range(0, whole, RECORD_BYTES):
            yield view[begin : begin + RECORD_BYTES]
        short.append(view[whole:])
        size += len(view) - whole
    yield b"".join(short)


def open_channel(sock: socket.socket, identity: Identity, *, dials: bool) -> Channel:
    """The channel of a connection that has just been made.

    Raises:
        ssl.SSLError: encryption failed.
        OSError: the connection broke.
    """
    tls = identity.wrap(dials=dials)
    return _Encrypted(sock, *tls) if tls else _Plain(sock)
