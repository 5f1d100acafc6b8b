"""Data layers whose records are pictures with labels: Data and ImageData."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import Dataset

from pellucid.caffe.data.endless import BROKEN, Asked, Batch, Source
from pellucid.caffe.data.order import Order, skipped
from pellucid.caffe.data.records import Datums, Images, Record
from pellucid.caffe.data.stores import open_store
from pellucid.caffe.data.transform import Transform
from pellucid.caffe.errors import CaffeError, about
from pellucid.caffe.log import LOGGER

__all__ = ["database", "listed_images"]


class _Pictures(Dataset[Batch]):
    """Transformed pictures and their labels, by position."""

    def __init__(self, records: Any, transform: Transform, order: Order, asked: Asked) -> None:
        self._records = records
        self._transform = transform
        self._order = order
        self._tops = list(asked.layer.top)
        self._skip_broken = asked.skip_broken
        self._layer = SimpleNamespace(name=asked.layer.name, type=asked.layer.type)
        self._told: set[int] = set()
        self.shape = transform.shape(self._readable(0)[0][0].shape)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Batch]:
        """Several at once: one read of the database."""
        with about(self._layer):
            try:
                records = self._records.read([self._order.record(p) for p in positions])
                broken = [0] * len(records)
                found = [self._row(r, p) for r, p in zip(records, positions, strict=True)]
            except CaffeError:
                if not self._skip_broken:
                    raise
                read = [self._readable(p) for p in positions]
                broken = [passed for _, passed in read]
                found = [self._row(r, p) for (r, _), p in zip(read, positions, strict=True)]
        if self._skip_broken:
            for row, passed in zip(found, broken, strict=True):
                row[BROKEN] = torch.tensor(passed)
        return found

    def _readable(self, position: int) -> tuple[Record, int]:
        """The record at a position, or the next that can be read; how many were passed over."""
        first = self._order.record(position)
        for passed in range(self._order.total):
            index = (first + passed) % self._order.total
            try:
                return self._records.read([index])[0], passed
            except CaffeError as error:
                if not self._skip_broken:
                    raise
                if index not in self._told:
                    LOGGER.warning("Skipping a broken record: %s", error)
                    self._told.add(index)
        msg = f"none of its {self._order.total} records can be read"
        raise CaffeError(msg)

    def _row(self, record: Record, position: int) -> Batch:
        image = self._transform(record[0], position)
        if image.shape != self.shape:
            msg = (
                f"a picture of shape {image.shape} after one of {self.shape}: all must have the "
                "same. Set crop_size, or resize them (new_height and new_width, convert_imageset)"
            )
            raise CaffeError(msg)
        values = (torch.from_numpy(image), torch.tensor(record[1]))
        return dict(zip(self._tops, values, strict=False))


def _source(records: Any, asked: Asked, param: Any) -> Source:
    size = asked.batch_size(param.batch_size)
    transform = Transform(asked.layer.transform_param, asked.phase, asked.seed, asked.root)
    order = Order(
        [len(records)],
        shuffle=bool(getattr(param, "shuffle", False)),
        skip=skipped(param.rand_skip, len(records), asked.seed),
        seed=asked.seed,
    )
    pictures = _Pictures(records, transform, order, asked)
    shapes: list[tuple[int, ...]] = [(size, *pictures.shape), (size,)]
    return Source(pictures, size, dict(zip(asked.layer.top, shapes, strict=False)))


def database(asked: Asked) -> Source:
    """Datums of a database.

    Raises:
        CaffeError: it is missing or damaged, or the layer's fields contradict each other.
    """
    p, transform = asked.layer.data_param, asked.layer.transform_param
    if transform.force_color and transform.force_gray:
        msg = "both force_color and force_gray are set: keep one"
        raise CaffeError(msg)
    color = True if transform.force_color or p.force_encoded_color else None
    color = False if transform.force_gray else color
    path = p.source if p.source.startswith("/") or asked.root == "." else f"{asked.root}/{p.source}"
    store = open_store(path, ("LEVELDB", "LMDB")[p.backend])
    return _source(Datums(store, color), asked, p)


def listed_images(asked: Asked) -> Source:
    """Pictures that a text file lists.

    Raises:
        CaffeError: the list is missing or damaged, or pictures are.
    """
    param = asked.layer.image_data_param
    return _source(Images(param, asked.root), asked, param)
