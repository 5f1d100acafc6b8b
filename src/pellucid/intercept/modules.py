"""The seam of modules: what calling one gives the script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pellucid.intercept.patch import Patches

__all__ = ["patch_modules"]

Handler = Callable[[Callable[..., Any], Any, Any, Any], Any]


def patch_modules(patches: Patches, handler: Handler) -> None:
    """Have ``handler(original, module, args, kwargs)`` answer every call of a module.

    Args:
        patches: takes note of the patch.
        handler: gets the original ``__call__``, the module and its arguments.
    """
    from torch import nn

    original = nn.Module.__call__

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it replaces one
        return handler(original, self, args, kwargs)

    patches.replace(nn.Module, "__call__", __call__)
