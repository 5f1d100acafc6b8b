"""Errors of Caffe's front end.

CaffeError           a Caffe file or net cannot be used: names file (and line), cause and remedy
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pellucid.errors import PellucidError

__all__ = ["CaffeError", "about"]


class CaffeError(PellucidError):
    """A Caffe file, net or solver cannot be used as it stands.

    Args:
        message: object, cause and remedy.
        layer: name of the layer it is about, by which its line in a file is found.
    """

    def __init__(self, message: str, *, layer: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer


@contextmanager
def about(layer: Any) -> Iterator[None]:
    """Errors raised inside name this layer, a LayerParameter."""
    try:
        yield
    except CaffeError as error:
        if error.layer is not None:
            raise
        msg = f"layer {layer.name!r} ({layer.type}): {error}"
        raise CaffeError(msg, layer=layer.name) from error
