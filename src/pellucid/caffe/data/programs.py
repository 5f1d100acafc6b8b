"""Data layers in Python: a user's class without bottoms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch.utils.data import IterableDataset

from pellucid.caffe.data.endless import Asked, Batch, Batches, Source
from pellucid.caffe.layers.pycaffe import Program

__all__ = ["python_data"]


class _Passes(IterableDataset[Batch]):
    """What a class gives, pass by pass, for ever."""

    def __init__(self, program: Program, tops: list[str]) -> None:
        self._program = program
        self._tops = tops

    def __iter__(self) -> Iterator[Batch]:
        while True:
            values, _ = self._program.forward([], [])
            yield dict(zip(self._tops, map(torch.from_numpy, values), strict=True))


class _Source(Source):
    """Whole batches, made by every worker: only the class knows what comes next."""

    def loader(self, workers: int = 0, start: int = 0, count: int | None = None) -> Iterable[Batch]:
        """The class's next batches; a resumed training begins with its first one again."""
        del workers, start
        return islice(iter(self.records), count)

    def batches(self, workers: int = 0) -> Batches:
        """The class's batches, in its order."""
        return _InOrder(self, workers)


class _InOrder(Batches):
    def __init__(self, source: Source, workers: int) -> None:
        super().__init__(source, workers)
        self._all = iter(source.loader())

    def take(self, number: int) -> Batch:
        """The next batch."""
        del number
        return next(self._all)

    def some(self, start: int, count: int) -> Iterable[Batch]:
        """The next batches."""
        del start
        return islice(self._all, count)


def python_data(asked: Asked) -> Source:
    """Batches of a class in Python.

    Raises:
        CaffeError: there is no such class, or it refuses to be set up.
    """
    tops = list(asked.layer.top)
    program = Program(asked.layer.python_param, asked.phase, [], len(tops))
    shapes = dict(zip(tops, program.shapes, strict=True))
    size = program.shapes[0][0] if program.shapes and program.shapes[0] else 1
    return _Source(_Passes(program, tops), size, shapes)
