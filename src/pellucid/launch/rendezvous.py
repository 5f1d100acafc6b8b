"""What launchers of different boxes say to each other.

[Note: rendezvous]
Every box's launcher has a *door*: a listening socket. Who comes proves that it knows the run's
secret (see [Note: session]) and then says one of three things:

    Knock    "let me in". The door answers `Refused`, `Elsewhere` (another box lets boxes in: the
             *steward*, the lowest number that lives, so that no number is given out twice), or
             `Admitted` and the bundle in pieces. The visitor unpacks it, opens its own door, says
             `Ready`, then `Waiting` now and then, until the door says `Begin`.
    News     "these boxes there are", from the steward, whenever one was let in.
    Over     "the run has ended", from the box that leads.

Messages are JSON, checked against the types below; bundles travel as raw pieces.
"""

from __future__ import annotations

import json
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pellucid.errors import RemoteProtocolError
from pellucid.launch.sources import Place
from pellucid.settings import Address, Codec, OnFailure, Peer, Within
from pellucid.wire.framing import Kind

__all__ = [
    "KINDS",
    "MESSAGE",
    "PIECE",
    "PIECE_BYTES",
    "Admitted",
    "Begin",
    "Elsewhere",
    "Heard",
    "Knock",
    "Message",
    "News",
    "Over",
    "Plan",
    "Ready",
    "Refused",
    "Waiting",
    "decode",
    "encode",
]

MESSAGE: Final = 16
PIECE: Final = 17
PIECE_BYTES: Final = 256 << 10
KINDS: Final = {
    MESSAGE: Kind("message", 1 << 20),
    PIECE: Kind("piece of the bundle", PIECE_BYTES),
}

Text = Annotated[str, Meta(max_length=4096)]
Number = Annotated[int, Meta(ge=0, lt=1 << 31)]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the first box decided for all.

    Attributes:
        run: names the run.
        is_module: whether the target is the name of a module.
        argv: the script's own arguments.
        place: where script and files are to be.
        digest: SHA-256 of the bundle's list.
        bundle_bytes: of the packed bundle.
        seed: equal everywhere.
        seeded: whether the user gave it.
        hash_seed: with equal hashes, sets have the same order everywhere.
        torch: version on the first box.
    """

    run: Text
    is_module: bool
    argv: list[str]
    place: Place
    digest: Text
    bundle_bytes: Annotated[int, Meta(ge=0)]
    seed: int
    seeded: bool
    hash_seed: int
    torch: Text
    within: Within
    codec: Codec
    heartbeat: float
    suspect_after: float
    lost_after: float
    nesterov: bool
    scale_lr: bool
    on_failure: OnFailure


class Knock(msgspec.Struct, frozen=True, tag=True):
    """Let me in.

    Attributes:
        name: host name of who asks.
        workers: how many it will have.
    """

    name: Text
    workers: Number


class Refused(msgspec.Struct, frozen=True, tag=True):
    """No, and why."""

    reason: Text


class Elsewhere(msgspec.Struct, frozen=True, tag=True):
    """Ask that box instead."""

    box: Number
    door: Address


class Admitted(msgspec.Struct, frozen=True, tag=True):
    """You are this box; the bundle follows."""

    box: Number
    plan: Plan


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The visitor has everything, and listens."""

    peer: Peer


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """The visitor is still there."""


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Start; these boxes were there before."""

    peers: list[Peer]


class News(msgspec.Struct, frozen=True, tag=True):
    """All boxes there have been, as far as the sender knows."""

    peers: list[Peer]


class Over(msgspec.Struct, frozen=True, tag=True):
    """The run has ended.

    Attributes:
        box: where the script came to its end.
        code: its exit code.
    """

    box: Number
    code: int


class Heard(msgspec.Struct, frozen=True, tag=True):
    """News or the end have come in."""


Message = Knock | Refused | Elsewhere | Admitted | Ready | Waiting | Begin | News | Over | Heard


def encode(message: Message) -> bytes:
    """The body of a `MESSAGE` frame."""
    # json of the standard library carries arguments that are no valid UTF-8, msgspec does not
    return json.dumps(msgspec.to_builtins(message)).encode()


def decode(body: bytes | memoryview) -> Message:
    """Read what `encode` wrote.

    Raises:
        RemoteProtocolError: it is no message.
    """
    try:
        message: Message = msgspec.convert(json.loads(bytes(body)), Message)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors too
        msg = f"the peer sent a message that cannot be read: {error}"
        raise RemoteProtocolError(msg) from None
    return message
