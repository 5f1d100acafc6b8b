"""What every data layer yields: full batches without end, of which each can be asked for.

[Note: positions]
A record's *position* counts from the beginning of training: position ``p`` is record ``p % size``
of pass ``p // size``. What is random depends on the seed and the position alone. So it does not
matter who reads a record, or when: workers share out the positions of a batch, and a resumed run
begins where the other one stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pellucid.caffe.errors import CaffeError

__all__ = ["BROKEN", "Asked", "Batch", "Batches", "Source"]

Batch = dict[str, Tensor]

# a blob beside the tops: for each record of the batch, how many broken ones were passed over
BROKEN = "broken records"
PREFETCH = 4  # batches, as Caffe's data layers


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which source is wanted.

    Attributes:
        layer: the data layer's LayerParameter.
        phase: TRAIN or TEST.
        seed: of shuffling, cropping and mirroring.
        root: folder that paths start from.
        skip_broken: pass over records that cannot be read, and count them.
    """

    layer: Any
    phase: str
    seed: int
    root: str = "."
    skip_broken: bool = False

    def batch_size(self, size: int) -> int:
        """It, which must be there.

        Raises:
            CaffeError: it is not.
        """
        if not size:
            msg = "batch_size is missing or 0"
            raise CaffeError(msg)
        return size


class Source:
    """One data layer's records.

    Args:
        records: a dataset by position, see [Note: positions].
        batch_size: records of a batch, all workers together.
        shapes: of the tops, batch included.
    """

    def __init__(
        self, records: Dataset[Batch], batch_size: int, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self.records = records
        self.batch_size = batch_size
        self.shapes = shapes

    def loader(self, workers: int = 0, start: int = 0, count: int | None = None) -> Iterable[Batch]:
        """A loader of batches one behind the other.

        Args:
            workers: processes that read ahead.
            start: batches that were consumed before.
            count: of batches; None for no end.
        """
        return self._loader(_Positions(self.batch_size, start, count), workers)

    def batches(self, workers: int = 0) -> Batches:
        """Its batches, by number.

        Args:
            workers: processes that read ahead.
        """
        return Batches(self, workers)

    def _loader(self, positions: _Positions, workers: int) -> DataLoader[Batch]:
        return DataLoader(
            self.records,
            batch_sampler=positions,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
        )


class Batches:
    """A source's batches, by number.

    Args:
        source: of the records.
        workers: processes that read ahead.
    """

    def __init__(self, source: Source, workers: int) -> None:
        self._source = source
        self._workers = workers
        self._next = -1
        self._positions = _Positions(source.batch_size, 0, None)
        self._iterator: Iterator[Batch] = iter(())

    def take(self, number: int) -> Batch:
        """The batch of this number; to go on with the next one costs nothing."""
        if number != self._next:
            skips = self._next >= 0 and not self._workers  # nothing has been read ahead
            self._positions.next = number
            if not skips:
                self._positions = _Positions(self._source.batch_size, number, None)
                self._iterator = iter(self._source._loader(self._positions, self._workers))
        self._next = number + 1
        return next(self._iterator)

    def some(self, start: int, count: int) -> Iterable[Batch]:
        """So many batches, from one on."""
        return self._source.loader(self._workers, start, count)


class _Positions(Sampler[list[int]]):
    """Positions of one batch after the other.

    Args:
        batch_size: records of a batch.
        start: number of the first batch.
        count: of batches; None for no end.

    Attributes:
        next: number of the batch that comes next.
    """

    def __init__(self, batch_size: int, start: int, count: int | None) -> None:
        self._batch_size = batch_size
        self.next = start
        self._end = None if count is None else start + count

    def __iter__(self) -> Iterator[list[int]]:
        while self._end is None or self.next < self._end:
            first = self.next * self._batch_size
            self.next += 1
            yield list(range(first, first + self._batch_size))
