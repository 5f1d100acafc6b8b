"""Put a module's parameters away and their aliases in their place; see [Note: aliases]."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pellucid.sync.exact.gradients import Reducer
from pellucid.sync.shared.parts import modules_of

__all__ = ["aliased"]

# a module's table of parameters, a name in it, and what stands there
_Slot = tuple[dict[str, Any], str, torch.Tensor]


class aliased:  # noqa: N801 - used like a function; a generator would take longer
    """While the body runs, the module's parameters that want gradients are their aliases.

    Args:
        module: the outermost module; its submodules are meant too.
        reducer: makes the aliases, and sums what reaches them.
        again: part of a call is run again on its way back.
    """

    def __init__(self, module: nn.Module, reducer: Reducer, *, again: bool = False) -> None:
        self._module = module
        self._reducer = reducer
        self._again = again
        self.modules: list[nn.Module] = []  # all of them, where gradients are wanted
        self._slots: list[_Slot] = []
        self._aliases: dict[int, torch.Tensor] = {}  # by the identity of the parameter
        self._lists: list[tuple[nn.Module, list[Any]]] = []

    def __enter__(self) -> list[torch.Tensor]:
        """Returns what outputs of the body are to be tied to."""
        inner = self.modules = modules_of(self._module) if torch.is_grad_enabled() else []
        self._slots = slots = _slots(inner)
        if not slots:
            return []
        distinct = {id(parameter): parameter for _, _, parameter in slots}
        parameters = list(distinct.values())
        entered = self._reducer.enter(self._module, parameters, again=self._again)
        self._aliases = aliases = dict(zip(distinct, entered.aliases, strict=True))
        # recurrent modules keep a list of their own beside the table
        self._lists = [(m, m._flat_weights) for m in inner if isinstance(m, nn.RNNBase)]
        for table, name, parameter in slots:
            table[name] = aliases[id(parameter)]
        for recurrent, weights in self._lists:
            vars(recurrent)["_flat_weights"] = [aliases.get(id(w), w) for w in weights]
        return [] if entered.tie is None else [entered.tie]

    def __exit__(self, *_: object) -> None:
        for table, name, parameter in self._slots:
            alias = self._aliases[id(parameter)]
            if _have_parted(parameter, alias):
                parameter.data = alias.detach()
            if table.get(name) is alias:
                table[name] = parameter
        for recurrent, weights in self._lists:
            vars(recurrent)["_flat_weights"] = weights


def _have_parted(parameter: torch.Tensor, alias: torch.Tensor) -> bool:
    """Whether a forward has set ``weight.data`` to other memory."""
    if alias.layout is not torch.strided:
        return False
    return alias.data_ptr() != parameter.data_ptr()


def _slots(modules: list[nn.Module]) -> list[_Slot]:
    """Where the parameters that want gradients stand, in order of registration."""
    return [
        (module._parameters, name, parameter)
        for module in modules
        for name, parameter in module._parameters.items()
        if parameter is not None and parameter.requires_grad
    ]
