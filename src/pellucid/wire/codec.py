"""How float32 values are coded to be sent: as they are, as bfloat16, or as int8 blocks.

[Note: codes]
What a code cannot say stays with the sender, who sends it another time. The fused calls do so in
place and in one pass: what was sent is subtracted from a residue, or added to what the peer is
believed to have. ``residue + sent == delta`` holds exactly, for the rounding errors of all codes
are float32 numbers.

int8: a *block* of values shares one scale, the largest magnitude / 127; a value is off by half a
scale at most. A message is all scales (float32), then all values (int8); little endian.

Values that are not finite are never sent: a box whose training diverged must not take the others
with it. int8 holds back the block they are in, the other codes only them; the sender's residue
keeps them, and `Codec.held_back` counts them. A message with such values is refused.

Works through tiles that fit a core's second cache, so that memory is read and written once;
docs/design/0006-codec.md has the measurements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import RemoteProtocolError
from pellucid.wire.rules import Rule

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BLOCK", "Bfloat16", "Codec", "Float32", "Int8", "codec"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Parts = tuple[NDArray[Any], ...]

BLOCK: Final = 1024
TILE: Final = 1 << 16  # values; a tile and what is made of it stay in a core's second cache
ONE_STEP: Final = np.float32(1 / 127)
TINY: Final = np.float32(1e-30)  # blocks below it are sent as zeros: their scale would not be exact
LARGE: Final = np.float32(3e38)  # beyond it, rounding could lead to infinity


class Codec(ABC):
    """A way to code values. Arrays are one-dimensional, contiguous float32 of any length.

    Attributes:
        held_back: blocks (int8) or values (others) not sent so far, for they were not finite.
    """

    def __init__(self) -> None:
        self.held_back = 0

    @abstractmethod
    def size(self, count: int) -> int:
        """Bytes of a message of so many values."""

    def encode(self, values: Floats) -> memoryview:
        """A message; the values stay as they are."""
        return self._encode(values, None, ())

    def encode_residue(self, values: Floats) -> memoryview:
        """A message; what it says is subtracted from the values."""
        return self._encode(values, None, (), residue=True)

    def encode_difference(
        self, values: Floats, believed: Floats, also: Sequence[Floats] = ()
    ) -> memoryview:
        """A message of ``values - believed``; what it says is added to ``believed``.

        Args:
            values: stay as they are.
            believed: what the receiver is believed to have.
            also: what it says is added to these as well (what is sent and not acknowledged).
        """
        return self._encode(values, believed, (believed, *also))

    def encode_delta(self, values: Floats, believed: Floats, into: Floats) -> memoryview:
        """A message of ``values - believed``; what it says is added to ``into`` only."""
        return self._encode(values, believed, (into,))

    def decode(self, message: Buffer, count: int) -> Floats:
        """The values of a message.

        Raises:
            RemoteProtocolError: it has another length, or values that are not finite.
        """
        parts = self._checked(message, count)
        out = np.empty(count, np.float32)
        for begin, end in self._tiles(count):
            self._decode_tile(parts, begin, out[begin:end])
        return out

    def add(self, message: Buffer, targets: Sequence[Floats], weight: float = 1.0) -> None:
        """Add ``weight * values`` of a message to each of the targets.

        Raises:
            RemoteProtocolError: as `decode` does; nothing is added then.
        """
        count = len(targets[0])
        parts = self._checked(message, count)
        scratch = np.empty(min(count, TILE), np.float32)
        for begin, end in self._tiles(count):
            values = scratch[: end - begin]
            self._decode_tile(parts, begin, values)
            if weight != 1.0:
                np.multiply(values, np.float32(weight), out=values)
            for target in targets:
                target[begin:end] += values

    def _encode(
        self,
        values: Floats,
        minus: Floats | None,
        plus: Sequence[Floats],
        *,
        residue: bool = False,
    ) -> memoryview:
        count = len(values)
        data = np.empty(self.size(count), np.uint8)
        parts = self._parts(data, count)
        scratch = np.empty(min(count, TILE), np.float32)
        for begin, end in self._tiles(count):
            tile = scratch[: end - begin]
            if minus is None:
                tile[:] = values[begin:end]
            else:
                np.subtract(values[begin:end], minus[begin:end], out=tile)
            self._encode_tile(tile, parts, begin)
            if residue:
                values[begin:end] -= tile
            for target in plus:
                target[begin:end] += tile
        return data.data

    def _checked(self, message: Buffer, count: int) -> Parts:
        data: Bytes = np.frombuffer(memoryview(message), np.uint8)
        if len(data) != self.size(count):
            text = f"{count:,} values in {len(data):,} bytes, where they take {self.size(count):,}"
            raise RemoteProtocolError(text, Rule.CODE)
        parts = self._parts(data, count)
        self._check(parts)
        return parts

    def _tiles(self, count: int) -> Iterator[tuple[int, int]]:
        size = self._tile
        return ((begin, min(begin + size, count)) for begin in range(0, count, size))

    _tile = TILE

    @abstractmethod
    def _parts(self, data: Bytes, count: int) -> Parts:
        """A message's parts: scales, if there are any, and codes."""

    @abstractmethod
    def _encode_tile(self, tile: Floats, parts: Parts, begin: int) -> None:
        """Code a tile into a message; the tile becomes what the message says."""

    @abstractmethod
    def _decode_tile(self, parts: Parts, begin: int, out: Floats) -> None:
        """What a message says of a tile."""

    @abstractmethod
    def _check(self, parts: Parts) -> None:
        """Raise if a message has values that are not finite."""


class Int8(Codec):
    """Blocks of int8 that share a scale.

    Args:
        block: values a scale, 256 to 4096; more take fewer bytes, and are coarser.
    """

    def __init__(self, block: int = BLOCK) -> None:
        super().__init__()
        if not 256 <= block <= 4096:
            text = f"block = {block}: a block has 256 to 4096 values"
            raise ValueError(text)
        self.block = block
        self._tile = TILE // block * block

    def size(self, count: int) -> int:
        """Bytes of a message: a little more than one a value."""
        return 4 * self._blocks(count) + count

    def _blocks(self, count: int) -> int:
        return -(-count // self.block)

    def _parts(self, data: Bytes, count: int) -> Parts:
        end = 4 * self._blocks(count)
        return data[:end].view("<f4").reshape(-1, 1), data[end:].view(np.int8)

    def _encode_tile(self, tile: Floats, parts: Parts, begin: int) -> None:
        for first, rows in self._rows(tile, begin):
            scales = parts[0][first : first + len(rows)]
            start = first * self.block
            codes = parts[1][start : start + rows.size].reshape(rows.shape)
            self._encode_rows(rows, scales, codes)

    def _encode_rows(self, rows: Floats, scales: Floats, codes: NDArray[np.int8]) -> None:
        largest = np.abs(rows).max(axis=1, keepdims=True)
        if not largest.max() < LARGE:  # not a number, too
            self._hold_back(rows, largest)
        np.multiply(largest, ONE_STEP, out=scales)
        scales[largest < TINY] = 0
        np.multiply(rows, 127 / np.maximum(largest, TINY), out=rows)
        np.rint(rows, out=rows)
        codes[:] = rows
        np.multiply(rows, scales, out=rows)

    def _hold_back(self, rows: Floats, largest: Floats) -> None:
        unfit = ~(largest[:, 0] < LARGE)
        self.held_back += int(unfit.sum())
        rows[unfit] = largest[unfit] = 0

    def _decode_tile(self, parts: Parts, begin: int, out: Floats) -> None:
        np.copyto(out, parts[1][begin : begin + len(out)])
        for first, rows in self._rows(out, begin):
            np.multiply(rows, parts[0][first : first + len(rows)], out=rows)

    def _rows(self, tile: Floats, begin: int) -> Iterator[tuple[int, Floats]]:
        """A tile's blocks, each with its number: the whole ones together, then the rest."""
        first = begin // self.block
        whole = len(tile) // self.block
        if whole:
            yield first, tile[: whole * self.block].reshape(whole, self.block)
        if whole * self.block < len(tile):
            yield first + whole, tile[whole * self.block :].reshape(1, -1)

    def _check(self, parts: Parts) -> None:
        if not ((parts[0] >= 0) & (parts[0] < LARGE * ONE_STEP)).all():
            text = "a scale that is negative or not finite"
            raise RemoteProtocolError(text, Rule.CODE)


class _Wide(Codec):
    """Codes of one number a value."""

    _type: str

    def size(self, count: int) -> int:
        """Bytes of a message."""
        return np.dtype(self._type).itemsize * count

    def _parts(self, data: Bytes, count: int) -> Parts:  # noqa: ARG002 - there are as many as fit
        return (data.view(self._type),)

    def _fit(self, tile: Floats) -> None:
        """Hold back what is not finite."""
        if np.abs(tile).max() < LARGE:
            return
        unfit = ~(np.abs(tile) < LARGE)
        self.held_back += int(unfit.sum())
        tile[unfit] = 0

    def _check(self, parts: Parts) -> None:
        for begin, end in self._tiles(len(parts[0])):
            if not self._is_finite(parts[0][begin:end]):
                text = "a value that is not finite"
                raise RemoteProtocolError(text, Rule.CODE)

    @abstractmethod
    def _is_finite(self, codes: NDArray[Any]) -> bool: ...


class Float32(_Wide):
    """Values as they are."""

    _type = "<f4"

    def _encode_tile(self, tile: Floats, parts: Parts, begin: int) -> None:
        self._fit(tile)
        parts[0][begin : begin + len(tile)] = tile

    def _decode_tile(self, parts: Parts, begin: int, out: Floats) -> None:
        out[:] = parts[0][begin : begin + len(out)]

    def _is_finite(self, codes: NDArray[Any]) -> bool:
        return bool(np.isfinite(codes).all())


class Bfloat16(_Wide):
    """The upper halves of float32, rounded to nearest, ties to even."""

    _type = "<u2"

    def _encode_tile(self, tile: Floats, parts: Parts, begin: int) -> None:
        self._fit(tile)
        bits = tile.view(np.uint32)
        odd = bits >> 16
        odd &= 1
        odd += 0x7FFF
        bits += odd
        np.right_shift(bits, 16, out=odd)
        parts[0][begin : begin + len(tile)] = odd
        np.left_shift(odd, 16, out=bits)

    def _decode_tile(self, parts: Parts, begin: int, out: Floats) -> None:
        bits = out.view(np.uint32)
        bits[:] = parts[0][begin : begin + len(out)]
        bits <<= 16

    def _is_finite(self, codes: NDArray[Any]) -> bool:
        return not ((codes & 0x7F80) == 0x7F80).any()


def codec(name: Literal["int8", "bf16", "fp32"], block: int = BLOCK) -> Codec:
    """The codec of a name that users give."""
    if name == "int8":
        return Int8(block)
    return Bfloat16() if name == "bf16" else Float32()
