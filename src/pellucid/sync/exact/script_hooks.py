"""The script's hooks of modules, as torch's tables hold them.

A hook belongs to the script's world: it sees whole values, wherever it is called from. One that is
called inside a split call gets what it is given joined, and what it returns is cut back into rows.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch

from pellucid.sync.exact.region import Join, Region, Return, current, entered
from pellucid.sync.exact.tree import leaves_of, map_leaves

__all__ = ["BackwardHook", "ForwardHook", "ScriptHook", "is_torchs", "on_whole"]


class ScriptHook:
    """A hook of the script.

    Copied or pickled with its module, it is the script's own: what is saved loads without us, and
    a method of the module is one of the copy's.

    Args:
        hook: the script's.
    """

    def __init__(self, hook: Any) -> None:
        functools.update_wrapper(self, hook, updated=())  # type: ignore[arg-type] # any callable
        self.hook = hook

    def __reduce__(self) -> Any:
        return operator.getitem, ((self.hook,), 0)


class ForwardHook(ScriptHook):
    """A forward hook, called with whole values.

    Args:
        hook: the script's.
        keeps: whether the last of what it is given may be kept by it, and asked for its gradient
            (or written to): then what the module goes on with is made of that.
    """

    def __init__(self, hook: Any, *, keeps: bool) -> None:
        super().__init__(hook)
        self.keeps = keeps

    def __call__(self, module: Any, *args: Any) -> Any:
        """What the hook returns."""
        region = current()
        if region is None:
            return self.hook(module, *args)
        return on_whole(functools.partial(self.hook, module), region, keeps=self.keeps)(*args)


class BackwardHook(ScriptHook):
    """A full backward hook, called with the whole gradients.

    Args:
        hook: the script's.
        latest: tells the latest split call.
    """

    def __init__(self, hook: Any, latest: Callable[[], Region | None]) -> None:
        super().__init__(hook)
        self.latest = latest

    def __call__(self, module: Any, *args: Any) -> Any:
        """What the hook returns."""
        region = self.latest()
        if region is None:
            return self.hook(module, *args)
        return on_whole(functools.partial(self.hook, module), region)(*args)


def is_torchs(hook: Any) -> bool:
    """Whether a hook is part of torch's own machinery (parametrizations, lazy modules)."""
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return str(module).startswith("torch.")


def on_whole(hook: Any, region: Region, *, keeps: bool = False) -> Any:
    """A hook, called with whole values where it would get rows; `keeps` as for `ForwardHook`."""

    def answer(*args: Any) -> Any:
        with entered(None):
            wholes = map_leaves(functools.partial(_join, region), args)
            result = hook(*wholes)
            if result is not None:
                return map_leaves(functools.partial(_cut, region), result)
            if not keeps:
                return None
            own = iter(leaves_of(args[-1]))
            return map_leaves(lambda whole: _rows_of(region, whole, next(own)), wholes[-1])

    return answer


def _join(region: Region, leaf: Any) -> Any:
    dim = region.batch_dim(leaf.shape) if isinstance(leaf, torch.Tensor) else None
    if dim is None:
        return leaf
    return Join.apply(region.group, region.rows, (dim,), "hook", leaf)[0]


def _cut(region: Region, leaf: Any) -> Any:
    """Our rows of what a hook returned."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    for dim in (1, 0) if region.dim == 1 else (0, 1):
        if dim < leaf.ndim and leaf.shape[dim] % region.rows.total == 0:
            return Return.apply(region.group, region.rows, dim, leaf)
    return leaf


def _rows_of(region: Region, whole: Any, own: Any) -> Any:
    """Our rows of what `_join` made of them."""
    if whole is own:
        return own
    return Return.apply(region.group, region.rows, region.batch_dim(own.shape), whole)
