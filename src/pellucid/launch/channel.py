"""One connection between launchers: the session of `wire` on a blocking socket.

Launchers say little to each other, and not while anybody waits for it in training: a thread a
connection is enough.
"""

from __future__ import annotations

import contextlib
import platform
import secrets
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final, NoReturn

from pellucid import __version__
from pellucid.cluster.inventory import torch_version
from pellucid.errors import LinkError, MismatchError, NetworkError
from pellucid.launch.rendezvous import KINDS, MESSAGE, PIECE, Message, decode, encode
from pellucid.settings import Address
from pellucid.transport.identity import Identity
from pellucid.wire.framing import Frame
from pellucid.wire.session import NONCE_BYTES, Closed, Event, Hello, Opened, Role, Session

__all__ = ["Channel", "greeting"]

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0  # for what the other side can say without doing any work
SEND_BYTES: Final = 256 << 10
RECEIVE_BYTES: Final = 64 << 10


def greeting(box: int, nonce: int, run: str) -> Hello:
    """What this box says of itself.

    Args:
        box: its number, or `VISITOR`.
        nonce: drawn when it started.
        run: the run it belongs to; empty if it does not know yet.
    """
    return Hello(
        box=box,
        boot=nonce,
        run=run,
        pellucid=__version__,
        torch=torch_version(),
        python=platform.python_version(),
    )


class Channel:
    """A connection that both sides have proven to be allowed on.

    Args:
        connection: a socket; it is the channel's from now on.
        session: in its first state.
        who: what to call the peer in errors.
    """

    def __init__(
        self, connection: socket.socket, session: Session, identity: Identity, who: str
    ) -> None:
        self.who = who
        self.peer: Hello | None = None
        self._socket = connection
        self._session = session
        self._tls = identity.wrap(dials=session.role is Role.DIALS)
        self._frames: list[Frame] = []
        self._closed: Closed | None = None

    @classmethod
    def dial(
        cls,
        address: Address,
        identity: Identity,
        hello: Hello,
        *,
        seconds: float = CONNECT_SECONDS,
    ) -> Channel:
        """Call another launcher, and prove each other.

        Args:
            address: of its door.
            identity: what this box proves itself with.
            hello: what it says of itself.
            seconds: to wait for it to answer, and to prove itself.

        Raises:
            LinkError: nobody answers there.
            NetworkError: they could not agree; says whose fault it is.
        """
        try:
            connection = socket.create_connection((address.host, address.port), seconds)
        except OSError as error:
            raise LinkError(_unreachable(address, error)) from error
        session = _session(Role.DIALS, identity, hello)
        return cls._open(connection, session, identity, str(address), seconds)

    @classmethod
    def answer(
        cls, connection: socket.socket, identity: Identity, hello: Hello, who: str
    ) -> Channel:
        """Somebody has called: prove each other.

        Raises:
            NetworkError: they could not agree; says whose fault it is.
        """
        session = _session(Role.LISTENS, identity, hello)
        return cls._open(connection, session, identity, who, CONNECT_SECONDS)

    @classmethod
    def _open(
        cls,
        connection: socket.socket,
        session: Session,
        identity: Identity,
        who: str,
        seconds: float,
    ) -> Channel:
        channel = cls(connection, session, identity, who)
        until = time.monotonic() + seconds
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel._shake_hands(until)
            channel._act_on(channel._session.receive(channel._decrypted(b"")))  # came with it
            while channel.peer is None:
                channel._flush()
                channel._receive(until - time.monotonic())
            channel._flush()
        except OSError as error:
            channel._socket.close()
            msg = f"the connection to {who} broke: {error}"
            raise LinkError(msg) from error
        except BaseException:
            channel._socket.close()
            raise
        return channel

    def _shake_hands(self, until: float) -> None:
        """Begin to encrypt; without encryption, nothing is done."""
        if self._tls is None:
            return
        tls, incoming, _ = self._tls
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_encrypted()
                data = self._recv(until - time.monotonic())
                if data:
                    incoming.write(data)
                else:
                    self._fail(_no_encryption(self.who, "it hung up"))
            except ssl.SSLError as error:
                with contextlib.suppress(OSError):
                    self._send_encrypted()  # the alert that says so
                raise MismatchError(_no_encryption(self.who, str(error))) from error
            else:
                self._send_encrypted()
                return

    @property
    def local(self) -> str:
        """The address of this box by which the peer is connected to it."""
        return str(self._socket.getsockname()[0])

    @property
    def port(self) -> int:
        """The port of the peer."""
        return int(self._socket.getpeername()[1])

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
        with contextlib.suppress(NetworkError):
            self._flush()  # it need not hear it
        self._socket.close()

    def _send(self, kind: int, body: bytes) -> None:
        if self._closed is not None:
            self._fail(self._closed.reason)
        self._session.send(kind, [body])
        self._flush()

    def _next(self, seconds: float) -> Frame:
        until = time.monotonic() + seconds
        while not self._frames:
            if self._closed is not None:
                raise self._closed.error or LinkError(f"{self.who} hung up: {self._closed.reason}")
            self._receive(until - time.monotonic())
        return self._frames.pop(0)

    def _receive(self, seconds: float) -> None:
        """Wait for bytes, and act on what they mean."""
        try:
            data = self._recv(seconds)
            events = self._session.receive(self._decrypted(data)) if data else self._session.ended()
        except ssl.SSLError as error:
            if self.peer is None:  # only now does who dials learn that it was not trusted
                raise MismatchError(_no_encryption(self.who, str(error))) from error
            events = self._session.ended(str(error))
        except OSError as error:
            events = self._session.ended(str(error))
        self._act_on(events)

    def _act_on(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Opened(hello):
                    self.peer = hello
                case Frame():
                    self._frames.append(event)
                case Closed():
                    self._closed = event
        if self._closed is not None and self.peer is None:
            raise self._closed.error or LinkError(f"{self.who} hung up: {self._closed.reason}")

    def _recv(self, seconds: float) -> bytes:
        self._socket.settimeout(max(seconds, 0.001))
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            self._fail(f"{self.who} does not answer")

    def _decrypted(self, data: bytes) -> bytes:
        if self._tls is None:
            return data
        tls, incoming, _ = self._tls
        if data:
            incoming.write(data)
        plain = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := tls.read(RECEIVE_BYTES):
                plain += piece
        return plain

    def _flush(self) -> None:
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            while views := self._session.take(SEND_BYTES):
                for view in views:
                    if self._tls is None:
                        self._socket.sendall(view)
                    else:
                        self._tls[0].write(view)
                self._send_encrypted()
                self._session.sent(sum(map(len, views)))
        except OSError as error:
            msg = f"the connection to {self.who} broke: {error}"
            raise LinkError(msg) from error

    def _send_encrypted(self) -> None:
        if self._tls is not None and (data := self._tls[2].read()):
            self._socket.sendall(data)

    def _fail(self, reason: str) -> NoReturn:
        raise LinkError(reason)


def _session(role: Role, identity: Identity, hello: Hello) -> Session:
    nonce = secrets.token_bytes(NONCE_BYTES)
    now = time.monotonic()
    return Session(role, identity.proof_key, hello=hello, kinds=KINDS, nonce=nonce, now=now)


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


def _no_encryption(who: str, error: str) -> str:
    return (
        f"no encrypted connection with {who}: {error}. Either its secret is another one, or it "
        "runs with --no-encrypt: then say that here, too"
    )
