"""The workers' copies of the weights: alike at the start, and kept alike.

Summed gradients are the same bits for all, so copies that start alike stay alike. Two things can
set them apart all the same: a module that is run whole may round differently on two workers (a
matrix library may look at how memory happens to be aligned), and a script may put different values
into the same program (a learning rate from the clock). The first is mended as it comes, with the
leader's values; the second is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.errors import DivergenceError
from pellucid.transport.shared_memory import Group

__all__ = ["EVERY_STEPS", "Order", "adopt", "compare"]

# numbers of parameters, the same for the same parameter on all workers
Order = WeakIdKeyDictionary

EVERY_STEPS: Final = 64
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


def compare(group: Group, weights: Iterable[torch.Tensor], order: Order) -> bool:
    """Look after weights that were just stepped.

    Args:
        group: the workers.
        weights: an optimizer's, or all.
        order: of the parameters of modules; others are taken as they come.

    Returns:
        Whether the workers are at the same weights. They are not where a script has an optimizer
        for each, and goes through them in the order of a set, which is that of addresses.

    Raises:
        DivergenceError: the workers' weights differ by more than rounding.
    """
    values = [value for value in weights if not value.is_sparse]
    known = sorted((value for value in values if value in order), key=order.__getitem__)
    loose = [value for value in values if value not in order]
    numbers = torch.tensor([len(loose), *(order[value] for value in known)])
    taken = group.swap("which weights", [numbers])
    if any(not torch.equal(parts[0].view(torch.int64), numbers) for parts in taken.values()):
        return False
    if not _are_close(sums := _sums(group, known)):
        raise _apart(known, sums)
    adopt(group, known)
    if not _are_close(sums := _sums(group, loose)):
        # nothing tells which is which: of one alone that it is the same, of several in what order
        if len(loose) > 1 and not _are_close(sums.sort(0).values):
            raise _apart(loose, sums)
    else:
        adopt(group, loose)
    return True


def _are_close(sums: torch.Tensor) -> bool:
    """Whether checksums are the same on all workers, up to rounding."""
    return not bool(_differing(sums).any())


def _differing(sums: torch.Tensor) -> torch.Tensor:
    spread = (sums - sums[:, :1]).abs().amax(1)
    return spread > TOLERANCE * sums.abs().amax(1).clamp(min=1.0)


def _apart(values: Sequence[torch.Tensor], sums: torch.Tensor) -> DivergenceError:
    first = values[int(_differing(sums).nonzero()[0])]
    msg = (
        f"the workers' copies of a weight of shape {tuple(first.shape)} have come apart: the "
        f"script computes with values that are not the same in all processes, such as the time or "
        f"a process id"
    )
    return DivergenceError(msg)


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
