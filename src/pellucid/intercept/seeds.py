"""The seam of entropy: what a single process draws from the system, all workers draw alike.

A script that does not seed takes its random state from the operating system, once at start and
whenever it makes a generator without a seed. Copies of one script must not: each such draw is
answered from the run's own seed, which is fresh for every run unless the user gave one.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

from pellucid.intercept.patch import Patches

__all__ = ["patch_entropy"]


def patch_entropy(patches: Patches, seed: int) -> None:
    """Seed the three generators every script has, and answer further calls for entropy.

    Args:
        patches: takes note of the patches.
        seed: the run's seed, the same for all workers.
    """
    import numpy as np
    import torch

    draws = itertools.count(1)

    def fresh() -> int:
        """The next of the numbers the system would have been asked for."""
        return random.Random(f"{seed}/{next(draws)}").getrandbits(63)

    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.manual_seed(seed)

    seed_python = random.Random.seed
    seed_module = random.seed
    seed_numpy = np.random.seed
    default_rng = np.random.default_rng

    def seed_any(self: random.Random, a: Any = None, version: int = 2) -> None:
        seed_python(self, fresh() if a is None else a, version)

    def seed_global(a: Any = None, version: int = 2) -> None:
        seed_module(fresh() if a is None else a, version)

    def seed_legacy(seed: Any = None) -> None:
        seed_numpy(fresh() & 0xFFFFFFFF if seed is None else seed)

    def make_rng(seed: Any = None) -> Any:
        return default_rng(fresh() if seed is None else seed)

    def seed_torch() -> int:
        value = fresh()
        torch.manual_seed(value)
        return value

    patches.replace(random.Random, "seed", seed_any)
    patches.replace(random, "seed", seed_global)
    patches.replace(np.random, "seed", seed_legacy)
    patches.replace(np.random, "default_rng", make_rng)
    patches.replace(torch, "seed", seed_torch)
