"""One connection between two boxes, from the first byte to the last, without the connection.

[Note: session]
Who calls *dials*, who is called *listens*. The dialer greets, the listener greets back; the dialer
proves that it knows the run's secret, then the listener does; both say hello; then the session is
open, and frames of the kinds the application named may come and go. `_MOVES` is all of it: what
may come in which state, what is answered, what comes next.

A proof is an HMAC-SHA256, keyed from the secret, over protocol, version, the role of who proves,
and both nonces: no proof is good twice, in the other direction, or on another connection. Until a
peer's proof was found good, all that is looked at is its greeting and the proof's 32 bytes.

A session never raises for what a peer does. It closes, with one `Closed` event that says which rule
was broken and by whom. It raises `LocalProtocolError` for what its own side should not ask.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from pellucid.errors import (
    LinkError,
    LocalProtocolError,
    MismatchError,
    NetworkError,
    RemoteProtocolError,
)
from pellucid.wire.framing import (
    PIECE_BYTES,
    START,
    START_KIND,
    Frame,
    FrameReader,
    FrameWriter,
    Kind,
)
from pellucid.wire.rules import Rule

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "FIRST_KIND",
    "KEY_BYTES",
    "NONCE_BYTES",
    "VERSION",
    "VISITOR",
    "Closed",
    "Event",
    "Hello",
    "Opened",
    "Role",
    "Session",
    "State",
    "check",
]

MAGIC: Final = b"pellucid"
VERSION: Final = 2  # of everything that goes over the wire
NONCE_BYTES: Final = 32
KEY_BYTES: Final = 32
OPEN_SECONDS: Final = 10.0  # from connection to open; who is slower has other intentions
FIRST_KIND: Final = 16  # the application's kinds are numbered from here to 255
VISITOR: Final = -1  # the box number of who has none yet
TEXT_CHARACTERS: Final = 500

_GREETING: Final = struct.Struct(f"!{len(MAGIC)}sH{NONCE_BYTES}s")
_PROOF_BYTES: Final = 32


class Role(Enum):
    """Which end of the connection this is."""

    DIALS = "dials"
    LISTENS = "listens"

    @property
    def other(self) -> Role:
        """The peer's."""
        return Role.LISTENS if self is Role.DIALS else Role.DIALS


class State(Enum):
    """How far it has come."""

    GREETING = "greeting"  # awaits the peer's greeting
    PROVING = "proving"  # awaits the peer's proof
    MEETING = "meeting"  # the peer is proven; awaits its hello
    OPEN = "open"
    CLOSED = "closed"


class _Kind(IntEnum):
    """The session's own kinds of frames; 4 and 5 are those of the framing."""

    GREETING = 1
    PROOF = 2
    HELLO = 3
    CLOSE = 6


class _Move(NamedTuple):
    next: State
    answers: tuple[_Kind, ...]


_MOVES: Final[Mapping[tuple[Role, State, _Kind], _Move]] = {
    (Role.LISTENS, State.GREETING, _Kind.GREETING): _Move(State.PROVING, (_Kind.GREETING,)),
    (Role.DIALS, State.GREETING, _Kind.GREETING): _Move(State.PROVING, (_Kind.PROOF,)),
    (Role.LISTENS, State.PROVING, _Kind.PROOF): _Move(State.MEETING, (_Kind.PROOF, _Kind.HELLO)),
    (Role.DIALS, State.PROVING, _Kind.PROOF): _Move(State.MEETING, (_Kind.HELLO,)),
    (Role.LISTENS, State.MEETING, _Kind.HELLO): _Move(State.OPEN, ()),
    (Role.DIALS, State.MEETING, _Kind.HELLO): _Move(State.OPEN, ()),
    (Role.LISTENS, State.MEETING, _Kind.CLOSE): _Move(State.CLOSED, ()),
    (Role.DIALS, State.MEETING, _Kind.CLOSE): _Move(State.CLOSED, ()),
    (Role.LISTENS, State.OPEN, _Kind.CLOSE): _Move(State.CLOSED, ()),
    (Role.DIALS, State.OPEN, _Kind.CLOSE): _Move(State.CLOSED, ()),
}
_MISMATCHES: Final = {Rule.VERSION, Rule.PROOF, Rule.ITSELF, Rule.NUMBER, Rule.RUN, Rule.TORCH}
_LIMITS: Final = {
    _Kind.GREETING: Kind("greeting", _GREETING.size, urgent=True),
    _Kind.PROOF: Kind("proof", _PROOF_BYTES, urgent=True),
    _Kind.HELLO: Kind("hello", 4096, urgent=True),
    _Kind.CLOSE: Kind("close", 4096),
}

T = TypeVar("T")
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS)]


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a box says of itself.

    Attributes:
        box: its number, or `VISITOR`.
        boot: drawn when its process started: a box that comes back is known to be another.
        run: the run it belongs to; empty if it does not know yet.
        port: where it listens, on the address it is seen at; 0 if it does not.
        attempt: counts the calls it made, so that of two at once the later one stays.
        pellucid: version.
        torch: version.
        python: version.
    """

    box: Annotated[int, Meta(ge=VISITOR, lt=1 << 31)]
    boot: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    run: Text = ""
    port: Annotated[int, Meta(ge=0, lt=1 << 16)] = 0
    attempt: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    pellucid: Text = ""
    torch: Text = ""
    python: Text = ""


class _Close(msgspec.Struct, frozen=True):
    """Why a side ends the session; `rule` is empty if nothing was broken."""

    reason: Text
    rule: Text = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer is proven and said hello."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over; the last event.

    Attributes:
        reason: for the user.
        error: who broke what; None if a side said goodbye.
    """

    reason: str
    error: NetworkError | None = None


Event = Opened | Frame | Closed


class Session:
    """One end of a connection.

    Args:
        role: which end.
        key: `KEY_BYTES` derived from the run's secret.
        hello: what to say of ourselves.
        kinds: the application's kinds of frames, by number.
        nonce: `NONCE_BYTES` fresh random bytes.
        now: seconds, of any clock that does not jump.
    """

    def __init__(
        self,
        role: Role,
        key: bytes,
        *,
        hello: Hello,
        kinds: Mapping[int, Kind],
        nonce: bytes,
        now: float,
    ) -> None:
        if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
            text = f"a session needs a key of {KEY_BYTES} and a nonce of {NONCE_BYTES} bytes"
            raise LocalProtocolError(text)
        if unfit := [n for n in kinds if not FIRST_KIND <= n < 256]:
            text = f"kinds of frames are numbered from {FIRST_KIND} to 255, not {unfit}"
            raise LocalProtocolError(text, Rule.KIND)
        self.role = role
        self.state = State.GREETING
        self.peer: Hello | None = None
        self._key = key
        self.hello = hello
        self._kinds = kinds
        self._nonces = {role: nonce, role.other: b""}
        self._late = now + OPEN_SECONDS
        self._reader = FrameReader(self._expected())
        self._writer = FrameWriter()
        if role is Role.DIALS:
            self._say(_Kind.GREETING)

    @property
    def is_closed(self) -> bool:
        """Whether it is over; what is queued may still be sent."""
        return self.state is State.CLOSED

    # what comes

    def space(self) -> memoryview:
        """Where the next bytes from the peer are to be put; see `FrameReader`."""
        return self._reader.space()

    def filled(self, count: int) -> list[Event]:
        """So many bytes were put into the latest `space`; returns what that means."""
        if self.is_closed:
            return []
        self._reader.filled(count)
        events: list[Event] = []
        try:
            while not self.is_closed and (frame := self._reader.next()):
                event = self._frame(frame)
                if event is not None:
                    events.append(event)
        except NetworkError as error:
            events.append(self._fail(self._stranger(error)))
        return events

    def receive(self, data: Buffer) -> list[Event]:
        """Copy bytes from the peer; returns what they mean."""
        rest = memoryview(data).cast("B")
        events: list[Event] = []
        while rest and not self.is_closed:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            events += self.filled(count)
            rest = rest[count:]
        return events

    def ended(self, cause: str = "") -> list[Event]:
        """The connection is gone.

        Args:
            cause: what the system says about it; empty if the peer just ended it.
        """
        if self.is_closed:
            return []
        if cause:
            error = LinkError(f"the connection broke: {cause}", Rule.LINK)
        elif self.state in (State.GREETING, State.PROVING):
            error = LinkError(
                "the peer ended the connection before it proved to know the secret; most likely "
                "the secrets of both sides differ, or one side is encrypted and the other is not",
                Rule.END,
            )
        else:
            error = LinkError("the peer ended the connection without a goodbye", Rule.END)
        return [self._fail(error)]

    def tick(self, now: float) -> list[Event]:
        """Time has passed."""
        if self.state in (State.OPEN, State.CLOSED) or now < self._late:
            return []
        text = f"the peer did not complete its {self.state.value} within {OPEN_SECONDS:g} seconds"
        return [self._fail(RemoteProtocolError(text, Rule.TIME))]

    # what goes

    def send(self, kind: int, buffers: Sequence[Buffer]) -> int:
        """Queue a frame of the application; returns the bytes it adds to `backlog`.

        Raises:
            LocalProtocolError: an unknown kind, a body too long, or the session is not open.
        """
        check(self._kinds, kind, buffers)
        if self.state is not State.OPEN:
            text = f"a frame of kind {kind} cannot be sent while the session is {self.state.value}"
            raise LocalProtocolError(text, Rule.KIND)
        return self._writer.put(kind, buffers, urgent=self._kinds[kind].urgent)

    def take(self, limit: int, piece: int = PIECE_BYTES) -> list[memoryview]:
        """What to send next, at most so many bytes; see `FrameWriter`."""
        return self._writer.take(limit, piece)

    def sent(self, count: int) -> None:
        """So many bytes of what was taken are on their way."""
        self._writer.sent(count)

    @property
    def backlog(self) -> int:
        """Bytes queued."""
        return self._writer.backlog

    @property
    def is_urgent(self) -> bool:
        """Whether something urgent is queued."""
        return self._writer.is_urgent

    def close(self, reason: str) -> list[Event]:
        """Say goodbye, after what is queued; nothing is looked at from now on."""
        if self.is_closed:
            return []
        self._say_close(_Close(reason=reason[:TEXT_CHARACTERS]))
        self.state = State.CLOSED
        return [Closed(reason)]

    def refuse(self, error: NetworkError) -> list[Event]:
        """End it because of something that the session itself does not know of."""
        return [] if self.is_closed else [self._fail(error)]

    # the machine

    def _expected(self) -> dict[int, Kind]:
        """The kinds of frames that may come in this state."""
        own = {int(k): _LIMITS[k] for (*here, k) in _MOVES if tuple(here) == self._here}
        return {**own, **self._kinds, START: START_KIND} if self.state is State.OPEN else own

    @property
    def _here(self) -> tuple[Role, State]:
        return self.role, self.state

    def _frame(self, frame: Frame) -> Event | None:
        if frame.kind >= FIRST_KIND:
            return frame  # of the application; the reader let it pass, so the state allows it
        kind = _Kind(frame.kind)
        event = _HEARD[kind](self, frame.body)
        self.state, answers = _MOVES[*self._here, kind]
        self._reader.kinds = self._expected()
        for answer in answers:
            self._say(answer)
        return event

    def _hear_greeting(self, body: memoryview) -> None:
        magic, version, nonce = _unpack_greeting(body)
        if magic != MAGIC:
            text = f"the peer does not speak pellucid's protocol: it greets with {bytes(body)!r}"
            raise RemoteProtocolError(text, Rule.GREETING)
        if version != VERSION:
            text = (
                f"the peer speaks version {version} of the protocol, and this box version "
                f"{VERSION}: install the same version of pellucid on both"
            )
            raise MismatchError(text, Rule.VERSION)
        if nonce == self._nonces[self.role]:
            text = "the peer greets with our own greeting"
            raise RemoteProtocolError(text, Rule.ECHO)
        self._nonces[self.role.other] = nonce

    def _hear_proof(self, body: memoryview) -> None:
        if not hmac.compare_digest(self._proof(self.role.other), bytes(body)):
            text = "the peer does not know this run's secret: give both sides the same one"
            raise MismatchError(text, Rule.PROOF)

    def _hear_hello(self, body: memoryview) -> Opened:
        hello = _decode(body, Hello, Rule.HELLO)
        _compare(self.hello, hello)
        self.peer = hello
        return Opened(hello)

    def _hear_close(self, body: memoryview) -> Closed:
        close = _decode(body, _Close, Rule.CLOSE)
        reason = _printable(close.reason)
        self._writer.clear()
        if not close.rule:
            return Closed(reason)
        text = f"the peer ended the session: {reason}"
        blame = MismatchError if close.rule in _MISMATCHES else LocalProtocolError
        return Closed(text, blame(text, _printable(close.rule)))

    def _say(self, kind: _Kind) -> None:
        if kind is _Kind.GREETING:
            body = _GREETING.pack(MAGIC, VERSION, self._nonces[self.role])
        elif kind is _Kind.PROOF:
            body = self._proof(self.role)
        else:
            body = msgspec.msgpack.encode(self.hello)
        self._writer.put(kind, [body], urgent=True)

    def _say_close(self, close: _Close) -> None:
        if self.state in (State.MEETING, State.OPEN):  # to the unproven, nothing is explained
            body = msgspec.msgpack.encode(close)
            self._writer.put(_Kind.CLOSE, [body], urgent=False)

    def _proof(self, prover: Role) -> bytes:
        nonces = self._nonces[Role.DIALS] + self._nonces[Role.LISTENS]
        message = b"%s %d %s " % (MAGIC, VERSION, prover.value.encode()) + nonces
        return hmac.digest(self._key, message, "sha256")

    def _fail(self, error: NetworkError) -> Closed:
        """End it for a reason; the peer is told, once it has proven to be one."""
        self._writer.clear()
        if not isinstance(error, LinkError):
            self._say_close(_Close(reason=str(error)[:TEXT_CHARACTERS], rule=error.rule))
        self.state = State.CLOSED
        return Closed(str(error), error)

    def _stranger(self, error: NetworkError) -> NetworkError:
        """Who breaks a rule of framing before it greeted speaks something else altogether."""
        if self.state is not State.GREETING or error.rule not in (Rule.KIND, Rule.SIZE):
            return error
        text = (
            "the peer does not speak pellucid's protocol; or it is encrypted on one side only, "
            f"then give both the same settings. Its first words: {error}"
        )
        return RemoteProtocolError(text, Rule.GREETING)


def check(kinds: Mapping[int, Kind], number: int, buffers: Sequence[Buffer]) -> int:
    """The bytes of a frame's body; raises unless it is one that may be sent.

    Raises:
        LocalProtocolError: an unknown kind, or a body too long.
    """
    kind = kinds.get(number)
    if kind is None:
        text = f"frames of kind {number} are not known here; known are {sorted(kinds)}"
        raise LocalProtocolError(text, Rule.KIND)
    length = sum(memoryview(buffer).nbytes for buffer in buffers)
    if length > kind.limit:
        text = f"a {kind.name} frame of {length:,} bytes; at most {kind.limit:,} may be sent"
        raise LocalProtocolError(text, Rule.SIZE)
    return length


def _unpack_greeting(body: memoryview) -> tuple[bytes, int, bytes]:
    if len(body) != _GREETING.size:
        text = f"a greeting of {len(body)} bytes, where it has {_GREETING.size}"
        raise RemoteProtocolError(text, Rule.GREETING)
    magic, version, nonce = _GREETING.unpack(body)
    return magic, version, nonce


def _decode(body: memoryview, type_: type[T], rule: Rule) -> T:
    try:
        return msgspec.msgpack.decode(body, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        text = f"a {rule.value} that cannot be read: {error}"
        raise RemoteProtocolError(text, rule) from None


def _compare(own: Hello, peer: Hello) -> None:
    """Raise unless the two can work together. The text is the same for both sides."""
    if peer.boot == own.boot:
        text = "a box called itself: the address is its own"
        raise MismatchError(text, Rule.ITSELF)
    if peer.box == own.box != VISITOR:
        text = f"two boxes were both given the number {own.box}"
        raise MismatchError(text, Rule.NUMBER)
    if own.run and peer.run and own.run != peer.run:
        text = f"{_name(peer)} belongs to run {peer.run}, {_name(own)} to run {own.run}"
        raise MismatchError(_printable(text), Rule.RUN)
    if _major(own.torch) != _major(peer.torch):
        text = (
            f"{_name(peer)} has torch {peer.torch or 'of no version'}, {_name(own)} has torch "
            f"{own.torch or 'of no version'}: install the same major version on both"
        )
        raise MismatchError(_printable(text), Rule.TORCH)


def _name(hello: Hello) -> str:
    return "who joins" if hello.box == VISITOR else f"box {hello.box}"


def _major(version: str) -> str:
    return version.partition(".")[0]


def _printable(text: str) -> str:
    """A peer's words are shown to users: no line breaks, colours or worse."""
    return "".join(c if c.isprintable() else "?" for c in text)


_HEARD: Final = {
    _Kind.GREETING: Session._hear_greeting,
    _Kind.PROOF: Session._hear_proof,
    _Kind.HELLO: Session._hear_hello,
    _Kind.CLOSE: Session._hear_close,
}
