"""The order of a pass: the batches of indices that a loader's sampler gives, alike everywhere.

A sampler's order hangs on the states of random generators. So the first worker to open a pass
*deposits* the states it found; everybody lists the batches from these states, and then puts its own
back. Lists travel as JSON: what comes from another box is never unpickled.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from pellucid.sync.shared import generators

__all__ = [
    "Order",
    "deposit",
    "goes_beyond",
    "held_by_loader",
    "held_by_sampler",
    "restore_deposit",
]

AHEAD: Final = 1024  # batches listed at a time
MOST_LISTED: Final = 100_000  # to see whether there are more


def held_by_sampler(sampler: Any) -> tuple[Any, ...]:
    """Generators and counters that a sampler's order may hang on, in a fixed order.

    Not the counters of a dataset that a sampler refers to: they are the script's business.
    """
    inner = (sampler, getattr(sampler, "sampler", None))
    return tuple(
        held
        for held in generators.held_by(sampler)
        if not generators.is_counters(held) or held.belong_to(inner)
    )


def held_by_loader(loader: Any) -> tuple[Any, ...]:
    """Generators and counters that the order of a loader's batches may hang on."""
    held = held_by_sampler(loader.batch_sampler)
    if loader.generator is not None and all(g is not loader.generator for g in held):
        held = (*held, loader.generator)
    return held


def deposit(held: tuple[Any, ...]) -> bytes:
    """The states of the script's generators and of these, for `restore_deposit` elsewhere."""
    return _packed(generators.states(held))


def _packed(states: Any) -> bytes:
    return json.dumps(_plain(states)).encode()


def restore_deposit(data: bytes, held: tuple[Any, ...]) -> None:
    """Set generators as they were when `deposit` was called, here or elsewhere."""
    saved = _rich(json.loads(data))
    if saved[3] is not None and not torch.cuda.is_available():
        saved = (*saved[:3], None, *saved[4:])
    generators.restore(saved, held)


def _plain(value: Any) -> Any:
    """As JSON can hold it: numbers of any size, texts and lists as they are, the rest tagged."""
    if isinstance(value, torch.Tensor):
        return {"tensor": base64.b64encode(value.numpy().tobytes()).decode()}
    if isinstance(value, np.ndarray):
        return {"array": base64.b64encode(value.tobytes()).decode(), "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {"dict": [[k, _plain(v)] for k, v in value.items()]}
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_rich(v) for v in value)
    if isinstance(value, dict):
        if "tensor" in value:
            data = bytearray(base64.b64decode(value["tensor"]))
            return torch.frombuffer(data, dtype=torch.uint8)
        if "array" in value:
            return np.frombuffer(base64.b64decode(value["array"]), np.dtype(value["dtype"])).copy()
        return {k: _rich(v) for k, v in value["dict"]}
    return value


def goes_beyond(loader: Any, held: tuple[Any, ...], length: int) -> bool:
    """Whether a loader gives more batches than it says, as those of samplers that never end do.

    Args:
        loader: the loader.
        held: see `held_by_loader`; left as they are.
        length: what it says.
    """
    if _is_torchs(loader.sampler) and _is_torchs(loader.batch_sampler):
        return False
    if length > MOST_LISTED:
        return True  # it may be: then the end is found when it comes
    before = generators.states(held)
    try:
        return Order(loader, deposit(held), held).batch(length) is not None
    finally:
        generators.restore(before, held)


def _is_torchs(sampler: Any) -> bool:
    return type(sampler).__module__.startswith("torch.utils.data.")


class Order:
    """The batches of one pass, by index.

    Args:
        loader: whose batch sampler gives them.
        deposited: the states that the pass begins with.
        held: see `held_by_sampler`.
    """

    def __init__(self, loader: Any, deposited: bytes, held: tuple[Any, ...]) -> None:
        self._held = held
        self._listed: list[Any] = []
        self._ended = False
        own = generators.states()
        restore_deposit(deposited, held)
        # a loader draws the seed of its processes first, then begins to ask its sampler
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        self._batches: Iterator[Any] = iter(loader.batch_sampler)
        self._extend()
        self._states = generators.states(held)
        generators.restore(own)

    @property
    def batches_begun(self) -> int:
        """Batches listed so far."""
        return len(self._listed)

    def batch(self, index: int) -> Any | None:
        """The indices of a batch; None beyond the end."""
        while index >= len(self._listed) and not self._ended:
            own = generators.states()
            generators.restore(self._states, self._held)
            self._extend()
            self._states = generators.states(self._held)
            generators.restore(own)
        return self._listed[index] if index < len(self._listed) else None

    def after(self) -> bytes:
        """The states at the end, as `deposit` would give them: another order can begin there."""
        while not self._ended:
            self.batch(len(self._listed))
        return _packed(self._states)

    def restore_held(self) -> None:
        """Put the sampler's own generators to where listing left them, whatever moved them."""
        own = generators.states()
        generators.restore(self._states, self._held)
        generators.restore(own)

    def _extend(self) -> None:
        for _ in range(AHEAD):
            try:
                self._listed.append(next(self._batches))
            except StopIteration:
                self._ended = True
                return
