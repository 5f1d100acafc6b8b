"""The source of a data layer, by its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pellucid.caffe.data.endless import Asked, Source
from pellucid.caffe.data.filled import dummy_data, inputs
from pellucid.caffe.data.pictured import database, listed_images
from pellucid.caffe.data.programs import python_data
from pellucid.caffe.data.tables import hdf5_data
from pellucid.caffe.data.windows import windows
from pellucid.caffe.errors import CaffeError, about

__all__ = ["DATA_TYPES", "is_data", "source"]


def _memory_data(asked: Asked) -> Source:
    msg = (
        f"a program puts its data into memory, and there is none here to do so. Put "
        f"{list(asked.layer.top)} into a database or an HDF5 file, or call Net.run with them"
    )
    raise CaffeError(msg)


_SOURCES: Final[dict[str, Callable[[Asked], Source]]] = {
    "Data": database,
    "ImageData": listed_images,
    "HDF5Data": hdf5_data,
    "DummyData": dummy_data,
    "Input": inputs,
    "MemoryData": _memory_data,
    "Python": python_data,
    "WindowData": windows,
}

# Caffe's names for layers that make data
DATA_TYPES: Final = frozenset(_SOURCES)


def is_data(layer: Any) -> bool:
    """Whether a layer makes data: those in Python do if they have no bottoms."""
    return layer.type in _SOURCES and not (layer.type == "Python" and layer.bottom)


def source(
    layer: Any, phase: str, *, seed: int, root: str = ".", skip_broken: bool = False
) -> Source:
    """The source of a data layer.

    Args:
        layer: its LayerParameter.
        phase: TRAIN or TEST.
        seed: of shuffling, cropping and mirroring.
        root: folder that paths start from.
        skip_broken: pass over records that cannot be read, and count them.

    Raises:
        CaffeError: files are missing or damaged, or the layer cannot be read from files.
    """
    with about(layer):
        if layer.bottom:
            msg = f"a data layer has no bottoms: drop {list(layer.bottom)}"
            raise CaffeError(msg)
        asked = Asked(layer=layer, phase=phase, seed=seed, root=root, skip_broken=skip_broken)
        return _SOURCES[layer.type](asked)
