"""Data layers as torch loaders: endless, in Caffe's order, each batch full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pellucid.caffe.data.records import Datums, Images, Tables
from pellucid.caffe.data.stores import open_store
from pellucid.caffe.data.transform import Transform
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.fillers import fill
from pellucid.caffe.proto import messages

__all__ = ["Source", "source"]

Batch = dict[str, Tensor]


class Source:
    """One data layer's records.

    A record's *position* counts from the beginning of training: position ``p`` is record
    ``p % size`` of pass ``p // size``. So a run can begin anywhere, and what is random depends on
    the position alone.

    Args:
        records: a dataset by position.
        batch_size: records of a batch, all workers together.
        shapes: of the tops, batch included.
    """

    def __init__(
        self, records: Dataset[Batch], batch_size: int, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self.records = records
        self.batch_size = batch_size
        self.shapes = shapes

    def loader(self, workers: int = 0, start: int = 0) -> DataLoader[Batch]:
        """An endless loader.

        Args:
            workers: processes that read ahead.
            start: batches that were consumed before.
        """
        return DataLoader(
            self.records,
            batch_sampler=_Positions(self.batch_size, start),
            num_workers=workers,
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


def source(layer: Any, phase: str, *, seed: int, root: str = ".") -> Source:
    """The source of a data layer.

    Args:
        layer: its LayerParameter.
        phase: TRAIN or TEST.
        seed: of shuffling, cropping and mirroring.
        root: folder that paths start from.

    Raises:
        CaffeError: files are missing or damaged, or the layer cannot be read from files.
    """
    make = _SOURCES.get(layer.type)
    if make is None:
        msg = (
            f"layer {layer.name!r} ({layer.type}) reads nothing by itself: training and testing "
            f"need a layer of type {', '.join(sorted(_SOURCES))}"
        )
        raise CaffeError(msg)
    made: Source = make(layer, phase, seed, root)
    return made


def _batch_size(layer: Any, size: int) -> int:
    if not size:
        msg = f"layer {layer.name!r} ({layer.type}): batch_size is missing or 0"
        raise CaffeError(msg)
    return size


class _Images(Dataset[Batch]):
    """Transformed images and their labels, by position."""

    def __init__(
        self, records: Any, transform: Transform, tops: Sequence[str], order: _Order
    ) -> None:
        self._records = records
        self._transform = transform
        self._tops = list(tops)
        self._order = order

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Batch]:
        """Several at once: one read of the database."""
        records = self._records.read([self._order.record(p) for p in positions])
        found = []
        for position, (image, label) in zip(positions, records, strict=True):
            values = (torch.from_numpy(self._transform(image, position)), torch.tensor(label))
            found.append(dict(zip(self._tops, values, strict=False)))
        return found


class _Order:
    """Which record is at a position.

    Args:
        sizes: of the blocks (files) the records come in; blocks are shuffled, and records in them.
        shuffle: whether to, anew in each pass.
        skip: records left out at the beginning.
        seed: of the shuffling.
    """

    def __init__(self, sizes: Sequence[int], *, shuffle: bool, skip: int, seed: int) -> None:
        self._sizes = list(sizes)
        self._total = sum(sizes)
        self._skip = skip
        self._shuffle = shuffle
        self._seed = seed
        self._pass: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def record(self, position: int) -> int:
        """Its index."""
        turn, index = divmod(position + self._skip, self._total)
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


def _skip(most: int, size: int, seed: int) -> int:
    """Caffe skips a random number of records, fewer than ``rand_skip``."""
    return int(np.random.default_rng((seed, 1)).integers(most)) % size if most else 0


def _of_images(records: Any, layer: Any, phase: str, seed: int, root: str, param: Any) -> Source:
    size = _batch_size(layer, param.batch_size)
    transform = Transform(layer.transform_param, phase, seed, root, layer.name)
    skip = _skip(param.rand_skip, len(records), seed)
    shuffle = bool(getattr(param, "shuffle", False))
    order = _Order([len(records)], shuffle=shuffle, skip=skip, seed=seed)
    image, _ = records.read([order.record(0)])[0]
    shapes: dict[str, tuple[int, ...]] = dict(
        zip(layer.top, ((size, *transform.shape(image.shape)), (size,)), strict=False)
    )
    return Source(_Images(records, transform, layer.top, order), size, shapes)


def _data(layer: Any, phase: str, seed: int, root: str) -> Source:
    p = layer.data_param
    backend = ("LEVELDB", "LMDB")[p.backend]
    if layer.transform_param.force_color and layer.transform_param.force_gray:
        msg = f"layer {layer.name!r}: both force_color and force_gray are set: keep one"
        raise CaffeError(msg)
    color = None
    if layer.transform_param.force_color or p.force_encoded_color:
        color = True
    elif layer.transform_param.force_gray:
        color = False
    path = (
        p.source if p.source.startswith("/") else f"{root}/{p.source}" if root != "." else p.source
    )
    return _of_images(Datums(open_store(path, backend), color), layer, phase, seed, root, p)


def _image_data(layer: Any, phase: str, seed: int, root: str) -> Source:
    p = layer.image_data_param
    return _of_images(Images(p, root), layer, phase, seed, root, p)


class _Rows(Dataset[Batch]):
    """Rows of tables, by position."""

    def __init__(self, tables: Tables, order: _Order) -> None:
        self._tables = tables
        self._order = order

    def __getitem__(self, position: int) -> Batch:
        row = self._tables.row(self._order.record(position))
        return {top: torch.as_tensor(values) for top, values in row.items()}


def _hdf5_data(layer: Any, phase: str, seed: int, root: str) -> Source:
    p = layer.hdf5_data_param
    if layer.HasField("transform_param"):
        msg = f"layer {layer.name!r}: HDF5Data takes no transform_param; transform the files' data"
        raise CaffeError(msg)
    size = _batch_size(layer, p.batch_size)
    tables = Tables(p, layer.top, root)
    order = _Order(tables.files, shuffle=p.shuffle, skip=0, seed=seed)
    shapes = {top: (size, *values.shape) for top, values in tables.row(0).items()}
    return Source(_Rows(tables, order), size, shapes)


class _Dummy(Dataset[Batch]):
    """Rows of filled blobs; constants stay, random ones are drawn by position."""

    def __init__(
        self, shapes: dict[str, tuple[int, ...]], fillers: Sequence[Any], seed: int
    ) -> None:
        self._rows = {
            top: (shape[1:], filler)
            for (top, shape), filler in zip(shapes.items(), fillers, strict=True)
        }
        self._seed = seed

    def __getitem__(self, position: int) -> Batch:
        generator = torch.Generator().manual_seed(hash((self._seed, position)) % 2**63)
        row = {}
        for top, (shape, filler) in self._rows.items():
            values = torch.empty((1, *shape))
            fill(values, filler, generator)
            row[top] = values[0]
        return row


def _dummy_data(layer: Any, phase: str, seed: int, root: str) -> Source:
    p = layer.dummy_data_param
    tops = list(layer.top)
    given = [tuple(shape.dim) for shape in p.shape] or list(
        zip(p.num, p.channels, p.height, p.width, strict=True)
    )
    fillers = list(p.data_filler) or [messages.FillerParameter()]
    if len(given) not in (1, len(tops)) or len(fillers) not in (1, len(tops)):
        msg = (
            f"layer {layer.name!r}: give one shape and filler, or one for each of {len(tops)} tops"
        )
        raise CaffeError(msg)
    every = given * len(tops) if len(given) == 1 else given
    shapes = dict(zip(tops, every, strict=True))
    if len({shape[0] for shape in every}) > 1:
        msg = f"layer {layer.name!r}: its tops {every} differ in their first size, the batch"
        raise CaffeError(msg)
    fillers = fillers * len(tops) if len(fillers) == 1 else fillers
    return Source(_Dummy(shapes, fillers, seed), every[0][0], shapes)


_SOURCES = {
    "Data": _data,
    "ImageData": _image_data,
    "HDF5Data": _hdf5_data,
    "DummyData": _dummy_data,
}
