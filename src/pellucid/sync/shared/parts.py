"""What a module is made of, by torch's own tables.

Not by its methods: scripts call attributes of theirs ``modules`` or ``parameters``, too.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["buffers_of", "modules_of", "parameters_in", "parameters_of"]


def modules_of(module: nn.Module) -> list[nn.Module]:
    """A module and its submodules, each once, in order of registration."""
    found: dict[int, nn.Module] = {}
    _walk(module, found)
    return list(found.values())


def _walk(module: nn.Module, found: dict[int, nn.Module]) -> None:
    """Generators within generators would take longer: this is every call."""
    if id(module) not in found:
        found[id(module)] = module
        for child in module._modules.values():
            if child is not None:
                _walk(child, found)


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module and its submodules, each once, in order of registration."""
    return parameters_in(modules_of(module))


def parameters_in(parts: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters of these modules alone, each once."""
    tables = [part._parameters for part in parts]
    return list({id(p): p for table in tables for p in table.values() if p is not None}.values())


def buffers_of(module: nn.Module) -> list[torch.Tensor]:
    """The buffers of a module and its submodules, each once, in order of registration."""
    tables = [part._buffers for part in modules_of(module)]
    return list({id(b): b for table in tables for b in table.values() if b is not None}.values())
