"""Records that data layers read: database entries, listed images, rows of HDF5 files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.caffe.data.images import decode_image, read_image
from pellucid.caffe.data.stores import Store
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import decode, messages

__all__ = ["Datums", "Images", "Record", "Tables", "datum_to_array"]

Record = tuple[np.ndarray, int]


def datum_to_array(datum: Any, name: str, *, color: bool | None = None) -> np.ndarray:
    """A Datum's image: (channels, height, width), uint8, or float32 if it holds floats.

    Raises:
        CaffeError: its size does not fit its shape, or its picture cannot be decoded.
    """
    if datum.encoded:
        return decode_image(datum.data, name, color=color)
    shape = (datum.channels, datum.height, datum.width)
    values = (
        np.frombuffer(datum.data, np.uint8)
        if datum.data
        else np.array(datum.float_data, np.float32)
    )
    if values.size != np.prod(shape):
        msg = f"{name} holds {values.size} values, which is not its shape {shape}"
        raise CaffeError(msg)
    return values.reshape(shape)


class Datums:
    """Entries of a database.

    Args:
        store: the database.
        color: make encoded images color (True) or gray (False), or leave them (None).
    """

    def __init__(self, store: Store, color: bool | None) -> None:
        self._store = store
        self._color = color

    def __len__(self) -> int:
        return len(self._store)

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Image and label of each."""
        found = []
        for index, data in zip(indices, self._store.read(indices), strict=True):
            name = f"{self._store.path}: record {index}"
            datum = decode(data, messages.Datum, name)
            found.append((datum_to_array(datum, name, color=self._color), datum.label))
        return found


class Images:
    """Lines ``path label`` of a text file.

    Args:
        param: an ImageDataParameter.
        root: folder that paths start from.
    """

    def __init__(self, param: Any, root: str) -> None:
        self._param = param
        listing = Path(root) / param.source
        try:
            lines = listing.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"cannot read the list of images {listing}: {error}"
            raise CaffeError(msg) from error
        self.lines: list[tuple[str, int]] = []
        for number, line in enumerate(lines, 1):
            path, _, label = line.rstrip().rpartition(" ")
            if not line.strip():
                continue
            try:
                self.lines.append((path, int(label)))
            except ValueError:
                msg = f"{listing}:{number}: a line must be a path, a space and a whole number"
                raise CaffeError(msg) from None
        if not self.lines:
            msg = f"{listing} lists no images"
            raise CaffeError(msg)
        if bool(param.new_height) != bool(param.new_width):
            msg = f"{listing}: new_height and new_width must be given both or not at all"
            raise CaffeError(msg)
        self._root = root

    def __len__(self) -> int:
        return len(self.lines)

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Image and label of each."""
        p = self._param
        found = []
        for index in indices:
            path, label = self.lines[index]
            full = Path(self._root) / (p.root_folder + path)
            size = {"height": p.new_height, "width": p.new_width}
            found.append((read_image(full, color=p.is_color, **size), label))
        return found


class Tables:
    """Rows of the HDF5 files that a text file lists; datasets have the names of the tops.

    Args:
        param: an HDF5DataParameter.
        tops: names of the datasets.
        root: folder that paths start from.
    """

    def __init__(self, param: Any, tops: Sequence[str], root: str) -> None:
        import h5py

        listing = Path(root) / param.source
        parts: dict[str, list[np.ndarray]] = {top: [] for top in tops}
        self.files: list[int] = []  # rows of each
        try:
            for line in listing.read_text().split():
                with h5py.File(Path(root) / line, "r") as file:
                    for top in tops:
                        if top not in file:
                            msg = f"{line} has no dataset {top!r}; it has {sorted(file)}"
                            raise CaffeError(msg)
                        parts[top].append(np.asarray(file[top], np.float32))
                rows = {len(arrays[-1]) for arrays in parts.values()}
                if len(rows) > 1:
                    msg = f"{line}: its datasets {list(tops)} differ in their number of rows"
                    raise CaffeError(msg)
                self.files.append(rows.pop())
        except (OSError, UnicodeDecodeError) as error:
            msg = f"cannot read the HDF5 files of {listing}: {error}"
            raise CaffeError(msg) from error
        if not self.files:
            msg = f"{listing} lists no files"
            raise CaffeError(msg)
        self._columns = {top: np.concatenate(arrays) for top, arrays in parts.items()}

    def __len__(self) -> int:
        return sum(self.files)

    def row(self, index: int) -> dict[str, np.ndarray]:
        """One row of each dataset."""
        return {top: column[index] for top, column in self._columns.items()}
