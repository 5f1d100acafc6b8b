"""Errors name files as the script did, wherever the bytes are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["naming", "naming_both"]

Function = Callable[..., Any]


def naming(act: Function) -> Function:
    """Let errors of a function of one path name the file as the script did."""

    @functools.wraps(act)
    def seam(self: Any, path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        try:
            return act(self, path, *args, **kwargs)
        except OSError as error:
            error.filename = path
            raise

    return seam


def naming_both(act: Function) -> Function:
    """Let errors of a function of two paths name the files as the script did."""

    @functools.wraps(act)
    def seam(self: Any, src: Any, dst: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return act(self, src, dst, *args, **kwargs)
        except OSError as error:
            error.filename, error.filename2 = src, dst
            raise

    return seam
