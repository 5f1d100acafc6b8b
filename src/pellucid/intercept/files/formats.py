"""Libraries that open files by their path in C, where no seam of ``os`` or ``open`` is.

One row a function: which argument is the path, and what it is for. The function then gets the path
where the bytes are. Libraries that the script imports later are taken hold of when that happens.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from pellucid.intercept.patch import Patches

__all__ = ["Formats", "PathFor"]


class PathFor(Protocol):
    """Says where the bytes of a path are or will be; one of these for the leader and followers."""

    def reading(self, path: Any) -> Any:
        """The file will be read."""

    def writing(self, path: Any) -> Any:
        """The file will be made, or all of it replaced."""

    def changing(self, path: Any) -> Any:
        """The file will be made if it is not there, or else changed in place."""


class Row(NamedTuple):
    """A function that opens a file."""

    module: str
    function: str  # of the module, or of a class in it
    argument: str
    position: int
    purpose: str  # of `PathFor`; or `mode`, if an argument of that name says it as for h5py


TABLE = (
    Row("sqlite3", "connect", "database", 0, "changing"),
    Row("sqlite3.dbapi2", "connect", "database", 0, "changing"),
    Row("torch", "save", "f", 1, "writing"),
    Row("torch.serialization", "save", "f", 1, "writing"),
    Row("torch", "load", "f", 0, "reading"),
    Row("torch.serialization", "load", "f", 0, "reading"),
    Row("torch.jit._script", "RecursiveScriptModule.save", "f", 1, "writing"),
    Row("torch.jit", "load", "f", 0, "reading"),
    Row("torch.jit._serialization", "load", "f", 0, "reading"),
    Row("safetensors", "safe_open", "filename", 0, "reading"),
    Row("safetensors.torch", "save_file", "filename", 1, "writing"),
    Row("safetensors.torch", "load_file", "filename", 0, "reading"),
    Row("safetensors.numpy", "save_file", "filename", 1, "writing"),
    Row("safetensors.numpy", "load_file", "filename", 0, "reading"),
    Row("h5py", "File.__init__", "name", 1, "mode"),
    Row("cv2", "imread", "filename", 0, "reading"),
    Row("cv2", "imwrite", "filename", 0, "writing"),
)


class Formats(importlib.abc.MetaPathFinder):
    """Takes hold of the functions of the table, now or when their module is imported."""

    def __init__(self, paths: PathFor) -> None:
        self._paths = paths
        self._patches: Patches | None = None

    def install(self, patches: Patches) -> None:
        """Patch what is imported, and wait for the rest."""
        self._patches = patches
        for name in dict.fromkeys(row.module for row in TABLE):
            if (module := sys.modules.get(name)) is not None:
                self._take_hold(module)
        sys.meta_path.insert(0, self)

    def undo(self) -> None:
        """Wait no more."""
        self._patches = None
        sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See that a module of the table is patched as soon as it has been executed."""
        if not any(row.module == fullname for row in TABLE):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._follow(spec.loader)
                return spec
        return None

    def _follow(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._take_hold(module)

        loader.exec_module = exec_module

    def _take_hold(self, module: ModuleType) -> None:
        if self._patches is None:
            return
        for row in TABLE:
            *owners, name = row.function.split(".")
            owner: Any = module
            for part in owners:
                owner = getattr(owner, part, None)
            if row.module == module.__name__ and hasattr(owner, name):
                self._patches.replace(owner, name, self._seam(row, getattr(owner, name)))

    def _seam(self, row: Row, original: Callable[..., Any]) -> Callable[..., Any]:
        paths = self._paths

        @functools.wraps(original)
        def seam(*args: Any, **options: Any) -> Any:
            by_name = row.argument in options
            if not by_name and len(args) <= row.position:
                return original(*args, **options)
            path = options[row.argument] if by_name else args[row.position]
            if not _is_path(path):
                return original(*args, **options)
            purpose = row.purpose if row.purpose != "mode" else _purpose(original, args, options)
            path = getattr(paths, purpose)(path)
            if by_name:
                return original(*args, **{**options, row.argument: path})
            return original(*args[: row.position], path, *args[row.position + 1 :], **options)

        return seam


def _is_path(path: Any) -> bool:
    """Whether this names a file: not an open one, nor what sqlite keeps in memory."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    text = os.fsdecode(path)
    return bool(text) and text != ":memory:" and not text.startswith("file:")


def _purpose(function: Callable[..., Any], args: Any, options: Any) -> str:
    try:
        mode = inspect.signature(function).bind(*args, **options).arguments.get("mode")
    except TypeError:  # the call is wrong; the function itself shall say so
        mode = None
    kinds = {"r": "reading", "w": "writing", "w-": "writing", "x": "writing", None: "reading"}
    return kinds.get(mode, "changing")
