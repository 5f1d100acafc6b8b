"""Data layers without files: DummyData, filled as it says, and Input, zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from pellucid.caffe.data.endless import Asked, Batch, Source
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.fillers import fill
from pellucid.caffe.proto import messages

__all__ = ["dummy_data", "inputs"]

Shapes = dict[str, tuple[int, ...]]


class _Filled(Dataset[Batch]):
    """Rows of filled blobs; constants stay, random ones are drawn by position."""

    def __init__(self, shapes: Shapes, fillers: Sequence[Any], seed: int) -> None:
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


def _source(asked: Asked, given: list[tuple[int, ...]], fillers: list[Any]) -> Source:
    tops = list(asked.layer.top)
    fillers = fillers or [messages.FillerParameter()]
    if len(given) not in (1, len(tops)) or len(fillers) not in (1, len(tops)):
        msg = f"give one shape and filler, or one for each of {len(tops)} tops"
        raise CaffeError(msg)
    every = given * len(tops) if len(given) == 1 else given
    if any(not shape or min(shape) < 0 for shape in every):
        msg = f"its shapes {every} must have a size of at least 0 in every dimension, batch first"
        raise CaffeError(msg)
    if len({shape[0] for shape in every}) > 1:
        msg = f"its tops {every} differ in their first size, the batch"
        raise CaffeError(msg)
    shapes = dict(zip(tops, every, strict=True))
    each = fillers * len(tops) if len(fillers) == 1 else fillers
    return Source(_Filled(shapes, each, asked.seed), every[0][0], shapes)


def dummy_data(asked: Asked) -> Source:
    """Blobs filled by fillers.

    Raises:
        CaffeError: shapes, fillers and tops differ in number.
    """
    p = asked.layer.dummy_data_param
    given = [tuple(shape.dim) for shape in p.shape]
    if not given:
        old = (p.num, p.channels, p.height, p.width)
        if len({len(sizes) for sizes in old}) > 1:
            msg = "num, channels, height and width must be given equally often, or use shape"
            raise CaffeError(msg)
        given = list(zip(*old, strict=True))
    return _source(asked, given, list(p.data_filler))


def inputs(asked: Asked) -> Source:
    """Zeros: what a program would put in is not there when a net runs by itself (``caffe time``).

    Raises:
        CaffeError: shapes and tops differ in number.
    """
    return _source(asked, [tuple(shape.dim) for shape in asked.layer.input_param.shape], [])
