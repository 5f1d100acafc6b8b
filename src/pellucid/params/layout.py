"""Where each tensor of a model lies in the flat arrays: pure, and the same on every worker and box.

[Note: layout]
A *block* is a set of tensors that came into use together. It has one flat array for each pair of
dtype and device; all its tensors are pieces of these arrays. In an array the pieces lie by *kind*:
first what is trained, then what is only averaged (float buffers, such as the statistics of batch
normalisation), then what is counted (integer buffers). Each kind is padded to whole chunks, so that
a chunk, the unit of exchange, is of one kind. Pieces begin at cache lines.

Two workers whose models differ find out by the *fingerprint*, before any value is exchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["Array", "Kind", "Layout", "Piece", "Spec", "chunk_elements", "lay_out"]

LINE_BYTES: Final = 64
CHUNKS: Final = 64  # about so many of them in an array
CHUNK_MULTIPLE: Final = 1024
CHUNK_LEAST: Final = 32768  # smaller ones cost more to handle than to move
CHUNK_MOST: Final = 1 << 20


class Kind(IntEnum):
    """What is done with a tensor."""

    TRAINED = 0  # an optimizer, or the script's own hand, changes it
    AVERAGED = 1  # float buffer: averaged, never scaled
    COUNTED = 2  # integer or bool buffer: stays at home; where workers must agree, the maximum


@dataclass(frozen=True)
class Spec:
    """A tensor that is to be laid out.

    Attributes:
        names: all its names in its module; more than one when it is tied.
        shape: its shape.
        stride: its strides, which must be dense.
        dtype: name of its dtype, such as ``float32``.
        itemsize: bytes of an element.
        kind: what is done with it.
        device: where it lies, such as ``cpu``; not part of the fingerprint.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str
    itemsize: int
    kind: Kind
    device: str = "cpu"

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Piece:
    """A tensor's place.

    Attributes:
        spec: the tensor.
        array: index of its array in the layout.
        offset: of its first element in the array, in elements.
    """

    spec: Spec
    array: int
    offset: int


@dataclass(frozen=True)
class Array:
    """One flat array.

    Attributes:
        dtype: name of its dtype.
        device: where it lies.
        itemsize: bytes of an element.
        elements: its length, a multiple of the chunk's.
        chunk: elements of a chunk.
        ends: for each kind, the element after its last chunk.
    """

    dtype: str
    device: str
    itemsize: int
    elements: int
    chunk: int
    ends: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.elements * self.itemsize

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return self.elements // self.chunk

    def kind_of(self, chunk: int) -> Kind:
        """What is in a chunk."""
        return next(kind for kind in Kind if chunk * self.chunk < self.ends[kind])


@dataclass(frozen=True)
class Layout:
    """All pieces and arrays of a block; see [Note: layout]."""

    pieces: tuple[Piece, ...]
    arrays: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    def fingerprint(self) -> str:
        """The same for layouts whose values may be exchanged, as 64 hexadecimal digits."""
        facts = [
            [p.spec.names, p.spec.shape, p.spec.stride, p.spec.dtype, p.spec.kind, p.offset]
            for p in self.pieces
        ]
        chunks = [[array.dtype, array.chunk, array.ends] for array in self.arrays]
        return hashlib.sha256(json.dumps([facts, chunks]).encode()).hexdigest()

    def difference(self, other: Layout) -> str:
        """The first thing in which another layout differs, in words; empty when nothing does."""
        for mine, theirs in zip(self.pieces, other.pieces, strict=False):
            if mine != theirs:
                return f"{_describe(mine.spec)} here, {_describe(theirs.spec)} there"
        if len(self.pieces) != len(other.pieces):
            return f"{len(self.pieces)} tensors here, {len(other.pieces)} there"
        return ""


def _describe(spec: Spec) -> str:
    return f"{spec.names[0]} {list(spec.shape)} of {spec.dtype}"


def chunk_elements(total: int) -> int:
    """Elements of a chunk in an array of so many: about a 64th, within bounds."""
    part = -(-total // CHUNKS)
    return min(max(_up(part, CHUNK_MULTIPLE), CHUNK_LEAST), CHUNK_MOST)


def lay_out(specs: Sequence[Spec]) -> Layout:
    """Give every tensor its place.

    Args:
        specs: in the order in which the module names them.
    """
    pieces: dict[int, Piece] = {}
    arrays: list[Array] = []
    for dtype, device in dict.fromkeys((spec.dtype, spec.device) for spec in specs):
        mine = [k for k, s in enumerate(specs) if (s.dtype, s.device) == (dtype, device)]
        itemsize = specs[mine[0]].itemsize
        chunk = chunk_elements(sum(specs[k].elements for k in mine))
        line = max(1, LINE_BYTES // itemsize)
        end, ends = 0, []
        for kind in Kind:
            for k in mine:
                if specs[k].kind == kind:
                    pieces[k] = Piece(specs[k], len(arrays), end)
                    end = _up(end + specs[k].elements, line)
            end = _up(end, chunk)
            ends.append(end)
        arrays.append(Array(dtype, device, itemsize, end, chunk, tuple(ends)))
    return Layout(tuple(_in_order(pieces)), tuple(arrays))


def _in_order(pieces: dict[int, Piece]) -> Iterable[Piece]:
    return (pieces[k] for k in sorted(pieces))


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
