"""The two worlds of exact mode, and the differentiable crossings between them.

[Note: worlds]
*Script world*: outside the models. Every value is *whole* and the same on all workers; so is every
gradient with respect to a whole value.

*Region*: inside the outermost call of a module with parameters, when that call is split. A value
is either *rows* (this worker's slice of a batched value) or *replicated* (the same everywhere:
parameters, masks, statistics of the whole batch). The gradient of a replicated value is the sum
over workers of what each one's backward computes: each holds a *share* of it.

Every crossing is a pair, forward and backward, and each backward is made of crossings again, so
that gradients of gradients come out right:

| crossing      | forward                         | backward                              |
|---------------|---------------------------------|---------------------------------------|
| `Narrow`      | whole -> own rows (enter)       | rows of gradient -> whole (`Join`)    |
| `Replicate`   | whole -> replicated (enter)     | sum of the shares (`SumOut`)          |
| `Join`        | rows -> whole (leave)           | own rows of the gradient (`Narrow`)   |
| `LeaveShare`  | replicated -> whole (leave)     | an equal share of the gradient        |
| `SumOut`      | sum over workers -> whole       | the gradient as it is (`Replicate`)   |
| `SumShares`   | sum over workers, replicated    | sum over workers of the shares        |

`Join` and `LeaveShare` are the conjugate pairs of Megatron-LM's f and g (Shoeybi et al. 2019,
section 3), with the batch in place of the hidden dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch.autograd import Function

from pellucid.sync.exact.rows import Rows
from pellucid.transport.shared_memory import Group

__all__ = [
    "Join",
    "Joined",
    "LeaveShare",
    "Narrow",
    "Region",
    "Replicate",
    "Return",
    "SumOut",
    "SumShares",
    "Tied",
    "crossing_of",
    "current",
    "entered",
    "gathered",
    "guesses",
    "inside",
    "is_inside",
    "named_after",
]


@dataclass(frozen=True)
class Region:
    """One split call.

    Attributes:
        group: the workers.
        rows: how the batch is divided.
        dim: dimension of the first batched input that is split.
        reduces: losses and totals inside are those of the whole batch.
        columns: sums and means over rows, too, that keep other dimensions.
        ties: what entered it and wants a gradient; see [Note: ties] in `gradients`.
    """

    group: Group
    rows: Rows
    dim: int = 0
    reduces: bool = False
    columns: bool = False
    ties: list[torch.Tensor] = field(default_factory=list, compare=False)

    def batch_dim(self, shape: tuple[int, ...]) -> int | None:
        """Which dimension of a local tensor of this shape counts rows (or a multiple), if any.

        A guess by size, which may hold for batches of one size and not of another: see
        `Proof.guessed`.
        """
        _Current.guessed = True
        local = self.rows.local
        order = (1, 0) if self.dim == 1 else (0, 1)
        for dim in order:
            if dim < len(shape) and shape[dim] == local:
                return dim
        # batch and a further dimension may have been folded into one: (rows * heads, ...)
        if shape and shape[0] and shape[0] % local == 0:
            return 0
        return None

    def whole_shape(self, shape: tuple[int, ...], dim: int) -> list[int]:
        """Shape of the whole tensor of which a local one has this shape."""
        whole = list(shape)
        whole[dim] = shape[dim] // self.rows.local * self.rows.total
        return whole

    def empty_whole(self, local: torch.Tensor, dim: int) -> torch.Tensor:
        """An empty whole tensor, laid out in memory as the script's would be.

        Generators fill a tensor in the order of its memory, so the layout decides who gets what.
        """
        shape = self.whole_shape(local.shape, dim)
        strides = local.stride()
        order = sorted(range(len(shape)), key=lambda d: -strides[d])
        dense = torch.empty([shape[d] for d in order], dtype=local.dtype, device=local.device)
        return dense.permute([order.index(d) for d in range(len(shape))])

    def own(self, whole: torch.Tensor, dim: int) -> torch.Tensor:
        """This worker's rows of a whole tensor, as a view."""
        fold = whole.shape[dim] // self.rows.total
        return whole.narrow(dim, self.rows.start * fold, self.rows.local * fold)


class _Current:
    region: Region | None = None
    inside = False
    guessed = False


def current() -> Region | None:
    """The split call that is being run, if any."""
    return _Current.region


class entered:  # noqa: N801 - used like a function; a generator would take several times as long
    """Run the body inside this region (or, with None, outside any)."""

    def __init__(self, region: Region | None) -> None:
        self._region = region

    def __enter__(self) -> None:
        self._before, _Current.region = _Current.region, self._region

    def __exit__(self, *_: object) -> None:
        _Current.region = self._before


@contextmanager
def guesses() -> Iterator[list[bool]]:
    """Find out whether the body guesses by size; the list it is given is not empty then."""
    found: list[bool] = []
    _Current.guessed = False
    yield found
    if _Current.guessed:
        found.append(True)


def is_inside() -> bool:
    """Whether a module with parameters is being run, split or whole: calls are inner ones then."""
    return _Current.inside


class inside:  # noqa: N801 - as above
    """While the body runs, module calls are inner ones."""

    def __enter__(self) -> None:
        self._before, _Current.inside = _Current.inside, True

    def __exit__(self, *_: object) -> None:
        _Current.inside = self._before


@cache
def _renamed(crossing: type[Function], name: str) -> type[Function]:
    """The same crossing under another name in the graph."""
    renamed: Any = type(crossing.__name__, (crossing,), {})
    renamed._backward_cls.__name__ = name
    return renamed  # type: ignore[no-any-return]


def named_after(crossing: type[Function], leaving: torch.Tensor) -> type[Function]:
    """A crossing that the script, which prints ``grad_fn``, does not notice."""
    made_by = leaving.grad_fn
    return crossing if made_by is None else _renamed(crossing, made_by.name())


def crossing_of(node: Any) -> type[Function]:
    """Of which function a node of the graph is the backward; of one of torch's, `Function`."""
    crossing: type[Function] = getattr(node, "_forward_cls", Function)
    return crossing


def _narrow(rows: Rows, dim: int, whole: torch.Tensor) -> torch.Tensor:
    fold = whole.shape[dim] // rows.total
    return whole.narrow(dim, rows.start * fold, rows.local * fold)


def _owning(value: torch.Tensor) -> torch.Tensor:
    """The same memory as no view of anything: scripts write into what a function returned."""
    if not value._is_view():
        return value
    own = torch.empty(0, dtype=value.dtype, device=value.device)
    return own.set_(value.untyped_storage(), value.storage_offset(), value.shape, value.stride())


def _wants_graph(grad: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and grad.requires_grad


class Narrow(Function):
    """Whole -> own rows."""

    @staticmethod
    def forward(ctx: Any, group: Group, rows: Rows, dim: int, whole: torch.Tensor) -> torch.Tensor:
        """Take this worker's rows along ``dim``."""
        ctx.group, ctx.rows, ctx.dim = group, rows, dim
        return _narrow(rows, dim, whole).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Join the rows of the gradient."""
        (whole,) = Join.apply(ctx.group, ctx.rows, (ctx.dim,), "gradient of an input", grads[0])
        return None, None, None, whole


def _own_rows(ctx: Any, dim: int, grad: torch.Tensor | None) -> Any:
    """This worker's rows of a whole gradient, on its way into the region."""
    if grad is None:
        return None
    if _wants_graph(grad):
        return Narrow.apply(ctx.group, ctx.rows, dim, grad)
    return _narrow(ctx.rows, dim, grad)


def gathered(
    group: Group, rows: Rows, dims: Sequence[int], kind: str, parts: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Everybody's rows of each part along its dim, joined; without a graph."""
    sizes = []
    for part, dim in zip(parts, dims, strict=True):
        fold = part.shape[dim] // rows.local if rows.local else 1
        sizes.append([size * fold for size in rows.sizes])
    wholes = group.gather(kind, [p.detach().contiguous() for p in parts], sizes, dims)
    return [_owning(whole) for whole in wholes]


class Return(Narrow):
    """Whole -> own rows, of what came from the region itself: by way of the script's hooks.

    It has a name of its own in the graph, which does not end there.
    """


class Join(Function):
    """Rows -> whole, several tensors in one exchange."""

    @staticmethod
    def forward(
        ctx: Any, group: Group, rows: Rows, dims: tuple[int, ...], kind: str, *parts: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Gather everybody's rows of each part along its dim."""
        ctx.group, ctx.rows, ctx.dims = group, rows, dims
        ctx.set_materialize_grads(False)
        return tuple(gathered(group, rows, dims, kind, parts))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Take own rows of each gradient."""
        pairs = zip(ctx.dims, grads, strict=True)
        return None, None, None, None, *(_own_rows(ctx, dim, grad) for dim, grad in pairs)


class Replicate(Function):
    """Whole -> replicated."""

    @staticmethod
    def forward(ctx: Any, group: Group, value: torch.Tensor) -> torch.Tensor:
        """Hand the value in as it is."""
        ctx.group = group
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Sum the shares."""
        return None, SumOut.apply(ctx.group, grads[0])


class Joined(Function):
    """Rows -> whole, where the whole has been gathered already.

    Of several outputs each leaves by itself: backward goes through those only that were used.
    """

    @staticmethod
    def forward(  # the part and the ties are there for their graphs
        ctx: Any,
        group: Group,
        rows: Rows,
        dim: int,
        whole: list[torch.Tensor],
        _: torch.Tensor,
        *ties: torch.Tensor,
    ) -> torch.Tensor:
        """Hand out the whole, the only one in its list."""
        ctx.group, ctx.rows, ctx.dim, ctx.ties = group, rows, dim, len(ties)
        return whole.pop()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Take own rows of the gradient."""
        mine = _own_rows(ctx, ctx.dim, grads[0])
        return None, None, None, None, mine, *[None] * ctx.ties


class Tied(Function):
    """Rows -> the same rows, behind a view."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, *ties: torch.Tensor) -> torch.Tensor:
        """Hand them out as they are."""
        ctx.ties = len(ties)
        return _owning(rows.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Their gradient is theirs."""
        return grads[0], *[None] * ctx.ties


class SumOut(Function):
    """Each worker's part -> the whole sum."""

    @staticmethod
    def forward(ctx: Any, group: Group, part: torch.Tensor) -> torch.Tensor:
        """Add up everybody's part."""
        ctx.group = group
        return _owning(group.all_reduce("sum", part.contiguous()))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradient of a sum is everybody's as it is."""
        grad = grads[0]
        return None, Replicate.apply(ctx.group, grad) if _wants_graph(grad) else grad


class LeaveShare(Function):
    """Replicated -> whole."""

    @staticmethod
    def forward(ctx: Any, group: Group, value: torch.Tensor, *ties: torch.Tensor) -> torch.Tensor:
        """Hand the value out as it is."""
        ctx.group, ctx.workers, ctx.ties = group, len(group.living), len(ties)
        return _owning(value.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """An equal share of the gradient each, so that the shares add up to it."""
        grad = grads[0]
        if _wants_graph(grad):
            grad = Replicate.apply(ctx.group, grad)
        return None, grad / ctx.workers, *[None] * ctx.ties


class SumShares(Function):
    """Each worker's part -> their sum, inside the region."""

    @staticmethod
    def forward(ctx: Any, group: Group, part: torch.Tensor) -> torch.Tensor:
        """Add up everybody's part."""
        ctx.group = group
        return _owning(group.all_reduce("shared sum", part.contiguous()))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Each part's gradient is the sum of everybody's shares."""
        return None, SumShares.apply(ctx.group, grads[0])
