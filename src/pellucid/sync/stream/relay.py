"""The other workers of a box reach its node through the first one.

[Note: relay]
A worker asks, the first worker answers, one question at a time: over a pair of sockets that the
launcher made, as msgpack, a message each. The first worker has a thread for each of the others; so
one that waits for a batch holds up nobody. A worker that dies leaves an end of its socket, and its
batches go back.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from pellucid.errors import PellucidError, StoppedError
from pellucid.sync.shared.dealer import Lease, Opened, PassKey, Role
from pellucid.sync.stream.dealer import ClusterDealer
from pellucid.sync.stream.exchange import BlockFacts, BoxExchange

__all__ = ["Caller", "RelayedDealer", "RelayedExchange", "serve"]

LARGEST: Final = 1 << 20  # bytes of a message

_Packed = tuple[int, int, int]  # a lease: its pass's loader and number, and its index


class Caller:
    """A worker's end.

    Args:
        fd: its socket.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    def call(self, name: str, *values: Any) -> Any:
        """Ask the first worker.

        Raises:
            StoppedError: it has ended.
            PellucidError: what it came to instead of an answer.
        """
        try:
            self._socket.sendall(msgspec.msgpack.encode((name, values)))
            answer = self._socket.recv(LARGEST)
        except OSError:
            answer = b""
        if not answer:
            msg = "the box's first worker has ended, and this one with it"
            raise StoppedError(msg)
        error, value = msgspec.msgpack.decode(answer)
        if error:
            raise PellucidError(error)
        return value


class RelayedDealer:
    """A dealer that asks the first worker's; see `Dealer`.

    Args:
        caller: this worker's end.
        on_take: called whenever the script is about to get a batch.
    """

    def __init__(self, caller: Caller, on_take: Callable[[], None]) -> None:
        self._call = caller.call
        self._on_take = on_take

    def open(
        self, key: PassKey, order: bytes, batches: int | None, *, trains: bool = False
    ) -> Opened:
        """See `Dealer.open`."""
        role, agreed = self._call("open", key, order, batches, trains)
        return Opened(Role(role), agreed)

    def decide(self, key: PassKey, *, trains: bool) -> None:
        """See `Dealer.decide`."""
        self._call("decide", key, trains)

    def undecided(self, key: PassKey) -> None:
        """See `Dealer.undecided`."""
        self._call("undecided", key)

    def take(self, key: PassKey) -> Lease | None:
        """See `Dealer.take`."""
        self._on_take()
        return answered(self._call("take", key))

    def done(self, lease: Lease) -> None:
        """See `Dealer.done`."""
        self._call("done", packed(lease))

    def ended(self, lease: Lease) -> None:
        """See `Dealer.ended`."""
        self._call("ended", packed(lease))

    def finish(self, key: PassKey) -> Lease | None:
        """See `Dealer.finish`."""
        return answered(self._call("finish", key))

    def close(self, key: PassKey, undone: list[Lease]) -> None:
        """See `Dealer.close`."""
        self._call("close", key, [packed(lease) for lease in undone])

    def progress(self, key: PassKey) -> int:
        """See `Dealer.progress`."""
        return int(self._call("progress", key))


class RelayedExchange:
    """An exchange that asks the first worker's; see `Exchange`.

    Args:
        caller: this worker's end.
    """

    def __init__(self, caller: Caller) -> None:
        self._call = caller.call

    def add(self, facts: BlockFacts) -> None:
        """See `Exchange.add`."""
        self._call("add", facts)

    def correct(self, blocks: Iterable[str] | None = None) -> None:
        """Nothing: it happens in the first worker whenever this one takes a batch."""

    def change(self, block: str, apply: Callable[[], None]) -> None:  # noqa: ARG002
        """See `Exchange.change`; only a first worker leads, and has changes that count."""
        apply()

    def stride(self) -> float:
        """See `Exchange.stride`."""
        return float(self._call("stride"))


def serve(fd: int, dealer: ClusterDealer, exchange: BoxExchange) -> threading.Thread:
    """Answer one worker's questions, from a thread of its own, until it ends.

    Args:
        fd: the first worker's end of the socket.
        dealer: that worker's.
        exchange: of the box.
    """
    desk = _Desk(dealer, exchange)

    def run() -> None:
        with socket.socket(fileno=fd) as line:
            while question := line.recv(LARGEST):
                line.sendall(desk.answer(question))
        dealer.abandon()

    thread = threading.Thread(target=run, name="pellucid-relay", daemon=True)
    thread.start()
    return thread


class _Desk:
    """What a worker may ask."""

    def __init__(self, dealer: ClusterDealer, exchange: BoxExchange) -> None:
        self._dealer = dealer
        self._exchange = exchange

    def answer(self, question: bytes) -> bytes:
        """Answer one question."""
        name, values = msgspec.msgpack.decode(question)
        try:
            return msgspec.msgpack.encode(("", getattr(self, f"_{name}")(*values)))
        except (PellucidError, SystemExit) as error:  # told to the script that asked
            return msgspec.msgpack.encode((str(error) or "the box leaves the run", None))

    def _open(
        self,
        key: list[int],
        order: bytes,
        batches: int | None,
        trains: bool,
    ) -> tuple[str, bytes]:
        opened = self._dealer.open(PassKey(*key), order, batches, trains=trains)
        return opened.role.value, opened.order

    def _decide(self, key: list[int], trains: bool) -> None:
        self._dealer.decide(PassKey(*key), trains=trains)

    def _undecided(self, key: list[int]) -> None:
        self._dealer.undecided(PassKey(*key))

    def _take(self, key: list[int]) -> _Packed | None:
        return packed(self._dealer.take(PassKey(*key)))

    def _done(self, lease: _Packed) -> None:
        self._dealer.done(unpacked(lease))

    def _ended(self, lease: _Packed) -> None:
        self._dealer.ended(unpacked(lease))

    def _finish(self, key: list[int]) -> _Packed | None:
        return packed(self._dealer.finish(PassKey(*key)))

    def _close(self, key: list[int], undone: list[_Packed]) -> None:
        self._dealer.close(PassKey(*key), [unpacked(lease) for lease in undone])

    def _progress(self, key: list[int]) -> int:
        return self._dealer.progress(PassKey(*key))

    def _add(self, facts: dict[str, Any]) -> None:
        self._exchange.add(msgspec.convert(facts, BlockFacts))

    def _stride(self) -> float:
        return self._exchange.stride()


def packed(lease: Lease | None) -> _Packed | None:
    return None if lease is None else (lease.key.loader, lease.key.number, lease.index)


def unpacked(lease: _Packed) -> Lease:
    loader, number, index = lease
    return Lease(PassKey(loader, number), index)


def answered(lease: _Packed | None) -> Lease | None:
    return None if lease is None else unpacked(lease)
