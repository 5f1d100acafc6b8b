"""What boxes say to each other: one struct a message, and the bytes of it.

[Note: messages]
A message is a *body* (a small struct) and, for those that carry weights, a *payload* (the values
of one chunk, encoded). On the wire it is the length of the packed body (u32, network order), the
packed body (msgpack), and the payload as it is, which is never copied on the way out.

`decode` trusts nothing: it checks types, ranges and lengths before anybody looks at a value.
Whether a message fits the state of the receiver is the receiver's business.

A *view* is what the boxes agree on: who takes part, and which blocks of weights there are. Its
number and who proposed it make its *id*, so that of two ids the larger one counts. A *version*
``(view, count)`` says how new the weights of a chunk are: in which view its owner took it over,
and how many deltas it has accepted since. A *table* says which deltas are in them: for each box
that ever sent any, by its boot number, the sequence number of the latest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from pellucid.errors import LocalProtocolError, RemoteProtocolError
from pellucid.wire.codec import Bfloat16, Codec, Float32, Int8
from pellucid.wire.framing import Kind
from pellucid.wire.rules import Rule

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "BF16",
    "CODECS",
    "FP32",
    "INT8",
    "KINDS",
    "NEVER",
    "Ask",
    "BlockInfo",
    "Body",
    "Claim",
    "Fetch",
    "Goodbye",
    "Grant",
    "Heartbeat",
    "Inquiry",
    "Member",
    "Message",
    "Offer",
    "Open",
    "Opened",
    "PassRecord",
    "PassReport",
    "Place",
    "Push",
    "Record",
    "Refusal",
    "Reply",
    "Snapshot",
    "Take",
    "Version",
    "View",
    "decode",
    "encode",
    "view_id",
    "view_number",
]

CONTROL_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 8 << 20
LENGTH: Final = struct.Struct("!I")

Count = Annotated[int, Meta(ge=0, le=2**62)]
Box = Annotated[int, Meta(ge=0, le=0xFFFF)]
Boot = Annotated[int, Meta(ge=1, le=2**62)]
Block = Annotated[int, Meta(ge=0, le=0xFFFF)]
Chunk = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Elements = Annotated[int, Meta(ge=1, le=1 << 20)]  # of a chunk
Version = tuple[Count, Count]
Table = Annotated[tuple[tuple[Boot, Count], ...], Meta(max_length=1024)]
Text = Annotated[str, Meta(max_length=1000)]
Fingerprint = Annotated[str, Meta(max_length=64)]
Order = Annotated[bytes, Meta(max_length=CONTROL_BYTES // 2)]
PassKey = tuple[Count, Count]  # (ordinal of the loader, number of its pass)
Range = tuple[Count, Count]  # begin, end
# of a pass: ordinal of the latest new loader, passes come by since that was new
Place = tuple[Count, Count]

NEVER: Final[tuple[int, int]] = (0, 0)  # the version of weights that are nobody's but this box's
FP32: Final = 1
BF16: Final = 2
INT8: Final = 3
CODECS: Final[dict[int, Codec]] = {FP32: Float32(), BF16: Bfloat16(), INT8: Int8()}


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all that is packed."""


# --- who is here


class Member(Body, frozen=True, array_like=True):
    """One box of a view.

    Attributes:
        box: its number.
        boot: drawn anew by each process, so that a box that restarts is somebody else.
        address: where it listens, for the driver; nobody here looks into it.
        since: the id of the view that admitted it, the latest time.
        blocks: how many blocks of weights it has.
        leaving: whether it hands over what it owns, and goes.
    """

    box: Box
    boot: Boot
    address: Text = ""
    since: Count = 0
    blocks: Block = 0
    leaving: bool = False


class BlockInfo(Body, frozen=True, array_like=True):
    """A block of weights, as all boxes must have it.

    Attributes:
        fingerprint: of its layout.
        elements: of the whole array.
        chunk: elements of one chunk, but for a shorter last one.
        seeder: the box whose first values count.
        seeded: whether a box has all of them that may still be alive: nobody else's count then.
    """

    fingerprint: Fingerprint
    elements: Annotated[int, Meta(ge=1, le=2**40)]
    chunk: Elements
    seeder: Box
    seeded: bool = False


class View(Body, frozen=True, array_like=True):
    """What the boxes agree on; see [Note: messages].

    Attributes:
        id: see `view_id`.
        previous: the id of the view it follows.
        members: in order of seniority; the first is the steward.
        blocks: in order of registration.
    """

    id: Count
    previous: Count
    members: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=1024)]
    blocks: Annotated[tuple[BlockInfo, ...], Meta(max_length=4096)] = ()

    def member(self, box: int) -> Member | None:
        """The member of that number."""
        return next((member for member in self.members if member.box == box), None)


def view_id(number: int, proposer: int) -> int:
    """Ids are ordered by number; of two views of one number, that of the lower box counts."""
    return number << 16 | (0xFFFF - proposer)


def view_number(view: int) -> int:
    """How many views there were before."""
    return view >> 16


class Offer(Body, frozen=True, array_like=True):
    """A block of weights that a box has and the view does not list yet."""

    fingerprint: Fingerprint
    elements: Annotated[int, Meta(ge=1, le=2**40)]
    chunk: Elements


class PassReport(Body, frozen=True, array_like=True):
    """What a box has done of a pass.

    Attributes:
        key: the pass.
        below: every batch before this one is done, by whomever.
        done: ranges of batches from there on that this box has trained on.
    """

    key: PassKey
    below: Count
    done: tuple[Range, ...] = ()


class Heartbeat(Body, frozen=True, array_like=True):
    """I am alive.

    Attributes:
        box: whose number.
        boot: its process.
        address: where it listens.
        view: the id of its view, 0 for none.
        blocks: how many blocks it has.
        offers: those of them that the view does not list.
        leaving: whether it wants to go.
        hears: boxes it has heard of late.
        rate: samples/s it trains on, smoothed.
        samples: that it has trained on.
        reports: what it has done of the current passes.
        ready: of how many blocks it has the cluster's weights.
        left: the place up to which its script has left the passes that it comes by.
    """

    box: Box
    boot: Boot
    address: Text
    view: Count
    blocks: Block
    offers: Annotated[tuple[Offer, ...], Meta(max_length=4096)]
    leaving: bool
    hears: Annotated[tuple[Box, ...], Meta(max_length=1024)]
    rate: Annotated[float, Meta(ge=0, le=1e12)]
    samples: Count
    reports: Annotated[tuple[PassReport, ...], Meta(max_length=256)] = ()
    ready: Block = 0
    left: Place = (0, 0)


class Goodbye(Body, frozen=True, array_like=True):
    """The box goes, for good; its chunks are in other hands."""

    box: Box
    boot: Boot
    reason: Text


# --- weights


class Push(Body, frozen=True, array_like=True):
    """A contributor's delta of a chunk to its owner, and the request for the chunk's weights.

    Attributes:
        view: the contributor's.
        block: which array.
        chunk: which part of it.
        elements: of the chunk.
        boot: the contributor's.
        since: the admission under which the contributor's base came to it.
        seq: number of the delta, from 1 on; 0 without one.
        have: the version the contributor has, `NEVER` for none.
        gain: the delta's weight is the contributor's share times N**gain.
        codec: how the delta is encoded, and the reply may be.
        whole: whether the delta counts whole, being none of training but a change by the script.
    """

    view: Count
    block: Block
    chunk: Chunk
    elements: Elements
    boot: Boot
    since: Count
    seq: Count
    have: Version
    gain: Annotated[float, Meta(ge=0, le=1)]
    codec: Annotated[int, Meta(ge=1, le=15)]
    whole: bool = False


class Reply(Body, frozen=True, array_like=True):
    """The owner's weights of a chunk.

    Attributes:
        view: the owner's.
        block: which array.
        chunk: which part of it.
        elements: of the chunk.
        boot: of the contributor it is for.
        version: what the weights are.
        base: the version to which the payload is the difference; `NEVER`: it is the weights
            themselves. Equal to ``version``: nothing is new, and there is no payload.
        table: the deltas in the weights.
        since: the admission of the contributor, as the owner knows it.
        codec: how the payload is encoded.
    """

    view: Count
    block: Block
    chunk: Chunk
    elements: Elements
    boot: Boot
    version: Version
    base: Version
    table: Table
    since: Count
    codec: Annotated[int, Meta(ge=1, le=15)]


class Refusal(Body, frozen=True, array_like=True):
    """A push that the receiver cannot take; the delta is still the contributor's."""

    block: Block
    chunk: Chunk
    boot: Boot
    seq: Count
    later: bool  # whether the same may be welcome in a moment
    reason: Text


class Inquiry(Body, frozen=True, array_like=True):
    """A new owner asks which versions of chunks there are."""

    view: Count
    block: Block
    chunks: Annotated[tuple[Chunk, ...], Meta(min_length=1, max_length=65536)]


class Claim(Body, frozen=True, array_like=True):
    """The answer to an inquiry: (chunk, version) for those that were asked for."""

    view: Count
    block: Block
    versions: Annotated[tuple[tuple[Chunk, Version], ...], Meta(max_length=65536)]


class Fetch(Body, frozen=True, array_like=True):
    """A new owner wants the weights of a chunk from who has the newest."""

    view: Count
    block: Block
    chunk: Chunk


class Snapshot(Body, frozen=True, array_like=True):
    """The answer to a fetch."""

    view: Count
    block: Block
    chunk: Chunk
    elements: Elements
    version: Version
    table: Table
    codec: Annotated[int, Meta(ge=1, le=15)]


# --- batches


class Open(Body, frozen=True, array_like=True):
    """A script begins a pass, and deposits how its batches are drawn."""

    key: PassKey
    order: Order
    batches: Count | None


class Opened(Body, frozen=True, array_like=True):
    """How the batches of a pass are drawn, as its first opener deposited it."""

    key: PassKey
    order: Order
    batches: Count | None
    used_up: bool


class Take(Body, frozen=True, array_like=True):
    """A box wants batches of a pass.

    Attributes:
        boot: the box's process.
        number: of the request, rising; a request that comes again is answered again, not repeated.
        key: the pass.
        want: how many, at most.
        returned: batches it was given before and will not train on.
        ended: the number of batches, where it came to the end of the pass; otherwise None.
        report: what it has done of the pass.
    """

    boot: Boot
    number: Count
    key: PassKey
    want: Annotated[int, Meta(ge=0, le=64)]
    returned: Annotated[tuple[tuple[PassKey, Count], ...], Meta(max_length=1024)]
    ended: Count | None
    report: PassReport


class Grant(Body, frozen=True, array_like=True):
    """The answer to a take.

    Attributes:
        view: the steward's.
        number: of the request.
        key: the pass asked for.
        leases: (pass, batch) of those granted; the pass may be an earlier one of the same loader.
        used_up: whether there will be no more.
        begun: batches of the loader that were given out so far, in all passes.
        below: every batch of the pass before this one is done.
    """

    view: Count
    number: Count
    key: PassKey
    leases: Annotated[tuple[tuple[PassKey, Count], ...], Meta(max_length=64)]
    used_up: bool
    begun: Count
    below: Count


class Ask(Body, frozen=True, array_like=True):
    """A new steward asks what is known of the passes."""

    view: Count


class PassRecord(Body, frozen=True, array_like=True):
    """What a box knows of a pass.

    Attributes:
        key: the pass.
        order: how its batches are drawn; None if it does not know.
        batches: how many there are.
        held: batches the box was given and has not done.
        report: what it has done.
    """

    key: PassKey
    order: Order | None
    batches: Count | None
    held: tuple[Count, ...]
    report: PassReport


class Record(Body, frozen=True, array_like=True):
    """The answer to an ask."""

    view: Count
    passes: Annotated[tuple[PassRecord, ...], Meta(max_length=256)]


class Message(NamedTuple):
    """A body, and the values of a chunk where there are any."""

    body: Body
    payload: Buffer = b""


_TYPES: Final[dict[int, type[Body]]] = {
    16: Heartbeat,
    17: View,
    18: Goodbye,
    19: Refusal,
    20: Inquiry,
    21: Claim,
    22: Fetch,
    23: Open,
    24: Opened,
    25: Take,
    26: Grant,
    27: Ask,
    28: Record,
    32: Push,
    33: Reply,
    34: Snapshot,
}
_NUMBERS: Final = {body: number for number, body in _TYPES.items()}
_CARRIERS: Final = (Push, Reply, Snapshot)

KINDS: Final[dict[int, Kind]] = {
    number: Kind(
        body.__name__.lower(),
        CHUNK_BYTES if body in _CARRIERS else CONTROL_BYTES,
        urgent=body not in _CARRIERS,
    )
    for number, body in _TYPES.items()
}

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[int, msgspec.msgpack.Decoder[Any]]] = {
    number: msgspec.msgpack.Decoder(body) for number, body in _TYPES.items()
}


def encode(message: Message) -> tuple[int, list[Buffer]]:
    """The kind of a message and the buffers of its bytes; the payload is not copied.

    Raises:
        LocalProtocolError: the message is longer than its kind allows.
    """
    number = _NUMBERS[type(message.body)]
    packed = _ENCODER.encode(message.body)
    payload = memoryview(message.payload).cast("B")
    length = LENGTH.size + len(packed) + payload.nbytes
    if length > KINDS[number].limit:
        text = f"a {KINDS[number].name} of {length:,} bytes; at most {KINDS[number].limit:,} may go"
        raise LocalProtocolError(text, Rule.SIZE)
    head = LENGTH.pack(len(packed)) + packed
    return number, [head, payload] if payload.nbytes else [head]


def decode(kind: int, body: Buffer) -> Message:
    """Read what `encode` wrote; the payload is a view into the body.

    Raises:
        RemoteProtocolError: a rule is broken; the error names it.
    """
    view = memoryview(body).cast("B")
    if kind not in _TYPES:
        text = f"a message of the unknown kind {kind}"
        raise RemoteProtocolError(text, Rule.KIND)
    name = KINDS[kind].name
    if view.nbytes > KINDS[kind].limit:
        text = f"a {name} of {view.nbytes:,} bytes; at most {KINDS[kind].limit:,} may come"
        raise RemoteProtocolError(text, Rule.SIZE)
    if view.nbytes < LENGTH.size:
        text = f"a {name} of {view.nbytes} bytes has no length"
        raise RemoteProtocolError(text, Rule.BODY)
    (length,) = LENGTH.unpack_from(view)
    if length > view.nbytes - LENGTH.size:
        text = f"a {name} says its body has {length:,} bytes, and {view.nbytes:,} came in all"
        raise RemoteProtocolError(text, Rule.BODY)
    packed, payload = view[LENGTH.size : LENGTH.size + length], view[LENGTH.size + length :]
    try:
        parsed: Body = _DECODERS[kind].decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"a {name} is malformed: {error}"
        raise RemoteProtocolError(text, Rule.BODY) from None
    _check_payload(name, parsed, payload)
    _check_sense(name, parsed)
    return Message(parsed, payload)


def _check_payload(name: str, body: Body, payload: memoryview) -> None:
    """The payload has the length that its codec gives so many elements, and none where none is."""
    expected = 0
    if isinstance(body, _CARRIERS):
        if body.codec not in CODECS:
            text = f"a {name} in the unknown codec {body.codec}"
            raise RemoteProtocolError(text, Rule.CODE)
        empty = (isinstance(body, Push) and body.seq == 0) or (
            isinstance(body, Reply) and body.base == body.version
        )
        expected = 0 if empty else CODECS[body.codec].size(body.elements)
    if payload.nbytes != expected:
        text = f"a {name} with a payload of {payload.nbytes:,} bytes, where {expected:,} belong"
        raise RemoteProtocolError(text, Rule.CODE)


def _check_sense(name: str, body: Body) -> None:
    """What types and ranges cannot say."""
    if isinstance(body, View):
        _check_view(body)
    ranges: Sequence[tuple[int, int]] = ()
    if isinstance(body, Heartbeat):
        ranges = [r for report in body.reports for r in report.done]
    elif isinstance(body, Take):
        ranges = body.report.done
    elif isinstance(body, Record):
        ranges = [r for one in body.passes for r in one.report.done]
    if any(begin >= end for begin, end in ranges):
        text = f"a {name} with an empty range of batches"
        raise RemoteProtocolError(text, Rule.BODY)


def _check_view(view: View) -> None:
    boxes = [member.box for member in view.members]
    if len(set(boxes)) != len(boxes):
        text = "a view lists a box twice"
        raise RemoteProtocolError(text, Rule.BODY)
    if view.previous >= view.id:
        text = "a view does not follow the one it names"
        raise RemoteProtocolError(text, Rule.BODY)
    if any(member.blocks > len(view.blocks) for member in view.members):
        text = "a view has members with more blocks than it lists"
        raise RemoteProtocolError(text, Rule.BODY)
