"""Walk the structures that scripts pass around: tuples, dicts, dataclasses, model outputs.

``torch.utils._pytree`` does not know dataclasses or dict subclasses, and unknown objects are leaves
here: only what we can rebuild exactly is opened.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from pellucid.sync.exact.belongings import belonging_to, has_members

__all__ = ["copies_of_containers", "leaves_of", "map_leaves", "map_outputs", "outputs_of"]

_LEAVES = {int, float, str, bool, type(None)}


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Rebuild a structure with ``function`` applied to each leaf; unchanged parts are shared."""
    kind = type(tree)
    if kind in _LEAVES or isinstance(tree, torch.Tensor):
        return function(tree)
    if kind is tuple or kind is list:
        items = [map_leaves(function, item) for item in tree]
        if all(a is b for a, b in zip(items, tree, strict=True)):
            return tree
        return kind(items)
    if kind is dict:
        return _map_dict(function, tree)
    if isinstance(tree, tuple | list | dict) or dataclasses.is_dataclass(tree):
        return _map_rich(function, tree)
    return function(tree)


def _map_rich(function: Callable[[Any], Any], tree: Any) -> Any:
    """Named tuples, dicts and their subclasses, dataclass instances."""
    if isinstance(tree, dict):
        return _map_dict(function, tree)
    if isinstance(tree, tuple | list):
        items = [map_leaves(function, item) for item in tree]
        if all(a is b for a, b in zip(items, tree, strict=True)):
            return tree
        return _made_like(tree, items)
    if isinstance(tree, type):
        return function(tree)
    names = [field.name for field in dataclasses.fields(tree) if hasattr(tree, field.name)]
    values = {name: map_leaves(function, getattr(tree, name)) for name in names}
    if all(values[name] is getattr(tree, name) for name in names):
        return tree
    rebuilt = copy.copy(tree)
    for name, value in values.items():
        object.__setattr__(rebuilt, name, value)  # frozen ones too: the copy is ours
    return rebuilt


def _made_like(tree: Any, items: list[Any]) -> Any:
    """A tuple or list of the same class, whatever its constructor or its length may be of."""
    if isinstance(tree, list):
        rebuilt = copy.copy(tree)
        list.__setitem__(rebuilt, slice(None), items)
        return rebuilt
    if hasattr(tree, "_fields"):
        rebuilt = tuple.__new__(type(tree), items)
        getattr(rebuilt, "__dict__", {}).update(getattr(tree, "__dict__", {}))
        return rebuilt
    return type(tree)(items)


def _map_dict(function: Callable[[Any], Any], tree: dict[Any, Any]) -> dict[Any, Any]:
    if not tree:
        return tree
    values = {key: map_leaves(function, value) for key, value in tree.items()}
    if all(values[key] is tree[key] for key in values):
        return tree
    if type(tree) is dict:
        return values
    rebuilt = copy.copy(tree)
    attributes = getattr(tree, "__dict__", {})
    for key, value in values.items():
        # outputs in the style of transformers hold the same value as item and as attribute
        if isinstance(key, str) and key in attributes and attributes[key] is tree[key]:
            object.__setattr__(rebuilt, key, value)
        rebuilt[key] = value
    return rebuilt


def copies_of_containers(tree: Any) -> Any:
    """The same structure with copies of all lists and dicts in it, also of empty ones."""
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([copies_of_containers(item) for item in tree])
    if kind is dict:
        return {key: copies_of_containers(value) for key, value in tree.items()}
    if isinstance(tree, list | dict):
        return copy.copy(tree)
    return tree


def leaves_of(tree: Any) -> list[Any]:
    """All leaves, in the order in which `map_leaves` visits them."""
    found: list[Any] = []
    _gather(tree, found)
    return found


def _gather(tree: Any, found: list[Any]) -> None:
    kind = type(tree)
    if kind in _LEAVES or isinstance(tree, torch.Tensor):
        found.append(tree)
    elif kind is tuple or kind is list:
        for item in tree:
            _gather(item, found)
    elif kind is dict:
        for item in tree.values():
            _gather(item, found)
    else:  # seldom: by the one that knows them all

        def note(leaf: Any) -> Any:
            found.append(leaf)
            return leaf

        map_leaves(note, tree)


def map_outputs(function: Callable[[Any], Any], output: Any) -> Any:
    """As `map_leaves`, where objects that hold tensors are opened, too.

    Those are caches of keys and values, or distributions. A module has made them, so that it does
    no harm to give others in their place; of inputs that would not be so.
    """
    path: set[int] = set()

    def open_up(leaf: Any) -> Any:
        if id(leaf) in path or not _holds_tensors(leaf):
            return function(leaf)
        path.add(id(leaf))
        before = vars(leaf)
        values = {name: map_leaves(open_up, value) for name, value in before.items()}
        path.remove(id(leaf))
        if all(values[name] is value for name, value in before.items()):
            return leaf
        rebuilt = object.__new__(type(leaf))
        vars(rebuilt).update(values)
        return rebuilt

    return map_leaves(open_up, output)


def outputs_of(output: Any) -> list[Any]:
    """All leaves, in the order in which `map_outputs` visits them."""
    found: list[Any] = []

    def note(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    for leaf in leaves_of(output):
        if type(leaf) in _LEAVES or isinstance(leaf, torch.Tensor):
            found.append(leaf)
        else:
            map_outputs(note, leaf)
    return found


def _holds_tensors(leaf: Any) -> bool:
    if type(leaf) in _LEAVES or isinstance(leaf, torch.Tensor) or not has_members(leaf):
        return False
    return any(isinstance(held, torch.Tensor) for held in belonging_to(leaf, set()))
