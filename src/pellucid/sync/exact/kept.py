"""Tensors that a forward leaves in attributes of its modules: outputs by another door.

[Note: kept]
``self.attention = weights`` hands something to the script, which may look at it, or add it to the
loss. So such an attribute is proven, joined and given a graph as an output is, and then set to what
the script is to see: the whole.

That is right only where the forward does not itself go by what an earlier call has left there: in
the attribute is the whole, and in the forward are rows. So while a call is split, a guard stands
there. If it is met in a trial, the module is not divided; if it is later, that call is begun again,
and run whole as all that follow. The second call with inputs of a kind, which finds something, is
always tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import nn

from pellucid.errors import UnsupportedError
from pellucid.sync.exact.tree import leaves_of, map_leaves
from pellucid.sync.exact.view import BatchView, whole_of

__all__ = [
    "CHANGED",
    "Guard",
    "Place",
    "ReadError",
    "goes_by",
    "has_tensors",
    "is_same",
    "put",
    "settle",
    "unchanged",
    "values",
]

Place = tuple[dict[str, Any], str]  # the attributes of a module, and a name among them

CHANGED: Final = "it no longer does with tensors in its attributes what it did at first"


_ABSENT = object()


def is_same(place: Place, other: Place) -> bool:
    """Whether these are one place."""
    return place[0] is other[0] and place[1] == other[1]


def has_tensors(value: Any) -> bool:
    """Whether an attribute's value is a tensor, or a list, tuple, dict or dataclass with some."""
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves_of(value))


def goes_by(places: Sequence[Place]) -> str:
    """The reason not to divide a module that reads them."""
    names = ", ".join(sorted({name for _, name in places}))
    return f"it goes by what an earlier call kept in its attributes ({names})"


def settle(module: nn.Module) -> None:
    """Make views whole that earlier calls have left. A collective operation, if there are any."""
    for inner in module.modules():
        attributes = vars(inner)
        for name, value in list(attributes.items()):
            if isinstance(value, torch.Tensor | list | tuple | dict) and any(
                isinstance(leaf, BatchView) for leaf in leaves_of(value)
            ):
                attributes[name] = whole_of(value)


def values(places: Sequence[Place]) -> list[Any]:
    """What is there now; None where nothing is."""
    return [attributes.get(name) for attributes, name in places]


class Guard:
    """Tensors in these places are not to be read from now on.

    Args:
        places: where.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._before = [attributes.get(name, _ABSENT) for attributes, name in places]
        self._guards = [map_leaves(_guarded, value) for value in self._before]
        self._places = places
        self._put(self._guards)

    def take(self, kept: Sequence[Place]) -> list[Any]:
        """What a split call has left.

        Args:
            kept: by its proof, the places where it has; in others it has left what was there.

        Raises:
            UnsupportedError: it has done otherwise.
        """
        now = [attributes.get(name, _ABSENT) for attributes, name in self._places]
        ours = [any(is_same(place, other) for other in kept) for place in self._places]
        for value, guard, is_ours in zip(now, self._guards, ours, strict=True):
            if (value is not guard) != is_ours or (is_ours and value is None):
                raise UnsupportedError(CHANGED)
        left = zip(now, self._before, ours, strict=True)
        self._put([value if is_ours else before for value, before, is_ours in left])
        return values(kept)

    def _put(self, values: Sequence[Any]) -> None:
        for (attributes, name), value in zip(self._places, values, strict=True):
            if value is not _ABSENT:
                attributes[name] = value


def _guarded(leaf: Any) -> Any:
    return _Closed(leaf) if isinstance(leaf, torch.Tensor) else leaf


class ReadError(Exception):
    """A forward has read what an earlier call has kept."""


class _Closed(torch.Tensor):
    """Stands for a tensor that is not to be read."""

    @staticmethod
    def __new__(cls: Any, _: torch.Tensor) -> _Closed:
        made: _Closed = torch.Tensor._make_wrapper_subclass(cls, ())
        return made

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        raise ReadError

    @classmethod
    def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
        raise ReadError


@contextlib.contextmanager
def unchanged(places: Sequence[Place]) -> Iterator[None]:
    """Leave what is there when the body is over, which runs something again."""
    before = values(places)
    try:
        yield
    finally:
        put(places, before)


def put(places: Sequence[Place], left: Sequence[Any]) -> None:
    """Set them to what the script is to see."""
    for (attributes, name), value in zip(places, left, strict=True):
        attributes[name] = value
