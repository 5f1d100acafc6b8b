"""What a dataset does beside giving samples: it prints, it keeps a list, it tallies.

A single process does so for all rows of a batch, in their order; a worker that fetches its own rows
would print for these only. So it is watched, and a dataset that does anything is not sliced. What
an `__getitem__` puts into a plain dict is let pass: that is how samples are cached.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, Final, TypeVar

__all__ = ["Doings"]

T = TypeVar("T")

MOST_COPIED: Final = 1024  # members; of larger collections only the size is looked at


class Doings:
    """Watches the fetches of one dataset in the script's process.

    Args:
        owners: objects whose collections are watched.
    """

    def __init__(self, owners: Sequence[Any]) -> None:
        self._owners = owners
        self._before: list[tuple[Any, Any]] = []  # collections, and what they held
        self.any = False  # in the latest fetch

    def watch(self, fetch: Callable[[], T]) -> T:
        """What a fetch gives; `any` then tells whether it did anything else."""
        before = self._before = [(held, _content(held)) for held in self._collections()]
        out: Any = _Counting(sys.stdout)
        with redirect_stdout(out):
            samples = fetch()
        self.any = out.writes > 0 or any(_content(held) != content for held, content in before)
        return samples

    def undo(self) -> None:
        """Put collections back to what they were before the latest fetch."""
        for held, content in self._before:
            if isinstance(content, int):
                while len(held) > content and isinstance(held, list | deque):
                    held.pop()
            elif content != held:
                held.clear()
                held.update(content)
        self._before = []

    def _collections(self) -> list[Any]:
        return [
            value
            for owner in self._owners
            for value in getattr(owner, "__dict__", {}).values()
            if type(value) in (list, deque, set, Counter)
        ]


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


def _content(held: Any) -> Any:
    """What can be compared and put back: members of small sets and tallies, else the number."""
    if isinstance(held, list | deque) or len(held) > MOST_COPIED:
        return len(held)
    return held.copy()
