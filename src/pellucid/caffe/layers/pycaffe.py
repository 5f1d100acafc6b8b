"""Layers that users wrote in Python, for Caffe's interface: found, set up and called.

Such a class sees blobs of numpy arrays, and is called in Caffe's order: `setup` once, then
`reshape` and `forward` for each pass, and `backward` for each gradient. It says ``import caffe``,
so there is a module of that name: a stand-in with what a layer needs of it.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pellucid.caffe.errors import CaffeError

__all__ = ["Blob", "Program"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Blob:
    """Values and their gradient, as a layer in Python sees them.

    Args:
        shape: of both.
        dtype: float32, or float64 where the net computes so.

    Attributes:
        data: the values.
        diff: the gradient.
    """

    def __init__(self, shape: Sequence[int] = (), dtype: npt.DTypeLike = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        self.data: Array = np.zeros(tuple(shape), self.dtype)
        self.diff: Array = np.zeros_like(self.data)

    def reshape(self, *shape: int) -> None:
        """Change the shape; values are kept only if it stays the same."""
        wanted = tuple(int(size) for size in shape)
        if wanted != self.data.shape or self.data.dtype != self.dtype:
            self.data = np.zeros(wanted, self.dtype)
            self.diff = np.zeros_like(self.data)

    @property
    def shape(self) -> Shape:
        """Sizes of the dimensions."""
        return self.data.shape

    @property
    def count(self) -> int:
        """Values in all."""
        return math.prod(self.shape)

    def _size(self, dim: int) -> int:
        return self.shape[dim] if dim < len(self.shape) else 1

    @property
    def num(self) -> int:
        """Size of the first dimension."""
        return self._size(0)

    @property
    def channels(self) -> int:
        """Size of the second dimension."""
        return self._size(1)

    @property
    def height(self) -> int:
        """Size of the third dimension."""
        return self._size(2)

    @property
    def width(self) -> int:
        """Size of the fourth dimension."""
        return self._size(3)


class Blobs(list[Blob]):
    """The blobs that a layer learns."""

    def add_blob(self, *shape: int) -> None:
        """One more; its values are set by the layer."""
        self.append(Blob(shape))


class PythonLayer:
    """``caffe.Layer``: what a user's class derives from.

    Attributes:
        param_str: of its python_param.
        phase: 0 in training, 1 in testing.
        blobs: what it learns.
    """

    param_str: str
    phase: int
    blobs: Blobs

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Look at the parameters, once."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Give the tops their shapes."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Fill the tops."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Fill the gradients of the bottoms."""


_PROVIDED: Final = {"Layer": PythonLayer, "TRAIN": 0, "TEST": 1}


def _stand_in() -> types.ModuleType:
    """A module ``caffe`` for layers to import."""
    module = types.ModuleType("caffe", "What a layer in Python needs of Caffe's own interface.")
    vars(module).update(_PROVIDED)

    def missing(name: str) -> Any:
        msg = f"under pellucid, the module caffe has {', '.join(_PROVIDED)} only, not {name!r}"
        raise AttributeError(msg)

    vars(module)["__getattr__"] = missing
    return module


def _find(param: Any) -> type[Any]:
    """The class that a python_param names."""
    sys.modules.setdefault("caffe", _stand_in())
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(param.module), param.layer)
    except (ImportError, ValueError) as error:
        msg = f"cannot import its module {param.module!r}: {error}. Is its folder in PYTHONPATH?"
        raise CaffeError(msg) from error
    except AttributeError as error:
        msg = f"its module {param.module!r} has no class {param.layer!r}: {error}"
        raise CaffeError(msg) from error
    kind: type[Any] = found
    return kind


class Program:
    """One layer of a user's class.

    Args:
        param: a PythonParameter.
        phase: TRAIN or TEST.
        bottoms: shapes of its bottoms.
        tops: how many there are.

    Attributes:
        blobs: what it learns.
        shapes: of its tops.

    Raises:
        CaffeError: there is no such class, or it refuses to be set up.
    """

    def __init__(self, param: Any, phase: str, bottoms: Sequence[Shape], tops: int) -> None:
        kind: Any = _find(param)
        self._layer: Any = kind.__new__(kind)
        self._layer.param_str = self._layer.param_str_ = param.param_str
        self._layer.phase = _PROVIDED[phase]
        self._layer.blobs = self.blobs = Blobs()
        self._bottom = [Blob(shape) for shape in bottoms]
        self._top = [Blob() for _ in range(tops)]
        try:
            self._layer.setup(self._bottom, self._top)
            self._layer.reshape(self._bottom, self._top)
        except Exception as error:  # whatever a user's program raises
            msg = f"its class {param.layer} refused with {type(error).__name__}: {error}"
            raise CaffeError(msg) from error
        self.shapes = [top.shape for top in self._top]
        self._passes = 0

    def forward(
        self, bottoms: Sequence[Array], learned: Sequence[Array]
    ) -> tuple[list[Array], int]:
        """Values of the tops, and the number of this pass."""
        for blob, values in zip((*self._bottom, *self.blobs), (*bottoms, *learned), strict=True):
            blob.data, blob.dtype = values, values.dtype
            blob.diff = np.zeros_like(values)
        for blob in self._top:
            blob.dtype = bottoms[0].dtype if bottoms else blob.dtype
            blob.reshape(*blob.shape)
        self._layer.reshape(self._bottom, self._top)
        self._layer.forward(self._bottom, self._top)
        self._passes += 1
        return [blob.data.copy() for blob in self._top], self._passes

    def backward(self, tops: Sequence[Array], wanted: Sequence[bool]) -> list[Array]:
        """Gradients of bottoms and learned blobs, of the latest pass.

        Args:
            tops: gradients of the tops.
            wanted: for each bottom, whether its gradient is.
        """
        for blob, diff in zip(self._top, tops, strict=True):
            blob.diff = diff
        self._layer.backward(self._top, list(wanted), self._bottom)
        return [blob.diff.copy() for blob in (*self._bottom, *self.blobs)]

    def is_latest(self, number: int) -> bool:
        """Whether no pass came after this one: a class keeps what it needs for its gradient."""
        return number == self._passes
