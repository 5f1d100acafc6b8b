"""The seam of loaders: what ``iter(loader)`` gives the script, and what a loader warns of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from pellucid.intercept.patch import Patches

__all__ = ["count_cores", "patch_loaders"]

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


def count_cores(patches: Patches, cores: set[int]) -> None:
    """Have loaders count these cores, where they warn of more processes than there are cores.

    Args:
        patches: takes note of the patch.
        cores: that a loader's processes will have; this process itself may have fewer.
    """
    from torch.utils.data import DataLoader

    original = DataLoader.check_worker_number_rationality

    def check_worker_number_rationality(self: Any) -> None:
        meanwhile = Patches()
        meanwhile.replace(os, "sched_getaffinity", lambda _: cores)
        try:
            original(self)
        finally:
            meanwhile.undo()

    patches.replace(DataLoader, "check_worker_number_rationality", check_worker_number_rationality)
