"""Gradients with regard to what a split call returned.

A model that returns its features and what it made of them made it of this worker's rows: in the
graph, the whole features are beside the way, not on it. All ways meet in the rows they were joined
from. So whoever asks for the gradient of an output of ours (`torch.autograd.grad`,
``retain_grad``, ``register_hook``) is given that of those rows, joined.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from pellucid.sync.exact.quiet import ignored_warnings
from pellucid.sync.exact.region import (
    Join,
    Joined,
    LeaveShare,
    Narrow,
    SumOut,
    Tied,
    crossing_of,
    is_inside,
)
from pellucid.sync.exact.rows import Rows
from pellucid.transport.shared_memory import Group

__all__ = ["Outgoing", "outgoing", "retain_grad"]

Hook = Callable[[torch.Tensor], torch.Tensor | None]


@dataclass(frozen=True)
class Outgoing:
    """Where an output of a split call came from.

    Attributes:
        group: the workers.
        rows: how it is divided.
        dim: along which dimension; None: it is the same everywhere.
        edge: this worker's part of it, in the graph.
    """

    group: Group
    rows: Rows | None
    dim: int | None
    edge: GradientEdge

    def whole(self, grad: torch.Tensor) -> torch.Tensor:
        """The whole gradient, of which this is our part. A collective operation."""
        if self.dim is None:
            total: torch.Tensor = SumOut.apply(self.group, grad)
            return total
        kind = "gradient of an output"
        joined: tuple[torch.Tensor] = Join.apply(self.group, self.rows, (self.dim,), kind, grad)
        return joined[0]

    def part(self, whole: torch.Tensor) -> torch.Tensor:
        """Our part of a whole gradient."""
        if self.dim is None:
            return whole / len(self.group.living)
        part: torch.Tensor = Narrow.apply(self.group, self.rows, self.dim, whole)
        return part

    def register(self, hook: Hook) -> Any:
        """Call a hook with the whole gradient; what it returns takes its place.

        Returns:
            A handle, to remove it.
        """
        place = self.edge.output_nr

        def on_part(grads: Any) -> Any:
            if grads[place] is None:
                return None
            result = hook(self.whole(grads[place]))
            if result is None:
                return None
            return (*grads[:place], self.part(result), *grads[place + 1 :])

        return self.edge.node.register_prehook(on_part)


def outgoing(tensor: torch.Tensor) -> Outgoing | None:
    """Where a tensor of the script came from, if it is the output of a split call."""
    node: Any = None if is_inside() else tensor.grad_fn
    crossing = crossing_of(node)
    dim: int | None = None
    place = 0
    if issubclass(crossing, Join):
        dim = node.dims[place := tensor.output_nr]
    elif issubclass(crossing, Joined):
        dim = node.dim
    elif not issubclass(crossing, LeaveShare):
        return None
    edge = node.next_functions[place]
    while issubclass(crossing_of(edge[0]), Tied):
        edge = edge[0].next_functions[0]
    if edge[0] is None:
        return None
    return Outgoing(node.group, getattr(node, "rows", None), dim, GradientEdge(*edge))


def retain_grad(tensor: torch.Tensor, came_from: Outgoing) -> None:
    """Keep an output's gradient in its ``.grad``."""
    node: Any = tensor.grad_fn
    if getattr(node, "is_retained", False):
        return
    node.is_retained = True
    its = weakref.ref(tensor)

    def keep(grad: torch.Tensor) -> None:
        if (kept := its()) is None:
            return
        with ignored_warnings():  # torch does not know that it is kept
            before = kept.grad
        kept.grad = grad if before is None else before + grad

    came_from.register(keep)
