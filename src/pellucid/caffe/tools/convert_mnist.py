"""MNIST's idx files -> a database, as Caffe's convert_mnist_data does."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import messages
from pellucid.caffe.tools.database_writer import write_database

__all__ = ["convert_mnist", "read_idx"]


def read_idx(path: str | Path) -> np.ndarray:
    """An idx file of bytes, gzipped or not.

    Raises:
        CaffeError: it cannot be read, or is cut off or of another kind.
    """
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except OSError as error:
        msg = f"cannot read {path}: {error}"
        raise CaffeError(msg) from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        msg = f"{path} is no idx file of bytes"
        raise CaffeError(msg)
    dims = data[3]
    start = 4 + 4 * dims
    if len(data) < start:
        msg = f"{path} is cut off"
        raise CaffeError(msg)
    shape = struct.unpack(f">{dims}I", data[4:start])
    if len(data) - start != np.prod(shape):
        msg = (
            f"{path} holds {len(data) - start} bytes, which is not its shape {shape}: it is cut off"
        )
        raise CaffeError(msg)
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def convert_mnist(
    images: str | Path, labels: str | Path, out: str | Path, *, backend: str = "LMDB"
) -> int:
    """Write a database of images and labels; return how many.

    Raises:
        CaffeError: the files cannot be read or do not belong together.
    """
    pictures, numbers = read_idx(images), read_idx(labels)
    if pictures.ndim != 3 or numbers.shape != pictures.shape[:1]:
        msg = f"{images} {pictures.shape} and {labels} {numbers.shape} do not belong together"
        raise CaffeError(msg)

    def records() -> Iterator[tuple[str, Any]]:
        for k, (picture, number) in enumerate(zip(pictures, numbers, strict=True)):
            height, width = picture.shape
            datum = messages.Datum(channels=1, height=height, width=width, label=int(number))
            datum.data = picture.tobytes()
            yield f"{k:08d}", datum

    return write_database(out, records(), backend)
