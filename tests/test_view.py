"""Global views: whatever the script does with one, it sees what a plain tensor would show it.

Each test does the same with a plain whole tensor and, on every worker of a group of threads, with a
view of which it holds some rows; then compares values, shape, strides and dtype.
"""

# torch does not annotate all of its functions
# mypy: allow-untyped-calls

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

from pellucid.sync.exact.rows import split_rows
from pellucid.sync.exact.tree import leaves_of
from pellucid.sync.exact.view import BatchView, whole_of
from pellucid.sync.exact.view_rules import RULES
from pellucid.transport.shared_memory import Group
from tests.group_of_threads import Crowd

ROWS = 7  # no multiple of any number of workers
Use = Callable[..., Any]


@pytest.fixture(params=[2, 3])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    return Crowd(request.param)


def batch(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """A batch without zeros, of both signs, with shape[0] rows."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(shape, generator=generator, dtype=torch.float64) * 1.8 - 0.9
    if dtype == torch.bool:
        return values > 0
    return values.to(dtype) if dtype.is_floating_point else (values * 50).to(dtype)


def view_of(group: Group, whole: torch.Tensor) -> BatchView:
    """A view of this tensor; its rows are a copy, laid out as the whole is."""
    rows = split_rows(len(whole), tuple(group.living), group.workers, group.index)
    return BatchView(group, rows, whole[rows.start : rows.stop].clone())


def settled(value: Any) -> Any:
    """With views made whole: a collective operation."""
    return whole_of(value)


def agree(got: Any, expected: Any, *, strides: bool = True) -> None:
    """Whether two results are the same, to the order of summation."""
    ours, theirs = leaves_of(got), leaves_of(expected)
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        if not isinstance(its, torch.Tensor):
            assert type(mine) is type(its)
            assert mine == (pytest.approx(its, rel=1e-12) if isinstance(its, float) else its)
            continue
        assert isinstance(mine, torch.Tensor)
        assert mine.dtype == its.dtype
        assert mine.shape == its.shape
        assert mine.requires_grad == its.requires_grad
        if strides:
            assert mine.stride() == its.stride()
        tight = its.dtype in (torch.float64, torch.complex128)
        near = 1e-12 if tight else None
        torch.testing.assert_close(
            mine.detach(), its.detach(), rtol=near, atol=near, equal_nan=True
        )


def attempt(use: Use, *inputs: Any) -> Any:
    """What a use gives, or the type of what it raises."""
    try:
        return use(*inputs)
    except Exception as error:
        return type(error).__name__


def check(crowd: Crowd, use: Use, *wholes: torch.Tensor, stays: bool | None = None) -> None:
    """Compare a use of views with the same use of plain tensors; then what became of the inputs.

    Args:
        crowd: the workers.
        use: called with one tensor for each of `wholes`.
        wholes: the batches.
        stays: whether the result must be a view still (True) or a plain tensor (False).
    """
    plain = [w.clone() for w in wholes]
    expected = attempt(use, *plain)

    def work(group: Group) -> Any:
        views = [view_of(group, w) for w in wholes]
        result = attempt(use, *views)
        if stays is not None:
            views_left = [isinstance(x, BatchView) and x.whole is None for x in leaves_of(result)]
            assert any(views_left) == stays
        for leaf in leaves_of(result):
            if isinstance(leaf, BatchView) and leaf.whole is None:
                assert leaf.local is not None
                assert leaf.stride() == leaf.make_whole().stride()
                assert leaf.shape == leaf.make_whole().shape
        return settled(result), settled(views)

    for result, views in crowd.run(work).values():
        agree(result, expected)
        agree(views, plain)


# every function of the table, by its name

FLOATS = batch(ROWS, 3, 4)
IMAGES = batch(ROWS, 2, 6, 6)
SIGNALS = batch(ROWS, 3, 8)
VOLUMES = batch(ROWS, 2, 4, 4, 4)
NUMBERS = batch(ROWS, 3, 4, dtype=torch.int64)
TRUTHS = batch(ROWS, 3, 4, dtype=torch.bool)

# arguments behind the view, and the batch, where the plain call f(x) is not what is to be tried
UNARY: dict[str, list[tuple[Any, ...]]] = {
    "to": [(torch.float32,), ("cpu",), ("cpu", torch.float16), (torch.device("cpu"),)],
    "type": [(torch.float32,), ("torch.IntTensor",), ()],
    "cuda": [],
    "pin_memory": [],
    "round": [
        (),
    ],
    "full_like": [(3.0,)],
    "empty_like": [],
    "avg_pool1d": [(2,), (3, 1)],
    "avg_pool2d": [(2,), (3, 2, 1)],
    "avg_pool3d": [(2,)],
    "max_pool1d": [(2,), (3, 1)],
    "max_pool2d": [(2,), (3, 2, 1)],
    "max_pool3d": [(2,)],
    "adaptive_avg_pool1d": [(3,)],
    "adaptive_avg_pool2d": [(3,), ((2, 3),)],
    "interpolate": [(3,)],
    "new_zeros": [(5,), ((2, 3),), (ROWS, 2)],
    "new_ones": [(5,), ((2, 3),)],
    "new_full": [((2,), 7.0)],
    "new_empty": [],
    "new_tensor": [([1, 2],)],
    "view": [
        (-1, 12),
        (ROWS, 12),
        (ROWS, -1),
        ((ROWS, 2, 6),),
        (-1,),
        (12, -1),
        (21, 4),
        (torch.int64,),
    ],
    "reshape": [
        (-1, 12),
        (ROWS, -1),
        ((-1, 3, 2, 2),),
        (-1,),
        (3, -1),
        (ROWS * 3, 4),
        (1, ROWS, 12),
    ],
    "unsqueeze": [(0,), (1,), (2,), (3,), (-1,), (-3,), (-4,)],
    "permute": [(0, 2, 1), ((0, 2, 1),), (0, -1, -2), (1, 0, 2), (2, 1, 0), (-3, 2, 1)],
    "transpose": [(1, 2), (-1, -2), (0, 1), (2, -3)],
    "pad": [
        ((1, 2),),
        ((1, 0, 2, 1),),
        ((0, 0, 0, 0, 1, 1),),
        ((1, 1), "constant", 3.0),
        ((-1, 1),),
    ],
    "flatten": [(), (1,), (1, 2), (1, -1), (0, 1), (-2,)],
    "squeeze": [(), (1,), (-1,), (0,), ((1, 2),)],
    "flip": [(0,), (1,), (-1,), (1, 2), (1, 0), (2, -3), ((1, 2),), ((0, 1),)],
    "cumsum": [(0,), (1,), (-1,), (-3,)],
    "softmax": [(0,), (1,), (-1,)],
    "log_softmax": [(0,), (1,), (-1,)],
    "prod": [(), (0,), (1,), (-1, True)],
    "logsumexp": [(0,), (1,), ((1, 2),), ((0, 1),)],
    "std": [(), (0,), (1,), ((1, 2),), (1, False), (False,)],
    "var": [(), (0,), (1,), ((1, 2),), (1, False), (False,)],
    "sum": [(), (0,), (1,), (-1,), ((1, 2),), ((0, 1),), (1, True), ([],)],
    "mean": [(), (0,), (1,), (-1,), ((1, 2),), ((0, 1),), (1, True), ([],)],
    **{name: [(), (0,), (1,), (-1,), (1, True)] for name in ("argmax", "argmin", "max", "min")},
    **{name: [(), (0,), (1,), ((1, 2),), (1, True)] for name in ("amax", "amin", "all", "any")},
}

# a batch of its own, where the usual one is not what the function takes
BATCHES: dict[str, list[torch.Tensor]] = {
    **{
        name: [SIGNALS, FLOATS[:, 0]]
        for name in ("avg_pool1d", "max_pool1d", "adaptive_avg_pool1d")
    },
    **{name: [IMAGES, SIGNALS] for name in ("avg_pool2d", "max_pool2d", "adaptive_avg_pool2d")},
    **{name: [VOLUMES] for name in ("avg_pool3d", "max_pool3d")},
    "interpolate": [IMAGES, SIGNALS],
    **{
        name: [torch.where(FLOATS > 0.5, FLOATS / 0, FLOATS)]
        for name in ("isnan", "isinf", "isfinite")
    },
    **{name: [TRUTHS, FLOATS] for name in ("all", "any", "logical_not")},
    **{
        name: [FLOATS, NUMBERS, TRUTHS, FLOATS[:, 0, 0]]
        for name in ("sum", "mean", "max", "cumsum", "argmax")
    },
    "squeeze": [FLOATS[:, :1, :1], FLOATS, FLOATS[:1]],
    "__getitem__": [FLOATS],
}

# x and a second operand of each of the kinds that `_operand` tells apart
SECONDS: dict[str, torch.Tensor | float] = {
    "number": 0.5,
    "scalar": torch.tensor(0.5, dtype=torch.float64),
    "last": batch(4, seed=1).abs(),
    "rows": batch(ROWS, 1, 1, seed=2).abs(),
    "one_row": batch(1, 3, 4, seed=3).abs(),
    "whole": batch(ROWS, 3, 4, seed=4).abs(),
    "more": batch(2, ROWS, 3, 4, seed=5).abs(),
    "other_type": batch(ROWS, 3, 4, seed=6, dtype=torch.float32).abs(),
}


def name_of(function: Any) -> str:
    name = getattr(function, "__name__", "")
    if name == "__get__":
        return "data"
    return "max_pool" + name[-2:] if name.startswith("boolean_dispatch") else name.lstrip("_")


def _names() -> dict[str, list[Any]]:
    """The table's functions under the names by which it finds them."""
    names: dict[str, list[Any]] = {}
    known = {*UNARY, *BATCHES, *LOSSES}
    for function in RULES:
        found = [
            name
            for owner in (torch.Tensor, torch, F)
            for name in dir(owner)
            if getattr(owner, name, None) is function
        ]
        found.sort(key=lambda name: (name not in known, name.startswith("_"), name))
        public = found or [name_of(function)]
        names.setdefault(public[0], []).append(function)
    return names


LOSSES = {
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
}  # fmt: skip

NAMES = _names()
OPERATORS = {
    n for n in NAMES if n.startswith("__") and n not in ("__neg__", "__getitem__", "__get__")
}
TWO = OPERATORS | {
    "add", "sub", "mul", "div", "true_divide", "pow", "maximum", "minimum", "remainder", "subtract",
    "multiply", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "rsub", "divide",
}  # fmt: skip
OTHERS = {"clamp", "clip", "clamp_min", "clamp_max", "lerp", "where", "requires_grad_", "rand_like",
          "randn_like", "__getitem__", "data", "__get__"}  # fmt: skip
ONE = sorted(set(NAMES) - TWO - OTHERS - LOSSES)


def cases(name: str) -> list[tuple[Any, torch.Tensor, tuple[Any, ...]]]:
    return [
        (function, whole, args)
        for function in NAMES[name]
        for whole in BATCHES.get(name, [FLOATS])
        for args in UNARY.get(name, [()])
    ]


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_batch(crowd: Crowd, name: str) -> None:
    for function, whole, args in cases(name):
        check(crowd, lambda x, f=function, a=args: f(x, *a), whole)


@pytest.mark.parametrize("second", SECONDS)
@pytest.mark.parametrize("name", sorted(TWO))
def test_functions_of_two_operands(crowd: Crowd, name: str, second: str) -> None:
    other = SECONDS[second]
    truth = name in ("__and__", "__or__")
    x = TRUTHS if truth else FLOATS
    if truth:
        other = other > 0.4 if isinstance(other, torch.Tensor) else True
    for function in NAMES[name]:
        check(crowd, lambda x, f=function: f(x, other), x)
        check(crowd, lambda x, f=function: f(other, x), x)
        if isinstance(other, torch.Tensor) and other.shape == x.shape:
            check(crowd, function, x, other, stays=True if other.dtype == x.dtype else None)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses(crowd: Crowd, name: str, reduction: str) -> None:
    loss = getattr(F, name)
    inputs, targets = batch(ROWS, 3, 4).abs(), batch(ROWS, 3, 4, seed=1).abs()
    for shape in ((ROWS, 3, 4), (ROWS, 12), (ROWS * 12,)):
        x, y = inputs.view(shape), targets.view(shape)
        check(crowd, lambda x, y: loss(x, y, reduction=reduction), x, y)
        check(crowd, lambda x, y=y: loss(x, y, reduction=reduction), x)
        check(crowd, lambda y, x=x: loss(x, y, reduction=reduction), y)
    check(crowd, lambda x: loss(x, targets[:1].expand_as(x), reduction=reduction), inputs)
    if name == "l1_loss":
        return  # torch itself loses the weight on its way to a subclass: see losses.py
    for weight in (targets * 3, targets[:1], targets[0], targets[0, 0], targets[:, :1]):
        check(crowd, lambda x, w=weight: loss(x, targets, weight=w, reduction=reduction), inputs)
        check(
            crowd,
            lambda x, w: loss(x, targets, weight=w, reduction=reduction),
            inputs,
            targets.expand(ROWS, 3, 4) if weight.shape[0] != ROWS else weight.contiguous(),
        )


@pytest.mark.parametrize("name", sorted(LOSSES - {"huber_loss", "binary_cross_entropy"}))
def test_losses_in_the_old_style(crowd: Crowd, name: str) -> None:
    loss = getattr(F, name)
    x, y = batch(ROWS, 3).abs(), batch(ROWS, 3, seed=1).abs()

    def old(x: Any, y: Any) -> list[Any]:
        return [loss(x, y, size_average=False), loss(x, y, reduce=False)]

    with pytest.warns(UserWarning, match="deprecated"):
        check(crowd, old, x, y)


def test_losses_with_class_weights(crowd: Crowd) -> None:
    loss = F.binary_cross_entropy_with_logits
    for shape in ((ROWS, 4), (4, 4)):
        x, y = batch(*shape), batch(*shape, seed=1).abs()
        for weight in (torch.rand(4).double(), torch.rand(1).double()):
            check(crowd, lambda x, w=weight, y=y: loss(x, y, pos_weight=w), x)
            check(crowd, lambda x, y, w=weight: loss(x, y, pos_weight=w, weight=w), x, y)


def test_losses_of_shapes_that_broadcast(crowd: Crowd) -> None:
    x, y = batch(ROWS, 3), batch(ROWS, 1, seed=1)
    with pytest.warns(UserWarning, match="broadcasting"):
        check(crowd, lambda x: F.mse_loss(x, y), x)


def test_loss_modules(crowd: Crowd) -> None:
    x, y = batch(ROWS, 3).abs(), batch(ROWS, 3, seed=1).abs()
    modules = [nn.MSELoss(), nn.L1Loss(reduction="sum"), nn.BCELoss(), nn.SmoothL1Loss(beta=0.3)]
    for module in [*modules, nn.KLDivLoss(), nn.CosineSimilarity(), nn.Flatten(0)]:
        check(crowd, lambda x, y, m=module: m(x, y) if m is not modules else 0, x, y)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_totals_of_few_bits(crowd: Crowd, reduction: str) -> None:
    """Half precision: the whole's sum may be beyond its range, or lose what slices would keep."""
    for dtype in (torch.float16, torch.bfloat16):
        x = (batch(ROWS, 3000).abs() * 60).to(dtype)
        y = torch.zeros_like(x)
        check(crowd, lambda x: [x.mean(), x.sum(), torch.mean(x)], x)
        check(crowd, lambda x, y=y: F.l1_loss(x, y, reduction=reduction), x)


def test_clamps_and_choices(crowd: Crowd) -> None:
    low, high = batch(3, 4), batch(3, 4, seed=1) + 1
    whole = batch(ROWS, 3, 4, seed=2)
    for use in (
        lambda x: x.clamp(-0.2, 0.3),
        lambda x: x.clamp(min=-0.2),
        lambda x: torch.clamp(x, max=0.2),
        lambda x: x.clamp(low, high),
        lambda x: x.clamp(min=low, max=high),
        lambda x: x.clip(None, 0.1),
        lambda x: torch.clip(x, whole),
        lambda x: x.clamp_min(0.1),
        lambda x: torch.clamp_max(x, low),
        lambda x: torch.lerp(x, whole, 0.3),
        lambda x: x.lerp(whole, whole),
        lambda x: torch.lerp(whole, x, low),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.where(whole > 0, x, whole),
        lambda x: x.where(x > 0.3, -x),
        lambda x: torch.where(x > 0),
        lambda x: torch.where(low > 0, x, whole),
        lambda x: torch.add(x, whole, alpha=3),
        lambda x: torch.div(x, whole, rounding_mode="floor"),
        lambda x: torch.add(x, other=whole),
        lambda x: torch.mul(input=x, other=whole),
    ):
        check(crowd, use, FLOATS)


def test_two_views_of_different_batches(crowd: Crowd) -> None:
    check(crowd, lambda x, y: x + y, batch(ROWS, 3), batch(1, 3))
    check(crowd, lambda x, y: x * y, batch(ROWS), batch(ROWS, ROWS, seed=1))
    check(crowd, lambda x, y: x[:, None] - y, batch(ROWS), batch(ROWS, 4, seed=1))
    check(crowd, lambda x, y: (x + y, x @ y), batch(ROWS, 5), batch(5, 5, seed=1))


GETITEMS: dict[str, Use] = {
    "number": lambda x: x[2],
    "last row": lambda x: x[-1],
    "slice": lambda x: x[1:4],
    "all": lambda x: x[:],
    "dots": lambda x: x[...],
    "none": lambda x: x[None],
    "nothing": lambda x: x[()],
    "column": lambda x: x[:, 1],
    "last column": lambda x: x[:, -1],
    "columns": lambda x: x[:, 1:3],
    "every other": lambda x: x[:, ::2, 1:],
    "new dim": lambda x: x[:, None],
    "dots in the middle": lambda x: x[:, ..., 0],
    "dots first": lambda x: x[..., 0],
    "dots and none": lambda x: x[:, ..., None],
    "reversed": lambda x: x[:, [2, 0, 1]],
    "mask": lambda x: x[x > 0],
    "mask of columns": lambda x: x[:, torch.tensor([True, False, True])],
    "list": lambda x: x[[1, 3]],
    "list first": lambda x: x[[1, 3], 0],
    "tensor": lambda x: x[torch.tensor([5, 2])],
    "tensor first": lambda x: x[torch.tensor([5, 2]), 1],
    "array first": lambda x: x[np.array([5, 2]), 1],
    "true": lambda x: x[:, True],
    "a view first": lambda x: x[(x[:, 0, 0] > 0), 0],
    "a view as index": lambda x: torch.arange(10)[(x[:, 0, 0] > 0).long()],
    "too many": lambda x: x[:, 1, 1, 1],
    "out of range": lambda x: x[:, 7],
    "row and column": lambda x: x[1, 2],
    "step": lambda x: x[::2, 1],
    "split": lambda x: x.split(3),
    "chunk": lambda x: torch.chunk(x, 2, dim=1),
    "unbind": torch.unbind,
    "select": lambda x: x.select(1, 2),
    "narrow": lambda x: x.narrow(0, 1, 2),
    "take": lambda x: x.index_select(0, torch.tensor([1])),
}


@pytest.mark.parametrize("name", GETITEMS)
def test_indexing(crowd: Crowd, name: str) -> None:
    check(crowd, GETITEMS[name], FLOATS)


KEYWORDS: dict[str, Use] = {
    "sum": lambda x: [x.sum(dim=1), x.sum(dim=0), x.sum(axis=1), x.sum(dim=(0, 2))],
    "keepdim": lambda x: [x.mean(dim=1, keepdim=True), x.mean(0, keepdim=True)],
    "dtype": lambda x: [x.sum(1, dtype=torch.float32), x.sum(dtype=torch.float32)],
    "max": lambda x: [x.max(dim=1), x.max(dim=1, keepdim=True), x.max(dim=0)],
    "max of two": lambda x: [torch.max(x, x * 2), x.min(x.new_zeros(4))],
    "values": lambda x: [x.max(1).values, x.max(1)[1], x.max(1).indices],
    "argmax": lambda x: [x.argmax(dim=1), x.argmax(dim=-1, keepdim=True), x.argmax(dim=0)],
    "softmax": lambda x: [F.softmax(x, dim=1), x.softmax(dim=-1), F.log_softmax(x, dim=0)],
    "flatten": lambda x: [x.flatten(start_dim=1), x.flatten(end_dim=1), torch.flatten(x, 1)],
    "std": lambda x: [x.std(dim=1, unbiased=False), x.std(unbiased=False), x.std(correction=0)],
    "flip": lambda x: [x.flip(dims=(0,)), x.flip(dims=(1,)), x.flip([2]), torch.flip(x, [0])],
    "unsqueeze": lambda x: [x.unsqueeze(dim=1), x.unsqueeze(dim=0), torch.unsqueeze(x, dim=-1)],
    "permute": lambda x: [x.permute(dims=(0, 2, 1)), torch.permute(x, (0, 2, 1))],
    "transpose": lambda x: [x.transpose(dim0=1, dim1=2), torch.transpose(x, 0, 2)],
    "reshape": lambda x: [
        x.reshape(shape=(ROWS, 12)),
        torch.reshape(x, (-1, 12)),
        x.view(x.size(0), -1),
    ],
    "pad": lambda x: [
        F.pad(x, pad=(1, 1)),
        F.pad(x, (1, 1), mode="reflect"),
        F.pad(x, (1, 1), value=2.0),
    ],
    "pool": lambda x: [F.max_pool1d(x, 2, return_indices=True), F.avg_pool1d(x, kernel_size=2)],
    "interpolate": lambda x: [
        F.interpolate(x, size=9, mode="linear"),
        F.interpolate(x, scale_factor=2),
    ],
    "to": lambda x: [x.to(dtype=torch.float32), x.to(x.float()), x.to(torch.float32, copy=True)],
    "activations": lambda x: [
        F.gelu(x, approximate="tanh"),
        F.leaky_relu(x, 0.3),
        F.elu(x, alpha=2.0),
    ],
    "in place activations": lambda x: [F.relu(x, inplace=True), x],
    "in place leaky": lambda x: [F.leaky_relu(x, 0.1, True), x],
    "rounding": lambda x: torch.round(x, decimals=1),
    "out": lambda x: torch.exp(x, out=torch.empty(ROWS, 3, 4, dtype=torch.float64)),
    "like": lambda x: [
        torch.zeros_like(x, dtype=torch.int32),
        torch.full_like(x, 2),
        x.new_ones(x.shape),
    ],
    "cat": lambda x: [torch.cat([x, x]), torch.cat([x, x], 1), torch.stack([x[:, 0], x[:, 1]], 1)],
    "einsum": lambda x: [
        torch.einsum("bij,bij->b", x, x),
        x @ x.transpose(1, 2),
        x.matmul(x[0].t()),
    ],
    "sort": lambda x: [x.sort(1), x.topk(2), x.argsort(0), x.median(), x.norm(), x.norm(dim=1)],
    "repeat": lambda x: [x.repeat(2, 1, 1), x.expand(ROWS, 3, 4), x.roll(1, 0), x.roll(1, 1), x.mT],
    "statistics": lambda x: [torch.std_mean(x, dim=(0, 2)), x.abs().max(), x.unique().numel()],
    "compare": lambda x: [
        torch.equal(x, x),
        torch.allclose(x, x),
        x.isclose(x),
        (x == x.clone()).all(),
    ],
    "norms": lambda x: [F.normalize(x, dim=1), F.layer_norm(x, (4,)), F.one_hot((x > 0).long(), 2)],
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_ways_of_calling(crowd: Crowd, name: str) -> None:
    check(crowd, KEYWORDS[name], SIGNALS if name in ("pool", "interpolate") else FLOATS)


def test_the_mean_of_integers_is_refused_as_ever(crowd: Crowd) -> None:
    check(crowd, torch.Tensor.mean, NUMBERS)
    check(crowd, torch.mean, TRUTHS)


# layout


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_the_whole_is_laid_out_as_the_rows_are(rows: int) -> None:
    image = batch(rows, 3, 4, 5)
    crowd = Crowd(2)
    for whole in (image, image.contiguous(memory_format=torch.channels_last)):
        check(crowd, lambda x: [x.stride(), x.is_contiguous()], whole)
        check(crowd, lambda x: [x * 2, x.permute(0, 2, 3, 1), x.sum(1), x[:, 1]], whole)
        check(crowd, lambda x: [x.contiguous(), x.transpose(1, 2).contiguous(), x.float()], whole)
        check(crowd, lambda x: x.contiguous(memory_format=torch.channels_last), whole)


def test_metadata_without_an_exchange(crowd: Crowd) -> None:
    def metadata(x: torch.Tensor) -> list[Any]:
        return [
            tuple(x.shape), tuple(x.size()), x.size(0), x.size(-1), len(x), x.dim(), x.ndim,
            x.dtype,
            str(x.device), x.numel(), x.nelement(), x.stride(), x.stride(0), x.is_contiguous(),
            x.element_size(), x.itemsize, x.layout, x.requires_grad, x.is_leaf, x.is_cuda,
            x.is_sparse, x.is_floating_point(), torch.is_floating_point(x), x.is_complex(),
            torch.is_tensor(x), torch.numel(x), isinstance(x, torch.Tensor), type(x).__name__,
        ]  # fmt: skip

    def work(group: Group) -> list[Any]:
        arrived = group.statistics()["arrived"]
        found = metadata(view_of(group, FLOATS))
        assert group.statistics()["arrived"] == arrived
        return found

    for found in crowd.run(work).values():
        assert found == metadata(FLOATS)


def test_metadata_after_a_change_of_shape_in_place(crowd: Crowd) -> None:
    def change(x: Any) -> list[Any]:
        x.unsqueeze_(1)
        return [tuple(x.shape), x.stride(), x.dim(), x]

    def swap(x: Any) -> list[Any]:
        x.transpose_(1, 2)
        return [tuple(x.shape), x.stride(), len(x), x]

    def retype(x: Any) -> list[Any]:
        x.data = x.data.float()
        return [x.dtype, x]

    for use in (change, swap, retype):
        check(crowd, lambda x, use=use: use(x)[:-1], FLOATS)


# in place


def erase_by_index(x: Any) -> Any:
    x[:, 1:3, 2] = 0.0
    x[2] = 1.0
    return x


def erase_a_slice(x: Any) -> Any:
    x[:, 1:3].zero_()
    return x


def fill_a_column(x: Any) -> Any:
    x[:, 0].fill_(3.0)
    x[..., 1].mul_(2)
    return x


def clamp_the_data(x: Any) -> Any:
    x.data.clamp_(0, 0.5)
    return x


def add_to_a_reshaped(x: Any) -> Any:
    flat = x.view(len(x), -1)
    flat += 1
    flat[:, 3] = 9.0
    return x


def change_after_taking(x: Any) -> Any:
    column, turned = x[:, 0], x.permute(0, 2, 1)
    x.add_(1)
    return [column, turned, x]


def change_a_copy(x: Any) -> Any:
    copied = x.clone()
    copied.mul_(2)
    copied[:, 0].zero_()
    return [copied, x]


def change_detached(x: Any) -> Any:
    x.detach().mul_(3)
    x.detach()[0, 0, 0] = 5.0
    return x


def change_what_is_the_same(x: Any) -> Any:
    x.to("cpu").add_(1)
    x.double().add_(1)
    x.contiguous().add_(1)
    return x


def through_another(x: Any) -> Any:
    other = torch.zeros(ROWS, 3, 4, dtype=torch.float64)
    other.copy_(x)
    other[:, 0] = x[:, 1]
    other.add_(x)
    other.index_add_(0, torch.arange(len(x)), x)
    return [other, x]


def chained(x: Any) -> Any:
    return x.mul_(2).add_(1).clamp_(-1, 1)


def augmented(x: Any) -> Any:
    before = x
    x -= 0.5
    x /= 0.25
    x[:, 0] *= 2
    return [before, x]


def into_an_output(x: Any) -> Any:
    torch.mul(x, 2, out=x)
    return x


def through_numpy(x: Any) -> Any:
    x.numpy()[:, 0] = 4.0
    return x


def normalise_in_place(x: Any) -> Any:
    for channel in range(3):
        x[:, channel].sub_(0.1).div_(0.3)
    return x


IN_PLACE = [
    erase_by_index, erase_a_slice, fill_a_column, clamp_the_data, add_to_a_reshaped,
    change_after_taking, change_a_copy, change_detached, change_what_is_the_same, through_another,
    chained, augmented, into_an_output, through_numpy, normalise_in_place,
]  # fmt: skip


@pytest.mark.parametrize("use", IN_PLACE, ids=lambda use: use.__name__)
def test_changes_in_place(crowd: Crowd, use: Use) -> None:
    check(crowd, use, FLOATS)


# gradients


def attack(x: Any) -> Any:
    x.requires_grad_()
    loss = (x.flatten(1) ** 3).mean()
    loss.backward()
    return [x.grad, x.requires_grad, (x + 0.1 * x.grad.sign()).clamp(-1, 1).detach()]


def attack_by_attribute(x: Any) -> Any:
    x.requires_grad = True
    (grad,) = torch.autograd.grad((x * x.detach()).sum(), x)
    return [grad, x.grad, x.is_leaf]


def second_derivative(x: Any) -> Any:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    penalty = ((grad.flatten(1).norm(dim=1) - 1) ** 2).mean()
    penalty.backward()
    return x.grad


def weights(x: Any) -> Any:
    weight = torch.full((4, 5), 0.2, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    out = x @ weight + bias * x[..., :1]
    (out**2).mean().backward()
    return [out, weight.grad, bias.grad]


def target_of_a_loss(x: Any) -> Any:
    guess = torch.zeros(ROWS, 3, 4, dtype=torch.float64, requires_grad=True)
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    loss = F.mse_loss(guess, x) + F.l1_loss(x * 2, guess) + F.mse_loss(x * scale, x)
    loss.backward()
    return [loss, guess.grad, scale.grad]


def retained(x: Any) -> Any:
    x.requires_grad_()
    y = x * 2
    y.retain_grad()
    seen: list[Any] = []
    y.register_hook(lambda grad: seen.append(grad.clone()))
    y.pow(2).sum().backward()
    return [y.grad, seen, x.grad]


@pytest.mark.parametrize(
    "use",
    [attack, attack_by_attribute, second_derivative, weights, target_of_a_loss, retained],
    ids=lambda use: use.__name__,
)
def test_gradients_of_what_is_done_with_a_view(crowd: Crowd, use: Use) -> None:
    check(crowd, use, FLOATS)


def loss_by_rows(y: Any) -> Any:
    return F.mse_loss(y, torch.ones(ROWS, 3, 4, dtype=torch.float64)) + y[:, 1].mean()


def loss_of_the_whole(y: Any) -> Any:
    return (y.flatten(1) @ y.flatten(1).t()).logsumexp(1).sum()


def several_uses(y: Any) -> Any:
    return (y * 2).sum() + y.sum(1).pow(2).sum() + y[3].pow(3).sum() + (y > 0).sum() + len(y)


def mixed_uses(y: Any) -> Any:
    mask = (y.detach() > 0).double()
    return ((y * mask).sum((1, 2)) / mask.sum((1, 2))).mean() + y.abs().max()


@pytest.mark.parametrize(
    "loss", [loss_by_rows, loss_of_the_whole, several_uses, mixed_uses], ids=lambda f: f.__name__
)
def test_gradients_through_a_large_output(crowd: Crowd, loss: Use) -> None:
    """A model's large output is a view whose rows have a graph: this worker's part of it."""
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    expected = loss(FLOATS * scale)
    (expected_grad,) = torch.autograd.grad(expected, scale)

    def work(group: Group) -> tuple[torch.Tensor, torch.Tensor]:
        own = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        plain: Any = view_of(group, FLOATS)
        got = loss(BatchView(group, plain.rows, plain.local * own))
        (grad,) = torch.autograd.grad(got, own)
        return got, group.all_reduce("grad", grad)

    for got, grad in crowd.run(work).values():
        agree(got, expected)
        agree(grad, expected_grad)


def test_a_large_output_changed_without_a_graph(crowd: Crowd) -> None:
    def use(y: Any) -> Any:
        with torch.no_grad():
            y.clamp_(0, 0.5)
            y[:, 0] = 7.0
        return y.detach().clone()

    def work(group: Group) -> Any:
        plain: Any = view_of(group, FLOATS)
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        return settled(use(BatchView(group, plain.rows, plain.local * scale)))

    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    expected = use(FLOATS * scale)
    for got in crowd.run(work).values():
        agree(got, expected)


# what leaves torch


OUTSIDE: dict[str, Use] = {
    "numpy": lambda x: x.numpy().tolist(),
    "asarray": lambda x: np.asarray(x).tolist(),
    "numpy functions": lambda x: float(np.abs(x).sum()),
    "tolist": torch.Tensor.tolist,
    "item": lambda x: [x.sum().item(), x[0, 0, 0].item(), x[:1, 0, 0].item()],
    "item of many": torch.Tensor.item,
    "float": lambda x: [float(x[1, 1, 1]), int(x[:, 0, 0].argmax()), complex(x.mean())],
    "bool": lambda x: [bool((x > -2).all()), bool(x.mean() > 9)],
    "bool of many": bool,
    "repr": repr,
    "str": str,
    "format": lambda x: [f"{x}", f"{x.mean():.3f}", f"{x[0, 0, 0]:8.2e}", f"{x[:, 0]}"],
    "percent": lambda x: "%s %.2f" % (x[:, 0], x.max()),  # noqa: UP031 - scripts do
    "iteration": lambda x: [row.sum().item() for row in x],
    "enumerate zip": lambda x: [
        (i, float(a.sum() + b.sum())) for i, (a, b) in enumerate(zip(x, x, strict=True))
    ],
    "unpacking": lambda x: [t.tolist() for t in [*x]],
    "contains": lambda x: [0.5 in x, x[0, 0, 0] in x],
    "deepcopy": copy.deepcopy,
    "deepcopy in a dict": lambda x: copy.deepcopy({"x": [x, x]}),
    "copy": lambda x: copy.copy(x).tolist(),
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "save": lambda x: torch.load(saved(x)),
    "truth of len": lambda x: [len(x) > 3, not len(x)],
    "set": lambda x: len({x, x}),
    "range": lambda x: list(range(len(x))),
    "sorted": lambda x: sorted(x[:, 0, 0], key=float),
    "min max": lambda x: [max(x[:, 0, 0]), min(x[:, 0, 0]), sum(x[:, 0, 0])],
    "reversed": lambda x: [float(row.sum()) for row in reversed(x)],
    "memory": lambda x: x.untyped_storage().nbytes(),
    "dlpack": torch.utils.dlpack.from_dlpack,
    "new tensor of it": lambda x: torch.stack([torch.as_tensor(r) for r in x]),
    "type": torch.Tensor.type,
    "round": lambda x: [round(x[0, 0, 0].item(), 2), abs(x[0, 0, 0]), divmod(x[0, 0, 0], 0.2)],
}


def saved(x: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leaves_torch(crowd: Crowd, name: str) -> None:
    check(crowd, OUTSIDE[name], FLOATS, stays=False)


# random numbers

_SEEDING = threading.Lock()  # the threads share torch's generator


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("draw", [torch.rand_like, torch.randn_like], ids=["rand", "randn"])
def test_random_numbers_of_the_batchs_shape(crowd: Crowd, draw: Use, channels_last: bool) -> None:
    whole = batch(ROWS, 3, 4, 5)
    if channels_last:
        whole = whole.contiguous(memory_format=torch.channels_last)

    def drawn(x: torch.Tensor) -> list[torch.Tensor]:
        with _SEEDING:
            torch.manual_seed(3)
            return [draw(x), draw(x, dtype=torch.float32), draw(x)]

    check(crowd, drawn, whole, stays=False)


# exchanges


def test_a_view_is_gathered_once_and_seldom(crowd: Crowd) -> None:
    def work(group: Group) -> list[int]:
        view = view_of(group, FLOATS)
        counts = []
        for use in (
            view.float().flatten(1).mul(2).sub(1)[:, 2:].sigmoid,
            view.sum,
            view.tolist,
            view.numpy,
            lambda: view + view[0],
        ):
            before = group.statistics()["arrived"]
            use()
            counts.append(group.statistics()["arrived"] - before)
        return counts

    assert set(map(tuple, crowd.run(work).values())) == {(0, 1, 1, 0, 0)}
