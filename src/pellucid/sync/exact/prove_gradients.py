"""Prove the gradients, too: outputs may follow their rows while gradients look at the whole batch.

What a module makes of the batch may change no output, and yet what is learned: a balance loss that
an autograd function hands to backward, a step size whose gradient is divided by the number of
activations, embeddings whose gradients are scaled by how often a token occurs. So the first time
that a module may go backward, the gradients of one and the same combination of its outputs are
computed whole and split, and must add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, Literal

import torch
from torch import nn

from pellucid.sync.exact.region import Region
from pellucid.sync.exact.tree import outputs_of
from pellucid.sync.shared.parts import parameters_of
from pellucid.transport.shared_memory import Group

__all__ = ["NO_SUM", "Told", "add_up", "gradients", "part_of", "wanted_of", "weights_of"]

NO_SUM: Final = "the gradients of its slices do not add up to those of the whole batch"

# of a gradient's norm, by which the sum may be off: rounding may turn a unit on or off. And of the
# norm of all gradients: what should cancel out is nothing but rounding
TOLERANCES: Final = {torch.float64: (1e-6, 1e-9), torch.float32: (1e-2, 1e-5)}
COARSE: Final = (1e-1, 1e-2)

Weights = list[torch.Tensor | None]
Gradients = list[torch.Tensor | None]


class Told(IntEnum):
    """What came of going backward from the whole."""

    NOTHING = 0  # it cannot be done: the script will see why
    DRAWS = 1  # random numbers are drawn on the way
    FOUND = 2


def wanted_of(module: nn.Module) -> list[torch.Tensor]:
    """The parameters whose gradients are compared."""
    return [p for p in parameters_of(module) if p.requires_grad]


def weights_of(output: Any) -> Weights:
    """Numbers to combine a whole call's outputs with, the same on all workers."""
    draw = torch.Generator().manual_seed(0)  # not the script's
    weights: Weights = []
    for leaf in outputs_of(output):
        if isinstance(leaf, torch.Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            drawn = torch.randn(leaf.shape, dtype=torch.float32, generator=draw)
            weights.append(drawn.to(leaf.device, leaf.dtype))
        else:
            weights.append(None)
    return weights


def part_of(
    weights: Weights, joined: Sequence[int | Literal["count"] | None], region: Region
) -> Weights:
    """Those that go with this worker's outputs: its rows, or an equal share of what all have."""
    return [
        None
        if weight is None
        else region.own(weight, dim)
        if isinstance(dim, int)
        else weight / len(region.group.living)
        for weight, dim in zip(weights, joined, strict=True)
    ]


def gradients(output: Any, weights: Weights, wanted: Sequence[torch.Tensor]) -> Gradients:
    """The gradients of a call's combined outputs; of the parameters that get none, None."""
    pairs = [
        (leaf, weight)
        for leaf, weight in zip(outputs_of(output), weights, strict=True)
        if weight is not None and leaf.requires_grad
    ]
    if not pairs:
        return [None] * len(wanted)
    roots, seeds = zip(*pairs, strict=True)
    return list(torch.autograd.grad(roots, wanted, seeds, allow_unused=True))


def add_up(
    group: Group, wanted: Sequence[torch.Tensor], mine: Gradients, whole: Gradients | None
) -> bool:
    """Whether the workers' gradients add up to those of the whole. A collective operation.

    Args:
        group: the workers.
        wanted: the parameters.
        mine: this worker's part.
        whole: what they should add up to; None where another worker compares them.
    """
    differences, norms = [], []
    for k, (parameter, part) in enumerate(zip(wanted, mine, strict=True)):
        # entries of rows, which are joined, are left out
        given = torch.zeros_like(parameter) if part is None or part.is_sparse else part.contiguous()
        total = group.all_reduce("proof of gradients", given)
        its = None if whole is None else whole[k]
        if its is not None and not its.is_sparse:
            differences.append(float((total - its).norm()))
            norms.append(float(its.norm()))
    scale = max(norms, default=0.0)
    own, of_all = TOLERANCES.get(wanted[0].dtype, COARSE)
    return all(
        not difference > own * norm + of_all * scale
        for difference, norm in zip(differences, norms, strict=True)
    )
