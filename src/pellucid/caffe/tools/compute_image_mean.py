"""The mean image of a database, as Caffe's tool of that name writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pellucid.caffe.data.records import Datums
from pellucid.caffe.data.stores import open_store
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import array_to_blob, write_binary

__all__ = ["compute_image_mean"]

_AT_ONCE = 256


def compute_image_mean(path: str, out: str | Path | None, backend: str = "LMDB") -> np.ndarray:
    """Compute the mean of all images, and write it if ``out`` says where.

    Returns:
        float32, (channels, height, width).

    Raises:
        CaffeError: the images differ in size.
    """
    records = Datums(open_store(path, backend), None)
    total: np.ndarray | None = None
    for start in range(0, len(records), _AT_ONCE):
        indices = range(start, min(start + _AT_ONCE, len(records)))
        for index, (image, _) in zip(indices, records.read(indices), strict=True):
            if total is None:
                total = np.zeros(image.shape, np.float64)
            if image.shape != total.shape:
                msg = f"{path}: record {index} has shape {image.shape}, the first {total.shape}"
                raise CaffeError(msg)
            total += image
    assert total is not None  # a store is never empty
    mean = (total / len(records)).astype(np.float32)
    if out is not None:
        write_binary(out, array_to_blob(mean[None]))
    return mean
