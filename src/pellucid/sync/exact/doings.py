"""What a dataset does beside giving samples: it prints, it keeps a list, it tallies.

A single process does so for all rows of a batch, in their order; a worker that fetches its own rows
would print for these only. So it is watched, and a dataset that does anything is not sliced. What
an `__getitem__` adds to a plain dict is let pass: that is how samples are cached.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, Final, TypeVar

import numpy as np
import torch

from pellucid.sync.exact.belongings import same_array
from pellucid.sync.shared.generators import reachable

__all__ = ["Doings"]

T = TypeVar("T")

MOST: Final = 300  # objects that are looked for collections
MOST_COPIED: Final = 1024  # members; of larger collections only the size is looked at
LARGEST: Final = 1 << 16  # bytes of an array; larger ones are data
LARGEST_COLUMN: Final = 1 << 20  # of one with a number a sample


class Doings:
    """Watches the fetches of one dataset in the script's process.

    Args:
        dataset: the dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self._collections = [held for held in reachable([dataset], MOST) if _may_record(held)]
        self._before: list[tuple[Any, Any]] = []  # collections, and what they held
        self.any = False  # in the latest fetch

    def watch(self, fetch: Callable[[], T]) -> T:
        """What a fetch gives; `any` then tells whether it did anything else."""
        before = self._before = [(held, _content(held)) for held in self._collections]
        out: Any = _Counting(sys.stdout)
        with redirect_stdout(out):
            samples = fetch()
        self.any = out.writes > 0 or any(_is_changed(held, content) for held, content in before)
        return samples

    def undo(self) -> None:
        """Put collections back to what they were before the latest fetch."""
        for held, content in self._before:
            if isinstance(held, np.ndarray):
                np.copyto(held, content)
            elif isinstance(held, torch.Tensor):
                if _is_changed(held, content):
                    held.detach().copy_(content)
            elif isinstance(content, int):
                while len(held) > content and isinstance(held, list | deque):
                    held.pop()
            elif content != held:
                held.clear()
                held.update(content)
        self._before = []


class _Counting:
    """Stands for a stream, and counts what is written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.writes = 0

    def write(self, text: str) -> Any:
        """Write."""
        self.writes += 1
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _may_record(held: Any) -> bool:
    kind = type(held)
    if kind is np.ndarray:
        return bool(_is_small(held) and held.flags.writeable and held.dtype != object)
    if kind is torch.Tensor:
        return bool(_is_small(held) and held.layout is torch.strided)
    if kind is dict or kind is defaultdict:  # of numbers, a tally; a cache holds samples
        return len(held) <= MOST_COPIED and all(type(v) in (int, float) for v in held.values())
    return kind in (list, deque, set, Counter)


def _is_small(held: Any) -> bool:
    return bool(held.nbytes <= (LARGEST if held.ndim > 1 else LARGEST_COLUMN))


def _content(held: Any) -> Any:
    """What can be compared and put back: members of small sets and tallies, else the number."""
    if isinstance(held, torch.Tensor):
        return held.detach().clone()
    if isinstance(held, list | deque) or (isinstance(held, set) and len(held) > MOST_COPIED):
        return len(held)
    return held.copy()


def _is_changed(held: Any, content: Any) -> bool:
    if isinstance(held, np.ndarray):
        return not same_array(held, content)
    if isinstance(held, torch.Tensor):
        return not torch.equal(held, content)
    if type(held) is dict:
        return any(held.get(key) != value for key, value in content.items())
    return bool((len(held) if isinstance(content, int) else held) != content)
