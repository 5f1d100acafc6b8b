"""Parallel neural-network training without changing the program.

Importing this package starts nothing, patches nothing and does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

__all__ = ["__version__", "share"]

__version__ = "0.1.0"

T = TypeVar("T", bound=Iterable[Any])


def share(items: T) -> T:
    """Have the items of a training loop divided among the workers.

    For scripts that iterate no ``DataLoader``: ``for start in pellucid.share(range(0, n, 64)):``.
    Under plain python, and in exact mode, this gives back what it is given.

    Args:
        items: anything that can be iterated; what all workers iterate alike.
    """
    return items
