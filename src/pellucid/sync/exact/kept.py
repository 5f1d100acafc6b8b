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
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from pellucid.errors import UnsupportedError
from pellucid.sync.exact.tree import leaves_of, map_leaves
from pellucid.sync.exact.view import whole_of
from pellucid.sync.shared.parts import modules_of

__all__ = [
    "CHANGED",
    "Guard",
    "Place",
    "ReadError",
    "goes_by",
    "has_tensors",
    "put",
    "settle",
    "unchanged",
    "values",
]

CHANGED: Final = "it no longer does with tensors in its attributes what it did at first"
_ABSENT: Final = object()


@dataclass(frozen=True, eq=False)
class Place:
    """An attribute of a module; two are equal if they are one.

    Attributes:
        attributes: all of the module.
        name: which of them.
    """

    attributes: dict[str, Any]
    name: str

    def __eq__(self, other: object) -> bool:
        """Not by what is in the attributes."""
        return isinstance(other, Place) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[int, str]:
        return id(self.attributes), self.name


def has_tensors(value: Any) -> bool:
    """Whether an attribute's value is a tensor, or a list, tuple, dict or dataclass with some."""
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves_of(value))


def goes_by(places: Iterable[Place]) -> str:
    """The reason not to divide a module that reads them."""
    names = ", ".join(sorted({place.name for place in places}))
    return f"it goes by what an earlier call kept in its attributes ({names})"


def settle(module: nn.Module) -> None:
    """Make views whole that earlier calls have left. A collective operation, if there are any."""
    for inner in modules_of(module):
        for name, value in list(vars(inner).items()):
            if (whole := whole_of(value)) is not value:
                vars(inner)[name] = whole


def values(places: Iterable[Place]) -> list[Any]:
    """What is there now."""
    return [place.attributes.get(place.name, _ABSENT) for place in places]


def put(places: Iterable[Place], wanted: Iterable[Any]) -> None:
    """Set them to what is to be there: what `values` gave, or what the script is to see."""
    for place, value in zip(places, wanted, strict=True):
        if value is _ABSENT:
            place.attributes.pop(place.name, None)
        else:
            place.attributes[place.name] = value


class Guard:
    """Tensors in these places are not to be read from now on.

    Args:
        places: where.
    """

    def __init__(self, places: Collection[Place]) -> None:
        self._places = places
        self._before = values(places)
        self._guards = [map_leaves(_guarded, value) for value in self._before]
        put(places, self._guards)

    def take(self, kept: Sequence[Place]) -> list[Any]:
        """What a split call has left.

        Args:
            kept: by its proof, the places where it has; in others it has left what was there.

        Raises:
            UnsupportedError: it has done otherwise.
        """
        now = values(self._places)
        ours = [place in kept for place in self._places]
        for value, guard, is_ours in zip(now, self._guards, ours, strict=True):
            if (value is not guard) != is_ours or (is_ours and value is None):
                raise UnsupportedError(CHANGED)
        left = zip(now, self._before, ours, strict=True)
        put(self._places, [value if is_ours else before for value, before, is_ours in left])
        return values(kept)


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
def unchanged(places: Collection[Place]) -> Iterator[None]:
    """Leave what is there when the body is over, which runs something again."""
    before = values(places)
    try:
        yield
    finally:
        put(places, before)
