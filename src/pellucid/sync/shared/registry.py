"""Which tensors make up the blocks, and what each block is called.

A block begins at the first training forward: the outermost call of a module, in a training pass,
with gradients enabled, before its forward runs; so a checkpoint that the script has loaded counts.
Further modules with tensors that are in no block yet make further blocks. What an optimizer
updates and no module has called is found when it first steps.

[Note: names of blocks]
Two workers must mean the same model by a block's name, also if one of them has missed some passes
and never trained a model that the other has. Parameters are therefore numbered as the script makes
them: by how many passes it has come by, and how many parameters it made since. A script's copies
make the same ones outside of passes; what they make within passes does not disturb the count.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.params.flat import FlatParameters, Holder, named_tensors
from pellucid.params.layout import Kind
from pellucid.sync.shared.dealer import Block, Weights
from pellucid.sync.shared.parts import parameters_of

__all__ = ["Numbers", "Registry"]


class Numbers:
    """Numbers the script's parameters; see [Note: names of blocks].

    Args:
        period: tells how many passes the script has come by.
    """

    def __init__(self, period: Callable[[], int]) -> None:
        self._period = period
        self._latest = (-1, 0)
        self._numbers = WeakIdKeyDictionary()

    def made(self, original: Callable[..., Any], kind: Any, *args: Any, **kwargs: Any) -> Any:
        """Answers ``Parameter.__new__``, also where a parameter is copied or loaded."""
        parameter = original(kind, *args, **kwargs)
        period = self._period()
        self._latest = (period, self._latest[1] + 1 if self._latest[0] == period else 0)
        self._numbers[parameter] = self._latest
        return parameter

    def name(self, tensors: list[torch.Tensor]) -> str | None:
        """A name after the first of these tensors that has a number."""
        for tensor in tensors:
            if (number := self._numbers.get(tensor)) is not None:
                return "{}.{}".format(*number)
        return None


class Registry:
    """Makes blocks and hands them to the mode's weights.

    Args:
        weights: keeps them together.
        numbers: names them.
    """

    def __init__(self, weights: Weights, numbers: Numbers) -> None:
        self._weights = weights
        self._numbers = numbers
        self._by_module: weakref.WeakKeyDictionary[nn.Module, list[FlatParameters]] = (
            weakref.WeakKeyDictionary()
        )
        self._owner = WeakIdKeyDictionary()  # tensor: its block
        self._checked: weakref.WeakKeyDictionary[Any, list[int]] = weakref.WeakKeyDictionary()
        self._unnamed: dict[str, int] = {}

    def prepare(self, module: nn.Module) -> None:
        """A module is about to be called for training: see to it that its tensors are shared."""
        flats = self._by_module.get(module)
        if flats is None:
            if any(is_lazy(p) for p in parameters_of(module)):
                return  # its shapes come with this call: it is registered when it is stepped
            flats = self._by_module[module] = self._register_module(module)
        for flat in flats:
            flat.mend()

    def prepare_step(self, optimizer: Any) -> None:
        """An optimizer is about to step: register what it updates and no block has."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if self._checked.get(optimizer) == sizes:
            return
        if not any(is_lazy(p) for group in optimizer.param_groups for p in group["params"]):
            self._checked[optimizer] = sizes
        loose = [
            Holder([f"parameters.{g}.{k}"], p, Kind.TRAINED)
            for g, group in enumerate(optimizer.param_groups)
            for k, p in enumerate(group["params"])
            if p not in self._owner and not is_lazy(p)
        ]
        if loose:
            self._register(type(optimizer).__name__, loose)

    def _register_module(self, module: nn.Module) -> list[FlatParameters]:
        holders = named_tensors(module)
        fresh = [h for h in holders if h.tensor not in self._owner]
        if fresh:
            self._register(type(module).__name__, fresh)
        flats = [self._owner[h.tensor] for h in holders]
        return list({id(flat): flat for flat in flats}.values())

    def _register(self, kind: str, holders: list[Holder]) -> None:
        flat = FlatParameters(holders)
        name = self._numbers.name(list(flat.tensors()))
        if name is None:
            print_ = flat.layout.fingerprint()[:16]
            self._unnamed[print_] = self._unnamed.get(print_, 0) + 1
            name = f"{print_}.{self._unnamed[print_]}"
        self._weights.register(Block(name, flat, kind))
        for tensor in flat.tensors():
            self._owner[tensor] = flat
