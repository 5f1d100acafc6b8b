"""Sessions: what is proven, what is refused, who is to blame."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import (
    LinkError,
    LocalProtocolError,
    MismatchError,
    NetworkError,
    RemoteProtocolError,
)
from pellucid.wire import session as wire
from pellucid.wire.framing import HEADER
from pellucid.wire.rules import Rule
from pellucid.wire.session import Closed, Event, Opened, Role, Session, State
from tests.wire.pairs import (
    CHUNK,
    CONTROL,
    broken,
    closed,
    exchange,
    frames,
    hello,
    pair,
    said,
    session,
)

GREETING, PROOF, HELLO, CLOSE = 1, 2, 3, 6


def frame(kind: int, body: bytes) -> bytes:
    return HEADER.pack(kind, len(body)) + body


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_both_prove_themselves_and_say_hello(step: int) -> None:
    dialer, listener = session(Role.DIALS), session(Role.LISTENS)
    assert exchange(dialer, listener, step=step) == (
        [Opened(hello(0))],
        [Opened(hello(1))],
    )
    assert (dialer.state, listener.state) == (State.OPEN, State.OPEN)
    assert (dialer.peer, listener.peer) == (hello(0), hello(1))


def test_a_listener_says_nothing_to_who_does_not_greet() -> None:
    listener = session(Role.LISTENS)
    assert said(listener) == b""
    assert listener.tick(9.9) == []
    assert broken(listener.tick(10)).rule == "time"
    assert said(listener) == b""


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_frames_go_both_ways(step: int) -> None:
    dialer, listener = pair()
    body = random.Random(1).randbytes(100_000)
    dialer.send(CHUNK, [body[:10], body[10:]])
    dialer.send(CONTROL, [])
    listener.send(CONTROL, [b"hi"])
    to_dialer, to_listener = exchange(dialer, listener, limit=9_000, piece=20_000, step=step)
    assert frames(to_dialer) == [(CONTROL, b"hi")]
    assert frames(to_listener) == [(CONTROL, b""), (CHUNK, body)]


def test_a_goodbye_comes_after_what_was_queued() -> None:
    dialer, listener = pair()
    dialer.send(CHUNK, [b"last"])
    assert dialer.close("work is done") == [Closed("work is done")]
    _, events = exchange(dialer, listener)
    assert frames(events) == [(CHUNK, b"last")]
    assert closed(events) == Closed("work is done")
    assert dialer.close("again") == []
    assert dialer.receive(b"whatever") == dialer.ended() == dialer.tick(99) == []


# who does not know the secret


def test_another_secret_is_refused_by_the_listener_who_tells_nothing() -> None:
    dialer, listener = session(Role.DIALS, key=b"x" * 32), session(Role.LISTENS)
    to_dialer, to_listener = exchange(dialer, listener)
    assert to_dialer == []
    error = closed(to_listener).error
    assert isinstance(error, MismatchError)
    assert error.rule == "proof"
    assert said(listener) == b""
    assert "most likely the secrets" in closed(dialer.ended()).reason


def test_another_secret_of_the_listener_is_refused_by_the_dialer() -> None:
    """One who answers with a proof of his own making, whatever the dialer's was."""
    dialer, thief = session(Role.DIALS), session(Role.LISTENS, key=b"x" * 32)
    thief.receive(said(dialer))
    dialer.receive(said(thief))
    said(dialer)
    nonces = b"".join(thief._nonces.values())
    assert len(nonces) == 64
    error = closed(dialer.receive(frame(PROOF, thief._proof(Role.LISTENS)))).error
    assert isinstance(error, MismatchError)
    assert said(dialer) == b""


def test_a_proof_sent_back_proves_nothing() -> None:
    """A mirror: it greets with a nonce of its own, and returns the dialer's proof."""
    dialer = session(Role.DIALS)
    said(dialer)
    dialer.receive(frame(GREETING, wire._GREETING.pack(wire.MAGIC, wire.VERSION, b"m" * 32)))
    proof = said(dialer)
    assert broken(dialer.receive(proof)).rule == "proof"


def test_a_greeting_sent_back_is_refused() -> None:
    dialer = session(Role.DIALS)
    assert broken(dialer.receive(said(dialer))).rule == "echo"


def test_a_proof_is_not_good_twice() -> None:
    dialer, listener = session(Role.DIALS), session(Role.LISTENS)
    greeting = said(dialer)
    listener.receive(greeting)
    dialer.receive(said(listener))
    proof = said(dialer)
    again = session(Role.LISTENS, seed=77)  # with another nonce
    again.receive(greeting)
    assert broken(again.receive(proof)).rule == "proof"
    assert [type(e) for e in listener.receive(proof)] == []
    assert listener.state is State.MEETING


@pytest.mark.parametrize("position", range(wire._PROOF_BYTES))
def test_every_byte_of_a_proof_counts(position: int) -> None:
    dialer, listener = session(Role.DIALS), session(Role.LISTENS)
    listener.receive(said(dialer))
    dialer.receive(said(listener))
    proof = bytearray(said(dialer))
    proof[HEADER.size + position] ^= 1
    assert broken(listener.receive(proof)).rule == "proof"


# who breaks a rule, in which state


def at(state: State, role: Role) -> Session:
    """A session in a state, whose peer has broken nothing so far."""
    one = session(role)
    two = session(role.other)
    while one.state is not state:
        two.receive(said(one))
        data = said(two)
        length = HEADER.size + HEADER.unpack_from(data)[1]
        one.receive(data[:length])
        if one.state is not state:
            one.receive(data[length:])
    said(one)
    return one


STATES = [State.GREETING, State.PROVING, State.MEETING, State.OPEN]
NEXT = {State.GREETING: GREETING, State.PROVING: PROOF, State.MEETING: HELLO, State.OPEN: None}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [0, GREETING, PROOF, HELLO, 4, 5, 7, 15, CONTROL, CHUNK, 99, 255])
def test_frames_out_of_turn_close_it(role: Role, state: State, kind: int) -> None:
    if kind == NEXT[state] or (state is State.OPEN and kind in (4, CONTROL, CHUNK)):
        return
    here = at(state, role)
    error = closed(here.receive(frame(kind, b""))).error
    assert isinstance(error, RemoteProtocolError)
    assert error.rule in ("kind", "greeting", "pieces")
    told = said(here)
    assert bool(told) is (state in (State.MEETING, State.OPEN))  # nothing to the unproven


@pytest.mark.parametrize("state", [State.GREETING, State.PROVING])
def test_what_is_not_proven_may_not_even_be_long(state: State) -> None:
    here = at(state, Role.LISTENS)
    assert broken(here.receive(HEADER.pack(NEXT[state] or 0, 43))).rule in (
        "greeting",
        "size",
    )


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"\x00" * 64,
        b"\xff" * 64,
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_strangers_are_told_apart(words: bytes) -> None:
    event = closed(session(Role.LISTENS).receive(words))
    assert broken([event]).rule == "greeting"
    assert "does not speak pellucid's protocol" in event.reason


def greet(magic: bytes = wire.MAGIC, version: int = wire.VERSION) -> bytes:
    return frame(GREETING, wire._GREETING.pack(magic, version, b"n" * 32))


def test_another_version_is_named() -> None:
    error = closed(session(Role.LISTENS).receive(greet(version=7))).error
    assert isinstance(error, MismatchError)
    assert error.rule == "version"
    assert "version 7" in str(error)
    assert f"version {wire.VERSION}: install" in str(error)


def test_another_magic_is_no_greeting() -> None:
    assert broken(session(Role.LISTENS).receive(greet(b"PELLUCID"))).rule == "greeting"


@pytest.mark.parametrize(
    ("listener", "dialer", "rule", "words"),
    [
        (
            {"torch": "2.6"},
            {"torch": "3.0.1"},
            "torch",
            "box 0 has torch 2.6, box 1 has torch 3.0.1",
        ),
        ({"torch": "2.6"}, {"torch": "1.13"}, "torch", "install the same major version"),
        ({"run": "a"}, {"run": "b"}, "run", "box 0 belongs to run a, box 1 to run b"),
        ({"boot": 5}, {"boot": 5}, "itself", "called itself"),
        ({"box": 1}, {"box": 1, "boot": 9}, "number", "both given the number 1"),
    ],
)
def test_boxes_that_cannot_work_together_say_why(
    listener: dict[str, Any], dialer: dict[str, Any], rule: str, words: str
) -> None:
    one = session(Role.DIALS, **dialer)
    two = session(Role.LISTENS, **listener)
    events = exchange(one, two)
    errors = [closed(side).error for side in events]
    assert all(isinstance(e, MismatchError) for e in errors), events
    assert [e.rule for e in errors if e] == [rule, rule]
    assert all(words in str(e) for e in errors)


@pytest.mark.parametrize(
    ("listener", "dialer"),
    [
        ({"torch": "2.6"}, {"torch": "2.13.0+cu128"}),
        ({"run": "a"}, {"run": ""}),
        ({"box": -1}, {"box": -1, "boot": 3}),
    ],
)
def test_boxes_that_can_do(listener: dict[str, Any], dialer: dict[str, Any]) -> None:
    one, two = session(Role.DIALS, **dialer), session(Role.LISTENS, **listener)
    exchange(one, two)
    assert (one.state, two.state) == (State.OPEN, State.OPEN)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        msgspec.msgpack.encode({"box": -2, "boot": 0}),
        msgspec.msgpack.encode({"box": 1 << 40, "boot": 0}),
        msgspec.msgpack.encode({"box": 0, "boot": -1}),
        msgspec.msgpack.encode({"box": 0, "boot": 1.5}),
        msgspec.msgpack.encode({"box": 0, "boot": 1, "run": "x" * 501}),
        msgspec.msgpack.encode({"box": 0, "boot": 1, "port": 70000}),
        msgspec.msgpack.encode([0, 1]),
        b"\x83\xa3box\x00\xa4boot\x01\xa3run\xa2\xff\xfe",  # no text
        b"\x91" * 4000,  # deep
    ],
)
def test_hellos_that_make_no_sense_are_refused(body: bytes) -> None:
    here = at(State.MEETING, Role.LISTENS)
    error = closed(here.receive(frame(HELLO, body))).error
    assert isinstance(error, RemoteProtocolError)
    assert error.rule == "hello"


def test_hellos_may_grow() -> None:
    here = at(State.MEETING, Role.LISTENS)
    body = msgspec.msgpack.encode({"box": 1, "boot": 9, "torch": "2.1", "news": [1, 2]})
    assert here.receive(frame(HELLO, body)) == [Opened(hello(1, boot=9, torch="2.1"))]


def test_a_breach_is_told_to_who_committed_it() -> None:
    dialer, listener = pair()
    dialer._writer.put(99, [b"?"], urgent=False)
    dialer.send(CONTROL, [b"after"])
    to_dialer, to_listener = exchange(dialer, listener)
    assert isinstance(closed(to_listener).error, RemoteProtocolError)
    blamed = closed(to_dialer)
    assert isinstance(blamed.error, LocalProtocolError)
    assert blamed.error.rule == "kind"
    assert "the peer ended the session: a frame of kind 99" in blamed.reason


def test_what_came_before_a_breach_counts() -> None:
    here = at(State.OPEN, Role.LISTENS)
    events = here.receive(frame(CONTROL, b"1") + frame(CONTROL, b"2") + frame(99, b""))
    assert frames(events) == [(CONTROL, b"1"), (CONTROL, b"2")]
    assert broken(events).rule == "kind"


def test_a_peers_words_are_shown_without_their_magic() -> None:
    here = at(State.OPEN, Role.LISTENS)
    close = msgspec.msgpack.encode({"reason": "\x1b[31mred\nnews"})
    assert closed(here.receive(frame(CLOSE, close))) == Closed("?[31mred?news")
    here = at(State.OPEN, Role.LISTENS)
    assert broken(here.receive(frame(CLOSE, b"\xc1"))).rule == "close"


@pytest.mark.parametrize("state", STATES)
def test_connections_that_end_are_told_once(state: State) -> None:
    here = at(state, Role.DIALS)
    event = closed(here.ended("Connection reset by peer"))
    assert isinstance(event.error, LinkError)
    assert event.reason == "the connection broke: Connection reset by peer"
    assert here.ended() == []
    assert said(here) == b""


@pytest.mark.parametrize("state", STATES[:3])
@pytest.mark.parametrize("role", Role)
def test_who_is_slow_to_open_is_sent_away(state: State, role: Role) -> None:
    here = at(state, role)
    assert here.tick(9.99) == []
    assert broken(here.tick(10.01)).rule == "time"


def test_an_open_session_may_be_silent() -> None:
    assert at(State.OPEN, Role.DIALS).tick(1e9) == []


# what this side should not ask


def test_misuse_is_refused_at_the_spot() -> None:
    dialer, _ = pair()
    with pytest.raises(
        LocalProtocolError, match=r"kind 99 are not known here; known are \[16, 17\]"
    ):
        dialer.send(99, [b""])
    with pytest.raises(LocalProtocolError, match="control frame of 65,537 bytes"):
        dialer.send(CONTROL, [bytes(1 << 16), b"1"])
    with pytest.raises(LocalProtocolError, match="while the session is greeting"):
        session(Role.DIALS).send(CONTROL, [b""])
    with pytest.raises(LocalProtocolError, match="a key of 32"):
        session(Role.DIALS, key=b"short")
    with pytest.raises(LocalProtocolError, match="numbered from 16 to 255"):
        Session(
            Role.DIALS, b"k" * 32, hello=hello(0), kinds={3: wire._LIMITS[wire._Kind.HELLO]},
            nonce=b"n" * 32, now=0,
        )  # fmt: skip
    assert dialer.state is State.OPEN


# any bytes, in any state


def check_invariants(here: Session, events: list[Event]) -> None:
    ends = [e for e in events if isinstance(e, Closed)]
    assert len(ends) <= 1
    assert here.is_closed is bool(ends)
    for event in ends:
        assert event is events[-1]
        assert event.error is None or isinstance(event.error, NetworkError)
        assert event.error is None or event.error.rule in list(Rule)
    assert here.backlog < 10_000


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(itertools.product(STATES, Role))),
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.tuples(
                st.one_of(st.integers(0, 20), st.integers(0, 255)),
                st.one_of(st.integers(0, 100), st.integers(0, 2**32 - 1)),
                st.binary(max_size=100),
            ).map(lambda f: HEADER.pack(f[0], f[1]) + f[2]),
            st.tuples(
                st.sampled_from([GREETING, PROOF, HELLO, CLOSE, 4, 5, 16, 17]),
                st.binary(max_size=64),
            ).map(lambda f: frame(*f)),
        ),
        max_size=6,
    ),
    st.integers(1, 300),
)
def test_no_bytes_crash_it(where: tuple[State, Role], parts: list[bytes], step: int) -> None:
    here = at(*where)
    data = b"".join(parts)
    events = [e for n in range(0, len(data), step) for e in here.receive(data[n : n + step])]
    check_invariants(here, events)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 400), st.integers(0, 7), st.booleans())
def test_no_changed_bit_passes_before_the_proof(position: int, bit: int, to_listener: bool) -> None:
    """One bit of what is said until both are open is changed on its way."""
    dialer, listener = session(Role.DIALS), session(Role.LISTENS)
    events: dict[int, list[Event]] = {id(dialer): [], id(listener): []}
    count = 0
    while dialer.backlog or listener.backlog:
        for sender, receiver in ((dialer, listener), (listener, dialer)):
            words = bytearray(said(sender))
            if (receiver is listener) is to_listener:
                if count <= position < count + len(words):
                    words[position - count] ^= 1 << bit
                count += len(words)
            events[id(receiver)] += receiver.receive(words)
    for here in (dialer, listener):
        check_invariants(here, events[id(here)])
    if position < 2 * HEADER.size + wire._GREETING.size + wire._PROOF_BYTES:  # proven is all of it
        assert State.OPEN not in (dialer.state, listener.state)


# the picture in the documentation


def test_the_documentation_draws_the_states_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    for (role, state, kind), move in wire._MOVES.items():
        answers = ", ".join(a.name.lower() for a in move.answers) or "nothing"
        row = [role.value, state.value, kind.name.lower(), answers, move.next.value]
        assert f"| {' | '.join(row)} |" in page
    for rule in Rule:
        assert f"| `{rule}` |" in page
