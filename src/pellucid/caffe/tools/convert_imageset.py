"""A list of images -> a database, as Caffe's tool of that name does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pellucid.caffe.data.images import read_image
from pellucid.caffe.data.records import Images
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import messages
from pellucid.caffe.tools.database_writer import write_database

__all__ = ["convert_imageset"]


def convert_imageset(  # noqa: PLR0913 - the flags of Caffe's tool
    root: str,
    listing: str,
    out: str | Path,
    *,
    gray: bool = False,
    shuffle: bool = False,
    height: int = 0,
    width: int = 0,
    encoded: bool = False,
    check_size: bool = False,
    seed: int | None = None,
    backend: str = "LMDB",
) -> int:
    """Write a database of the images that a file lists; return how many.

    Args:
        root: put before each path, as it is.
        listing: lines ``path label``.
        out: the new database.
        gray: one channel instead of three.
        shuffle: in a random order.
        height: to resize to, with width; 0 keeps the size.
        width: to resize to.
        encoded: keep the files' bytes instead of the pixels.
        check_size: refuse images of another size than the first.
        seed: of the order.
        backend: LMDB or LEVELDB.

    Raises:
        CaffeError: an image cannot be read, or has another size where that is not allowed.
    """
    if encoded and (height or width):
        msg = "-encoded keeps the files as they are: it cannot go with -resize_height"
        raise CaffeError(msg)
    param = messages.ImageDataParameter(source=listing)
    lines = Images(param, ".").lines
    if shuffle:
        random.Random(seed).shuffle(lines)

    def records() -> Iterator[tuple[str, Any]]:
        first: tuple[int, ...] | None = None
        for k, (path, label) in enumerate(lines):
            full = Path(root + path)
            image = read_image(full, color=not gray, height=height, width=width)
            first = first or image.shape
            if check_size and image.shape != first:
                msg = f"{full} has shape {image.shape}, and the first image {first}"
                raise CaffeError(msg)
            channels, rows, columns = image.shape
            datum = messages.Datum(channels=channels, height=rows, width=columns, label=label)
            datum.encoded = encoded
            datum.data = full.read_bytes() if encoded else image.tobytes()
            yield f"{k:08d}_{path}", datum

    return write_database(out, records(), backend)
