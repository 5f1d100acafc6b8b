"""Gradients that the script asks for by name: `torch.autograd.grad` and its kin.

Those with regard to an output of a split call are of the rows that it was joined from: see
`outgoing.py`.

Those of many vectors at once are taken one by one. Torch takes them by running backward under
``vmap``, whose tensors stand for many; what workers exchange in backward are bytes of one. The
results are the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.autograd.functional
from torch.autograd.graph import GradientEdge

from pellucid.sync.exact.outgoing import outgoing, retain_grad
from pellucid.sync.exact.view import whole_of

__all__ = ["SEAMS"]


def _grad(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``torch.autograd.grad``."""
    given = inspect.signature(original).bind(*args, **kwargs).arguments
    inputs = given["inputs"]
    if isinstance(inputs, dict):
        return _many(original, given)
    one = isinstance(inputs, torch.Tensor | GradientEdge)
    wholes = whole_of([inputs] if one else list(inputs))
    sources = [outgoing(x) if isinstance(x, torch.Tensor) else None for x in wholes]
    given["inputs"] = [
        whole if source is None else source.edge
        for whole, source in zip(wholes, sources, strict=True)
    ]
    found = _many(original, given)
    return tuple(
        grad if source is None or grad is None else source.whole(grad)
        for grad, source in zip(found, sources, strict=True)
    )


def _many(original: Callable[..., Any], given: dict[str, Any]) -> Any:
    """The same, where ``is_grads_batched``."""
    many = given.get("grad_outputs")
    if not given.pop("is_grads_batched", False) or many is None:
        return original(**given)
    many = (many,) if isinstance(many, torch.Tensor) else tuple(many)
    number = next(len(vectors) for vectors in many if vectors is not None)
    keeps = given.pop("retain_graph", None)
    found = []
    for k in range(number):
        given["grad_outputs"] = [None if vectors is None else vectors[k] for vectors in many]
        found.append(original(**given, retain_graph=True if k < number - 1 else keeps))
    if isinstance(found[0], dict):
        return {name: _stacked([each[name] for each in found]) for name in found[0]}
    return tuple(_stacked(each) for each in zip(*found, strict=True))


def _jacobian(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``torch.autograd.functional.jacobian``, and ``hessian`` through it."""
    given = inspect.signature(original).bind(*args, **kwargs).arguments
    if given.get("strategy", "reverse-mode") == "reverse-mode":
        given["vectorize"] = False
    return original(**given)


def _stacked(gradients: Any) -> Any:
    return None if gradients[0] is None else torch.stack(list(gradients))


def _retain_grad(original: Callable[..., Any], tensor: torch.Tensor) -> None:
    """``Tensor.retain_grad``."""
    whole = whole_of(tensor)
    source = outgoing(whole)
    if source is None:
        original(whole)
    else:
        retain_grad(whole, source)


SEAMS = [
    (torch.Tensor, "retain_grad", _retain_grad),
    (torch.autograd, "grad", _grad),
    (torch.autograd.functional, "jacobian", _jacobian),
]
