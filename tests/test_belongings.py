"""What modules keep, or are given, is put back after a trial; and then counts as unchanged."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from pellucid.sync.exact.belongings import Belongings


def test_what_was_put_back_is_as_it_was() -> None:
    given = SimpleNamespace(seen=torch.zeros(3), counts=np.array([0.0, np.nan]), log=["a"])
    held = Belongings([("given", given)])
    for _ in range(2):
        assert held.changes() == []
        given.seen += 1
        given.counts[0] = 5
        given.log.append("b")
        given.more = 1
        assert len(held.changes()) == 4
        held.restore()
        assert vars(given).keys() == {"seen", "counts", "log"}
        assert (given.seen.tolist(), given.counts[0], given.log) == ([0, 0, 0], 0, ["a"])
