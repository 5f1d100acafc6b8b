"""Writes down every delta that any owner accepts, and works out afterwards where it went."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.sync.stream.blocks import Block
from pellucid.sync.stream.owning import Owning
from pellucid.wire.contributor import SEED
from pellucid.wire.messages import Version
from pellucid.wire.owner import OwnedChunk

Values = NDArray[np.float32]


@dataclass
class Entry:
    """One delta that was accepted."""

    boot: int
    seq: int
    count: int  # of the owner's version with it
    step: Values


@dataclass
class Reign:
    """One owner of a chunk, from taking over to losing it."""

    chunk: OwnedChunk
    origin: Version
    start: Values
    entries: list[Entry] = field(default_factory=list)


class Ledger:
    """See the module. The *lineage* of weights is the chain of owners that led to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reigns: dict[tuple[int, int], Reign] = {}  # (chunk, view)
        self._of: dict[int, Reign] = {}
        own, accept = Owning._own, OwnedChunk.accept

        def record_own(owning: Owning, block: Block, chunk: int, *rest: object) -> None:
            own(owning, block, chunk, *rest)  # type: ignore[arg-type]
            owned = block.owned[chunk]
            key = (chunk, owned.version[0])
            assert key not in self.reigns, "two owners of one chunk in one view"
            reign = self.reigns[key] = Reign(owned, owned.origin, owned.values.copy())
            self._of[id(owned)] = reign

        def record_accept(
            owned: OwnedChunk, boot: int, seq: int, values: Values, weight: float | None
        ) -> bool:
            before = owned.values.copy()
            new = accept(owned, boot, seq, values, weight)
            if new and id(owned) in self._of:
                step = values * np.float32(1.0 if weight is None else weight)
                np.testing.assert_allclose(owned.values - before, step, atol=1e-4)
                self._of[id(owned)].entries.append(Entry(boot, seq, owned.version[1], step))
            return new

        monkeypatch.setattr(Owning, "_own", record_own)
        monkeypatch.setattr(OwnedChunk, "accept", record_accept)

    def clear(self) -> None:
        """Forget everything."""
        self.reigns.clear()
        self._of.clear()

    def lineage(self, chunk: int, version: Version) -> tuple[list[Entry], Values]:
        """All deltas in the weights of a version, and the values it all began with."""
        entries: list[Entry] = []
        while True:
            reign = self.reigns[chunk, version[0]]
            entries += [entry for entry in reign.entries if entry.count <= version[1]]
            if reign.origin == SEED:
                return entries, reign.start
            version = reign.origin
