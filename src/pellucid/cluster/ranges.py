"""A set of whole numbers that are mostly neighbours, such as the batches done."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["Ranges"]


class Ranges:
    """Disjoint half-open ranges in order."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in ranges:
            self.add(begin, end)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._begins, number) - 1
        return at >= 0 and number < self._ends[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._begins, self._ends, strict=True)

    def __len__(self) -> int:
        """How many numbers are in it."""
        return sum(self._ends) - sum(self._begins)

    def __bool__(self) -> bool:
        return bool(self._begins)

    @property
    def end(self) -> int:
        """One more than the largest number in it; 0 if there is none."""
        return self._ends[-1] if self._ends else 0

    @property
    def below(self) -> int:
        """The first number from 0 on that is not in it."""
        return self._ends[0] if self._begins and self._begins[0] == 0 else 0

    def add(self, begin: int, end: int) -> None:
        """Put a range in; it may overlap what is there."""
        if begin >= end:
            return
        first = bisect_left(self._ends, begin)
        last = bisect_right(self._begins, end)
        if first < last:
            begin = min(begin, self._begins[first])
            end = max(end, self._ends[last - 1])
        self._begins[first:last] = [begin]
        self._ends[first:last] = [end]

    def from_(self, below: int) -> tuple[tuple[int, int], ...]:
        """The ranges from a number on."""
        return tuple((max(begin, below), end) for begin, end in self if end > below)

    def missing(self, end: int) -> Iterator[int]:
        """Numbers from 0 up to an end that are not in it."""
        at = 0
        for begin, stop in self:
            yield from range(at, min(begin, end))
            at = max(at, stop)
        yield from range(at, end)
