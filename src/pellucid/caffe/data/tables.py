"""Rows of HDF5 files as a data layer."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from pellucid.caffe.data.endless import Asked, Batch, Source
from pellucid.caffe.data.order import Order
from pellucid.caffe.data.records import Tables
from pellucid.caffe.errors import CaffeError

__all__ = ["hdf5_data"]


class _Rows(Dataset[Batch]):
    """Rows of tables, by position."""

    def __init__(self, tables: Tables, order: Order) -> None:
        self._tables = tables
        self._order = order

    def __getitem__(self, position: int) -> Batch:
        row = self._tables.row(self._order.record(position))
        return {top: torch.as_tensor(values) for top, values in row.items()}


def hdf5_data(asked: Asked) -> Source:
    """Rows of the HDF5 files that a text file lists.

    Raises:
        CaffeError: a file is missing or damaged, or lacks a dataset.
    """
    layer, p = asked.layer, asked.layer.hdf5_data_param
    if layer.HasField("transform_param"):
        msg = "HDF5Data takes no transform_param; transform the files' data"
        raise CaffeError(msg)
    size = asked.batch_size(p.batch_size)
    tables = Tables(p, layer.top, asked.root)
    order = Order(tables.files, shuffle=p.shuffle, skip=0, seed=asked.seed)
    shapes = {top: (size, *values.shape) for top, values in tables.row(0).items()}
    return Source(_Rows(tables, order), size, shapes)
