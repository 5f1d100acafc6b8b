"""Does a pass train? What changes weights proves it: an optimizer's step, or the script's hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pellucid.sync.shared.parts import parameters_of

__all__ = ["Trial"]


class Trial:
    """Looks for a change of weights while a pass is tried."""

    def __init__(self) -> None:
        self.stepped = False  # an optimizer did
        self._seen: dict[int, tuple[nn.Module, list[torch.Tensor]]] = {}

    def note(self, module: nn.Module) -> None:
        """A module is about to be called: remember its weights as they are."""
        if id(module) not in self._seen:
            with torch.no_grad():
                copies = [p.detach().clone() for p in _weights(module)]
            self._seen[id(module)] = (module, copies)

    def found(self) -> bool:
        """Whether weights have changed since."""
        return self.stepped or any(
            not _same(p, copy)
            for module, copies in self._seen.values()
            for p, copy in zip(_weights(module), copies, strict=False)
        )


def _weights(module: nn.Module) -> list[Any]:
    return [p for p in parameters_of(module) if not is_lazy(p)]


def _same(weight: torch.Tensor, copy: torch.Tensor) -> bool:
    # a weight that is not a number stays what it is, though it equals nothing
    return weight.shape == copy.shape and bool(torch.equal(weight, copy) or weight.isnan().any())
