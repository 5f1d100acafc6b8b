"""Ways to split a call: which dimension of which input counts the batch."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

import torch
from torch import nn

from pellucid.sync.exact.contents import Contents
from pellucid.sync.exact.losses import TOTALS
from pellucid.sync.exact.region import Narrow, Region, Replicate, entered
from pellucid.sync.exact.replaced import replaced
from pellucid.sync.exact.rows import Rows, split_rows
from pellucid.sync.exact.tree import copies_of_containers, leaves_of, map_leaves
from pellucid.sync.exact.view import BatchView, whole_of
from pellucid.transport.shared_memory import Group

__all__ = ["Call", "Way", "choice", "enter", "ways_to_split"]

# smaller whole numbers may choose what a call does, such as how many stages to go through; larger
# ones count, and a proof for each would be dear
CHOICES: Final = 8


@dataclass(frozen=True)
class Way:
    """One way to split a call.

    Attributes:
        dims: for each leaf of the inputs, the dimension that counts the batch, or None.
        main_dim: that dimension of the first batched input.
        reduces: losses and totals inside are those of the whole batch.
        columns: sums and means over rows, too, that keep other dimensions.
    """

    dims: tuple[int | None, ...]
    main_dim: int
    reduces: bool
    columns: bool = False

    def region(self, group: Group, rows: Rows) -> Region:
        """A region to run a call in."""
        return Region(group, rows, self.main_dim, self.reduces, self.columns)

    def seams(self) -> contextlib.AbstractContextManager[None]:
        """Take the seams that only this way needs, while a body runs."""
        return _totals_answered() if self.reduces else contextlib.nullcontext()


def _totals_answered() -> contextlib.AbstractContextManager[None]:
    return replaced(
        [(owner, name, _answered(getattr(owner, name), handler)) for owner, name, handler in TOTALS]
    )


def _answered(original: Callable[..., Any], handler: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: handler(original, *args, **kwargs)


@dataclass(frozen=True)
class Call:
    """One outermost call of a module by the script.

    Attributes:
        original: ``nn.Module.__call__``.
        module: the module that is called.
        inputs: (args, kwargs) of the call.
        leaves: their leaves.
        shapes: of those that are tensors, whole; None of others.
    """

    original: Callable[..., Any]
    module: nn.Module
    inputs: Any
    leaves: list[Any]
    shapes: list[tuple[int, ...] | None]

    @classmethod
    def of(cls, original: Callable[..., Any], module: nn.Module, inputs: Any) -> Call:
        """A call with these inputs."""
        leaves = leaves_of(inputs)
        return cls(original, module, inputs, leaves, [_shape(leaf) for leaf in leaves])

    def kind(self) -> tuple[Any, ...]:
        """What kind of inputs these are; calls with inputs of the same kind share a proof."""
        return tuple([_kind(leaf) for leaf in self.leaves])

    def views(self) -> list[Rows]:
        """How those inputs are divided that are split already."""
        return [x.rows for x in self.leaves if isinstance(x, BatchView) and x.whole is None]

    def division(self, way: Way, group: Group) -> Rows | None:
        """How this call's batch is divided; None where it cannot be, this time."""
        sizes = zip(self.shapes, way.dims, strict=True)
        totals = {shape[dim] for shape, dim in sizes if shape is not None and dim is not None}
        if len(totals) != 1:
            return None
        (total,) = totals
        views = self.views()
        if views:
            same = views[0].total == total and all(rows == views[0] for rows in views)
            return views[0] if same and views[0].local else None
        if total < len(group.living):
            return None
        return split_rows(total, tuple(group.living), group.workers, group.index)

    def on_copies(self) -> Call:
        """The same call with copies of its tensors, for a trial to do with as it likes.

        They want gradients where the tensors do: a forward may go backward to its inputs.
        """

        def copied(leaf: Any) -> Any:
            if isinstance(leaf, BatchView) and leaf.whole is None and leaf.local is not None:
                return BatchView(leaf.group, leaf.rows, _copy(leaf.local))
            return _copy(leaf) if isinstance(leaf, torch.Tensor) else leaf

        # tensors made in inference mode would not say when they are written to
        with torch.inference_mode(False), torch.no_grad():
            inputs = map_leaves(copied, copies_of_containers(self.inputs))
        return Call.of(self.original, self.module, inputs)

    def has_counts(self) -> bool:
        """Whether there are whole numbers among its inputs, such as tokens, or lengths."""
        return any(
            not (leaf.is_floating_point() or leaf.is_complex())
            if isinstance(leaf, torch.Tensor)
            else type(leaf) is int
            for leaf in self.leaves
        )

    def contents(self) -> list[Contents]:
        """What stands in the inputs, to see whether they are written to; of copies."""
        with torch.inference_mode(False):  # views are made whole, if they are not yet
            tensors = [whole_of(leaf) for leaf in self.leaves if isinstance(leaf, torch.Tensor)]
            return [Contents(tensor) for tensor in tensors]

    def whole(self) -> Any:
        """Run it on whole values."""
        args, kwargs = whole_of(self.inputs)
        return self.original(self.module, *args, **kwargs)

    def split(self, region: Region, way: Way) -> Any:
        """Run it on our rows."""
        with way.seams(), entered(region):
            return self.rows(region, way)

    def rows(self, region: Region, way: Way) -> Any:
        """Run it on our rows, within its region."""
        args, kwargs = enter(region, way, self.inputs)
        return self.original(self.module, *args, **kwargs)


def enter(region: Region, way: Way, inputs: Any) -> Any:
    """The region's inputs: our rows of what is batched, the rest replicated."""
    dims = iter(way.dims)

    def take(leaf: Any) -> Any:
        dim = next(dims)
        if isinstance(leaf, BatchView):
            if dim == 0 and leaf.whole is None:
                return _tied(region, leaf.local)
            leaf = leaf.make_whole()
        if not isinstance(leaf, torch.Tensor):
            return leaf
        differentiable = leaf.requires_grad and torch.is_grad_enabled()
        if dim is None:
            if not differentiable:
                return leaf
            return _tied(region, Replicate.apply(region.group, leaf))
        if differentiable:
            return _tied(region, Narrow.apply(region.group, region.rows, dim, leaf))
        return region.own(leaf, dim)

    return map_leaves(take, inputs)


def _tied(region: Region, entered: Any) -> Any:
    """What has entered, noted as a tie if backward may go through it."""
    if entered.requires_grad and torch.is_grad_enabled():
        region.ties.append(entered)
    return entered


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that wants a gradient if the tensor does, and is no leaf if that is none."""
    copy = tensor.detach().clone()
    if tensor.requires_grad:
        copy.requires_grad_()
        if not tensor.is_leaf:  # which forward may write to
            with torch.enable_grad():
                copy = copy.clone()
    return copy


def _shape(leaf: Any) -> tuple[int, ...] | None:
    """The whole's shape; a view would take longer to answer than all else that a call asks."""
    if type(leaf) is BatchView and leaf.whole is None and leaf.local is not None:
        return (leaf.rows.total, *leaf.local.shape[1:])
    return tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else None


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, BatchView) and leaf.whole is None and leaf.local is not None:
        return ("view", leaf.local.ndim, leaf.local.dtype)
    if isinstance(leaf, torch.Tensor):
        return ("tensor", leaf.ndim, leaf.dtype)
    if type(leaf) is int and 0 <= leaf < CHOICES:
        return int, leaf
    chosen = choice(leaf)
    return type(leaf) if chosen is None else chosen


def choice(value: Any) -> Any:
    """What tells a value from others that may choose what a module does; None of a mere number."""
    kind = type(value)
    if kind is bool or kind is str:
        return value
    if kind is FunctionType:  # those that are made anew for each call have one code
        return value.__code__
    if kind is MethodType:
        return value.__func__
    return value if kind is BuiltinFunctionType or isinstance(value, enum.Enum) else None


def ways_to_split(call: Call) -> list[Way]:
    """Ways to split worth trying, the likeliest first."""
    candidates: list[tuple[tuple[int | None, ...], int]] = []
    leaves = call.leaves
    views = call.views()
    if views:
        rows = views[0]
        candidates = [
            (tuple(_dim(x, rows.total, (0, 1)) for x in leaves), 0),
            (tuple(_dim(x, rows.total, (0,)) for x in leaves), 0),
            (tuple(None if _is_square(x) else _dim(x, rows.total, (0,)) for x in leaves), 0),
            (tuple(0 if isinstance(x, BatchView) else None for x in leaves), 0),
        ]
    else:
        first = next((x for x in leaves if isinstance(x, torch.Tensor) and x.ndim), None)
        if first is None:
            return []
        alone = tuple(0 if x is first else None for x in leaves)
        candidates = [
            (tuple(_dim(x, first.shape[0], (0, 1)) for x in leaves), 0),
            (tuple(_dim(x, first.shape[0], (0,)) for x in leaves), 0),
            (tuple(None if _is_square(x) else _dim(x, first.shape[0], (0,)) for x in leaves), 0),
        ]
        if first.ndim > 1:
            candidates.append((tuple(_dim(x, first.shape[1], (1, 0)) for x in leaves), 1))
        candidates.append((alone, 0))
    distinct = list(dict.fromkeys(candidates))
    sums = ((False, False), (True, False), (True, True))
    return [Way(dims, main, *which) for which in sums for dims, main in distinct]


def _is_square(leaf: Any) -> bool:
    """Masks and adjacencies are square, batches hardly ever."""
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 1 and leaf.shape[0] == leaf.shape[1]


def _dim(leaf: Any, total: int, order: tuple[int, ...]) -> int | None:
    if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
        for dim in order:
            if dim < leaf.ndim and leaf.shape[dim] == total:
                return dim
    return None
