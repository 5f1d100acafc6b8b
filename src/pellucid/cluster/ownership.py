"""Which box owns which chunk: rendezvous hashing, pure.

Every box gives every chunk a score, the highest one owns it, the second is its backup (Thaler and
Ravishankar 1998, "Using name-based mappings to increase hit rates"). Whoever knows the boxes knows
the owners. When a box goes, only its chunks move, each to its backup; when one comes, it takes its
part evenly from all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOBODY", "Owners", "owners"]

NOBODY: int = -1

_Words = NDArray[np.uint64]


class Owners(NamedTuple):
    """Box numbers, one a chunk; `NOBODY` where there is none.

    Attributes:
        first: the owners.
        backup: who comes next.
    """

    first: NDArray[np.int64]
    backup: NDArray[np.int64]


def owners(block: int, chunks: int, boxes: Sequence[int]) -> Owners:
    """Decide who owns the chunks of a block.

    Args:
        block: its number.
        chunks: how many it has.
        boxes: numbers of those that can own, in any order.
    """
    nobody = np.full(chunks, NOBODY, np.int64)
    if not boxes:
        return Owners(nobody, nobody)
    numbers = np.sort(np.array(boxes, np.int64))
    chunk = np.arange(chunks, dtype=np.uint64)[:, None]
    box = numbers.astype(np.uint64)[None, :]
    scores = _mix(
        _mix(chunk + (np.uint64(block) << np.uint64(32))) ^ _mix(box + np.uint64(1 << 48))
    )
    ranked = numbers[np.argsort(scores, axis=1, kind="stable")[:, ::-1]]  # [chunks, boxes]
    return Owners(ranked[:, 0], ranked[:, 1] if len(numbers) > 1 else nobody)


def _mix(words: _Words) -> _Words:
    """A bijection in which every bit of the result depends on all of the argument.

    The finalizer of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators"). Arithmetic is modulo 2**64.
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
