"""A block of weights on one box: the script's array, and both ends of every chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pellucid.cluster.ownership import NOBODY, owners
from pellucid.wire.contributor import ContributedChunk
from pellucid.wire.messages import FP32, BlockInfo, Offer, View
from pellucid.wire.owner import OwnedChunk

__all__ = ["Block", "ChunkKind"]

Values = NDArray[np.float32]


class ChunkKind(IntEnum):
    """What a chunk holds."""

    TRAINED = 0
    AVERAGED = 1  # float buffers: never more than averaged, see [Note: averaged values]


@dataclass
class Block:
    """See the module.

    Attributes:
        id: its number.
        offer: what all boxes must agree on.
        th: the script's weights.
        kinds: what each chunk holds.
        gain: exponent of N in the weight of deltas, of chunks that are trained.
        chunks: our end of each chunk.
        owned: the chunks that are ours to keep.
        frozen: those that were, until the new owner has them.
        owners: box numbers, one a chunk, as the view says.
        backups: who comes next.
    """

    id: int
    offer: Offer
    th: Values
    kinds: Sequence[ChunkKind]
    gain: float
    chunks: list[ContributedChunk]
    owned: dict[int, OwnedChunk] = field(default_factory=dict)
    frozen: dict[int, OwnedChunk] = field(default_factory=dict)
    owners: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    backups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def make(
        cls, id_: int, offer: Offer, boot: int, th: Values, kinds: Sequence[ChunkKind]
    ) -> Block:
        """Take over an array of weights."""
        base = np.empty_like(th)
        chunks = [
            ContributedChunk(
                boot,
                th[at : at + offer.chunk],
                base[at : at + offer.chunk],
                averaged=kind == ChunkKind.AVERAGED,
            )
            for at, kind in zip(range(0, len(th), offer.chunk), kinds, strict=True)
        ]
        block = cls(id_, offer, th, kinds, 0.0, chunks)
        block.owners = block.backups = np.full(len(chunks), NOBODY, np.int64)
        return block

    def agrees(self, info: BlockInfo) -> bool:
        """Whether all boxes mean the same by it."""
        offer = self.offer
        return (info.fingerprint, info.elements, info.chunk) == (
            offer.fingerprint,
            offer.elements,
            offer.chunk,
        )

    def assign(self, view: View) -> None:
        """Work out the owners; members that leave own nothing, if others can."""
        able = [member for member in view.members if member.blocks > self.id]
        staying = [member.box for member in able if not member.leaving]
        boxes = staying or [member.box for member in able]
        self.owners, self.backups = owners(self.id, len(self.chunks), boxes)

    def gain_of(self, chunk: int) -> float:
        """Exponent of N in the weight of our deltas of a chunk."""
        return self.gain if self.kinds[chunk] == ChunkKind.TRAINED else 0.0

    def code_of(self, chunk: int, code: int) -> int:
        """How a chunk travels, where trained weights travel in a code."""
        return FP32 if self.chunks[chunk].averaged else code

    def of(self, box: int) -> Iterator[int]:
        """Chunks that belong to a box."""
        return (int(chunk) for chunk in np.nonzero(self.owners == box)[0])

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return self.th.nbytes
