"""Random streams of workers that do not walk in step.

Within a training pass each worker draws from a stream of its own, so that dropout and augmentation
differ; the first one's is the script's own. Between passes all draw from the same stream again, so
that what the script makes up there (a permutation, a split, the weights of the next model) is the
same for all, also for a worker that missed the pass.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from pellucid.sync.shared.dealer import PassKey

__all__ = ["after_pass", "begin", "within_pass"]


def within_pass(seed: int, key: PassKey, number: int) -> None:
    """Begin a worker's own stream; the worker of number 0 keeps the one it has."""
    if number:
        begin(f"{seed}/{key.loader}/{key.number}/{number}")


def after_pass(seed: int, key: PassKey) -> None:
    """Begin the stream that all workers share until the next pass."""
    begin(f"{seed}/{key.loader}/{key.number}/after")


def begin(text: str) -> None:
    """Begin the random stream of a name."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    torch.manual_seed(number)
