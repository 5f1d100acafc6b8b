"""The door of a box: lets boxes in, and hears what other launchers have to say.

A thread accepts connections, each is then served by a thread of its own, and both only ever touch
the register, under its lock. The launcher's own thread looks in now and then: it takes what is to
be said (`sayings`) and asks the register.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

import msgspec

from pellucid.errors import NetworkError
from pellucid.launch.bundle import Bundle
from pellucid.launch.channel import Channel
from pellucid.launch.register import Register
from pellucid.launch.rendezvous import (
    PIECE_BYTES,
    Admitted,
    Begin,
    Elsewhere,
    Heard,
    Knock,
    News,
    Over,
    Plan,
    Ready,
    Refused,
    Waiting,
)
from pellucid.settings import Address, Peer
from pellucid.transport.identity import Identity
from pellucid.wire.session import Hello

__all__ = ["Door", "Saying"]

MOST_VISITORS: Final = 64  # at once: who comes beyond that is turned away before it says anything
UNPACK_SECONDS: Final = 600.0  # for a visitor with a slow disk
SIGN_SECONDS: Final = 15.0  # a visitor that waits says so every few seconds
LOOK_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 60.0  # between two words about the same stranger
CALL_SECONDS: Final = 3.0  # another box of ours answers at once or is gone


@dataclass(frozen=True)
class Saying:
    """Something the user should know.

    Attributes:
        text: for people.
        box: whom it is about; None when nobody was let in.
    """

    text: str
    box: int | None = None


class Door:
    """Answers other launchers.

    Args:
        listener: a listening socket; it is the door's from now on.
        identity: what this box proves itself with.
        hello: what it says of itself.
        register: who is in.
        plan: what the first box decided.
        bundle: script and files.
    """

    def __init__(
        self,
        listener: socket.socket,
        identity: Identity,
        hello: Hello,
        *,
        register: Register,
        plan: Plan,
        bundle: Bundle,
    ) -> None:
        self.register = register
        self.lock = threading.Lock()
        self.sayings: SimpleQueue[Saying] = SimpleQueue()
        self._listener = listener
        self._identity = identity
        self._hello = hello
        self._plan = plan
        self._bundle = bundle
        self._begun = threading.Event()
        self._closed = threading.Event()
        self._told: dict[tuple[str, str], float] = {}  # strangers: address and broken rule, when
        self._places = threading.Semaphore(MOST_VISITORS)
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._accept, name="pellucid-door", daemon=True)

    def open(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def begin(self) -> None:
        """Let those that were let in start their scripts, and all that come later."""
        self._begun.set()

    def close(self) -> None:
        """Answer nobody any more."""
        self._closed.set()
        os.close(self._woken)
        self._thread.join()
        self._listener.close()
        os.close(self._wake)

    def call_all(self, message: News | Over) -> None:
        """Tell all boxes that live, each from a thread; returns when all have heard or failed."""
        with self.lock:
            living = [self.register.peers.get(box) for box in self.register.living]
        others = [p for p in living if p is not None and p.box != self.register.here.box]
        threads = [threading.Thread(target=self._call, args=(p, message)) for p in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _call(self, peer: Peer, message: News | Over) -> None:
        # one that cannot be reached now learns it later: news come again with the next box, and
        # the end of the run from the workers
        with contextlib.suppress(NetworkError, OSError):
            channel = Channel.dial(peer.door, self._identity, self._hello, seconds=CALL_SECONDS)
            channel.tell(message)
            channel.hear()
            channel.close()

    # threads

    def _accept(self) -> None:
        self._listener.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while not self._closed.is_set():
                selector.select()
                try:
                    connection, address = self._listener.accept()
                except OSError:
                    # it went away again, or files have run out: do not spin
                    self._closed.wait(LOOK_SECONDS)
                    continue
                if self._places.acquire(blocking=False):
                    self._start(self._serve, connection, Address(address[0], address[1]))
                else:
                    connection.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        threading.Thread(target=target, args=args, name="pellucid-visit", daemon=True).start()

    def _serve(self, connection: socket.socket, address: Address) -> None:
        try:
            channel = Channel.answer(connection, self._identity, self._hello, str(address))
            try:
                self._talk(channel, address)
            finally:
                channel.close()
        except NetworkError as error:
            self._tell_of_stranger(address, error)
        finally:
            connection.close()
            self._places.release()

    def _tell_of_stranger(self, address: Address, error: NetworkError) -> None:
        """Who was turned away and why; of who calls again and again, not each time."""
        now, what = time.monotonic(), (address.host, error.rule)
        with self.lock:
            quiet = now - self._told.get(what, -QUIET_SECONDS) < QUIET_SECONDS
            self._told = {w: t for w, t in self._told.items() if now - t < QUIET_SECONDS}
            if not quiet:
                self._told[what] = now
        if not quiet:
            self.sayings.put(Saying(f"turned away {address}: {error}"))

    def _talk(self, channel: Channel, address: Address) -> None:
        match channel.hear():
            case Knock() as knock:
                self._admit(channel, address, knock)
            case News(peers):
                with self.lock:
                    self.register.learn(peers)
                channel.tell(Heard())
            case Over() as over:
                with self.lock:
                    self.register.over = over
                channel.tell(Heard())
            case other:
                channel.tell(Refused(f"{type(other).__name__} is no way to begin"))

    def _admit(self, channel: Channel, address: Address, knock: Knock) -> None:
        with self.lock:
            answer = self.register.ask()
        if isinstance(answer, (Refused, Elsewhere)):
            channel.tell(answer)
            if isinstance(answer, Refused):
                self.sayings.put(
                    Saying(f"box {knock.name} ({address}) not let in: {answer.reason}")
                )
            return
        channel.tell(Admitted(answer, self._plan))
        entered = False
        try:
            self._send_bundle(channel)
            peer = self._await_ready(channel)
            with self.lock:
                entered = self.register.enter(peer) if peer.box == answer else False
            if not entered:
                channel.tell(Refused(f"you are box {answer}, not {peer.box}"))
                return
            self._let_begin(channel, peer, knock)
        except NetworkError as error:
            with self.lock:
                self.register.leave(answer)
            text = (
                f"box {answer} ({knock.name}, {address}) went away before it had started: {error}"
            )
            self.sayings.put(Saying(text, answer))

    def _send_bundle(self, channel: Channel) -> None:
        with self._bundle.path.open("rb") as packed:
            while piece := packed.read(PIECE_BYTES):
                channel.send_piece(piece)

    def _await_ready(self, channel: Channel) -> Peer:
        until = time.monotonic() + UNPACK_SECONDS
        while True:
            message = channel.hear(max(1.0, until - time.monotonic()))
            if isinstance(message, Ready):
                return message.peer
            if not isinstance(message, Waiting):
                channel.close("ready, or nothing")
                msg = f"it said {type(message).__name__} where it should be ready"
                raise NetworkError(msg)

    def _let_begin(self, channel: Channel, peer: Peer, knock: Knock) -> None:
        workers = f"{knock.workers} worker" + ("s" if knock.workers != 1 else "")
        text = f"box {peer.box} ({peer.name}, {peer.door}, {workers}) is in"
        self.sayings.put(Saying(text, peer.box))
        while not self._begun.wait(LOOK_SECONDS):
            channel.tell(Waiting())
            if not isinstance(channel.hear(SIGN_SECONDS), Waiting):
                msg = "it did not wait"
                raise NetworkError(msg)
        with self.lock:
            before = [_seen_from(channel, p) for p in self.register.before(peer.box)]
            everybody = list(self.register.peers.values())
        channel.tell(Begin(before))
        self.call_all(News(everybody))


def _seen_from(channel: Channel, peer: Peer) -> Peer:
    """A box that listens on all of its addresses is named by the one the visitor came to."""

    def seen(address: Address) -> Address:
        wild = address.host in ("0.0.0.0", "::", "")
        return Address(channel.local, address.port) if wild else address

    return msgspec.structs.replace(peer, data=seen(peer.data), door=seen(peer.door))
