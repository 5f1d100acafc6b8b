"""Temporary names, the same in every worker, and the paths that are never private to one.

A script that makes a temporary directory and hands its name to a command must hand over the same
name in every worker; so the random part of such names comes from a generator that all seed alike.
A library that does so for itself, as torch's compiler does, in the folder for such files, gets a
name of its own, with a mark: what bears it is not private, so that the library's commands find it.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH100, PTH111, PTH118

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from random import Random

from pellucid.intercept.callers import is_of_script

__all__ = ["MARK", "SameNames", "shared_paths"]

MARK = "_pellucid_"

# Compilers write sources and libraries here, hand their paths to other programs, and are made to
# be used by many processes at once. (variable that moves it, where it is otherwise)
COMPILER_CACHES = (
    ("TORCHINDUCTOR_CACHE_DIR", None),
    ("TRITON_CACHE_DIR", "~/.triton"),
    ("TORCH_EXTENSIONS_DIR", "~/.cache/torch_extensions"),
    ("PYTORCH_KERNEL_CACHE_PATH", "~/.cache/torch/kernels"),
    ("CUDA_CACHE_PATH", "~/.nv"),
    ("NUMBA_CACHE_DIR", None),
)
# what torch's compiler and multiprocessing (its sockets) put into the temporary directory
TEMPORARY_SHARED = ("torchinductor_", "pymp-", "torch_extensions")


class SameNames(Iterator[str]):
    """What ``tempfile`` draws names from; a forked child draws others, to meet nobody's files.

    Args:
        seed: equal in all workers of a run, different between runs: the folder of its records.
    """

    characters = "abcdefghijklmnopqrstuvwxyz0123456789_"

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)
        self._pid = os.getpid()
        self._shared = shared_paths(seed)

    def __next__(self) -> str:
        frame = sys._getframe(1)
        if not is_of_script(frame) and self._is_for_itself(frame.f_locals.get("dir") or ""):
            return MARK + self._name(Random())
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            self._random = Random()
        return self._name(self._random)

    def _is_for_itself(self, folder: str) -> bool:
        """Whether a library that makes a temporary file here means it for itself.

        One that saves for the script writes beside what it saves, and renames it.
        """
        folder = os.path.join(os.path.abspath(folder), "")
        usual = folder == os.path.join(tempfile.gettempdir(), "")
        return usual or MARK in folder or folder.startswith(self._shared)

    def _name(self, random: Random) -> str:
        return "".join(random.choices(self.characters, k=8))


def shared_paths(run_dir: str) -> tuple[str, ...]:
    """Beginnings of the paths that all workers share, each as written and with links followed."""
    found = ["/dev/", "/proc/", "/sys/", os.path.join(run_dir, "")]
    for variable, usual in COMPILER_CACHES:
        folder = os.environ.get(variable, usual)
        if folder:
            found.append(os.path.join(os.path.abspath(os.path.expanduser(folder)), ""))
    found += [os.path.join(tempfile.gettempdir(), name) for name in TEMPORARY_SHARED]
    followed = [os.path.realpath(path) + path[len(path.rstrip("/")) :] for path in found]
    return tuple(dict.fromkeys([*found, *followed]))
