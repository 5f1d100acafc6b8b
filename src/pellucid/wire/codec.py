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
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import RemoteProtocolError
from pellucid.wire.rules import Rule

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BLOCK", "Bfloat16", "Codec", "Float32", "Int8", "codec"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK: Final = 1024
TILE: Final = 1 << 15  # values; two tiles and what is made of them fit 1 MiB
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

    def decode(self, message: Buffer, count: int) -> Floats:
        """The values of a message.

        Raises:
            RemoteProtocolError: it has another length, or values that are not finite.
        """
        out = np.empty(count, np.float32)
        data = self._checked(message, count)
        for begin, end in self._tiles(count):
            self._decode_tile(data, count, begin, out[begin:end])
        return out

    def add(self, message: Buffer, targets: Sequence[Floats], weight: float = 1.0) -> None:
        """Add ``weight * values`` of a message to each of the targets.

        Raises:
            RemoteProtocolError: as `decode` does; nothing is added then.
        """
        count = len(targets[0])
        data = self._checked(message, count)
        scratch = np.empty(min(count, self._tile), np.float32)
        for begin, end in self._tiles(count):
            values = scratch[: end - begin]
            self._decode_tile(data, count, begin, values)
            if weight != 1.0:
                values *= np.float32(weight)
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
        scratch = np.empty(min(count, self._tile), np.float32)
        for begin, end in self._tiles(count):
            tile = scratch[: end - begin]
            if minus is None:
                tile[:] = values[begin:end]
            else:
                np.subtract(values[begin:end], minus[begin:end], out=tile)
            self._encode_tile(tile, data, count, begin)
            if residue:
                values[begin:end] -= tile
            for target in plus:
                target[begin:end] += tile
        return data.data

    def _checked(self, message: Buffer, count: int) -> Bytes:
        data = np.frombuffer(message, np.uint8)
        if len(data) != self.size(count):
            text = f"{count:,} values in {len(data):,} bytes, where they take {self.size(count):,}"
            raise RemoteProtocolError(text, Rule.CODE)
        self._check(data, count)
        return data

    @property
    def _tile(self) -> int:
        return TILE

    def _tiles(self, count: int) -> Iterator[tuple[int, int]]:
        for begin in range(0, count, self._tile):
            yield begin, min(begin + self._tile, count)

    @abstractmethod
    def _encode_tile(self, tile: Floats, data: Bytes, count: int, begin: int) -> None:
        """Code a tile into a message; the tile becomes what the message says."""

    @abstractmethod
    def _decode_tile(self, data: Bytes, count: int, begin: int, out: Floats) -> None:
        """What a message says of a tile."""

    @abstractmethod
    def _check(self, data: Bytes, count: int) -> None:
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

    def size(self, count: int) -> int:
        """Bytes of a message: a little more than one a value."""
        return 4 * self._blocks(count) + count

    def _blocks(self, count: int) -> int:
        return -(-count // self.block)

    @property
    def _tile(self) -> int:
        return TILE // self.block * self.block

    def _parts(self, data: Bytes, count: int) -> tuple[Floats, NDArray[np.int8]]:
        scales, values = np.split(data, [4 * self._blocks(count)])
        return scales.view("<f4"), values.view(np.int8)

    def _encode_tile(self, tile: Floats, data: Bytes, count: int, begin: int) -> None:
        scales, codes = self._parts(data, count)
        first, codes = begin // self.block, codes[begin:]
        for rows in self._rows(tile):
            size = rows.size
            row_scales = scales[first : first + len(rows)]
            self._encode_rows(rows, row_scales, codes[:size].reshape(rows.shape))
            first, codes = first + len(rows), codes[size:]

    def _encode_rows(self, rows: Floats, scales: Floats, codes: NDArray[np.int8]) -> None:
        largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
        unfit = ~(largest < LARGE)  # not a number, too
        if unfit.any():
            self.held_back += int(unfit.sum())
            rows[unfit] = largest[unfit] = 0
        largest[largest < TINY] = 0
        scales[:] = largest / np.float32(127)
        inverse = np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0)
        rows *= inverse[:, None]
        np.rint(rows, out=rows)
        codes[:] = rows
        rows *= scales[:, None]

    def _decode_tile(self, data: Bytes, count: int, begin: int, out: Floats) -> None:
        scales, codes = self._parts(data, count)
        out[:] = codes[begin : begin + len(out)]
        first = begin // self.block
        for rows in self._rows(out):
            rows *= scales[first : first + len(rows), None]
            first += len(rows)

    def _rows(self, tile: Floats) -> Iterator[Floats]:
        """The blocks of a tile: those that are whole together, and the rest if there is one."""
        whole = len(tile) - len(tile) % self.block
        if whole:
            yield tile[:whole].reshape(-1, self.block)
        if whole < len(tile):
            yield tile[whole:].reshape(1, -1)

    def _check(self, data: Bytes, count: int) -> None:
        scales, _ = self._parts(data, count)
        if not ((scales >= 0) & (scales < LARGE / 127)).all():
            text = "a scale that is negative or not finite"
            raise RemoteProtocolError(text, Rule.CODE)


class _Wide(Codec):
    """Codes of one number a value."""

    _type: str

    def size(self, count: int) -> int:
        """Bytes of a message."""
        return np.dtype(self._type).itemsize * count

    def _fit(self, tile: Floats) -> None:
        """Hold back what is not finite."""
        if not len(tile) or max(tile.max(), -tile.min()) < LARGE:
            return
        unfit = ~(np.abs(tile) < LARGE)
        self.held_back += int(unfit.sum())
        tile[unfit] = 0


class Float32(_Wide):
    """Values as they are."""

    _type = "<f4"

    def _encode_tile(self, tile: Floats, data: Bytes, count: int, begin: int) -> None:
        self._fit(tile)
        data.view(self._type)[begin : begin + len(tile)] = tile

    def _decode_tile(self, data: Bytes, count: int, begin: int, out: Floats) -> None:
        out[:] = data.view(self._type)[begin : begin + len(out)]

    def _check(self, data: Bytes, count: int) -> None:
        values = data.view(self._type)
        for begin, end in self._tiles(count):
            if not np.isfinite(values[begin:end]).all():
                text = "a value that is not finite"
                raise RemoteProtocolError(text, Rule.CODE)


class Bfloat16(_Wide):
    """The upper halves of float32, rounded to nearest, ties to even."""

    _type = "<u2"

    def _encode_tile(self, tile: Floats, data: Bytes, count: int, begin: int) -> None:
        self._fit(tile)
        bits = tile.view(np.uint32)
        odd = bits >> 16
        odd &= 1
        odd += 0x7FFF
        bits += odd
        bits &= 0xFFFF0000
        data.view(self._type)[begin : begin + len(tile)] = bits >> 16

    def _decode_tile(self, data: Bytes, count: int, begin: int, out: Floats) -> None:
        bits = out.view(np.uint32)
        bits[:] = data.view(self._type)[begin : begin + len(out)]
        bits <<= 16

    def _check(self, data: Bytes, count: int) -> None:
        values = data.view(self._type)
        for begin, end in self._tiles(count):
            if ((values[begin:end] & 0x7F80) == 0x7F80).any():
                text = "a value that is not finite"
                raise RemoteProtocolError(text, Rule.CODE)


def codec(name: Literal["int8", "bf16", "fp32"], block: int = BLOCK) -> Codec:
    """The codec of a name that users give."""
    if name == "int8":
        return Int8(block)
    return Bfloat16() if name == "bf16" else Float32()
