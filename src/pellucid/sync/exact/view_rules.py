"""What may be done with a global view without making it whole.

A rule takes ``(view_class, function, args, kwargs)`` and returns the result, or NotImplemented
where it cannot vouch for it: then the view is made whole. Every rule must be exact by construction,
row by row; see tests/test_view.py, which holds each function of the table against plain tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from pellucid.sync.exact.region import SumOut
from pellucid.sync.exact.tree import leaves_of

__all__ = ["RULES"]

Rule = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
_T = torch.Tensor


def _has_rows(cls: Any, value: Any) -> bool:
    return isinstance(value, cls) and value.whole is None


def _rest_is_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return not any(isinstance(leaf, _T) for leaf in leaves_of((args[1:], kwargs)))


def _wrap(like: Any, local: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A view of the rows that ``func`` made of another view's, its first argument."""
    if not isinstance(local, _T) or local.ndim == 0 or local.shape[0] != like.rows.local:
        return NotImplemented
    return like.derive(local, lambda whole: func(whole, *args[1:], **kwargs))


def _rowwise(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One view first, no other tensors; acts on every element (or row) by itself."""
    if not args or not _has_rows(cls, args[0]) or not _rest_is_plain(args, kwargs):
        return NotImplemented
    return _wrap(args[0], func(args[0].local, *args[1:], **kwargs), func, args, kwargs)


def _operand(cls: Any, view: Any, value: Any) -> Any:
    """The part of one operand that goes with the view's rows, or NotImplemented."""
    if not isinstance(value, _T):
        return value
    if _has_rows(cls, value):
        other: Any = value
        same = other.rows == view.rows and other.ndim == view.ndim
        return other.local if same else NotImplemented
    whole = value.whole if isinstance(value, cls) else value
    if whole.requires_grad and torch.is_grad_enabled():
        return NotImplemented  # its gradient must come out whole
    if whole.ndim < view.ndim:
        return whole
    if whole.ndim > view.ndim or whole.shape[0] not in (1, view.rows.total):
        return NotImplemented
    return whole if whole.shape[0] == 1 else whole[view.rows.start : view.rows.stop]


def _broadcast(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Element by element over several operands of which at least one is a view."""
    views = [a for a in args if _has_rows(cls, a)]
    if not views or any(isinstance(v, _T) for v in kwargs.values()):
        return NotImplemented
    operands = [_operand(cls, views[0], a) for a in args]
    if any(o is NotImplemented for o in operands):
        return NotImplemented
    # what is computed element by element is new memory
    local = func(*operands, **kwargs)
    if not isinstance(local, _T) or local.ndim == 0 or local.shape[0] != views[0].rows.local:
        return NotImplemented
    return cls(views[0].group, views[0].rows, local)


def _like(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Random values of the batch's shape: drawn whole, as the script alone would."""
    if not _has_rows(cls, args[0]) or not _rest_is_plain(args, kwargs):
        return NotImplemented
    view = args[0]
    # values are drawn in the order of memory
    like = torch.empty_strided(view.shape, view.stride(), dtype=view.dtype, device=view.device)
    return func(like, *args[1:], **kwargs)


def _filled_like(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``zeros_like`` and its kin; a leaf that wants a gradient is whole, as its gradient is."""
    rule = _like if kwargs.get("requires_grad") else _rowwise
    return rule(cls, func, args, kwargs)


def _from_rows(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Takes nothing but dtype and device from the view."""
    if not _has_rows(cls, args[0]) or not _rest_is_plain(args, kwargs):
        return NotImplemented
    return func(args[0].local, *args[1:], **kwargs)


def _sizes(args: tuple[Any, ...]) -> list[int] | None:
    sizes = args[1] if len(args) == 2 and isinstance(args[1], tuple | list) else args[1:]
    if not sizes or not all(isinstance(s, int) for s in sizes):
        return None
    return list(sizes)


def _reshape(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A new shape that leaves dimension 0 alone."""
    if kwargs or not _has_rows(cls, args[0]):
        return NotImplemented
    view, sizes = args[0], _sizes(args)
    if sizes is None:
        return NotImplemented
    row = view.local[0].numel() if view.local.ndim > 1 else 1
    known = 1
    for size in sizes[1:]:
        known *= size
    if sizes[0] == -1 and known != row:
        return NotImplemented
    if sizes[0] not in (-1, view.rows.total):
        return NotImplemented
    local = func(view.local, [view.rows.local, *sizes[1:]])
    return _wrap(view, local, func, args, kwargs)


def _dims(view: Any, args: tuple[Any, ...], kwargs: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The dimensions a call names, counted from the front, or None if it names none."""
    value = next((kwargs[n] for n in names if n in kwargs), args[1] if len(args) > 1 else None)
    if value is None:
        return None
    dims = value if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(d, int) and not isinstance(d, bool) for d in dims):
        return None
    return [d % view.ndim for d in dims]


def _along(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Acts along named dimensions: fine where none of them is the batch."""
    if not _has_rows(cls, args[0]) or not _rest_is_plain(args, kwargs):
        return NotImplemented
    dims = _dims(args[0], args, kwargs, ("dim", "axis", "start_dim"))
    if not dims or 0 in dims:
        return NotImplemented
    result = func(args[0].local, *args[1:], **kwargs)
    if isinstance(result, _T):
        return _wrap(args[0], result, func, args, kwargs)
    if isinstance(result, tuple) and hasattr(type(result), "n_fields"):  # torch.return_types.max
        return type(result)([_wrap(args[0], item, func, args, kwargs) for item in result])
    return NotImplemented


def _unsqueeze(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    if not isinstance(dim, int) or not _has_rows(cls, args[0]):
        return NotImplemented
    if dim == 0 or dim == -(args[0].ndim + 1):
        return NotImplemented
    return _wrap(args[0], func(args[0].local, dim), func, args, kwargs)


def _permute(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs or not _has_rows(cls, args[0]):
        return NotImplemented
    dims = _sizes(args)
    if not dims or dims[0] % args[0].ndim != 0:
        return NotImplemented
    return _wrap(args[0], func(args[0].local, *args[1:]), func, args, kwargs)


def _transpose(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs or len(args) != 3 or not _has_rows(cls, args[0]):
        return NotImplemented
    if any(d % args[0].ndim == 0 for d in args[1:]):
        return NotImplemented
    return _wrap(args[0], func(args[0].local, *args[1:]), func, args, kwargs)


def _getitem(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``x[:, ...]`` with nothing but numbers, slices and None behind the full slice."""
    view, index = args
    if not _has_rows(cls, view) or not isinstance(index, tuple) or not index:
        return NotImplemented
    if type(index[0]) is not slice or index[0] != slice(None):
        return NotImplemented
    if not all(i is None or i is Ellipsis or type(i) in (int, slice) for i in index[1:]):
        return NotImplemented
    return _wrap(view, func(view.local, index), func, args, kwargs)


def _pad(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    pad = args[1] if len(args) > 1 else kwargs.get("pad", ())
    if not _has_rows(cls, args[0]) or len(pad) // 2 >= args[0].ndim:
        return NotImplemented
    return _rowwise(cls, func, args, kwargs)


def _total(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``sum()`` and ``mean()`` over everything."""
    if len(args) != 1 or kwargs or not _has_rows(cls, args[0]):
        return NotImplemented
    view, mean = args[0], func in (_T.mean, torch.mean)
    if _is_coarse(view) or (mean and not view.is_floating_point()):
        return NotImplemented
    total = SumOut.apply(view.group, view.local.sum())
    return total / view.numel() if mean else total


def _is_coarse(view: Any) -> bool:
    """Whether sums of slices, each rounded to the type, say less than the sum of the whole."""
    return bool(view.dtype in (torch.float16, torch.bfloat16))


@cache
def _signature(func: Any) -> inspect.Signature:
    return inspect.signature(func)


def _loss(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Losses that compare element by element, with reduction mean or sum."""
    bound = _signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    old_style = given.get("size_average") is not None or given.get("reduce") is not None
    if old_style or given["reduction"] not in ("mean", "sum"):
        return NotImplemented
    views = [v for v in given.values() if _has_rows(cls, v)]
    if not views or _is_coarse(views[0]):
        return NotImplemented
    if given.get("weight") is not None and func not in _WEIGHTED_SUMS:
        return NotImplemented  # some divide by the sum of the weights
    for name, value in given.items():
        if isinstance(value, _T):
            if name in ("input", "target") and value.shape != views[0].shape:
                return NotImplemented
            given[name] = _operand(cls, views[0], value)
            if given[name] is NotImplemented:
                return NotImplemented
    mean = given["reduction"] == "mean"
    given["reduction"] = "sum"
    total = SumOut.apply(views[0].group, func(*bound.args, **bound.kwargs))
    return total / views[0].numel() if mean else total


_WEIGHTED_SUMS = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits)


def _flip(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    dims = _sizes(args)
    if kwargs or dims is None or not _has_rows(cls, args[0]):
        return NotImplemented
    if any(dim % args[0].ndim == 0 for dim in dims):
        return NotImplemented
    return _rowwise(cls, func, args, kwargs)


def _requires_grad_(_: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The view becomes whole, and a leaf of the script's own graph."""
    func(args[0].make_whole(), *args[1:], **kwargs)
    return args[0]


def _methods(*names: str) -> list[Any]:
    """The method and the function of these names, where torch has them."""
    found = []
    for name in names:
        found += [getattr(owner, name) for owner in (_T, torch, F) if hasattr(owner, name)]
    return found


def _table() -> dict[Any, Rule]:
    rules: dict[Any, Rule] = {}

    def add(rule: Rule, functions: list[Any]) -> None:
        rules.update(dict.fromkeys(functions, rule))

    add(
        _rowwise,
        _methods(
            *("to", "float", "double", "half", "bfloat16", "long", "int", "bool", "byte", "type"),
            *("cuda", "cpu", "contiguous", "clone", "detach", "pin_memory"),
            *("neg", "abs", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "square", "sin"),
            "cos",
            *("tanh", "sigmoid", "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "selu"),
            *("softplus", "logsigmoid", "hardtanh", "mish", "softsign", "hardswish", "hardsigmoid"),
            *("sign", "round", "floor", "ceil", "trunc", "frac", "isnan", "isinf", "isfinite"),
            *("reciprocal", "logical_not"),
            *("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"),
            *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "interpolate"),
            "__neg__",
        ),
    )
    add(_rowwise, [_T.data.__get__])  # type: ignore[attr-defined]
    add(
        _broadcast,
        _methods(
            *("add", "sub", "mul", "div", "true_divide", "pow", "maximum", "minimum", "remainder"),
            *("clamp", "clip", "clamp_min", "clamp_max", "lerp", "where", "subtract", "multiply"),
            *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "rsub", "divide"),
            *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__"),
            *("__rtruediv__", "__pow__", "__rpow__", "__eq__", "__ne__", "__lt__", "__le__"),
            *("__gt__", "__ge__", "__and__", "__or__", "__mod__", "__div__", "__rdiv__"),
        ),
    )
    add(_filled_like, _methods("zeros_like", "ones_like", "full_like", "empty_like"))
    add(_like, _methods("randn_like", "rand_like"))
    add(_from_rows, _methods("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"))
    add(_reshape, _methods("view", "reshape"))
    add(
        _along,
        _methods(
            *("sum", "mean", "amax", "amin", "argmax", "argmin", "prod", "logsumexp", "cumsum"),
            *("softmax", "log_softmax", "flatten", "squeeze", "max", "min", "all", "any"),
            "std",
            "var",
        ),
    )
    add(_flip, _methods("flip"))
    add(_unsqueeze, _methods("unsqueeze"))
    add(_permute, _methods("permute"))
    add(_transpose, _methods("transpose"))
    add(_getitem, [_T.__getitem__])
    add(_pad, [F.pad])
    add(_requires_grad_, [_T.requires_grad_])
    losses = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy")
    add(_loss, [getattr(F, n) for n in (*losses, "binary_cross_entropy_with_logits")])
    for function in _methods("sum", "mean"):
        rules[function] = _either(_total, _along)
    return rules


def _either(first: Rule, second: Rule) -> Rule:
    def rule(cls: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = first(cls, func, args, kwargs)
        return second(cls, func, args, kwargs) if result is NotImplemented else result

    return rule


RULES = _table()
