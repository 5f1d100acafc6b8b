"""Crossings: gradients, and gradients of gradients, are those of one process, in float64.

Each case is one computation written twice: over the whole batch, as one process would, and as a
worker does it, over its rows between the crossings. Threads of a group do the latter.
"""

# torch does not annotate all of its functions
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pellucid.sync.exact.region import (
    Join,
    LeaveShare,
    Narrow,
    Region,
    Replicate,
    SumOut,
    SumShares,
    current,
    entered,
)
from pellucid.sync.exact.rows import Rows, split_rows
from pellucid.transport.shared_memory import Group
from tests.group_of_threads import Crowd

ROWS = 7
Tensors = tuple[torch.Tensor, ...]
Whole = Callable[[torch.Tensor, torch.Tensor], Tensors]
Split = Callable[[Group, Rows, torch.Tensor, torch.Tensor], Tensors]


@pytest.fixture(params=[2, 3, 5])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    return Crowd(request.param)


def rows_of(group: Group, total: int = ROWS) -> Rows:
    return split_rows(total, tuple(group.living), group.workers, group.index)


def join(group: Group, rows: Rows, *parts: torch.Tensor, dim: int = 0) -> Any:
    wholes = Join.apply(group, rows, (dim,) * len(parts), "test", *parts)
    return wholes if len(parts) > 1 else wholes[0]


# x is a batch (7, 4), w a matrix (4, 4): inputs of the region, gradients are wanted of both


def rows_joined(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    return ((x @ w).sin() * x,)


def rows_joined_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    own, shared = Narrow.apply(group, rows, 0, x), Replicate.apply(group, w)
    return (join(group, rows, (own @ shared).sin() * own),)


def several_joined(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    return (x @ w).tanh(), x.pow(2).sum(1), x[:, :1].repeat_interleave(3, 0)


def several_joined_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    own, shared = Narrow.apply(group, rows, 0, x), Replicate.apply(group, w)
    parts = (own @ shared).tanh(), own.pow(2).sum(1), own[:, :1].repeat_interleave(3, 0)
    wholes: Tensors = join(group, rows, *parts)
    return wholes


def columns(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    return ((w.t() @ x.t()).exp(),)


def columns_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    own, shared = Narrow.apply(group, rows, 1, x.t()), Replicate.apply(group, w)
    return (join(group, rows, (shared.t() @ own).exp(), dim=1),)


def summed_out(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    return ((x @ w).pow(2).sum(), (x * x).sum(0).cos())


def summed_out_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    own, shared = Narrow.apply(group, rows, 0, x), Replicate.apply(group, w)
    total = SumOut.apply(group, (own @ shared).pow(2).sum())
    return total, SumOut.apply(group, (own * own).sum(0)).cos()


def shared_statistics(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    """Batch normalisation, in short."""
    y = x @ w
    centred = y - y.mean(0)
    return (centred / (centred.pow(2).mean(0) + 0.1).sqrt(),)


def shared_statistics_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    y = Narrow.apply(group, rows, 0, x) @ Replicate.apply(group, w)
    centred = y - SumShares.apply(group, y.sum(0)) / rows.total
    var = SumShares.apply(group, centred.pow(2).sum(0)) / rows.total
    return (join(group, rows, centred / (var + 0.1).sqrt()),)


def replicated_out(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    """One output that is the same everywhere beside one of rows: a regulariser, say."""
    return w.pow(3).sum(), x @ w


def replicated_out_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    shared = Replicate.apply(group, w)
    rows_out = Narrow.apply(group, rows, 0, x) @ shared
    return LeaveShare.apply(group, shared.pow(3).sum()), join(group, rows, rows_out)


def loss_inside(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    """A loss over the whole batch, computed inside, that leaves as replicated."""
    return ((x @ w).logsumexp(1).mean(),)


def loss_inside_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    y = (Narrow.apply(group, rows, 0, x) @ Replicate.apply(group, w)).logsumexp(1)
    return (LeaveShare.apply(group, SumShares.apply(group, y.sum()) / rows.total),)


def unused_outputs(x: torch.Tensor, w: torch.Tensor) -> Tensors:
    return (x @ w + (x.sum(1, keepdim=True)).detach(),)


def unused_outputs_split(group: Group, rows: Rows, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    own = Narrow.apply(group, rows, 0, x)
    used, _ = join(group, rows, own @ Replicate.apply(group, w), own.sin())
    return (used + x.detach().sum(1, keepdim=True),)


CASES: list[tuple[Whole, Split]] = [
    (rows_joined, rows_joined_split),
    (several_joined, several_joined_split),
    (columns, columns_split),
    (summed_out, summed_out_split),
    (shared_statistics, shared_statistics_split),
    (replicated_out, replicated_out_split),
    (loss_inside, loss_inside_split),
    (unused_outputs, unused_outputs_split),
]


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(ROWS, 4, generator=generator, dtype=torch.float64)
    w = torch.rand(4, 4, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), w.requires_grad_()


def loss_of(outputs: Tensors) -> torch.Tensor:
    """A script's loss: not linear, and different for each output and element."""
    total = torch.zeros((), dtype=torch.float64)
    for k, output in enumerate(outputs):
        ramp = torch.linspace(1, 2, output.numel(), dtype=torch.float64).view(output.shape)
        total = total + ((k + 1) * ramp * (output / 8).sin()).mean()
    return total


def first_order(outputs: Tensors, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    loss = loss_of(outputs)
    loss.backward()
    assert x.grad is not None
    assert w.grad is not None
    return loss.detach(), x.grad, w.grad


def second_order(outputs: Tensors, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    """A gradient penalty, and the gradient of that."""
    loss = loss_of(outputs)
    grads = torch.autograd.grad(loss, (x, w), create_graph=True)
    penalty = sum(((g + 1) ** 3).mean() for g in grads) + loss
    assert isinstance(penalty, torch.Tensor)
    return (*first_order((penalty,), x, w), *(g.detach() for g in grads))


def third_order(outputs: Tensors, x: torch.Tensor, w: torch.Tensor) -> Tensors:
    grads = torch.autograd.grad(loss_of(outputs), (x, w), create_graph=True)
    return second_order(tuple(g.sin() for g in grads), x, w)


@pytest.mark.parametrize("order", [first_order, second_order, third_order])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_gradients_are_those_of_one_process(
    crowd: Crowd, case: tuple[Whole, Split], order: Callable[..., Tensors]
) -> None:
    whole, split = case
    x, w = inputs()
    expected = order(whole(x, w), x, w)

    def work(group: Group) -> Tensors:
        x, w = inputs()
        return order(split(group, rows_of(group), x, w), x, w)

    for got in crowd.run(work).values():
        for mine, its in zip(got, expected, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_all_workers_get_the_same_bits(crowd: Crowd, case: tuple[Whole, Split]) -> None:
    def work(group: Group) -> list[bytes]:
        x, w = inputs()
        results = second_order(case[1](group, rows_of(group), x, w), x, w)
        return [t.numpy().tobytes() for t in results]

    first, *others = crowd.run(work).values()
    assert all(other == first for other in others)


def test_only_what_is_wanted_is_exchanged(crowd: Crowd) -> None:
    """Without create_graph, the backward of Join is a slice: no exchange."""

    def work(group: Group) -> list[int]:
        x, w = inputs()
        rows = rows_of(group)
        out = join(group, rows, x.detach()[rows.start : rows.stop] @ w)
        before = group.statistics()["arrived"]
        (grad,) = torch.autograd.grad(out.pow(2).sum(), w)
        after = group.statistics()["arrived"]
        assert grad.shape == w.shape
        return [before, after - before]

    assert list(crowd.run(work).values()) == [[1, 0]] * len(crowd.groups)


def test_an_output_that_is_not_used_has_no_gradient(crowd: Crowd) -> None:
    def work(group: Group) -> bool:
        x, _ = inputs()
        rows = rows_of(group)
        own = x[rows.start : rows.stop]
        used, unused = join(group, rows, own * 2, own * 3)
        (grad,) = torch.autograd.grad(used.sum(), x)
        assert grad.sum() == rows.local * 4 * 2
        return bool(unused.requires_grad)

    assert set(crowd.run(work).values()) == {True}


def test_integers_cross_without_a_gradient(crowd: Crowd) -> None:
    whole = torch.arange(ROWS * 2).view(ROWS, 2)

    def work(group: Group) -> Any:
        rows = rows_of(group)
        own = Narrow.apply(group, rows, 0, whole)
        joined = join(group, rows, own)
        assert not joined.requires_grad
        return joined.tolist(), SumOut.apply(group, own.sum()).item()

    for got in crowd.run(work).values():
        assert got == (whole.tolist(), whole.sum().item())


# regions


def region(local: int, total: int, dim: int = 0, start: int = 0) -> Region:
    group: Any = None
    return Region(group, Rows(total, (local, total - local), start, start + local), dim)


@pytest.mark.parametrize(
    ("shape", "dim", "expected"),
    [
        ((3,), 0, 0), ((3, 5), 0, 0), ((5, 3), 0, 1), ((3, 3), 0, 0), ((3, 3), 1, 1),
        ((5, 3), 1, 1), ((3, 5), 1, 0), ((12, 5), 0, 0), ((5, 4), 0, None), ((), 0, None),
        ((0, 4), 0, None), ((5, 4, 3), 0, None),
    ],
)  # fmt: skip
def test_which_dim_counts_rows(shape: tuple[int, ...], dim: int, expected: int | None) -> None:
    assert region(3, 7, dim).batch_dim(shape) == expected


def test_own_rows_of_a_whole_that_folds_heads_into_rows() -> None:
    here = region(3, 7, start=2)
    whole = torch.arange(14)
    assert here.own(whole, 0).tolist() == [4, 5, 6, 7, 8, 9]
    assert here.whole_shape((6, 5), 0) == [14, 5]


@pytest.mark.parametrize(
    "local", [torch.rand(3, 4, 5), torch.rand(3, 5, 4).transpose(1, 2), torch.rand(4, 3).t()]
)
def test_a_whole_is_laid_out_as_its_rows(local: torch.Tensor) -> None:
    whole = region(3, 7).empty_whole(local, 0)
    assert list(whole.shape) == [7, *local.shape[1:]]
    order = [sorted(range(t.ndim), key=lambda d, t=t: -t.stride(d)) for t in (whole, local)]  # type: ignore[misc]
    assert order[0] == order[1]


def test_regions_nest_and_end() -> None:
    outer, inner, message = region(1, 2), region(1, 3), "inside"
    assert current() is None

    def fail() -> None:
        with entered(inner):
            assert current() is inner
            raise ValueError(message)

    with entered(outer):
        with entered(None):
            assert current() is None
        with pytest.raises(ValueError, match="inside"):
            fail()
        assert current() is outer
    assert current() is None
