"""Processes that ``multiprocessing`` starts afresh (spawn, forkserver) for the script.

A forked child has our patches by inheritance. One that starts afresh has nothing of us: a
follower's would write to the disk what the leader's writes too. So its first words are to put the
same seams in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import util
from typing import Any

from pellucid.intercept.patch import Patches

__all__ = ["reach_children"]


def reach_children(patches: Patches, first: str) -> None:
    """Let children that start afresh begin with a piece of Python, one line of it."""

    def spawnv_passfds(path: Any, args: Sequence[Any], passfds: Any) -> Any:
        args = list(args)
        if "-c" in args:
            code = args.index("-c") + 1
            # this one only counts what others leave behind, and must not wait for anybody
            if "resource_tracker" not in args[code]:
                args[code] = f"{first}; {args[code]}"
        return original(path, args, passfds)

    original = patches.replace(util, "spawnv_passfds", spawnv_passfds)
