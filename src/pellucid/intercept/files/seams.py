"""Puts functions in the place of those of ``os``, ``io`` and the library, and all back again."""

from __future__ import annotations

import builtins
import functools
import glob
import io
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any, Protocol

from pellucid.intercept.files import disk
from pellucid.intercept.patch import Patches

__all__ = ["Seams", "put_in_place"]

Function = Callable[..., Any]

# sets of `os` that say what a function can do, and have the function itself as a member
ABILITIES = (
    "supports_dir_fd",
    "supports_effective_ids",
    "supports_fd",
    "supports_follow_symlinks",
)
# modules that hold a name of their own for `open`, taken when they were imported
KEEPERS = (("bz2", "_builtin_open"), ("tarfile", "bltn_open"), ("tokenize", "_builtin_open"))


class Seams(Protocol):
    """What a worker's role makes of files."""

    def functions(self) -> dict[str, Function]:
        """What shall stand in the module ``os``, by name."""

    def open(self, file: Any, mode: str = "r") -> Any:
        """What shall stand for ``open``."""


def put_in_place(patches: Patches, seams: Seams) -> None:
    """Patch all that leads to a file."""
    opener = _as_function(seams.open, disk.open, "io")
    patches.replace(builtins, "open", opener)
    patches.replace(io, "open", opener)
    for module, name in KEEPERS:
        if getattr(sys.modules.get(module), name, None) is disk.open:
            patches.replace(sys.modules[module], name, opener)
    _patch_numpy(patches, opener)
    replaced = {}
    for name, seam in seams.functions().items():
        function = _as_function(seam, getattr(os, name), "os")
        replaced[patches.replace(os, name, function)] = function
    for ability in ABILITIES:
        able = getattr(os, ability)
        more = {new for old, new in replaced.items() if old in able}
        patches.replace(os, ability, able | more)
    _patch_closer(patches, replaced)
    # since 3.13 these, too, were taken when the module was imported
    globber = getattr(glob, "_StringGlobber", None)
    for name in ("lstat", "scandir"):
        if globber is not None and getattr(os, name) is not getattr(globber, name):
            patches.replace(globber, name, staticmethod(getattr(os, name)))


def _patch_numpy(patches: Patches, opener: Function) -> None:
    """`numpy.savetxt` and its kin look up ``open`` in a table of numpy's."""
    openers = getattr(sys.modules.get("numpy.lib._datasource"), "_file_openers", None)
    if openers is not None:
        openers.keys()  # it is filled at its first use
        patches.replace(openers, "_file_openers", {**openers._file_openers, None: opener})


def _patch_closer(patches: Patches, replaced: dict[Any, Function]) -> None:
    """Named temporary files remove themselves by a function kept as the default of an argument."""
    closer = vars(tempfile._TemporaryFileCloser)  # type: ignore[attr-defined]
    method = closer.get("cleanup", closer["close"])  # cleanup: since 3.12
    defaults = tuple(replaced.get(value, value) for value in method.__defaults__ or ())
    patches.replace(method, "__defaults__", defaults)


def _as_function(seam: Function, original: Function, module: str) -> Function:
    """A plain function that looks like the original, and can be pickled by name as that can."""

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        return seam(*args, **options)

    function.__module__ = module
    return function
