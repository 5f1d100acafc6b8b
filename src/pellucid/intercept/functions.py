"""The seam of functions: have a handler answer a function or method of torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from pellucid.intercept.patch import Patches

__all__ = ["patch_functions"]


def patch_functions(patches: Patches, seams: Iterable[tuple[Any, str, Callable[..., Any]]]) -> None:
    """Replace each ``owner.name`` by ``handler(original, *args, **kwargs)``.

    Args:
        patches: takes note of the patches.
        seams: triples (owner, name, handler).
    """
    for owner, name, handler in seams:
        original = getattr(owner, name)
        patches.replace(owner, name, _answered(original, handler))


def _answered(original: Callable[..., Any], handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original, updated=())
    def answer(*args: Any, **kwargs: Any) -> Any:
        return handler(original, *args, **kwargs)

    return answer
