"""Where nothing is split, one worker is enough.

All workers would do all the work, each with its share of the cores: slower than plain python. So
after the first steps, if no call that trains was split, the followers stand down, and the leader
goes on as plain python would, with all the threads.
"""

from __future__ import annotations

import os
from typing import Final

import torch

from pellucid.sync.exact.view import split_views
from pellucid.transport.board import Field, State
from pellucid.transport.shared_memory import Group

__all__ = ["AFTER_STEPS", "stand_down"]

# scripts may begin with something small, or a batch that cannot be divided
AFTER_STEPS: Final = 8


def stand_down(group: Group, threads: int) -> bool:
    """End the followers, and let the leader go on alone. A collective operation.

    Args:
        group: the workers; afterwards, the leader is the only one living.
        threads: of the leader from then on.

    Returns:
        Whether it was done; on a follower, it does not return then. It cannot be done while the
        workers do not hold the same views: what is split must be made whole first.
    """
    views = split_views()
    mine = torch.tensor([number for number, _ in views], dtype=torch.int64)
    taken = group.swap("stand down", [mine])
    first = next(iter(taken.values()))[0]
    if any(not torch.equal(parts[0], first) for parts in taken.values()):
        return False
    for _, view in views:
        view.make_whole()
    leader = group.living[0]
    if group.index != leader:
        group.board.fields[group.index][Field.STATE] = State.RETIRED
        os._exit(0)  # nothing of a follower's is real: there is nothing to clean up or to flush
    group.living = [leader]
    torch.set_num_threads(threads)
    return True
