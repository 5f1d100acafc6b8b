"""What a split call used that is neither its module's own nor among its inputs.

A parameter from elsewhere, or the result of another call that the module found in a global or in
an attribute: on its way there, the gradient would be this worker's part and look like the whole. A
call that uses such a thing must not be split.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final

import torch

from pellucid.sync.exact.gradients import ENTERING
from pellucid.sync.exact.region import (
    Join,
    Joined,
    LeaveShare,
    Return,
    SumOut,
    Tied,
    crossing_of,
)
from pellucid.sync.exact.tree import outputs_of
from pellucid.sync.exact.view import BatchView

__all__ = ["STRAY", "inner_ends", "stray"]

STRAY: Final = "it uses parameters that are not its own"

_LEAVING = (Join, Joined, LeaveShare, SumOut, Tied)


def inner_ends(inputs: Iterable[Any]) -> set[Any]:
    """Where the graph of a call ends, of inputs that are rows already and enter by no crossing."""
    rows = [x.local for x in inputs if isinstance(x, BatchView) and x.whole is None]
    return {local.grad_fn for local in rows if local is not None and local.grad_fn is not None}


def stray(outputs: Any, given: set[Any]) -> str:
    """What a split call's outputs depend on other than through an alias or an input.

    What it made itself and nobody holds, to go backward to it within forward, is none.

    Args:
        outputs: what the call returned, and kept.
        given: by `inner_ends` of its inputs.

    Returns:
        The reason not to split it, "" if there is none.
    """
    roots = [leaf.local if isinstance(leaf, BatchView) else leaf for leaf in outputs_of(outputs)]
    nodes = [r.grad_fn for r in roots if isinstance(r, torch.Tensor) and r.grad_fn is not None]
    # behind the crossings by which it left, a node is within; hooks of the script are without again
    queue: list[tuple[Any, bool]] = [(node, False) for node in nodes]
    seen: set[tuple[Any, bool]] = set()
    leaves = []
    foreign = False
    while queue:
        node, within = queue.pop()
        crossing = crossing_of(node)
        if (node, within) in seen or node in given or crossing in ENTERING:
            continue
        seen.add((node, within))
        leaves_here = issubclass(crossing, _LEAVING)
        if within and leaves_here:  # somebody else's: our own are on the other side
            foreign = True
            continue
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        within = (within or leaves_here) and not issubclass(crossing, Return)
        queue += [(following, within) for following, _ in node.next_functions if following]
    if shapes := [str(tuple(leaf.shape)) for leaf in leaves if _is_held(leaf, leaves)]:
        return f"{STRAY} (of shape {', '.join(shapes[:3])})"
    return "it uses the result of another call that is not among its inputs" if foreign else ""


def _is_held(leaf: torch.Tensor, by_us: list[Any]) -> bool:
    """Whether Python code can get at a leaf other than through a graph."""
    return any(
        holder is not by_us and not isinstance(holder, FrameType)
        for holder in gc.get_referrers(leaf)
    )
