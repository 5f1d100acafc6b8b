"""Losses and totals computed inside a split call: over the whole batch, not over our rows.

Models that return their own loss (``loss, logits = model(x, targets)``) reduce over the batch
inside their forward. A mean of slices' means is not the mean: so the sum and what it is divided by
are each added up over the workers. Only in regions that were proven to need it (`Region.reduces`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from pellucid.sync.exact.region import Region, SumShares, current

__all__ = ["SEAMS", "TOTALS"]

Original = Callable[..., Any]


@cache
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


def _reduces() -> bool:
    region = current()
    return region is not None and region.reduces


def _region_for(value: Any) -> Region | None:
    region = current()
    if region is None or not region.reduces or not isinstance(value, torch.Tensor):
        return None
    return region if region.batch_dim(value.shape) is not None else None


def _whole_count(region: Region, value: torch.Tensor) -> int:
    return value.numel() // region.rows.local * region.rows.total


def _bind(original: Original, args: Any, kwargs: Any) -> inspect.BoundArguments | None:
    """The call's arguments by name; None for deprecated ways to say the reduction."""
    bound = _signature(original).bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    if given.get("size_average") is not None or given.get("reduce") is not None:
        return None
    return bound


def _by_element(original: Original, *args: Any, **kwargs: Any) -> Any:
    """Losses whose mean divides by the number of elements."""
    bound = _bind(original, args, kwargs) if _reduces() else None
    region = _region_for(bound.arguments["input"]) if bound else None
    if bound is None or region is None or bound.arguments["reduction"] == "none":
        return original(*args, **kwargs)
    given = bound.arguments
    reduction = given["reduction"]
    given["reduction"] = "sum"
    total = SumShares.apply(region.group, original(*bound.args, **bound.kwargs))
    if reduction == "mean":
        return total / _whole_count(region, given["input"])
    return total / region.rows.total if reduction == "batchmean" else total


def _by_class(original: Original, *args: Any, **kwargs: Any) -> Any:
    """Cross entropy and NLL: the mean divides by the weights of the targets that count."""
    bound = _bind(original, args, kwargs) if _reduces() else None
    region = _region_for(bound.arguments["input"]) if bound else None
    if bound is None or region is None or bound.arguments["reduction"] == "none":
        return original(*args, **kwargs)
    given = bound.arguments
    target, weight = given["target"], given["weight"]
    reduction = given["reduction"]
    given["reduction"] = "sum"
    total = original(*bound.args, **bound.kwargs)
    if reduction == "sum":
        return SumShares.apply(region.group, total)
    if target.is_floating_point():  # probabilities of classes: the mean is over rows and places
        count = total.new_tensor(float(given["input"].numel() // given["input"].shape[1]))
    else:
        counted = target[target != given["ignore_index"]]
        count = (
            total.new_tensor(float(counted.numel()))
            if weight is None
            else weight.detach()[counted].sum().to(total.dtype)
        )
    both = SumShares.apply(region.group, torch.stack([total, count]))
    return both[0] / both[1]


def _total(original: Original, value: Any, *args: Any, **kwargs: Any) -> Any:
    """``sum()`` and ``mean()`` over everything, and over rows."""
    if args or kwargs:
        return _columns(original, value, *args, **kwargs)
    region = _region_for(value)
    if region is None or not value.is_floating_point():
        return original(value, *args, **kwargs)
    if original in _MEANS:
        return SumShares.apply(region.group, _SUM(value)) / _whole_count(region, value)
    return SumShares.apply(region.group, original(value))


def _columns(original: Original, value: Any, *args: Any, **kwargs: Any) -> Any:
    """``sum(dim)`` and ``mean(dim)``, where the dimensions are those of rows, too."""
    own = original(value, *args, **kwargs)
    region = current()
    dim = args[0] if args else kwargs.get("dim", kwargs.get("axis"))
    dims = [dim] if isinstance(dim, int) else dim
    if region is None or not region.columns or not isinstance(dims, list | tuple):
        return own
    if region.batch_dim(value.shape) not in [d % value.ndim for d in dims]:
        return own
    if original in _MEANS:
        return SumShares.apply(region.group, own * (region.rows.local / region.rows.total))
    return SumShares.apply(region.group, own)


_SUM = torch.sum
_MEANS = (torch.mean, torch.Tensor.mean)

_BY_ELEMENT = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "poisson_nll_loss",
    "soft_margin_loss",
)

SEAMS: list[tuple[Any, str, Callable[..., Any]]] = [
    *((F, name, _by_element) for name in _BY_ELEMENT),
    *((F, name, _by_class) for name in ("cross_entropy", "nll_loss")),
]

# taken only while a region that reduces is being run: they are too common to slow down elsewhere
TOTALS: list[tuple[Any, str, Callable[..., Any]]] = [
    *((owner, name, _total) for owner in (torch, torch.Tensor) for name in ("sum", "mean")),
]
