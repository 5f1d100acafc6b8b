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
    def seam(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return act(self, *args, **options)
        except OSError as error:
            error.filename = args[0] if args else options.get("path")
            raise

    return seam


def naming_both(act: Function) -> Function:
    """Let errors of a function of two paths name the files as the script did."""

    @functools.wraps(act)
    def seam(self: Any, src: Any, dst: Any, *args: Any, **options: Any) -> Any:
        try:
            return act(self, src, dst, *args, **options)
        except OSError as error:
            error.filename, error.filename2 = src, dst
            raise

    return seam
