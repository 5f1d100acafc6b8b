"""Gradients of many vectors at once, one by one.

Torch takes them by running backward under ``vmap``, whose tensors stand for many; what workers
exchange in backward are bytes of one. The results are the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.autograd.functional

__all__ = ["SEAMS"]


def _grad(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``torch.autograd.grad``, where ``is_grads_batched``."""
    if len(args) < 8 and not kwargs.get("is_grads_batched"):
        return original(*args, **kwargs)
    given = inspect.signature(original).bind(*args, **kwargs).arguments
    many = given.get("grad_outputs")
    if not given.pop("is_grads_batched", False) or many is None:
        return original(*args, **kwargs)
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


SEAMS = [
    (torch.autograd, "grad", _grad),
    (torch.autograd.functional, "jacobian", _jacobian),
]
