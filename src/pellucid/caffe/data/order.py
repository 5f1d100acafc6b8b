"""Which record comes when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Order", "skipped"]


class Order:
    """Which record is at a position.

    Args:
        sizes: of the blocks (files) the records come in; blocks are shuffled, and records in them.
        shuffle: whether to, anew in each pass.
        skip: records left out at the beginning.
        seed: of the shuffling.
    """

    def __init__(self, sizes: Sequence[int], *, shuffle: bool, skip: int, seed: int) -> None:
        self._sizes = list(sizes)
        self.total = sum(sizes)
        self._skip = skip
        self._shuffle = shuffle
        self._seed = seed
        self._pass: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def record(self, position: int) -> int:
        """Its index."""
        turn, index = divmod(position + self._skip, self.total)
        if not self._shuffle:
            return index
        if self._pass[0] != turn:
            generator = np.random.default_rng((self._seed, turn))
            starts = np.cumsum([0, *self._sizes])
            blocks = [
                starts[k] + generator.permutation(self._sizes[k])
                for k in generator.permutation(len(self._sizes))
            ]
            self._pass = (turn, np.concatenate(blocks))
        return int(self._pass[1][index])


def skipped(most: int, size: int, seed: int) -> int:
    """Caffe skips a random number of records at the beginning, fewer than ``rand_skip``."""
    return int(np.random.default_rng((seed, 1)).integers(most)) % size if most else 0
