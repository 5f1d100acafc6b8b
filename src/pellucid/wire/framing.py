"""Frames: bytes in, frames out, and back.

[Note: frames]
A *frame* on the wire is a *header* (kind: u8, length: u32, both in network order) and a *body* of
that length. A body longer than a *piece* may be sent as a `START` frame, which says its kind and
length, followed by `PIECE` frames; between those, whole frames of other kinds may come. So a
heartbeat does not wait for a megabyte on a slow link, and on a fast one nothing is cut.

A length is checked against the limit of its kind before anything is allocated. Bodies are
received where they stay: the reader says into which memory the next bytes belong.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pellucid.errors import RemoteProtocolError
from pellucid.wire.rules import Rule

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HEADER", "PIECE", "START", "START_KIND", "Frame", "FrameReader", "FrameWriter", "Kind"]

HEADER: Final = struct.Struct("!BI")
START: Final = 4  # a long frame begins: its kind and length
PIECE: Final = 5  # the next bytes of its body
SCRATCH_BYTES: Final = 64 << 10  # what is received at once when it is not known where it belongs
DIRECT_BYTES: Final = 4 << 10  # less than that is cheaper to copy than to receive by itself
PIECE_BYTES: Final = 1 << 20  # at most; longer bodies are always cut
VECTOR: Final = 64  # buffers handed to the kernel at once


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a kind of frame before one comes.

    Attributes:
        name: for errors.
        limit: bytes of a body, at most.
        urgent: whether it overtakes those that are not.
    """

    name: str
    limit: int
    urgent: bool = False


START_KIND: Final = Kind("start", HEADER.size)


class Frame(NamedTuple):
    """One frame that came; the body is memory of its own."""

    kind: int
    body: memoryview


class FrameReader:
    """Takes a stream of bytes apart.

    Put bytes into `space`, say how many to `filled`, then call `next` until it returns None.

    Args:
        kinds: those that may come, by number; with `START` among them, in pieces too.
    """

    def __init__(self, kinds: Mapping[int, Kind]) -> None:
        self.kinds = kinds  # replaced as the session's state changes
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._begin = self._end = 0  # of the scratch's bytes that were not looked at yet
        self._frame: Frame | None = None  # whose header has come
        self._rest = _NOTHING  # of its body, still to come
        self._direct = False  # whether `space` gave out the rest itself
        self._long: Frame | None = None  # that is received in pieces
        self._long_rest = _NOTHING

    def space(self) -> memoryview:
        """Where the next bytes are to be received, as many as there are, up to its length."""
        self._direct = len(self._rest) >= DIRECT_BYTES
        if self._direct:
            return self._rest
        # the bytes after a piece of a long frame are mostly another piece: look at its header
        # only, and receive the piece where it belongs
        stop = self._end + DIRECT_BYTES if self._long else SCRATCH_BYTES
        return self._scratch[self._end : stop]

    def filled(self, count: int) -> None:
        """So many bytes were put into the latest `space`."""
        if self._direct:
            self._rest = self._rest[count:]
        else:
            self._end += count

    def next(self) -> Frame | None:
        """The next frame that is complete.

        Raises:
            RemoteProtocolError: an unknown kind, a body too long, pieces out of place. The
                stream cannot be read any further.
        """
        while self._frame or self._begin_frame():
            self._move()
            if self._rest:
                return None
            frame = self._complete()
            if frame is not None:
                return frame
        return None

    def _begin_frame(self) -> bool:
        """Look at the next header, if it has come."""
        if self._end - self._begin < HEADER.size:
            self._scratch[: self._end - self._begin] = self._scratch[self._begin : self._end]
            self._begin, self._end = 0, self._end - self._begin
            return False
        kind, length = HEADER.unpack_from(self._scratch, self._begin)
        if kind == PIECE:
            self._begin_piece(length)
        else:
            self._check(kind, length)
            self._frame = Frame(kind, _memory(length))
            self._rest = self._frame.body
        self._begin += HEADER.size
        return True

    def _begin_piece(self, length: int) -> None:
        if not 0 < length <= min(PIECE_BYTES, len(self._long_rest)):
            missing = min(PIECE_BYTES, len(self._long_rest))
            text = f"a piece of {length:,} bytes, where at most {missing:,} may come"
            raise RemoteProtocolError(text, Rule.PIECES)
        self._frame = Frame(PIECE, _NOTHING)
        self._rest, self._long_rest = self._long_rest[:length], self._long_rest[length:]

    def _begin_long(self, body: memoryview) -> None:
        if self._long is not None or len(body) != HEADER.size:
            text = "a long frame begins before the one before it ended"
            raise RemoteProtocolError(text, Rule.PIECES)
        kind, length = HEADER.unpack(body)
        self._check(kind, length)
        if not length or kind == START:
            text = f"a long frame of no bytes, or of kind {kind}, which cannot be cut"
            raise RemoteProtocolError(text, Rule.PIECES)
        self._long = Frame(kind, _memory(length))
        self._long_rest = self._long.body

    def _check(self, number: int, length: int) -> None:
        """Nothing is allocated before this agrees."""
        kind = self.kinds.get(number)
        if kind is None:
            begin = bytes(self._scratch[self._begin : min(self._end, self._begin + 16)])
            text = f"a frame of kind {number}, which may not come here; it begins with {begin!r}"
            raise RemoteProtocolError(text, Rule.KIND)
        if length > kind.limit:
            text = f"a {kind.name} frame of {length:,} bytes, where at most {kind.limit:,} may come"
            raise RemoteProtocolError(text, Rule.SIZE)

    def _move(self) -> None:
        """Move what belongs to the frame out of the scratch."""
        count = min(len(self._rest), self._end - self._begin)
        if count:
            self._rest[:count] = self._scratch[self._begin : self._begin + count]
            self._rest = self._rest[count:]
            self._begin += count
        if self._begin == self._end:
            self._begin = self._end = 0

    def _complete(self) -> Frame | None:
        """The body is there: hand the frame out, unless it is a part of a long one."""
        frame, self._frame = self._frame, None
        if frame is None or frame.kind not in (START, PIECE):
            return frame
        if frame.kind == START:
            self._begin_long(frame.body)
        elif not self._long_rest:
            frame, self._long = self._long, None
            return frame
        return None


class FrameWriter:
    """Frames that wait to be sent, in the order in which they go.

    The urgent overtake the others, and long ones are cut as they are taken: by then it is known
    how fast the link is.
    """

    def __init__(self) -> None:
        self._urgent: deque[list[memoryview]] = deque()
        self._others: deque[list[memoryview]] = deque()
        self._long: deque[memoryview] = deque()  # of the long frame begun, not yet cut
        self._ready: deque[memoryview] = deque()  # must go next, as they are
        self._ready_bytes = 0
        self.backlog = 0  # bytes not sent yet

    @property
    def is_urgent(self) -> bool:
        """Whether something urgent waits."""
        return bool(self._urgent)

    def put(self, kind: int, buffers: Sequence[Buffer], *, urgent: bool) -> int:
        """Queue a frame; returns the bytes it adds to the backlog.

        Args:
            kind: its number.
            buffers: its body, one after the other; each contiguous.
            urgent: whether it may overtake.
        """
        frame = [view for b in buffers if (view := memoryview(b)).nbytes]
        frame = [
            view if view.format == "B" and view.ndim == 1 else view.cast("B") for view in frame
        ]
        length = sum(map(len, frame))
        frame.insert(0, memoryview(HEADER.pack(kind, length)))
        (self._urgent if urgent else self._others).append(frame)
        self.backlog += length + HEADER.size
        return length + HEADER.size

    def take(self, limit: int, piece: int = PIECE_BYTES) -> list[memoryview]:
        """What to send next; stays queued until `sent` says that it is.

        Args:
            limit: bytes to return at most, more than 0.
            piece: bytes of a body to send without a chance for others in between.
        """
        while self._ready_bytes < limit and self._advance(min(piece, PIECE_BYTES)):
            pass
        taken: list[memoryview] = []
        for view in self._ready:
            if limit <= 0 or len(taken) == VECTOR:
                break
            taken.append(view[:limit])
            limit -= len(view)
        return taken

    def sent(self, count: int) -> None:
        """So many bytes of what was taken are on their way."""
        self.backlog -= count
        self._ready_bytes -= count
        while count:
            view = self._ready.popleft()
            if count < len(view):
                self._ready.appendleft(view[count:])
                return
            count -= len(view)

    def clear(self) -> None:
        """Forget what waits. What comes next may follow a long frame that is never completed."""
        self._urgent.clear()
        self._others.clear()
        self._long.clear()
        self.backlog = self._ready_bytes

    def _advance(self, piece: int) -> bool:
        """Decide what goes next. Returns whether there was anything."""
        if self._urgent:
            self._commit(self._urgent.popleft())
        elif self._long:
            self._cut(piece)
        elif self._others:
            self._begin(self._others.popleft(), piece)
        else:
            return False
        return True

    def _begin(self, frame: list[memoryview], piece: int) -> None:
        _, length = HEADER.unpack(frame[0])
        if length <= piece:
            self._commit(frame)
            return
        start = memoryview(HEADER.pack(START, HEADER.size))
        self._commit([start, frame[0]])
        self.backlog += len(start)
        self._long.extend(frame[1:])

    def _cut(self, piece: int) -> None:
        """Take a piece off the long frame."""
        parts: list[memoryview] = []
        room = piece
        while room and self._long:
            view = self._long.popleft()
            parts.append(view[:room])
            if room < len(view):
                self._long.appendleft(view[room:])
            room -= len(parts[-1])
        header = memoryview(HEADER.pack(PIECE, piece - room))
        self.backlog += len(header)
        self._commit([header, *parts])

    def _commit(self, views: list[memoryview]) -> None:
        self._ready.extend(views)
        self._ready_bytes += sum(map(len, views))


_NOTHING: Final = memoryview(b"")


def _memory(length: int) -> memoryview:
    """Memory that is not written before it is received into; a bytearray would be."""
    return np.empty(length, np.uint8).data
