"""Plain Python objects that modules keep: lists, tallies, meters, arrays, and those within them.

A trial of a module must leave no trace in them. They are put back as they are, in place: the
script may hold them, too.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
import torch
from torch import nn

__all__ = ["Belongings"]

MOST: Final = 10_000  # objects that are looked into
LONGEST: Final = 100_000  # members of a collection that are looked into
PLAIN: Final = ("collections", "types", "argparse")  # modules of Python's with plain containers
SHUT: Final = ("torch", "numpy", "pellucid")
LARGEST: Final = 64 << 20  # bytes of an array that is copied


class Belongings:
    """What some attributes lead to, to be compared and put back.

    Args:
        attributes: names and values.
    """

    def __init__(self, attributes: Iterable[tuple[str, Any]]) -> None:
        self._noted = [(name, held, _content(held)) for name, held in _reachable(list(attributes))]

    def changes(self) -> list[dict[str, Any]]:
        """What is another object now, or in another place; in the same order for the same start."""
        found = []
        for name, held, content in self._noted:
            now = _content(held)
            if not _is_same(now, content):
                found.append({name: _differing(now, content)})
        return found

    def restore(self) -> None:
        """Put back what they held."""
        for _, held, content in self._noted:
            if not _is_same(_content(held), content):
                _put_back(held, content)


def _reachable(attributes: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What can be put back, each once, with the attribute that led to it."""
    seen: set[int] = set()
    queue = deque(attributes)
    while queue and len(seen) < MOST:
        name, value = queue.popleft()
        if id(value) in seen:
            continue
        if isinstance(value, tuple):
            members: Iterable[Any] = value
        elif isinstance(value, list | set | deque | dict):
            members = value.values() if isinstance(value, dict) else value
            yield name, value
            if len(value) > LONGEST:
                members = ()
        elif isinstance(value, np.ndarray):
            if value.nbytes <= LARGEST and value.dtype != object:
                yield name, value
            continue
        elif _has_members(value):
            members = vars(value).values()
            yield name, value
        else:
            continue
        seen.add(id(value))
        queue.extend((name, member) for member in members)


def _has_members(value: Any) -> bool:
    """Whether this is an object with attributes to look into."""
    shut = (torch.Tensor, nn.Module, FunctionType, MethodType, ModuleType, type)
    kind: Any = type(value)
    has_attributes = type(getattr(value, "__dict__", None)) is dict
    return not isinstance(value, shut) and has_attributes and _is_opened(kind)


@cache
def _is_opened(kind: type) -> bool:
    """Whether objects of this class are looked into: not our own, torch's and most of Python's.

    Those of installed libraries are: a cache of keys and values, a history of what was seen.
    """
    library = kind.__module__.partition(".")[0]
    if library in SHUT:
        return False
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if library in PLAIN or file is None:
        return library in (*PLAIN, "__main__")
    python, *installed = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return any(map(Path(file).is_relative_to, installed)) or not Path(file).is_relative_to(python)


def _content(held: Any) -> Any:
    if isinstance(held, np.ndarray):
        return held.copy()
    if isinstance(held, dict):
        return dict(held)
    if isinstance(held, set):
        return set(held)
    return list(held) if isinstance(held, list | deque) else dict(vars(held))


def _is_same(now: Any, then: Any) -> bool:
    if isinstance(now, np.ndarray):
        return now.shape == then.shape and bool(np.array_equal(now, then, equal_nan=_is_float(now)))
    if isinstance(now, set):
        return bool(now == then)
    if isinstance(now, dict):
        return list(now) == list(then) and all(_is_one(now[key], then[key]) for key in now)
    return len(now) == len(then) and all(map(_is_one, now, then))


def _is_float(array: Any) -> bool:
    return bool(np.issubdtype(array.dtype, np.inexact))


def _is_one(a: Any, b: Any) -> bool:
    """Whether these are one object, or the same number or text."""
    return a is b or (type(a) is type(b) and isinstance(a, int | float | str) and a == b)


def _differing(now: Any, then: Any) -> Any:
    """What is there now and was not."""
    if isinstance(now, dict):
        absent = object()
        return {k: v for k, v in now.items() if not _is_one(v, then.get(k, absent))}
    if isinstance(now, list):
        return [v for k, v in enumerate(now) if k >= len(then) or not _is_one(v, then[k])]
    return now


def _put_back(held: Any, content: Any) -> None:
    if isinstance(held, np.ndarray):
        np.copyto(held, content)
    elif isinstance(held, list):
        held[:] = content
    elif isinstance(held, deque):
        held.clear()
        held.extend(content)
    elif isinstance(held, set | dict):
        held.clear()
        held.update(content)
    else:
        vars(held).clear()
        vars(held).update(content)
