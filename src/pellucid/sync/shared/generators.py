"""The script's random generators: take their states, put them back, compare, send them.

Three generators belong to every script: torch's, numpy's and Python's. A dataset may hold further
ones of its own, and counters that make its samples depend on the order of the calls; `held_by`
finds both, so that a sample that moves any of them is noticed.
"""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Sequence
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import msgspec
import numpy as np
import torch

__all__ = [
    "States",
    "decode_states",
    "encode_states",
    "held_by",
    "held_by_modules",
    "is_counters",
    "moved_beside_torch",
    "reachable",
    "restore",
    "same",
    "states",
]

States = tuple[Any, ...]


def _cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def states(extra: tuple[Any, ...] = ()) -> States:
    """The states of the script's generators, and of these further ones."""
    legacy: Any = np.random.get_state(legacy=False)
    return (
        torch.get_rng_state(),
        random.getstate(),
        (legacy["state"]["key"], legacy["state"]["pos"], legacy["has_gauss"], legacy["gauss"]),
        torch.cuda.get_rng_state() if _cuda() else None,
        *(_state_of(generator) for generator in extra),
    )


def restore(saved: States, extra: tuple[Any, ...] = ()) -> None:
    """Put back what `states` took, with the same further generators."""
    torch.set_rng_state(saved[0])
    random.setstate(saved[1])
    np.random.set_state(("MT19937", *saved[2]))
    if saved[3] is not None:
        torch.cuda.set_rng_state(saved[3])
    for generator, state in zip(extra, saved[4:], strict=True):
        _set_state(generator, state)


def same(a: States, b: States) -> bool:
    """Whether two takings of the same generators found the same states."""
    return (
        a[1] == b[1]
        and torch.equal(a[0], b[0])
        and a[2][1:] == b[2][1:]
        and bool((a[2][0] == b[2][0]).all())
        and (a[3] is None or b[3] is None or torch.equal(a[3], b[3]))
        and all(_equal(x, y) for x, y in zip(a[4:], b[4:], strict=True))
    )


def moved_beside_torch(a: States, b: States, extra: tuple[Any, ...] = ()) -> bool:
    """Whether others than torch's generators, which are drawn from by rows, have moved.

    Args:
        a: a taking of the states.
        b: another.
        extra: the further generators in both.
    """
    further = zip(extra, a[4:], b[4:], strict=True)
    return (
        a[1] != b[1]
        or a[2][1] != b[2][1]
        or any(not _equal(x, y) for held, x, y in further if not isinstance(held, torch.Generator))
    )


def encode_states() -> torch.Tensor:
    """The script's generators' states as bytes, for another worker."""
    taken = states()
    keys, pos, has_gauss, gauss = taken[2]
    fields = (
        taken[0].numpy().tobytes(),
        taken[1],
        (keys.tobytes(), int(pos), int(has_gauss), float(gauss)),
        None if taken[3] is None else taken[3].numpy().tobytes(),
    )
    return torch.frombuffer(bytearray(msgspec.msgpack.encode(fields)), dtype=torch.uint8)


def decode_states(data: torch.Tensor) -> None:
    """Set the script's generators to states that `encode_states` took elsewhere."""
    t, (version, words, gauss_next), (keys, *rest), cuda = msgspec.msgpack.decode(
        data.numpy().tobytes()
    )
    restore(
        (
            torch.frombuffer(bytearray(t), dtype=torch.uint8),
            (version, tuple(words), gauss_next),
            (np.frombuffer(keys, dtype=np.uint32), *rest),
            None if cuda is None else torch.frombuffer(bytearray(cuda), dtype=torch.uint8),
        )
    )


_KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class _Counters:
    """The numbers and strings among an object's attributes, or in a function's cells."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def belong_to(self, owners: tuple[Any, ...]) -> bool:
        """Whether these are the counters of one of these objects."""
        return any(self.owner is owner for owner in owners)

    def get(self) -> dict[str, Any]:
        """Their values now."""
        if isinstance(self.owner, FunctionType):
            held = {n: c.cell_contents for n, c in self._cells().items() if _filled(c)}
        else:
            held = getattr(self.owner, "__dict__", {})
        return {k: v for k, v in held.items() if type(v) in (int, float, str, bool)}

    def set(self, values: dict[str, Any]) -> None:
        """Put values back."""
        if isinstance(self.owner, FunctionType):
            for name, value in values.items():
                self._cells()[name].cell_contents = value
            return
        for name in self.get().keys() - values.keys():
            delattr(self.owner, name)
        vars(self.owner).update(values)

    def _cells(self) -> dict[str, Any]:
        owner = self.owner
        return dict(zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True))


def is_counters(held: Any) -> bool:
    """Whether something that `held_by` found is an object's counters, not a generator."""
    return isinstance(held, _Counters)


def held_by(owner: Any, limit: int = 300) -> tuple[Any, ...]:
    """Generators and counters reachable from an object's attributes, in a fixed order.

    Args:
        owner: usually a dataset.
        limit: how many objects to look into; datasets are shallow, their data is not.
    """
    found: list[Any] = []
    for value in reachable([owner], limit):
        if _is_generator(value):
            found.append(value)
        elif _may_count(value):
            found.append(_Counters(value))
    return tuple(found)


def held_by_modules(modules: Sequence[Any], limit: int = 2000) -> tuple[Any, ...]:
    """Generators that modules keep, or that their code refers to, through functions it calls, too.

    Args:
        modules: the modules.
        limit: how many objects to look into.
    """
    first: list[Any] = []
    for module in modules:
        kinds = [kind for kind in type(module).__mro__ if not _is_librarys(kind)]
        first += [v for kind in kinds for v in vars(kind).values() if isinstance(v, FunctionType)]
        first += vars(module).values()
    found = reachable(first, limit, shut=torch.nn.Module)
    return tuple(value for value in found if _is_generator(value))


def reachable(owners: Sequence[Any], limit: int, shut: tuple[type, ...] | type = ()) -> list[Any]:
    """Objects, and what their attributes and their code lead to, breadth first, each once.

    Args:
        owners: where to begin.
        limit: how many to look into.
        shut: not to be looked into.
    """
    found: dict[int, Any] = {}
    queue = deque(owners)
    while queue and len(found) < limit:
        value = queue.popleft()
        if id(value) not in found:
            found[id(value)] = value
            if not (_is_generator(value) or isinstance(value, shut)):
                queue += _children(value)
    return list(found.values())


def _is_generator(value: Any) -> bool:
    """Whether this is a generator, other than the script's."""
    return isinstance(value, _KINDS) and value is not torch.default_generator


def _may_count(owner: Any) -> bool:
    """Whether an object holds numbers, or is the script's own and may come to hold some."""
    if isinstance(owner, FunctionType):
        return bool(_Counters(owner).get())
    # of some objects, classes among them, it is a view that cannot be written to
    if type(getattr(owner, "__dict__", None)) is not dict or isinstance(owner, ModuleType):
        return False
    return bool(_Counters(owner).get()) or not _is_librarys(type(owner))


def _children(owner: Any) -> list[Any]:  # noqa: PLR0911 - one answer a kind of object
    """What an object holds or, if it can be called, what its code refers to."""
    if isinstance(owner, list | tuple):
        return list(owner[:16])
    if isinstance(owner, dict):
        return list(owner.values())[:16]
    if isinstance(owner, _SHUT) or callable(getattr(owner, "__next__", None)):
        return []
    if isinstance(owner, functools.partial):
        return [owner.func, *owner.args, *owner.keywords.values()]
    if isinstance(owner, MethodType | BuiltinMethodType):
        return [owner.__self__, getattr(owner, "__func__", None)]
    if isinstance(owner, FunctionType):
        return _referred_to(owner)
    held = list(getattr(owner, "__dict__", {}).values())
    for kind in type(owner).__mro__:
        if not _is_librarys(kind):
            slots = vars(kind).get("__slots__", ())
            names = [slots] if isinstance(slots, str) else slots
            held += [getattr(owner, name, None) for name in names]
            held += vars(kind).values()
    return held


def _is_librarys(kind: type) -> bool:
    """Whether a class is part of torch, numpy or Python: they draw from the script's generators."""
    module = kind.__module__ or ""  # None for classes that protobuf makes
    return module.partition(".")[0] in ("", "builtins", "torch", "numpy", "typing", "abc", "google")


def _referred_to(function: FunctionType) -> list[Any]:
    """What a function of the script can reach: its cells, its defaults, globals by their names."""
    if (function.__module__ or "").partition(".")[0] in ("torch", "numpy"):
        return []
    cells = [c.cell_contents for c in function.__closure__ or () if _filled(c)]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    names = function.__code__.co_names
    return cells + defaults + [function.__globals__[n] for n in names if n in function.__globals__]


_SHUT = (torch.Tensor, np.ndarray, str, bytes, int, float, type, ModuleType, type(None))


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - reading an empty cell raises
    except ValueError:
        return False
    return True


def _state_of(generator: Any) -> Any:
    if isinstance(generator, _Counters):
        return generator.get()
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.bit_generator.state


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, _Counters):
        generator.set(state)
    elif isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b)
