"""Processes that ``multiprocessing`` starts afresh (spawn, forkserver) on a follower's behalf.

A forked child has our patches by inheritance. One that starts afresh has nothing of us, and would
write to the disk what the leader's child writes too: so its first words are to set up the view.
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
