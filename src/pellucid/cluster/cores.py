"""Which processors each worker computes on: whole physical cores, each for one worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["core_groups", "share_out"]

ROOT: Final = Path("/")


def core_groups(cpus: set[int], root: Path = ROOT) -> list[list[int]]:
    """Logical processors by the physical core they lie on, in order.

    Args:
        cpus: numbers of logical processors.
        root: where the file system starts; tests have their own.
    """
    groups: dict[str, list[int]] = {}
    for cpu in sorted(cpus):
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            core = path.read_text().strip()
        except OSError:
            core = f"alone {cpu}"
        groups.setdefault(core, []).append(cpu)
    return list(groups.values())


def share_out(groups: Sequence[Sequence[int]], workers: int, threads: int) -> list[list[int]]:
    """The processors of each worker.

    Args:
        groups: logical processors by physical core.
        workers: how many workers there are.
        threads: of each worker.

    Returns:
        For each worker, ``threads`` cores that are next to each other; nothing for all of them
        when there are not enough: then the kernel places threads better than we could.
    """
    if workers * threads > len(groups):
        return [[] for _ in range(workers)]
    return [
        [cpu for group in groups[w * threads : (w + 1) * threads] for cpu in group]
        for w in range(workers)
    ]
