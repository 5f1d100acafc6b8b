"""The workers' copies of the weights: alike at the start, and kept alike.

Summed gradients are the same bits for all, so copies that start alike stay alike. Two things can
set them apart all the same: a module that is run whole may round differently on two workers (a
matrix library may look at how memory happens to be aligned), and a script may put different values
into the same program (a learning rate from the clock). The first is mended as it comes, with the
leader's values; the second is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.errors import DivergenceError
from pellucid.transport.shared_memory import Group

__all__ = ["EVERY_STEPS", "Order", "adopt", "compare"]

# numbers of parameters, the same for the same parameter on all workers
Order = WeakIdKeyDictionary

EVERY_STEPS: Final = 64
UNKNOWN: Final = 1 << 60  # place of a parameter of no module
# relative; rounding stays far below, different values soon far above
TOLERANCE: Final = 1e-3


@torch.no_grad()
def adopt(group: Group, values: Sequence[torch.Tensor]) -> None:
    """Give all workers the leader's values where they differ.

    Args:
        group: the workers.
        values: the same tensors, in the same order, on each.
    """
    for value, sums in zip(values, _sums(group, values), strict=True):
        if bool((sums != sums[0]).any()):
            value.copy_(group.broadcast("parameters", value.detach(), group.living[0]))


def compare(group: Group, optimizer: Any, order: Order) -> None:
    """Look after the weights of an optimizer that has just stepped.

    Args:
        group: the workers.
        optimizer: the optimizer.
        order: of the parameters of modules; others follow as the optimizer has them.

    Raises:
        DivergenceError: the workers' weights differ by more than rounding.
    """
    values = [p for g in optimizer.param_groups for p in g["params"] if not p.is_sparse]
    # scripts gather parameters in sets, whose order is that of addresses
    values.sort(key=lambda value: order.get(value, UNKNOWN))
    for k, sums in enumerate(_sums(group, values)):
        spread = float((sums - sums[0]).abs().max())
        if spread > TOLERANCE * max(1.0, float(sums.abs().max())):
            msg = (
                f"the workers' copies of a weight of shape {tuple(values[k].shape)} have come "
                f"apart: the script computes with values that are not the same in all processes, "
                f"such as the time or a process id"
            )
            raise DivergenceError(msg)
    adopt(group, values)


def _sums(group: Group, values: Sequence[torch.Tensor]) -> torch.Tensor:
    """A checksum of each value on each worker, shape (values, living workers)."""
    if not values:
        return torch.zeros(0, 1)
    mine = torch.stack([_checksum(value) for value in values]).cpu()
    taken = group.swap("parameters", [mine])
    return torch.stack([parts[0].view(torch.float64).clone() for parts in taken.values()], 1)


def _checksum(value: torch.Tensor) -> torch.Tensor:
    """A number that differs when values do (or stand in another order)."""
    flat = value.detach().reshape(-1).to(torch.float64)
    ramp = torch.linspace(1, 2, flat.numel(), dtype=torch.float64, device=flat.device)
    return torch.dot(flat, ramp)
