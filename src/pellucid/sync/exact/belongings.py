"""Plain Python objects that modules keep: lists, tallies, meters, arrays, and those within them.

A trial of a module must leave no trace in them. They are put back as they are, in place: the
script may hold them, too.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from pellucid.sync.exact.contents import Contents
from pellucid.sync.shared.parts import modules_of

__all__ = ["Belongings", "belonging_to", "has_members", "same_array", "with_hidden"]

MOST: Final = 10_000  # objects that are looked into
LONGEST: Final = 100_000  # members of a collection that are looked into
PLAIN: Final = ("collections", "types", "argparse")  # modules of Python's with plain containers
SHUT: Final = ("torch", "numpy", "pellucid")
_OF_ALL: Final = vars(nn.Module()).keys()  # what torch keeps in all modules
LARGEST: Final = 64 << 20  # bytes of an array or a tensor that is copied


class Belongings:
    """What some attributes lead to, to be compared and put back.

    Args:
        attributes: names and values.
        modules: whose they are. What a library keeps in an attribute and leads back to one of them
            is no belonging of theirs, but an owner: a trainer, for one.
    """

    def __init__(
        self, attributes: Iterable[tuple[str, Any]], modules: Iterable[nn.Module] = ()
    ) -> None:
        owned = {id(module) for module in modules}
        seen: set[int] = set()
        self._noted: list[tuple[str, Any, Any]] = []
        for name, value in attributes:
            noted = [x for x in _owned(value, owned, seen) if not isinstance(x, nn.Module)]
            self._noted += [(name, held, _content(held)) for held in noted]

    def changes(self) -> list[dict[str, Any]]:
        """What is another object now, or in another place; in the same order for the same start."""
        return [
            {name: _differing(held, content)}
            for name, held, content in self._noted
            if not _is_still(held, content)
        ]

    def restore(self) -> None:
        """Put back what they held."""
        for _, held, content in self._noted:
            if not _is_still(held, content):
                _put_back(held, content)


def with_hidden(module: nn.Module) -> list[nn.Module]:
    """A module, its submodules, and those that they keep in lists or objects: teachers, for one.

    Kept like that, a module is none of theirs for an optimizer, nor for ``train()``.
    """
    found = {id(part): part for part in modules_of(module)}
    seen: set[int] = set()
    waiting = list(found.values())
    while waiting:
        own = vars(waiting.pop())
        for value in [value for name, value in own.items() if name not in _OF_ALL]:
            for held in _owned(value, found.keys(), seen):
                parts = modules_of(held) if isinstance(held, nn.Module) else ()
                fresh = {id(part): part for part in parts if id(part) not in found}
                found |= fresh
                waiting += fresh.values()
    return list(found.values())


def _owned(value: Any, owners: Collection[int], seen: set[int]) -> list[Any]:
    """What belongs to a value, if that is not an owner itself."""
    found = list(belonging_to(value, seen))
    kind: Any = type(value)
    if any(id(held) in owners for held in found) and _is_a_librarys(kind):
        return []
    return found


def belonging_to(value: Any, seen: set[int]) -> Iterator[Any]:
    """What can be put back, each once; and modules, which are not looked into.

    Args:
        value: where to begin. Tensors count within objects only: others are copied before a trial.
        seen: identities of what was met before; what is met is added.
    """
    queue = deque([(value, False)])
    while queue and len(seen) < MOST:
        value, within = queue.popleft()
        if id(value) in seen:
            continue
        if not isinstance(value, tuple):
            if not _can_be_put_back(value, within=within):
                continue
            yield value
        seen.add(id(value))
        within = within or has_members(value)
        queue.extend((member, within) for member in _looked_into(value))


def _can_be_put_back(value: Any, *, within: bool) -> bool:
    if isinstance(value, np.ndarray):
        return value.nbytes <= LARGEST and value.dtype != object
    if type(value) is torch.Tensor:
        return within
    return isinstance(value, list | set | deque | dict | nn.Module) or has_members(value)


def _looked_into(value: Any) -> Iterable[Any]:
    if isinstance(value, list | set | deque | dict | tuple):
        if len(value) > LONGEST:
            return ()
        return value.values() if isinstance(value, dict) else value
    return vars(value).values() if has_members(value) else ()


def has_members(value: Any) -> bool:
    """Whether this is an object with attributes to look into."""
    if isinstance(value, torch.Tensor | nn.Module | FunctionType | MethodType | ModuleType | type):
        return False
    kind: Any = type(value)
    return type(getattr(value, "__dict__", None)) is dict and _is_opened(kind)


@cache
def _is_opened(kind: type) -> bool:
    """Whether objects of this class are looked into: not our own, torch's and most of Python's.

    Those of installed libraries are: a cache of keys and values, a history of what was seen.
    """
    library = kind.__module__.partition(".")[0]
    if library in SHUT:
        return kind.__module__.startswith("torch.distributions.")
    if library in PLAIN:
        return True
    file = _file_of(kind)
    if file is None:
        return library == "__main__"
    return _is_installed(file) or not file.is_relative_to(sysconfig.get_path("stdlib"))


@cache
def _is_a_librarys(kind: type) -> bool:
    file = _file_of(kind)
    return file is not None and _is_installed(file)


def _file_of(kind: type) -> Path | None:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return None if file is None else Path(file)


def _is_installed(file: Path) -> bool:
    return any(file.is_relative_to(sysconfig.get_path(name)) for name in ("purelib", "platlib"))


def _content(held: Any) -> Any:
    """What is needed to tell whether something has changed, and to put it back."""
    if isinstance(held, np.ndarray):
        return held.copy()
    if isinstance(held, torch.Tensor):
        return Contents(held, copied=held.nbytes <= LARGEST)
    return _members(held)


def _members(held: Any) -> Any:
    if isinstance(held, dict):
        return dict(held)
    if isinstance(held, set):
        return set(held)
    return list(held) if isinstance(held, list | deque) else dict(vars(held))


def _is_still(held: Any, content: Any) -> bool:
    if isinstance(held, np.ndarray):
        return same_array(held, content)
    if isinstance(held, torch.Tensor):
        return not content.is_changed()
    now = _members(held)
    if isinstance(now, set):
        return bool(now == content)
    if isinstance(now, dict):
        return list(now) == list(content) and all(_is_one(now[key], content[key]) for key in now)
    return len(now) == len(content) and all(map(_is_one, now, content))


def same_array(a: Any, b: Any) -> bool:
    """Whether two arrays hold the same, of those of numbers also in places where they hold none."""
    return bool(np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.inexact)))


def _is_one(a: Any, b: Any) -> bool:
    """Whether these are one object, or the same number or text."""
    return a is b or (type(a) is type(b) and isinstance(a, int | float | str) and a == b)


def _differing(held: Any, then: Any) -> Any:
    """What is there now and was not."""
    if isinstance(held, np.ndarray | torch.Tensor):
        return held
    now = _members(held)
    if isinstance(now, dict):
        absent = object()
        return {k: v for k, v in now.items() if not _is_one(v, then.get(k, absent))}
    if isinstance(now, list):
        return [v for k, v in enumerate(now) if k >= len(then) or not _is_one(v, then[k])]
    return now


def _put_back(held: Any, content: Any) -> None:
    if isinstance(held, np.ndarray):
        np.copyto(held, content)
    elif isinstance(held, torch.Tensor):
        content.put_back()
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
