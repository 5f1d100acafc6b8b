"""What a run of a module may change: taken before a trial, and put back after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules import module as of_all
from torch.nn.utils import parametrize

from pellucid.sync.exact.belongings import Belongings, with_hidden
from pellucid.sync.exact.contents import Contents
from pellucid.sync.exact.kept import Place, has_tensors
from pellucid.sync.exact.script_hooks import ScriptHook, is_torchs
from pellucid.sync.exact.tree import leaves_of
from pellucid.sync.exact.view import BatchView
from pellucid.sync.shared import generators
from pellucid.sync.shared.parts import buffers_of, modules_of, parameters_in

__all__ = ["Noted", "Saved", "computed_by_torch", "has_hooks"]

# parameters are put back after a trial that changed them, if they are not larger than this
SAVED_BYTES: Final = 2 << 30


class Saved:
    """What a run of a module may change, to be put back.

    Args:
        module: the module.
        weights: whether that may be its parameters, too.
        deep: whether what its attributes lead to counts, too, as lists and generators, which takes
            longest to find: too long for every call.
    """

    def __init__(self, module: nn.Module, *, weights: bool = True, deep: bool = True) -> None:
        self._module = module
        self._modules = with_hidden(module) if deep else modules_of(module)
        self._held = generators.held_by_modules(self._modules) if deep else ()
        self._states = self.states()
        # what a module is made of: some are built, or hooked, by their first forward, some replaced
        self._parts: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
            (part, dict(part)) for m in self._modules for part in _tables_of(m)
        ]
        self._gave_grads = False  # the latest run did, to parameters
        self._cached = dict(parametrize._cache)  # of `parametrize.cached()`
        self._buffers = [
            (m._buffers, {k: (b, None if b is None else b.clone()) for k, b in m._buffers.items()})
            for m in self._modules
        ]
        self._attributes = [(vars(m), _plain(m)) for m in self._modules]
        attributes = [plain for _, plain in self._attributes] if deep else []
        self._belongings = Belongings(
            [attribute for plain in attributes for attribute in plain.items()], self._modules
        )
        # a cache of keys and values, for one: no buffer, and written to
        self._kept = [
            Contents(x)
            for plain in attributes
            for x in leaves_of(list(plain.values()))
            if isinstance(x, torch.Tensor) and not isinstance(x, BatchView)
        ]
        self._weights = parameters_in(self._modules) if weights else []
        small = sum(p.nbytes for p in self._weights) < SAVED_BYTES
        self._parameters = [Contents(p, copied=small) for p in self._weights]

    def states(self) -> generators.States:
        """Of the script's generators and the modules' own, as they are now."""
        return generators.states(self._held)

    def decides(self) -> str:
        """Why the run that just ended may be no example for others; "" if it is."""
        if generators.moved_beside_torch(self._states, self.states(), self._held):
            return "it decides by random numbers of Python or numpy, the same for all rows"
        if any(not contents.is_kept() and contents.is_changed() for contents in self._parameters):
            return "it changes its parameters in forward, which are too many to be put back"
        if self._gave_grads:
            return "its forward goes backward, and adds to the gradients of its parameters"
        if any(
            isinstance(value, nn.Parameter) and part.get(name) is not value
            for part, before in self._parts
            for name, value in before.items()
        ):
            return "it replaces its parameters in forward"
        if any(kept.is_changed() for kept in self._kept):
            return "it writes into tensors that it keeps in its attributes"
        return ""

    def buffers(self) -> list[torch.Tensor]:
        """Copies of all buffers as they are now."""
        return [b.clone() for owner, _ in self._buffers for b in owner.values() if b is not None]

    def parameters(self) -> dict[int, torch.Tensor]:
        """Copies of the parameters that are not now as they were, by their places among all."""
        return {
            k: contents.tensor.detach().clone()
            for k, contents in enumerate(self._parameters)
            if contents.is_changed()
        }

    def attributes(self) -> tuple[list[dict[str, Any]], list[Place]]:
        """The modules' own attributes, and what they hold, that are not now as they were.

        Returns:
            The attributes, and places of those that hold tensors now: see [Note: kept].
        """
        changed: list[dict[str, Any]] = []
        kept: list[Place] = []
        for module, (now, before) in zip(self._modules, self._attributes, strict=True):
            changed.append({})
            for name, value in _plain(module).items():
                if _is_same(value, before.get(name, _ABSENT)):
                    continue
                if has_tensors(value):
                    kept.append(Place(now, name))
                else:
                    changed[-1][name] = value
        return changed + self._belongings.changes(), kept

    def restore(self) -> None:
        """Put everything back."""
        generators.restore(self._states, self._held)
        self._put_parts_back()
        self._belongings.restore()
        for owner, saved in self._buffers:
            for name, (buffer, value) in saved.items():
                if buffer is not None:
                    buffer.detach().copy_(value)  # type: ignore[arg-type] # both are None, or none
                owner[name] = buffer
        for contents in (*self._parameters, *self._kept):
            contents.put_back()
        for module, (now, before) in zip(self._modules, self._attributes, strict=True):
            for name in [k for k in _plain(module) if k not in before]:
                del now[name]
            for name, value in before.items():
                if name not in now or not _is_same(now[name], value):
                    now[name] = value

    def _put_parts_back(self) -> None:
        """Undo what the run built or replaced: the real call is to do it."""
        for part, before in self._parts:
            if part.keys() != before.keys() or any(part[k] is not v for k, v in before.items()):
                part.clear()
                part.update(before)
        parametrize._cache.clear()
        parametrize._cache.update(self._cached)

    @contextlib.contextmanager
    def other_weights(self) -> Iterator[Saved | None]:
        """While the body runs, parameters are a little off, alike on all workers.

        Yields:
            What to put back in it; None where there is too much to change.
        """
        if not all(contents.is_kept() for contents in self._parameters):
            yield None
            return
        draw = torch.Generator().manual_seed(0)  # not the script's
        try:
            with torch.no_grad():
                for contents in self._parameters:
                    _shake(contents.tensor.detach(), draw)
            yield Saved(self._module)
        finally:
            self.restore()

    @contextlib.contextmanager
    def without_grads(self) -> Iterator[None]:
        """While the body runs, nothing has a ``.grad``, to which it might add."""
        before = [(parameter, parameter.grad) for parameter in self._weights]
        for parameter, _ in before:
            parameter.grad = None
        try:
            yield
        finally:
            self._gave_grads = any(parameter.grad is not None for parameter, _ in before)
            for parameter, grad in before:
                parameter.grad = grad

    @contextlib.contextmanager
    def without_hooks(self) -> Iterator[None]:
        """While the body runs, the script's own hooks on these modules are not called."""
        taken: list[tuple[Any, dict[Any, Any]]] = []
        for hooks in _forward_hooks(self._modules):
            if hooks:
                taken.append((hooks, dict(hooks)))
                for key, hook in list(hooks.items()):
                    if isinstance(hook, ScriptHook):
                        del hooks[key]
        try:
            yield
        finally:
            for hooks, before in taken:
                hooks.clear()
                hooks.update(before)


class Noted:
    """The little that most calls change, generators and buffers, to be put back: quickly taken.

    Args:
        module: the module.
        buffers: whether calls of it change those.
    """

    def __init__(self, module: nn.Module, *, buffers: bool) -> None:
        self._states = generators.states()
        self._buffers = [(b, b.clone()) for b in buffers_of(module)] if buffers else []

    def restore(self) -> None:
        """Put them back."""
        generators.restore(self._states)
        for buffer, value in self._buffers:
            buffer.detach().copy_(value)


def has_hooks(module: nn.Module) -> bool:
    """Whether the script has hooks on the forward of a module, or of any in it."""
    tables = _forward_hooks(modules_of(module))
    return any(isinstance(hook, ScriptHook) for table in tables for hook in table.values())


def _forward_hooks(modules: Iterable[nn.Module]) -> Iterator[dict[Any, Any]]:
    """The tables of hooks that are called around the forwards of modules, by torch's own keys."""
    for module in modules:
        yield from (module._forward_hooks, module._forward_pre_hooks)
    yield from (of_all._global_forward_hooks, of_all._global_forward_pre_hooks)


def _shake(tensor: torch.Tensor, draw: torch.Generator) -> None:
    """Add a little to numbers, also to zeros."""
    if tensor.is_floating_point() and tensor.layout is torch.strided and tensor.numel():
        size = 0.1 * float(tensor.float().abs().mean()) or 0.3
        noise = torch.randn(tensor.shape, generator=draw).to(tensor.device, tensor.dtype)
        tensor.add_(noise, alpha=size)


def _tables_of(module: nn.Module) -> list[dict[Any, Any]]:
    """What a module is made of: its children, parameters, buffers and hooks."""
    hooks = [table for name, table in vars(module).items() if name in _HOOKS]
    return [module._modules, module._parameters, module._buffers, *hooks]


_ABSENT = object()
_HOOKS = {name for name in vars(nn.Module()) if "_hooks" in name}  # tables, by keys
_NOT_PLAIN = {
    *_HOOKS,
    "_parameters",
    "_buffers",
    "_modules",
    "_flat_weights",
    "_flat_weight_refs",
    "training",
}


def computed_by_torch(module: nn.Module) -> set[str]:
    """Names of attributes that torch's own hooks compute for every call.

    They are those of `torch.nn.utils.weight_norm`, `spectral_norm` and of pruning.
    """
    hooks = [hook for hook in module._forward_pre_hooks.values() if is_torchs(hook)]
    names = [getattr(hook, "name", getattr(hook, "_tensor_name", None)) for hook in hooks]
    return {name for name in names if name is not None}


def _plain(module: nn.Module) -> dict[str, Any]:
    """A module's own attributes.

    Left out is what torch keeps there itself, and what its hooks compute anew for every call.
    """
    computed = computed_by_torch(module)
    return {k: v for k, v in vars(module).items() if k not in _NOT_PLAIN and k not in computed}


def _is_same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, torch.Tensor):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_is_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_same(a[k], b[k]) for k in a)
    try:
        return bool(a == b)
    except Exception:
        return False
