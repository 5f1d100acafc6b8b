"""Frames between boxes over TCP, one connection a pair; implements `pellucid.transport.network`.

One thread moves all bytes of all connections, whichever way they go; why that is so, says
docs/design/0005-secure-boxes.md. `send` and `poll` are called by other threads, and never
wait for the network.

Of two connections between the same two boxes (both called at once) one stays, and both sides know
which: the one that the box of the lower number dialled, and of those the later.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import queue
import selectors
import socket
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from pellucid.errors import LinkError, NetworkError
from pellucid.transport.connection import Connection, prepare
from pellucid.transport.network import (
    Address,
    Connected,
    Event,
    Lost,
    Received,
    Refused,
    Statistics,
)
from pellucid.transport.pace import Pace
from pellucid.wire import session as wire
from pellucid.wire.framing import Frame, Kind
from pellucid.wire.rules import Rule
from pellucid.wire.session import NONCE_BYTES, VISITOR, Hello, Role, Session

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pellucid.transport.identity import Identity

__all__ = ["TcpNetwork"]

UNPROVEN: Final = 64  # connections that have not opened yet; more push the oldest out
UNPROVEN_A_HOST: Final = 16
UNREAD_BYTES: Final = 64 << 20  # of frames nobody has polled; then nothing is received
TICK_SECONDS: Final = 0.5  # how exactly limits of time are kept
ACCEPTS: Final = 16  # calls answered before others have their turn
QUIET_SECONDS: Final = 60.0  # how often the same refusal of the same host is told


class TcpNetwork:
    """All connections of this box. See `pellucid.transport.network.Network` for the calls.

    Args:
        identity: what this box proves to belong to.
        hello: what it says of itself; ``port`` and ``attempt`` are filled in here.
        kinds: the application's kinds of frames, by number from `FIRST_KIND`.
        listen: where to be called at, with port 0 for any; or a socket that listens; or not at all.
        pace: makes the pace of a new connection, given the time.
        clock: seconds that do not jump.

    Raises:
        LinkError: it cannot be listened there.
    """

    def __init__(
        self,
        identity: Identity,
        hello: Hello,
        kinds: Mapping[int, Kind],
        *,
        listen: Address | socket.socket | None = None,
        pace: Callable[[float], Pace] = Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._kinds = kinds
        self._pace = pace
        self._clock = clock
        self._listener = _listen(listen) if listen is not None else None
        self.address: Address = ("", 0)  # where it listens; the port is 0 if it does not
        if self._listener is not None:
            self.address = self._listener.getsockname()[:2]
        self._hello = structs.replace(hello, port=self.address[1])
        self._attempts = 0
        self._visitors = 0
        self._lock = threading.Lock()  # over what other threads see: peers, counts, `_awake`
        self._peers: dict[int, Connection] = {}
        self._connections: set[Connection] = set()
        self._gone = Counter[str]()  # bytes of connections that are no more
        self._events: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()
        self._unread = 0
        self._is_paused = False  # nothing is received until somebody polls
        self._told: dict[tuple[str, str], float] = {}
        self._commands: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._awake = False  # the bell has been rung
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, self._answer_bell)
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._next_tick = clock()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="pellucid-network", daemon=True)
        _forget_in_children(self)
        self._thread.start()

    # called by other threads

    def send(self, peer: int, kind: int, buffers: Sequence[Buffer]) -> None:
        """Queue one frame; see `Network`."""
        size = wire.check(self._kinds, kind, buffers)
        with self._lock:
            connection = self._peers.get(peer)
            if connection is None:
                return
            connection.queued += size
        self._do(lambda: self._send(connection, kind, buffers, size))

    def backlog(self, peer: int) -> int:
        """Bytes the kernel has not taken yet."""
        with self._lock:
            connection = self._peers.get(peer)
        return connection.backlog if connection else 0

    def poll(self, timeout: float) -> list[Event]:
        """What happened; waits for the first event, at most so many seconds.

        Raises:
            NetworkError: the network's thread has failed. That is a defect of pellucid.
        """
        events: list[Event] = []
        try:
            event = self._events.get(timeout=timeout) if timeout > 0 else self._events.get_nowait()
            while True:
                if isinstance(event, Exception):
                    if events:  # first these
                        self._events.put(event)
                        break
                    text = f"the network's thread failed: {event!r}. This is a defect of pellucid"
                    raise NetworkError(text) from event
                events.append(event)
                event = self._events.get_nowait()
        except queue.Empty:
            pass
        self._count_read(sum(len(e.body) for e in events if isinstance(e, Received)))
        return events

    def connect(self, address: Address) -> None:
        """Call; see `Network`. The host is a number: who has a name looks it up before."""
        self._do(lambda: self._dial(address))

    def drop(self, peer: int, reason: str) -> None:
        """Say goodbye and why."""
        self._do(lambda: self._drop(peer, reason))

    def close(self, reason: str = "the box leaves") -> None:
        """Say goodbye to all, send what is queued (for a moment), and free everything."""
        self._do(lambda: self._end(reason))
        self._thread.join()

    def statistics(self) -> Statistics:
        """A record of this moment."""
        now = self._clock()
        with self._lock:
            peers = {n: c.statistics(now) for n, c in self._peers.items()}
            sent = self._gone["sent"] + sum(c.sent for c in self._connections)
            received = self._gone["received"] + sum(c.received for c in self._connections)
        return Statistics(sent=sent, received=received, peers=peers)

    def _do(self, command: Callable[[], None]) -> None:
        """Have the network's thread do something."""
        self._commands.append(command)
        with self._lock:
            if self._awake:
                return
            self._awake = True
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def _count_read(self, count: int) -> None:
        with self._lock:
            self._unread -= count
            resume = self._is_paused and self._unread < UNREAD_BYTES // 2
        if resume:
            self._do(self._resume)

    # the network's thread

    def _run(self) -> None:
        try:
            while self._connections or not self._is_ending:
                self._step()
        except Exception as error:  # nobody else would ever hear of it
            self._events.put(error)
        finally:
            self._free()

    def _step(self) -> None:
        for key, mask in self._selector.select(self._timeout()):
            if isinstance(key.data, Connection):
                self._serve(key.data, mask)
            else:
                key.data()
        while self._commands:
            self._commands.popleft()()
        now = self._clock()
        for connection in [c for c in self._connections if c.wants(now)]:
            self._handle(connection, connection.write(now))
        if now >= self._next_tick:
            self._tick(now)

    def _timeout(self) -> float:
        """Seconds until something is to be done that nothing else would wake us for."""
        now = self._clock()
        waits = [w for c in self._connections if (w := c.wait(now)) is not None]
        return max(min([self._next_tick - now, *waits]), 0)

    def _tick(self, now: float) -> None:
        self._next_tick = now + TICK_SECONDS
        for connection in list(self._connections):
            self._handle(connection, connection.tick(now))
        if self._listener is not None and not self._is_ending:
            self._watch(self._listener, selectors.EVENT_READ, self._accept)

    def _answer_bell(self) -> None:
        with self._lock:
            os.eventfd_read(self._bell)
            self._awake = False

    def _serve(self, connection: Connection, mask: int) -> None:
        now = self._clock()
        if mask & selectors.EVENT_WRITE:
            self._handle(connection, connection.write(now))
        if mask & selectors.EVENT_READ and not connection.is_dead:
            self._handle(connection, connection.read(now))

    def _handle(self, connection: Connection, events: Sequence[wire.Event]) -> None:
        """Tell what happened on a connection, and watch for what may happen next."""
        for event in events:
            if isinstance(event, Frame):
                if connection.peer is not None:  # not what comes on a spare connection
                    self._tell(Received(connection.peer, event.kind, event.body))
            elif isinstance(event, wire.Opened):
                self._open(connection, event.hello)
            else:
                self._close(connection, event)
        if connection.is_dead:
            self._remove(connection)
        elif connection in self._connections:
            read = 0 if self._is_paused else selectors.EVENT_READ
            write = selectors.EVENT_WRITE if connection.blocked else 0
            self._watch(connection.socket, read | write, connection)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Received):
            with self._lock:
                self._unread += len(event.body)
            if self._unread > UNREAD_BYTES and not self._is_paused:
                self._is_paused = True
                self._rewatch()
        self._events.put(event)

    def _resume(self) -> None:
        self._is_paused = False
        self._rewatch()

    def _rewatch(self) -> None:
        for connection in list(self._connections):
            self._handle(connection, [])

    def _watch(self, sock: socket.socket, mask: int, data: Any) -> None:
        watched = self._selector.get_map().get(sock)
        if watched is None:
            if mask:
                self._selector.register(sock, mask, data)
        elif not mask:
            self._selector.unregister(sock)
        elif watched.events != mask:
            self._selector.modify(sock, mask, data)

    # connections come

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(ACCEPTS):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:  # no more files, no memory: try again a little later
                self._watch(self._listener, 0, None)
                cause = LinkError(f"calls cannot be answered: {error.strerror}", Rule.LINK)
                self._refuse(Refused(self.address, cause, dialled=False))
                return
            self._admit(sock, address[:2])

    def _admit(self, sock: socket.socket, address: Address) -> None:
        """Answer a call, unless there are too many whose callers have not proven themselves."""
        unproven = [c for c in self._connections if c.is_unproven and not c.dialled]
        if sum(c.address[0] == address[0] for c in unproven) >= UNPROVEN_A_HOST:
            sock.close()
            text = f"{address[0]} calls too often without proving itself"
            self._refuse(Refused(address, LinkError(text, Rule.LIMIT), dialled=False))
            return
        if len(unproven) >= UNPROVEN:
            oldest = min(unproven, key=lambda c: c.heard)
            error = LinkError("too many calls at once", Rule.LIMIT)
            self._handle(oldest, oldest.session.refuse(error))
        try:
            prepare(sock)
        except OSError:
            sock.close()  # gone again
            return
        connection = self._add(sock, address, Role.LISTENS)
        self._handle(connection, connection.begin(self._clock()))

    def _dial(self, address: Address) -> None:
        if self._is_ending:
            return
        sock: socket.socket | None = None
        try:
            family, where = _numeric(address)
            sock = socket.socket(family, socket.SOCK_STREAM)
            prepare(sock)
            sock.connect(where)
        except BlockingIOError:
            pass  # as it should be: it will tell
        except OSError as error:
            if sock is not None:
                sock.close()
            text = f"nobody answers at {address[0]}:{address[1]}: {error.strerror}"
            self._tell(Refused(address, LinkError(text, Rule.LINK), dialled=True))
            return
        assert sock is not None
        self._handle(self._add(sock, address, Role.DIALS), [])

    def _add(self, sock: socket.socket, address: Address, role: Role) -> Connection:
        now = self._clock()
        self._attempts += role is Role.DIALS
        session = Session(
            role,
            self._identity.proof_key,
            hello=structs.replace(self._hello, attempt=self._attempts),
            kinds=self._kinds,
            nonce=os.urandom(NONCE_BYTES),
            now=now,
        )
        pace = self._pace(now)
        connection = Connection(sock, address, session, self._identity, pace=pace, now=now)
        with self._lock:
            self._connections.add(connection)
        return connection

    def _open(self, connection: Connection, hello: Hello) -> None:
        """A peer said hello."""
        number = hello.box
        if number == VISITOR:
            self._visitors += 1
            number = -self._visitors
        other = self._peers.get(number)
        if other is not None and _precedence(other) > _precedence(connection):
            connection.is_spare = True
            self._handle(connection, connection.session.close("another connection stays"))
            return
        if other is not None:
            self._handle(other, other.session.close("a newer connection replaces this one"))
        connection.peer = number
        with self._lock:
            self._peers[number] = connection
        self._tell(Connected(number, hello, connection.address))

    # connections go

    def _drop(self, peer: int, reason: str) -> None:
        connection = self._peers.get(peer)
        if connection is not None:
            self._handle(connection, connection.session.close(reason))

    def _send(
        self, connection: Connection, kind: int, buffers: Sequence[Buffer], size: int
    ) -> None:
        if connection.is_open:
            connection.session.send(kind, buffers)
        with self._lock:
            connection.queued -= size

    def _close(self, connection: Connection, event: wire.Closed) -> None:
        """A session is over."""
        peer = connection.peer
        if peer is not None:
            with self._lock:
                del self._peers[peer]
            self._tell(Lost(peer, event.reason, event.error))
        elif not connection.is_spare:
            error = event.error or LinkError(event.reason, Rule.CLOSE)
            self._refuse(Refused(connection.address, error, connection.dialled))
        connection.finish(self._clock())

    def _refuse(self, event: Refused) -> None:
        """Tell of a connection that never opened; not of each one, when strangers call."""
        now = self._clock()
        what = (event.address[0], event.error.rule)
        if not event.dialled:
            if now < self._told.get(what, -math.inf) + QUIET_SECONDS:
                return
            self._told = {w: t for w, t in self._told.items() if now < t + QUIET_SECONDS}
            self._told[what] = now
        self._tell(event)

    def _remove(self, connection: Connection) -> None:
        if connection in self._connections:
            with self._lock:
                self._connections.discard(connection)
                self._gone.update(sent=connection.sent, received=connection.received)
            self._watch(connection.socket, 0, None)
            connection.end()

    def _end(self, reason: str) -> None:
        self._is_ending = True
        if self._listener is not None:
            self._watch(self._listener, 0, None)
        for connection in list(self._connections):
            self._handle(connection, connection.session.close(reason))

    def _free(self) -> None:
        for connection in list(self._connections):
            self._remove(connection)
        self._selector.close()
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            os.close(self._bell)
            self._bell = -1

    def _forget(self) -> None:
        """In a forked process: free what keeps connections of the parent open."""
        files = [c.socket for c in self._connections]
        files += [self._listener] if self._listener is not None else []
        for file in files:
            with contextlib.suppress(OSError):  # it was closed before
                os.close(file.detach())


def _precedence(connection: Connection) -> tuple[bool, int]:
    """Which of two connections between two boxes stays; both sides compute the same."""
    own, peer = connection.session.hello, connection.session.peer
    assert peer is not None
    caller, called = (own, peer) if connection.dialled else (peer, own)
    return caller.box < called.box, caller.attempt


def _listen(where: Address | socket.socket) -> socket.socket:
    if isinstance(where, socket.socket):
        where.setblocking(False)
        return where
    try:
        family, address = _numeric(where)
        listener = socket.create_server(address, family=family, backlog=128)
    except OSError as error:
        text = f"cannot listen on {where[0]}:{where[1]}: {error.strerror or error}"
        raise LinkError(text, Rule.LINK) from error
    listener.setblocking(False)
    return listener


def _numeric(address: Address) -> tuple[int, Any]:
    """The family and the system's form of an address; asks no name server."""
    host, port = address
    flags = socket.AI_NUMERICHOST
    family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
    return family, where


_networks: weakref.WeakSet[TcpNetwork] = weakref.WeakSet()


@functools.cache
def _register() -> None:
    os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    for network in list(_networks):
        network._forget()


def _forget_in_children(network: TcpNetwork) -> None:
    """Processes that the script forks must not keep our connections open after our death."""
    _register()
    _networks.add(network)
