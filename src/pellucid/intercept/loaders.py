"""The seam of loaders: what ``iter(loader)`` gives the script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pellucid.intercept.patch import Patches

__all__ = ["patch_loaders"]

Handler = Callable[[Callable[[Any], Iterator[Any]], Any], Iterator[Any]]


def patch_loaders(patches: Patches, handler: Handler) -> None:
    """Have ``handler(original, loader)`` answer ``DataLoader.__iter__``.

    Args:
        patches: takes note of the patch.
        handler: gets the original ``__iter__`` and the loader; returns the iterator.
    """
    from torch.utils.data import DataLoader

    original = DataLoader.__iter__

    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807 - it takes the place of one
        return handler(original, self)

    patches.replace(DataLoader, "__iter__", __iter__)
