"""Frames: whatever goes in comes out, however the bytes are cut; limits before memory."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import RemoteProtocolError
from pellucid.wire import framing
from pellucid.wire.framing import HEADER, PIECE, START, START_KIND, FrameReader, FrameWriter, Kind

KINDS = {16: Kind("control", 1000, urgent=True), 17: Kind("chunk", 4 << 20), START: START_KIND}

bodies = st.one_of(
    st.binary(max_size=50),
    st.integers(0, 200_000).map(lambda n: random.Random(n).randbytes(n)),
)


def read(reader: FrameReader, data: bytes, cuts: random.Random | None = None) -> list[bytes]:
    """Feed bytes, cut at random, through the reader's own memory."""
    frames = []
    while data:
        space = reader.space()
        assert len(space) > 0
        count = min(len(space), len(data), cuts.randint(1, 70_000) if cuts else len(data))
        space[:count] = data[:count]
        reader.filled(count)
        data = data[count:]
        while (frame := reader.next()) is not None:
            frames.append(bytes([frame.kind]) + bytes(frame.body))
    return frames


@settings(max_examples=80, deadline=None)
@given(st.lists(bodies, max_size=8), st.integers(1, 100_000), st.integers(1, 50_000), st.randoms())
def test_what_is_written_is_read(
    contents: list[bytes], piece: int, limit: int, cuts: random.Random
) -> None:
    writer, reader = FrameWriter(), FrameReader(KINDS)
    added = sum(writer.put(17, [c[:7], b"", c[7:]], urgent=False) for c in contents)
    assert writer.backlog == added
    got = []
    while writer.backlog:
        views = writer.take(limit, piece)
        assert 0 < sum(map(len, views)) <= limit
        data = b"".join(views)[: cuts.randint(1, limit)]  # the kernel may take a part
        writer.sent(len(data))
        got += read(reader, data, cuts)
    assert got == [b"\x11" + c for c in contents]
    assert writer.take(1) == []


def test_one_byte_at_a_time() -> None:
    writer = FrameWriter()
    for kind, body in ((16, b"hello"), (17, b"x" * 100), (16, b""), (17, b"")):
        writer.put(kind, [body], urgent=False)
    data = b"".join(writer.take(1 << 20, 30))
    reader = FrameReader(KINDS)
    got = [frame for n in range(len(data)) for frame in read(reader, data[n : n + 1])]
    assert got == [b"\x10hello", b"\x11" + b"x" * 100, b"\x10", b"\x11"]


def test_large_bodies_are_received_where_they_stay() -> None:
    reader = FrameReader(KINDS)
    body = np.arange(1 << 20, dtype=np.uint8)
    writer = FrameWriter()
    writer.put(17, [body.data], urgent=False)
    data = b"".join(writer.take(2 << 20))
    first = reader.space()
    first[:] = data[: len(first)]
    reader.filled(len(first))
    assert reader.next() is None
    rest = reader.space()
    assert len(rest) == len(data) - len(first)
    rest[:] = data[len(first) :]
    reader.filled(len(rest))
    frame = reader.next()
    assert frame is not None
    assert np.shares_memory(np.frombuffer(frame.body, np.uint8), np.frombuffer(rest, np.uint8))
    assert (np.frombuffer(frame.body, np.uint8) == body).all()


def test_the_urgent_overtakes_and_goes_between_the_pieces() -> None:
    writer, reader = FrameWriter(), FrameReader(KINDS)
    writer.put(17, [b"a" * 1000], urgent=False)
    writer.put(17, [b"b" * 10], urgent=False)
    got: list[bytes] = []

    def carry(limit: int) -> None:
        data = b"".join(writer.take(limit, 100))
        writer.sent(len(data))
        got.extend(frame[:2] for frame in read(reader, data))

    carry(150)
    assert got == []
    writer.put(16, [b"!"], urgent=True)
    carry(150)
    assert got == [b"\x10!"]
    carry(1 << 20)
    assert got == [b"\x10!", b"\x11a", b"\x11b"]


def test_after_clearing_only_what_was_begun_is_sent() -> None:
    writer, reader = FrameWriter(), FrameReader(KINDS)
    writer.put(17, [b"a" * 1000], urgent=False)
    writer.put(17, [b"b" * 10], urgent=False)
    writer.sent(len(b"".join(views := writer.take(30, 100))))
    before = b"".join(views)
    writer.clear()
    writer.put(16, [b"bye"], urgent=False)
    rest = b"".join(writer.take(1 << 20, 100))
    assert len(rest) == writer.backlog
    assert read(reader, before + rest) == [b"\x10bye"]


@pytest.mark.parametrize(
    ("data", "rule", "words"),
    [
        (HEADER.pack(99, 0), "kind", "kind 99, which may not come"),
        (HEADER.pack(16, 1001), "size", "control frame of 1,001 bytes, where at most 1,000"),
        (HEADER.pack(17, (4 << 20) + 1), "size", "chunk frame"),
        (HEADER.pack(START, 6), "size", "start frame"),
        (HEADER.pack(START, 4) + bytes(4), "pieces", "begins before"),
        (HEADER.pack(START, 5) + HEADER.pack(99, 5), "kind", "kind 99"),
        (HEADER.pack(START, 5) + HEADER.pack(START, 5), "pieces", "which cannot be cut"),
        (HEADER.pack(START, 5) + HEADER.pack(17, 5 << 20), "size", "chunk frame"),
        (HEADER.pack(START, 5) + HEADER.pack(17, 0), "pieces", "no bytes"),
        (2 * (HEADER.pack(START, 5) + HEADER.pack(17, 9)), "pieces", "before the one before it"),
        (HEADER.pack(PIECE, 1), "pieces", "piece of 1 bytes, where at most 0"),
        (
            HEADER.pack(START, 5) + HEADER.pack(17, 9) + HEADER.pack(PIECE, 10),
            "pieces",
            "piece of 10 bytes, where at most 9",
        ),
        (HEADER.pack(START, 5) + HEADER.pack(17, 9) + HEADER.pack(PIECE, 0), "pieces", "of 0"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_name(
    data: bytes, rule: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocated: list[int] = []

    def memory(length: int) -> memoryview:
        allocated.append(length)
        return memoryview(bytearray(length))

    monkeypatch.setattr(framing, "_memory", memory)
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        read(FrameReader(KINDS), data)
    assert caught.value.rule == rule
    assert sum(allocated) < 100  # limits come before memory


def test_without_start_nothing_comes_in_pieces() -> None:
    with pytest.raises(RemoteProtocolError, match="kind 4"):
        read(FrameReader({16: KINDS[16]}), HEADER.pack(START, 5) + HEADER.pack(16, 9))
