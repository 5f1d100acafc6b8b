"""Two sessions, and bytes carried between them by hand."""

from __future__ import annotations

from typing import Any, Final

from pellucid.errors import NetworkError
from pellucid.wire.framing import Frame, Kind
from pellucid.wire.session import Closed, Event, Hello, Opened, Role, Session

CONTROL: Final = 16
CHUNK: Final = 17
KINDS: Final = {
    CONTROL: Kind("control", 1 << 16, urgent=True),
    CHUNK: Kind("chunk", 4 << 20),
}
KEY: Final = b"k" * 32


def hello(box: int, **other: Any) -> Hello:
    facts: dict[str, Any] = {"box": box, "boot": 100 + box, "torch": "2.13.0+cpu"}
    return Hello(**facts | other)


def session(role: Role, *, key: bytes = KEY, seed: int | None = None, **other: Any) -> Session:
    """One end: the dialer is box 1, the listener box 0."""
    number = int(role is Role.DIALS)
    return Session(
        role,
        key,
        hello=hello(number, **other) if "box" not in other else hello(**other),
        kinds=KINDS,
        nonce=bytes([seed if seed is not None else number]) * 32,
        now=0.0,
    )


def pair() -> tuple[Session, Session]:
    """Both ends, open."""
    dialer, listener = session(Role.DIALS), session(Role.LISTENS)
    events = exchange(dialer, listener)
    assert [type(e) for side in events for e in side] == [Opened, Opened]
    return dialer, listener


def exchange(
    one: Session, two: Session, *, limit: int = 1 << 30, piece: int = 1 << 20, step: int = 1 << 30
) -> tuple[list[Event], list[Event]]:
    """Carry what each says to the other, until both are silent. Returns what happened to each."""
    events: tuple[list[Event], list[Event]] = [], []
    while one.backlog or two.backlog:
        for sender, receiver, happened in ((one, two, events[1]), (two, one, events[0])):
            data = said(sender, limit, piece)
            for begin in range(0, len(data), step):
                happened.extend(receiver.receive(data[begin : begin + step]))
    return events


def said(sender: Session, limit: int = 1 << 30, piece: int = 1 << 20) -> bytes:
    """What it wants to send next."""
    data = b"".join(sender.take(limit, piece))
    sender.sent(len(data))
    return data


def frames(events: list[Event]) -> list[tuple[int, bytes]]:
    return [(e.kind, bytes(e.body)) for e in events if isinstance(e, Frame)]


def closed(events: list[Event]) -> Closed:
    """The one event that ends it."""
    (event,) = [e for e in events if isinstance(e, Closed)]
    assert events[-1] is event
    return event


def broken(events: list[Event]) -> NetworkError:
    """The error that ends it."""
    error = closed(events).error
    assert error is not None
    return error
