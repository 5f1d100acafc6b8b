"""Put a module's parameters away and their aliases in their place; see [Note: aliases]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pellucid.sync.exact.gradients import Reducer

__all__ = ["aliased"]

# a module's table of parameters, a name in it, and what stands there
_Slot = tuple[dict[str, Any], str, torch.Tensor]


@contextmanager
def aliased(module: nn.Module, reducer: Reducer) -> Iterator[None]:
    """While the body runs, the module's parameters that want gradients are their aliases.

    Args:
        module: the outermost module; its submodules are meant too.
        reducer: makes the aliases, and sums what reaches them.
    """
    inner = list(module.modules()) if torch.is_grad_enabled() else []
    slots = _slots(inner)
    if not slots:
        yield
        return
    distinct = {id(parameter): parameter for _, _, parameter in slots}
    aliases = dict(zip(distinct, reducer.enter(list(distinct.values())), strict=True))
    # recurrent modules keep a list of their own beside the table
    lists = [(m, m._flat_weights) for m in inner if isinstance(m, nn.RNNBase)]
    for table, name, parameter in slots:
        table[name] = aliases[id(parameter)]
    for recurrent, weights in lists:
        vars(recurrent)["_flat_weights"] = [aliases.get(id(w), w) for w in weights]
    try:
        yield
    finally:
        for table, name, parameter in slots:
            if table.get(name) is aliases[id(parameter)]:
                table[name] = parameter
        for recurrent, weights in lists:
            vars(recurrent)["_flat_weights"] = weights


def _slots(modules: list[nn.Module]) -> list[_Slot]:
    """Where the parameters that want gradients stand, in order of registration."""
    return [
        (module._parameters, name, parameter)
        for module in modules
        for name, parameter in module._parameters.items()
        if parameter is not None and parameter.requires_grad
    ]
