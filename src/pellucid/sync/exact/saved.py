"""What a run of a module may change: taken before a trial, and put back after it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules import module as of_all

from pellucid.sync.exact.tree import leaves_of
from pellucid.sync.shared import generators

__all__ = ["Saved", "is_torchs"]

# parameters are put back after a trial that changed them, if they are not larger than this
SAVED_BYTES: Final = 2 << 30


class Saved:
    """What a run of a module may change, to be put back."""

    def __init__(self, module: nn.Module) -> None:
        self._modules = list(module.modules())
        self._held = generators.held_by_modules(self._modules)
        self._states = self.states()
        # what a module is made of: some are built by their first forward
        self._parts = [
            (part, set(part))
            for m in self._modules
            for part in (m._modules, m._parameters, m._buffers)
        ]
        self._buffers = [
            (m._buffers, {k: (b, None if b is None else b.clone()) for k, b in m._buffers.items()})
            for m in self._modules
        ]
        self._attributes = [(vars(m), _plain(m)) for m in self._modules]
        # a cache of keys and values, for one: no buffer, and written to
        self._kept = [
            _Contents(x, _version(x), x.detach().clone())
            for _, plain in self._attributes
            for x in leaves_of(list(plain.values()))
            if isinstance(x, torch.Tensor)
        ]
        parameters = list(module.parameters())
        small = sum(p.nbytes for p in parameters) < SAVED_BYTES
        self._parameters = [
            _Contents(p, _version(p), p.detach().clone() if small else None) for p in parameters
        ]

    def states(self) -> generators.States:
        """Of the script's generators and the modules' own, as they are now."""
        return generators.states(self._held)

    def decides(self) -> str:
        """Why the run that just ended may be no example for others; "" if it is."""
        if generators.moved_beside_torch(self._states, self.states(), self._held):
            return "it decides by random numbers of Python or numpy, the same for all rows"
        if any(parameter.is_changed() for parameter in self._parameters):
            return "it changes its parameters in forward"
        if any(kept.is_changed() for kept in self._kept):
            return "it writes into tensors that it keeps in its attributes"
        return ""

    def buffers(self) -> list[torch.Tensor]:
        """Copies of all buffers as they are now."""
        return [b.clone() for owner, _ in self._buffers for b in owner.values() if b is not None]

    def attributes(self) -> list[dict[str, Any]]:
        """The modules' own attributes that are not now as they were."""
        changed = []
        for module, (_, before) in zip(self._modules, self._attributes, strict=True):
            plain = _plain(module)
            changed.append(
                {k: v for k, v in plain.items() if not _is_same(v, before.get(k, _ABSENT))}
            )
        return changed

    def restore(self) -> None:
        """Put everything back."""
        generators.restore(self._states, self._held)
        self._take_off_parts()
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
                    # the copy was taken to compare with; hand out another, so that it stays
                    now[name] = copy.copy(value) if type(value) in (list, dict, set) else value

    def _take_off_parts(self) -> None:
        """Undo what the run built: the real call is to build it."""
        for part, names in self._parts:
            for name in part.keys() - names:
                del part[name]

    @contextlib.contextmanager
    def without_hooks(self) -> Iterator[None]:
        """While the body runs, the script's own hooks on these modules are not called."""
        taken: list[tuple[Any, dict[Any, Any]]] = []
        tables = [t for m in self._modules for t in (m._forward_hooks, m._forward_pre_hooks)]
        everybodys = (of_all._global_forward_hooks, of_all._global_forward_pre_hooks)
        for hooks in (*tables, *everybodys):
            if hooks:
                taken.append((hooks, dict(hooks)))
                for key, hook in list(hooks.items()):
                    if not is_torchs(hook):
                        del hooks[key]
        try:
            yield
        finally:
            for hooks, before in taken:
                hooks.clear()
                hooks.update(before)


@dataclass
class _Contents:
    """What stands in a tensor, to be put back if a run writes to it.

    Attributes:
        tensor: the tensor.
        version: its number when that was noted.
        value: a copy; None if it is too large to keep one.
    """

    tensor: torch.Tensor
    version: int
    value: torch.Tensor | None

    def is_changed(self) -> bool:
        """Whether it was written to."""
        return _version(self.tensor) != self.version

    def put_back(self) -> None:
        """Write what stood there, if anything else was written."""
        if self.is_changed() and self.value is not None:
            self.tensor.detach().copy_(self.value)
            self.version = _version(self.tensor)


def _version(tensor: torch.Tensor) -> int:
    """A number that grows when the tensor is written to; those of inference mode have none."""
    return 0 if tensor.is_inference() else tensor._version


def is_torchs(hook: Any) -> bool:
    """Whether a hook is part of torch's own machinery (parametrizations, lazy modules)."""
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return str(module).startswith("torch.")


_ABSENT = object()
_NOT_PLAIN = {
    "_parameters",
    "_buffers",
    "_modules",
    "_flat_weights",
    "_flat_weight_refs",
    "training",
}


def _plain(module: nn.Module) -> dict[str, Any]:
    """A module's own attributes, containers copied.

    Left out is what torch keeps there itself, and what its hooks compute anew for every call
    (`torch.nn.utils.weight_norm` and its kin).
    """
    computed = {
        getattr(hook, "name", None)
        for hook in module._forward_pre_hooks.values()
        if is_torchs(hook)
    }
    return {
        k: copy.copy(v) if type(v) in (list, dict, set) else v
        for k, v in vars(module).items()
        if k not in _NOT_PLAIN
        and k not in computed
        and not k.endswith("_hooks")
        and "_hooks_" not in k
    }


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
