"""Messages: what goes in comes out, and nothing else does any harm."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import LocalProtocolError, RemoteProtocolError
from pellucid.wire.messages import (
    _TYPES,
    CODECS,
    FP32,
    INT8,
    KINDS,
    NEVER,
    BlockInfo,
    Body,
    Goodbye,
    Grant,
    Heartbeat,
    Member,
    Message,
    Offer,
    PassReport,
    Push,
    Record,
    Reply,
    Snapshot,
    Take,
    View,
    decode,
    encode,
    view_id,
    view_number,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

VALUES = np.arange(100, dtype=np.float32)


def push(**changes: Any) -> Push:
    body = Push(7, 0, 3, 100, 5, 7, 1, (7, 4), 0.0, INT8)
    return msgspec.structs.replace(body, **changes)


def body_of(message: Message) -> tuple[int, bytes]:
    kind, buffers = encode(message)
    return kind, b"".join(bytes(buffer) for buffer in buffers)


def shared(one: Buffer, other: Buffer) -> bool:
    return np.shares_memory(
        np.frombuffer(memoryview(one), np.uint8), np.frombuffer(memoryview(other), np.uint8)
    )


EXAMPLES: list[Message] = [
    Message(push(), CODECS[INT8].encode(VALUES)),
    Message(push(seq=0)),
    Message(push(codec=FP32, whole=True), CODECS[FP32].encode(VALUES)),
    Message(
        Reply(7, 0, 3, 100, 5, (7, 9), (7, 4), ((5, 1),), 7, FP32), CODECS[FP32].encode(VALUES)
    ),
    Message(Reply(7, 0, 3, 100, 5, (7, 9), (7, 9), ((5, 1),), 7, FP32)),
    Message(Snapshot(7, 0, 3, 100, (7, 9), (), FP32), CODECS[FP32].encode(VALUES)),
    Message(View(9, 7, (Member(0, 5, "a", 7, 1), Member(1, 6)), (BlockInfo("f", 200, 100, 0),))),
    Message(
        Heartbeat(
            0, 5, "here", 7, 1, (Offer("f", 200, 100),), False, (1, 2), 3.5, 640,
            (PassReport((0, 1), 4, ((6, 9),)),), 1, (2, 3),
        )
    ),
    Message(Take(5, 3, (0, 1), 4, (((0, 1), 7),), None, PassReport((0, 1), 0))),
    Message(Grant(7, 3, (0, 1), (((0, 0), 2),), False, 17, 3)),
    Message(Record(7, ())),
    Message(Goodbye(0, 5, "done")),
]  # fmt: skip


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m.body).__name__)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    kind, body = body_of(message)
    came = decode(kind, memoryview(body))
    assert came.body == message.body
    assert bytes(memoryview(came.payload)) == bytes(memoryview(message.payload))
    assert len(body) <= KINDS[kind].limit


def test_the_payload_is_not_copied() -> None:
    payload = CODECS[FP32].encode(VALUES)
    kind, buffers = encode(Message(push(codec=FP32), payload))
    assert shared(buffers[1], payload)
    body = bytearray(b"".join(bytes(buffer) for buffer in buffers))
    came = decode(kind, memoryview(body))
    assert shared(came.payload, body)


@pytest.mark.parametrize(
    ("body", "payload", "rule"),
    [
        (push(), b"", "code"),
        (push(), b"x" * 99, "code"),
        (push(seq=0), b"x", "code"),
        (push(codec=9), b"", "code"),
        (push(elements=0), b"", "body"),
        (push(gain=1.5), b"", "body"),
        (push(gain=float("nan")), b"", "body"),
        (push(boot=0), b"", "body"),
        (push(have=(-1, 0)), b"", "body"),
        (push(elements=(1 << 20) + 1), b"", "body"),
        (View(9, 9, (Member(0, 5),)), b"", "body"),
        (View(9, 7, ()), b"", "body"),
        (View(9, 7, (Member(0, 5), Member(0, 6))), b"", "body"),
        (View(9, 7, (Member(0, 5, blocks=1),)), b"", "body"),
        (Goodbye(0, 5, "x" * 1001), b"", "body"),
        (Goodbye(0, 5, "x"), b"x", "code"),
        (Take(5, 3, (0, 1), 65, (), None, PassReport((0, 1), 0)), b"", "body"),
        (Take(5, 3, (0, 1), 1, (), None, PassReport((0, 1), 0, ((3, 3),))), b"", "body"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_name(body: Body, payload: bytes, rule: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(*body_of(Message(body, payload)))
    assert caught.value.rule == rule
    assert str(caught.value)


def test_unknown_kinds_and_lengths_are_refused() -> None:
    for kind, body, rule in [
        (15, b"", "kind"),
        (17, b"", "body"),
        (17, b"\0\0\0\5abc", "body"),
        (18, bytes((1 << 20) + 1), "size"),
    ]:
        with pytest.raises(RemoteProtocolError) as caught:
            decode(kind, body)
        assert caught.value.rule == rule
    with pytest.raises(LocalProtocolError):
        encode(Message(Record(1, ()), bytes(1 << 20)))


@given(kind=st.sampled_from(sorted(_TYPES)), body=st.binary(max_size=200))
@settings(derandomize=True, max_examples=300, database=None)
def test_noise_is_refused(kind: int, body: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):  # anything else ends the test
        decode(kind, body)


@given(
    example=st.integers(0, len(EXAMPLES) - 1),
    at=st.integers(0, 10_000),
    value=st.integers(0, 255),
    cut=st.integers(0, 30),
)
@settings(derandomize=True, max_examples=500, database=None)
def test_a_damaged_message_is_refused_or_well_formed(
    example: int, at: int, value: int, cut: int
) -> None:
    kind, body = body_of(EXAMPLES[example])
    damaged = bytearray(body[: len(body) - cut])
    if damaged:
        damaged[at % len(damaged)] = value
    try:
        came = decode(kind, damaged)
    except RemoteProtocolError:
        return
    body_of(came)  # whatever it is, it keeps the rules


def test_ids_of_views_are_ordered() -> None:
    assert view_id(2, 5) > view_id(1, 0)
    assert view_id(2, 0) > view_id(2, 1)
    assert view_number(view_id(12, 3)) == 12
    assert view_id(1, 0xFFFF) > NEVER[0]
