"""What every data layer yields: an endless loader of full batches that can begin anywhere.

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

__all__ = ["BROKEN", "Asked", "Batch", "Source"]

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

    def loader(self, workers: int = 0, start: int = 0) -> Iterable[Batch]:
        """An endless loader.

        Args:
            workers: processes that read ahead.
            start: batches that were consumed before.
        """
        return DataLoader(
            self.records,
            batch_sampler=_Positions(self.batch_size, start),
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
        )


class _Positions(Sampler[list[int]]):
    """Positions of one batch after the other, for ever."""

    def __init__(self, batch_size: int, start: int) -> None:
        self._batch_size = batch_size
        self._start = start

    def __iter__(self) -> Iterator[list[int]]:
        first = self._start * self._batch_size
        while True:
            yield list(range(first, first + self._batch_size))
            first += self._batch_size
