"""The global view: a tensor that says it is the whole batch and holds this worker's rows.

A `BatchView` reports shape, dtype and device of the whole batch without any exchange. What is
done with it by the script is sorted by one table: operations that act on every row by itself are
done on the rows held here and give a view again; reductions and losses over everything are done on
the rows and summed; everything else *makes it whole*: one exchange, kept, and from then on it acts
as that whole tensor. So what the table does not know is slower, never wrong.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import torch

from pellucid.sync.exact.region import Join, current, is_inside, named_after
from pellucid.sync.exact.rows import Rows
from pellucid.sync.exact.tree import map_leaves
from pellucid.sync.exact.view_rules import RULES
from pellucid.transport.shared_memory import Group

__all__ = ["SEAMS", "BatchView", "make_whole_within", "whole_of"]

_T = torch.Tensor


def _getter(name: str) -> Any:
    return getattr(_T, name).__get__


# read from the view itself: nothing of it depends on the values
_METADATA = {
    *(_getter(n) for n in ("shape", "dtype", "device", "ndim", "layout", "is_cuda", "is_sparse")),
    *(_getter(n) for n in ("is_mkldnn", "is_quantized", "is_meta", "is_mps", "itemsize")),
    *(
        getattr(_T, n)
        for n in (
            "stride",
            "is_contiguous",
            "size",
            "dim",
            "numel",
            "nelement",
            "element_size",
            "__len__",
        )
    ),
    *(getattr(_T, n) for n in ("is_floating_point", "is_complex", "get_device", "ndimension")),
    torch.is_floating_point,
    torch.is_complex,
    torch.numel,
    torch.is_tensor,
}

# read from the rows: the answer is the same for the whole
_FROM_LOCAL = {_getter(n) for n in ("requires_grad", "is_leaf")}


_numbers = itertools.count()
_views: weakref.WeakValueDictionary[int, BatchView] = weakref.WeakValueDictionary()


def split_views() -> list[tuple[int, BatchView]]:
    """Views that exist and are still split, with numbers in the order of their making."""
    return [(number, view) for number, view in sorted(_views.items()) if view.whole is None]


class _LooksLikeTensor(type(torch.Tensor)):  # type: ignore[misc] # a class that torch computes
    """Of a class that equals `torch.Tensor`: scripts ask ``type(x) == torch.Tensor``.

    Its hash is its own: torch tells the types of arguments apart by sets of them.
    """

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is torch.Tensor

    __hash__ = type.__hash__


class BatchView(torch.Tensor, metaclass=_LooksLikeTensor):
    """A whole batch of which this worker holds its rows; see the module's docstring.

    [Note: same memory]
    ``x[:, 0].zero_()`` changes ``x``. A view made of another one's memory therefore remembers how
    it was taken (`take`), and becomes whole by being taken again from the other's whole: so what is
    written to one is seen in the other, whichever of the two became whole first.

    Attributes:
        rows: how the batch is divided (along dimension 0).
        local: this worker's rows, shape ``(rows.local, ...)``; None once whole.
    """

    rows: Rows
    local: torch.Tensor | None
    group: Group
    _whole: torch.Tensor | None
    _origin: tuple[BatchView, Callable[[torch.Tensor], torch.Tensor]] | None

    @staticmethod
    def __new__(cls: Any, group: Group, rows: Rows, local: torch.Tensor) -> BatchView:
        """Wrap this worker's rows."""
        view: BatchView = torch.Tensor._make_wrapper_subclass(
            cls,
            (rows.total, *local.shape[1:]),
            strides=_whole_strides(rows, local),
            dtype=local.dtype,
            device=local.device,
        )
        view.group, view.rows, view.local = group, rows, local
        view._whole = view._origin = None
        _views[next(_numbers)] = view
        return view

    @property
    def whole(self) -> torch.Tensor | None:
        """The whole tensor, once it was asked for; see [Note: same memory]."""
        if self._whole is None and self._origin is not None:
            base, take = self._origin
            if (whole := base.whole) is not None:
                self._whole, self.local = take(whole), None
        return self._whole

    def derive(
        self, local: torch.Tensor, take: Callable[[torch.Tensor], torch.Tensor]
    ) -> BatchView:
        """A view of rows that were made of this one's.

        Args:
            local: the rows.
            take: makes of this view's whole what the rows are of.
        """
        assert self.local is not None
        view = type(self)(self.group, self.rows, local)
        if local is self.local:
            view._origin = (self, lambda whole: whole)
        elif local.untyped_storage().data_ptr() == self.local.untyped_storage().data_ptr():
            view._origin = (self, take)
        return view

    def make_whole(self) -> torch.Tensor:
        """The whole tensor: gathered on first use, then kept. A collective operation."""
        if self.whole is None and self._origin is not None:
            self._origin[0].make_whole()
        if (whole := self.whole) is None:
            assert self.local is not None
            # with the rows' graph, if they have one, also where none is recorded at the moment
            with torch.enable_grad():
                join = named_after(Join, self.local)
                (whole,) = join.apply(self.group, self.rows, (0,), "view", self.local)
            strides = _whole_strides(self.rows, self.local)
            if strides != whole.stride() and not whole.requires_grad:
                whole = torch.empty_strided(
                    whole.shape, strides, dtype=whole.dtype, device=whole.device
                ).copy_(whole)
            self._whole, self.local = whole, None
        return whole

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Sort one operation of the script: metadata, row by row, summed, or whole."""
        kwargs = kwargs or {}
        if func in _METADATA:
            if (whole := args[0].whole) is not None:  # its shape may have been changed in place
                return func(whole, *args[1:], **kwargs)
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in _FROM_LOCAL:
            view = args[0]
            return func(view.local if view.whole is None else view.whole)
        # a module that runs whole reads wholes: what one worker runs alone is to find them here
        rule = None if is_inside() and current() is None else RULES.get(func)
        if rule is not None:
            result = rule(cls, func, args, kwargs)
            if result is not NotImplemented:
                return result
        return func(*whole_of(args), **whole_of(kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch's own annotation lacks cls and func
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Whatever reaches the dispatcher past the script's level acts on the whole."""
        return func(*whole_of(args), **whole_of(kwargs or {}))

    def __deepcopy__(self, memo: Any) -> torch.Tensor:
        return self.make_whole().clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.make_whole().__reduce_ex__(protocol)


def _whole_strides(rows: Rows, local: torch.Tensor) -> tuple[int, ...]:
    """Strides the whole would have: the rows' own, where rows lie one behind the other."""
    strides = local.stride()
    spans = sum((n - 1) * s for n, s in zip(local.shape[1:], strides[1:], strict=True))
    if strides[0] > spans:
        return strides
    return torch.empty((rows.total, *local.shape[1:]), device="meta").stride()


# what the script sees of its type is what it would see of a tensor's
BatchView.__name__ = BatchView.__qualname__ = "Tensor"
BatchView.__module__ = "torch"


def whole_of(tree: Any) -> Any:
    """The same structure with every view in it made whole."""
    return map_leaves(lambda leaf: leaf.make_whole() if isinstance(leaf, BatchView) else leaf, tree)


def make_whole_within(tree: Any) -> None:
    """Make views in lists and dicts whole where they are."""
    if isinstance(tree, tuple):
        for item in tree:
            make_whole_within(item)
    elif isinstance(tree, list | dict):
        pairs: Any = enumerate(tree) if isinstance(tree, list) else tree.items()
        for key, item in list(pairs):
            if isinstance(item, BatchView):
                tree[key] = item.make_whole()
            else:
                make_whole_within(item)


def _parameter(original: Any, cls: Any, *args: Any, **kwargs: Any) -> Any:
    """``nn.Parameter(batch)``: a parameter is whole, and of no other type."""
    return original(cls, *whole_of(args), **whole_of(kwargs))


SEAMS = [(torch.nn.Parameter, "__new__", _parameter)]
