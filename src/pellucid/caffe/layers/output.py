"""Layers that write what comes to them into files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.caffe.layers.layer import Layer, Shape, register

__all__: list[str] = []


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes blobs to the datasets ``data`` and ``label`` of an HDF5 file, batch behind batch.

    It sees whole batches, outside of what is divided among workers.
    """

    is_head = True
    counts = (2, 2)

    def setup(self, bottoms: list[Shape]) -> None:
        """Check the name of the file and the number of rows."""
        name = self.param.hdf5_output_param.file_name
        if not name:
            self.refuse("it needs hdf5_output_param.file_name")
        if not Path(name).absolute().parent.is_dir():
            self.refuse(f"the folder of its file {name} is not there. Make it")
        if bottoms[0][:1] != bottoms[1][:1]:
            self.refuse(f"its bottoms {bottoms} differ in their number of rows")
        self.begun = False

    @torch.no_grad()
    def forward(self, data: Tensor, label: Tensor) -> tuple[()]:
        """Append one batch; the first one begins the file."""
        if not data.is_meta:
            import h5py

            with h5py.File(
                self.param.hdf5_output_param.file_name, "a" if self.begun else "w"
            ) as file:
                self.begun = True
                for name, rows in (("data", data), ("label", label)):
                    _append(file, name, rows)
        return ()


def _append(file: Any, name: str, rows: Tensor) -> None:
    values = rows.detach().cpu()
    values = values if values.is_floating_point() else values.float()
    if name not in file:
        limits = (None, *values.shape[1:])
        chunks = (len(values), *values.shape[1:]) if math.prod(values.shape) else None
        file.create_dataset(name, data=values.numpy(), maxshape=limits, chunks=chunks)
        return
    dataset = file[name]
    dataset.resize(len(dataset) + len(values), 0)
    dataset[-len(values) :] = values.numpy()
