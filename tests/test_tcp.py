"""Boxes over TCP, on loopback: what is sent arrives, what fails is told once, nothing is left."""

from __future__ import annotations

import functools
import gc
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.errors import (
    LinkError,
    LocalProtocolError,
    MismatchError,
    NetworkError,
    RemoteProtocolError,
)
from pellucid.transport import connection, tcp
from pellucid.transport.identity import Identity
from pellucid.transport.network import Connected, Event, Lost, Network, Received, Refused
from pellucid.transport.tcp import TcpNetwork
from pellucid.wire.session import VISITOR, Hello, Role, Session, State
from tests.wire.pairs import CHUNK, CONTROL, KINDS, closed, hello, said

ANY = ("127.0.0.1", 0)
PATIENCE = 20.0  # seconds; nothing takes as long unless it is broken


class Box:
    """A network, and what it told so far that nobody asked for."""

    def __init__(self, network: TcpNetwork) -> None:
        self.network = network
        self.address = network.address
        self.events: list[Event] = []

    def wait(self, *types: type) -> list[Any]:
        """The next events, which must be of these types."""
        until = time.monotonic() + PATIENCE
        while len(self.events) < len(types) and time.monotonic() < until:
            self.events += self.network.poll(0.2)
        found, self.events = self.events[: len(types)], self.events[len(types) :]
        assert [type(e) for e in found] == list(types), found
        return found

    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until
            self.events += self.network.poll(0.02)


Boxes = Callable[..., Box]


@pytest.fixture(scope="module")
def identities() -> dict[tuple[str, bool], Identity]:
    secrets = ("a secret of this run", "another run's secret")
    return {(s, e): Identity(s, encrypted=e) for s in secrets for e in (True, False)}


@pytest.fixture(params=[True, False], ids=["encrypted", "plain"])
def encrypted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left() -> None:
    """What other modules' tests left shall not be collected, and its files closed, during these."""
    gc.collect()


@pytest.fixture
def boxes(encrypted: bool, identities: dict[tuple[str, bool], Identity]) -> Iterator[Boxes]:
    """Makes boxes by number; all are closed in the end, and leave nothing behind."""
    files, threads = open_files(), threading.active_count()
    made: list[Box] = []

    def make(
        number: int,
        *,
        secret: str = "a secret of this run",
        encrypted: bool = encrypted,
        listen: Any = ANY,
        words: Hello | None = None,
        **other: Any,
    ) -> Box:
        identity = identities[secret, encrypted]
        network = TcpNetwork(identity, words or hello(number), KINDS, listen=listen, **other)
        made.append(Box(network))
        return made[-1]

    yield make
    for box in made:
        box.network.close()
    assert threading.active_count() == threads
    assert open_files() == files


def joined(boxes: Boxes) -> tuple[Box, Box]:
    one, two = boxes(0), boxes(1)
    two.network.connect(one.address)
    assert one.wait(Connected)[0].hello.port == two.address[1]
    assert two.wait(Connected) == [Connected(0, hello(0, port=one.address[1]), one.address)]
    return one, two


def test_a_network_is_one(boxes: Boxes) -> None:
    network: Network = boxes(0).network
    assert network.poll(0) == []
    network.send(7, CONTROL, [b"to nobody"])
    assert network.backlog(7) == 0


def test_frames_of_all_sizes_go_both_ways_at_once(boxes: Boxes) -> None:
    one, two = joined(boxes)
    rng = random.Random(1)
    bodies = [rng.randbytes(n) for n in (0, 1, 5000, 16384, 65536, 70_001, 1 << 20, 4 << 20)]
    for body in bodies:
        one.network.send(1, CHUNK, [body])
        two.network.send(0, CHUNK, [body[:3], body[3:]])
    for box, peer in ((one, 1), (two, 0)):
        got = box.wait(*[Received] * len(bodies))
        assert [(e.peer, e.kind, bytes(e.body)) for e in got] == [(peer, CHUNK, b) for b in bodies]
    one.wait_until(lambda: one.network.backlog(1) == 0)
    sent = one.network.statistics()
    assert sent.sent > sum(map(len, bodies))
    assert sent.peers[1].round_trip > 0
    assert sent.peers[1].received > sum(map(len, bodies))
    assert sent.peers[1].silent < PATIENCE


def test_many_small_frames_keep_their_order(boxes: Boxes) -> None:
    one, two = joined(boxes)
    for number in range(2000):
        one.network.send(1, CONTROL, [number.to_bytes(4, "big")])
    got = two.wait(*[Received] * 2000)
    assert [int.from_bytes(e.body, "big") for e in got] == list(range(2000))


def test_arrays_are_sent_as_they_are(boxes: Boxes) -> None:
    one, two = joined(boxes)
    array = np.arange(300_000, dtype=np.float32)
    one.network.send(1, CHUNK, [b"head", array.data])
    (got,) = two.wait(Received)
    assert (np.frombuffer(got.body[4:], np.float32) == array).all()
    got.body[0] = 1  # it is the receiver's own


def test_the_urgent_does_not_wait_for_what_is_long(boxes: Boxes) -> None:
    one, two = joined(boxes)
    for _ in range(10):
        one.network.send(1, CHUNK, [bytes(4 << 20)])
    one.network.send(1, CONTROL, [b"first"])
    kinds = [e.kind for e in two.wait(*[Received] * 11)]
    assert CONTROL in kinds[:2]


def test_misuse_is_told_to_who_does_it(boxes: Boxes) -> None:
    one, _ = joined(boxes)
    with pytest.raises(LocalProtocolError, match="kind 99"):
        one.network.send(1, 99, [b""])
    with pytest.raises(LocalProtocolError, match="chunk frame of 4,194,305 bytes"):
        one.network.send(1, CHUNK, [bytes((4 << 20) + 1)])


# comings and goings


def test_a_goodbye_is_no_error_and_comes_last(boxes: Boxes) -> None:
    one, two = joined(boxes)
    one.network.send(1, CHUNK, [bytes(3 << 20)])
    one.network.close("its work is done")
    got, lost = two.wait(Received, Lost)
    assert len(got.body) == 3 << 20
    assert lost == Lost(0, "its work is done")


def test_who_was_dropped_may_come_again(boxes: Boxes) -> None:
    one, two = joined(boxes)
    for _ in range(3):
        one.network.drop(1, "for a reason")
        assert one.wait(Lost) == [Lost(1, "for a reason")]
        assert two.wait(Lost) == [Lost(0, "for a reason")]
        two.network.connect(one.address)
        one.wait(Connected)
        two.wait(Connected)
    two.network.send(0, CONTROL, [b"hi"])
    one.wait(Received)


def test_two_that_call_at_once_keep_one_connection(boxes: Boxes) -> None:
    one, two = boxes(0), boxes(1)
    for _ in range(5):
        one.network.connect(two.address)
        two.network.connect(one.address)
    for here, there, number in ((one, two, 1), (two, one, 0)):
        there.wait_until(functools.partial(settled, here, number))
    assert one.network.statistics().peers.keys() == {1}
    calls = {box.network._peers[n].dialled for box, n in ((one, 1), (two, 0))}
    assert calls == {True, False}  # the two ends of one connection
    assert one.network._peers[1].dialled  # by the lower number
    one.events.clear()
    one.network.poll(0)
    two.network.send(0, CONTROL, [b"hi"])
    one.wait_until(lambda: any(isinstance(e, Received) for e in one.events))


def test_what_comes_on_a_connection_that_does_not_stay_is_passed_over(boxes: Boxes) -> None:
    one, two = boxes(0, encrypted=False), boxes(1, encrypted=False)
    one.network.connect(two.address)
    one.wait(Connected)
    two.wait(Connected)
    with socket.create_connection(one.address) as sock:
        key = Identity("a secret of this run", encrypted=False).proof_key
        spare = Session(
            Role.DIALS, key, hello=hello(1), kinds=KINDS, nonce=os.urandom(32), now=time.monotonic()
        )
        sock.settimeout(PATIENCE)
        while spare.state is not State.OPEN:
            if spare.state is not State.MEETING:
                sock.sendall(said(spare))
            spare.receive(sock.recv(1000))
        spare.send(CONTROL, [b"nobody hears this"])
        sock.sendall(said(spare))  # the hello, and it
        assert closed(spare.receive(sock.recv(1000))).reason == "another connection stays"
    two.network.send(0, CONTROL, [b"this is heard"])
    assert bytes(one.wait(Received)[0].body) == b"this is heard"


def test_a_handshake_that_hangs_costs_nothing(boxes: Boxes) -> None:
    """Somebody answers a call, and then says nothing."""
    now = [0.0]
    one = boxes(0, clock=lambda: now[0])
    with socket.create_server(ANY) as silent:
        one.network.connect(silent.getsockname())
        peer, _ = silent.accept()
        peer.settimeout(PATIENCE)
        assert peer.recv(1000)
        steps, step = [0], one.network._step

        def counted() -> None:
            steps[0] += 1
            step()

        one.network._step = counted  # type: ignore[method-assign]
        one.network._do(lambda: None)
        assert one.network.poll(0.3) == []
        assert steps[0] < 10
        now[0] = 11.0
        assert refusal(one).error.rule == "time"
        peer.close()


def settled(box: Box, number: int) -> bool:
    """Whether the connection that stays is the only one left."""
    return list(box.network._connections) == [box.network._peers.get(number)]


def test_a_box_that_was_started_again_replaces_itself(boxes: Boxes) -> None:
    one, _ = joined(boxes)
    again = boxes(1, words=hello(1, boot=999))
    again.network.connect(one.address)
    again.wait(Connected)
    lost, connected = one.wait(Lost, Connected)
    assert lost.reason == "a newer connection replaces this one"
    assert connected.hello.boot == 999


def test_visitors_have_numbers_of_their_own(boxes: Boxes) -> None:
    one = boxes(0)
    visitors = [boxes(VISITOR, words=hello(VISITOR, boot=n), listen=None) for n in (50, 51)]
    numbers = []
    for visitor in visitors:
        visitor.network.connect(one.address)
        visitor.wait(Connected)
        numbers.append(one.wait(Connected)[0].peer)
    assert numbers == [-1, -2]
    one.network.send(-2, CONTROL, [b"you"])
    assert visitors[1].wait(Received)[0].peer == 0


def test_a_connection_that_breaks_is_lost_once(boxes: Boxes) -> None:
    one, two = joined(boxes)
    two.network._do(lambda: two.network._peers[0].socket.shutdown(socket.SHUT_RDWR))
    lost = one.wait(Lost)[0]
    assert isinstance(lost.error, LinkError)
    assert "without a goodbye" in lost.reason
    two.wait(Lost)
    assert one.network.poll(0.05) == []
    one.network.send(1, CONTROL, [b"to who is gone"])


def test_a_listening_socket_may_be_given(boxes: Boxes) -> None:
    listener = socket.create_server(ANY)
    one, two = boxes(0, listen=listener), boxes(1)
    assert one.address == listener.getsockname()
    two.network.connect(one.address)
    two.wait(Connected)


def test_dead_connections_are_looked_for(boxes: Boxes) -> None:
    one, _ = joined(boxes)
    sock = one.network._peers[1].socket
    options = {
        "TCP_NODELAY": 1,
        "TCP_USER_TIMEOUT": 10_000,
        "TCP_KEEPIDLE": 4,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 3,
    }
    for name, value in options.items():
        assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


# who does not get in


def refusal(box: Box) -> Refused:
    (event,) = box.wait(Refused)
    assert isinstance(event, Refused)
    return event


def test_another_secret_is_refused_on_both_sides(boxes: Boxes) -> None:
    one, two = boxes(0), boxes(1, secret="another run's secret")
    two.network.connect(one.address)
    inside, outside = refusal(one), refusal(two)
    assert (inside.dialled, outside.dialled) == (False, True)
    assert outside.address == one.address
    assert {inside.error.rule, outside.error.rule} <= {"proof", "end"}
    assert "secret" in str(inside.error)
    assert "secret" in str(outside.error)
    assert any(isinstance(e.error, MismatchError) for e in (inside, outside))


def test_encryption_on_one_side_only_is_refused(boxes: Boxes, encrypted: bool) -> None:
    one, two = boxes(0), boxes(1, encrypted=not encrypted)
    two.network.connect(one.address)
    inside, outside = refusal(one), refusal(two)
    assert inside.error.rule == "greeting"
    assert "encrypted" in str(inside.error)
    assert "encrypted" in str(outside.error)


def test_another_torch_is_refused_and_both_know_why(boxes: Boxes) -> None:
    one, two = boxes(0), boxes(1, words=hello(1, torch="1.13"))
    two.network.connect(one.address)
    for box in (one, two):
        error = refusal(box).error
        assert error.rule == "torch"
        assert "box 0 has torch 2.13.0+cpu, box 1 has torch 1.13" in str(error)


def test_calling_oneself_is_refused(boxes: Boxes) -> None:
    one = boxes(0)
    one.network.connect(one.address)
    assert {e.error.rule for e in one.wait(Refused, Refused)} == {"itself"}


def test_nobody_answers(boxes: Boxes) -> None:
    one = boxes(0)
    with socket.create_server(ANY) as closed:
        address = closed.getsockname()
    one.network.connect(address)
    event = refusal(one)
    assert (event.address, event.dialled) == (address, True)
    assert "Connection refused" in str(event.error)
    one.network.connect(("no-number", 1))
    assert isinstance(refusal(one).error, LinkError)


def test_an_address_in_use_is_an_error_at_once(boxes: Boxes) -> None:
    one = boxes(0)
    with pytest.raises(LinkError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"):
        boxes(1, listen=one.address)


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, os.urandom(5000)])
def test_strangers_are_sent_away(boxes: Boxes, words: bytes) -> None:
    one = boxes(0)
    with socket.create_connection(one.address) as stranger:
        stranger.sendall(words)
        stranger.settimeout(PATIENCE)
        answer = b"".join(iter(lambda: receive(stranger), b""))
    assert b"pellucid" not in answer
    assert isinstance(refusal(one).error, RemoteProtocolError | LinkError)


def receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1000)
    except ConnectionResetError:
        return b""


def test_who_says_nothing_is_sent_away_in_time(boxes: Boxes) -> None:
    now = [0.0]
    one = boxes(0, clock=lambda: now[0])
    with socket.create_connection(one.address) as stranger:
        one.wait_until(lambda: len(one.network._connections) == 1)
        stranger.settimeout(PATIENCE)
        now[0] = 11.0
        assert receive(stranger) == b""
    assert refusal(one).error.rule == "time"


def test_a_flood_of_strangers_keeps_nobody_out(boxes: Boxes) -> None:
    one = boxes(0)
    crowd = []
    for host in range(2, 10):
        for _ in range(tcp.UNPROVEN_A_HOST + 2):
            stranger = socket.create_connection(one.address, source_address=(f"127.0.0.{host}", 0))
            crowd.append(stranger)
    two = boxes(1)
    two.network.connect(one.address)
    two.wait(Connected)
    assert len(one.network._connections) <= tcp.UNPROVEN + 1
    one.wait_until(lambda: any(isinstance(e, Connected) for e in one.events))
    refusals = [e for e in one.events if isinstance(e, Refused)]
    assert {e.error.rule for e in refusals} <= {"limit", "end"}
    assert len(refusals) <= 2 * 8  # one a host and a rule, not one a stranger
    for stranger in crowd:
        stranger.close()


# pressure and failure


def test_nobody_polls_and_memory_stays_bounded(
    boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "UNREAD_BYTES", 2 << 20)
    one, two = joined(boxes)
    for _ in range(30):
        one.network.send(1, CHUNK, [bytes(4 << 20)])
    until = time.monotonic() + PATIENCE
    while not two.network._is_paused and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert two.network._is_paused
    assert two.network._unread <= 16 << 20
    assert one.network.backlog(1) > 60 << 20
    got = two.wait(*[Received] * 30)
    assert sum(len(e.body) for e in got) == 120 << 20


def test_a_defect_of_the_thread_is_not_silent(
    boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = joined(boxes)

    def fail(*_: object) -> None:
        msg = "defect"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(one.network, "_serve", fail)
    two.network.send(0, CONTROL, [b"hi"])
    with pytest.raises(NetworkError, match="thread failed: ZeroDivisionError") as caught:
        one.wait_until(lambda: False)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    two.wait(Lost)


def test_forked_processes_hold_no_connection_open(boxes: Boxes) -> None:
    one, two = joined(boxes)
    number = two.network._peers[0].socket.fileno()
    inode = os.fstat(number).st_ino
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:  # the number may be somebody else's by now
            os.write(write, b"open" if os.fstat(number).st_ino == inode else b"closed")
        except OSError:
            os.write(write, b"closed")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"closed"
    os.close(read)
    os.close(write)
    two.network.send(0, CONTROL, [b"still there"])
    one.wait(Received)


def test_too_many_open_files_are_told_and_pass(
    boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = boxes(0), boxes(1)
    real: Any = one.network._listener
    failures = [OSError(24, "Too many open files")]

    class Failing:
        def accept(self) -> tuple[socket.socket, Any]:
            if failures:
                raise failures.pop()
            return real.accept()  # type: ignore[no-any-return]

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    monkeypatch.setattr(one.network, "_listener", Failing())
    two.network.connect(one.address)
    assert "Too many open files" in str(one.wait(Refused, Connected)[0].error)


def test_words_that_nobody_hears_end(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that stopped reading does not keep us from leaving."""
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(tcp, "UNREAD_BYTES", 1)
    one, _ = joined(boxes)
    for _ in range(20):
        one.network.send(1, CHUNK, [bytes(4 << 20)])
    one.network.close()
    assert not one.network._thread.is_alive()
