"""One connection between launchers: the session of `wire` on a blocking socket.

Launchers say little to each other, and not while anybody waits for it in training: a thread a
connection is enough.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final, NoReturn

from pellucid.errors import LinkError, NetworkError
from pellucid.launch.rendezvous import KINDS, MESSAGE, PIECE, Message, decode, encode
from pellucid.settings import Address
from pellucid.wire.framing import Frame
from pellucid.wire.session import NONCE_BYTES, Closed, Event, Hello, Opened, Role, Session

__all__ = ["Channel", "Credentials"]

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0  # for what the other side can say without doing any work
SEND_BYTES: Final = 256 << 10


@dataclass(frozen=True)
class Credentials:
    """What this box proves itself with.

    Attributes:
        key: of the session, derived from the secret.
        dials: TLS for who calls; None without encryption.
        answers: TLS for who is called; None without encryption.
    """

    key: bytes
    dials: ssl.SSLContext | None = None
    answers: ssl.SSLContext | None = None

    @classmethod
    def derive(cls, secret: bytes, *, encrypt: bool) -> Credentials:
        """Make them of the secret."""
        return cls(hashlib.sha256(b"pellucid session" + secret).digest())


class Channel:
    """A connection that both sides have proven to be allowed on.

    Args:
        connection: a socket; it is the channel's from now on.
        session: in its first state.
        who: what to call the peer in errors.
    """

    def __init__(self, connection: socket.socket, session: Session, who: str) -> None:
        self.who = who
        self._socket = connection
        self._session = session
        self._frames: list[Frame] = []
        self._closed: Closed | None = None
        self.peer: Hello | None = None

    @classmethod
    def dial(cls, address: Address, credentials: Credentials, hello: Hello) -> Channel:
        """Call another launcher, and prove each other.

        Raises:
            LinkError: nobody answers there.
            NetworkError: they could not agree; says whose fault it is.
        """
        try:
            connection = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
        except OSError as error:
            raise LinkError(_unreachable(address, error)) from error
        return cls._open(connection, Role.DIALS, credentials, hello, str(address))

    @classmethod
    def answer(
        cls, connection: socket.socket, credentials: Credentials, hello: Hello, who: str
    ) -> Channel:
        """Somebody has called: prove each other.

        Raises:
            NetworkError: they could not agree; says whose fault it is.
        """
        connection.settimeout(CONNECT_SECONDS)
        return cls._open(connection, Role.LISTENS, credentials, hello, who)

    @classmethod
    def _open(
        cls,
        connection: socket.socket,
        role: Role,
        credentials: Credentials,
        hello: Hello,
        who: str,
    ) -> Channel:
        context = credentials.dials if role is Role.DIALS else credentials.answers
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=role is Role.LISTENS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:  # ssl's errors are OSErrors too
            connection.close()
            raise LinkError(_no_encryption(who, error)) from error
        now = time.monotonic()
        nonce = secrets.token_bytes(NONCE_BYTES)
        session = Session(role, credentials.key, hello=hello, kinds=KINDS, nonce=nonce, now=now)
        channel = cls(connection, session, who)
        try:
            while channel.peer is None:
                channel._flush()
                channel._receive(CONNECT_SECONDS)
            channel._flush()
        except BaseException:
            channel._end()
            raise
        return channel

    @property
    def local(self) -> str:
        """The address of this box by which the peer is connected to it."""
        return str(self._socket.getsockname()[0])

    @property
    def remote(self) -> str:
        """The address of the peer."""
        return str(self._socket.getpeername()[0])

    def tell(self, message: Message) -> None:
        """Send a message.

        Raises:
            NetworkError: the connection is gone.
        """
        self._send(MESSAGE, encode(message))

    def send_piece(self, piece: bytes) -> None:
        """Send bytes of a bundle.

        Raises:
            NetworkError: the connection is gone.
        """
        self._send(PIECE, piece)

    def hear(self, seconds: float = ANSWER_SECONDS) -> Message:
        """Wait for a message.

        Raises:
            NetworkError: the connection is gone, or the peer does not keep the rules.
        """
        frame = self._next(seconds)
        if frame.kind != MESSAGE:
            self.close("a piece of a bundle came where a message was awaited")
            self._fail(f"{self.who} sent a piece of a bundle where it should have said something")
        return decode(frame.body)

    def hear_piece(self) -> memoryview:
        """Wait for bytes of a bundle.

        Raises:
            NetworkError: the connection is gone, or the peer does not keep the rules.
        """
        frame = self._next(ANSWER_SECONDS)
        if frame.kind != PIECE or not frame.body:
            self._fail(f"{self.who} broke off in the middle of the bundle")
        return frame.body

    def close(self, reason: str = "") -> None:
        """Say goodbye."""
        self._session.close(reason)
        try:
            self._flush()
        except NetworkError:
            pass  # it need not hear it
        self._end()

    def _send(self, kind: int, body: bytes) -> None:
        if self._closed is not None:
            self._fail(self._closed.reason)
        self._session.send(kind, [body])
        self._flush()

    def _next(self, seconds: float) -> Frame:
        while not self._frames:
            if self._closed is not None:
                raise self._closed.error or LinkError(f"{self.who} hung up: {self._closed.reason}")
            self._receive(seconds)
        return self._frames.pop(0)

    def _receive(self, seconds: float) -> None:
        """Wait for bytes, and act on them."""
        self._socket.settimeout(seconds)
        try:
            count = self._socket.recv_into(self._session.space())
        except TimeoutError:
            self._fail(f"{self.who} said nothing for {seconds:g} seconds")
        except OSError as error:
            events = self._session.ended(str(error))
        else:
            events = self._session.filled(count) if count else self._session.ended()
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Opened(hello):
                self.peer = hello
            case Closed():
                self._closed = event
                if self.peer is None:
                    raise event.error or LinkError(f"{self.who} hung up: {event.reason}")
            case Frame():
                self._frames.append(event)

    def _flush(self) -> None:
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            while views := self._session.take(SEND_BYTES):
                for view in views:
                    self._socket.sendall(view)
                    self._session.sent(len(view))
        except OSError as error:
            raise LinkError(f"the connection to {self.who} broke: {error}") from error

    def _fail(self, reason: str) -> NoReturn:
        raise LinkError(reason)

    def _end(self) -> None:
        self._socket.close()


def _unreachable(address: Address, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return (
            f"{address.host!r} is no name that this box can resolve ({error.strerror}). Give the "
            "other box's number instead, such as 10.0.0.1"
        )
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nobody listens at {address}. Is `pellucid run --mode stream --listen {address} ...` "
            "running there, and past its first lines? If that box has died: any other box of the "
            "run lets boxes in too"
        )
    if isinstance(error, TimeoutError):
        return (
            f"{address} does not answer within {CONNECT_SECONDS:g} seconds. A firewall in between, "
            f"a wrong address, or a box that is down: see `pellucid doctor {address}`"
        )
    return f"{address} cannot be reached: {error}. See `pellucid doctor {address}`"


def _no_encryption(who: str, error: OSError) -> str:
    return (
        f"no encrypted connection with {who}: {error}. Either its secret is another one, or it "
        "runs with --no-encrypt: then say that here, too"
    )
