"""The outputs of a split call on their way out: rows joined or behind a view, the rest as it is."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import nn

from pellucid.errors import ShapeError, UnsupportedError
from pellucid.sync.exact.outgoing import outgoing, retain_grad
from pellucid.sync.exact.proof import COUNT, DRAWS, SHAPES, Joint, Proof
from pellucid.sync.exact.region import (
    Joined,
    LeaveShare,
    Region,
    Tied,
    gathered,
    named_after,
)
from pellucid.sync.exact.rows import Rows
from pellucid.sync.exact.saved import computed_by_torch
from pellucid.sync.exact.tree import map_outputs, outputs_of
from pellucid.sync.exact.view import BatchView, whole_of

__all__ = ["hand_out_computed", "leave"]

# outputs smaller than this are made whole at once: losses and metrics will ask for them anyway
LARGE_BYTES: Final = 512 << 10


def leave(region: Region, outputs: list[Any], proof: Proof, module: nn.Module) -> list[Any]:
    """Outputs for the script.

    Args:
        region: the call.
        outputs: for our rows, what the module returned, and what it left in its attributes.
        proof: how its leaves join.
        module: what was called.

    Raises:
        UnsupportedError: there are more leaves than in the proof, or less.
        ShapeError: the workers' rows do not fit together, or they have drawn other numbers.
    """
    leaves = outputs_of(outputs)
    if len(leaves) != len(proof.outputs):
        msg = (
            f"{type(module).__name__} returned {len(leaves)} values where it returned "
            f"{len(proof.outputs)} before with inputs of the same kind: exact mode cannot tell "
            f"how to join them. Return the same structure for inputs of the same kind"
        )
        raise UnsupportedError(msg)
    if proof.varies:
        _see_alike(region, leaves, proof)
    returned = len(outputs_of(outputs[0])) if proof.kept else len(leaves)
    same = _same_as(leaves, returned)
    if torch.is_grad_enabled():
        leaves = _wanting(region, leaves, proof)
    left = {
        k: _left(region, leaf, dim)
        for k, (leaf, dim) in enumerate(zip(leaves, proof.outputs, strict=True))
        if k not in same and not _is_small(region, leaf, dim, asked_for=k < returned)
    }
    small = [k for k in range(len(leaves)) if k not in left and k not in same]
    if small:
        dims: Any = [proof.outputs[k] for k in small]
        parts = [leaves[k] for k in small]
        kind = f"outputs of {type(module).__name__}"
        wholes = gathered(region.group, region.rows, dims, kind, parts)
        for k, dim, whole, part in zip(small, dims, wholes, parts, strict=True):
            left[k] = _joined(region, dim, whole, part)
    left |= {k: left[original] for k, original in same.items()}
    for k, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad and leaf.is_leaf:
            _keep_grad(left[k])  # made in there: the script may look at it after backward
    order = iter(range(len(leaves)))
    mapped = map_outputs(lambda _: left[next(order)], outputs)
    # what is returned may be what is kept
    first = {id(output): k for k, output in reversed(list(enumerate(outputs)))}
    return [mapped[first[id(output)]] for output in outputs]


def _see_alike(region: Region, leaves: list[Any], proof: Proof) -> None:
    """Make sure, while the call can be begun again, that no worker went by lengths of its own rows.

    Raises:
        ShapeError: their outputs do not fit together, or they have drawn other random numbers.
    """
    pairs = zip(leaves, proof.outputs, strict=True)
    tensors = [(x.shape, dim) for x, dim in pairs if isinstance(x, torch.Tensor)]
    sizes = [size for shape, dim in tensors for d, size in enumerate(shape) if d != dim]
    drawn = zlib.crc32(torch.get_rng_state().numpy().data) if proof.traces else 0
    taken = region.group.swap("what outputs are like", [torch.tensor([drawn, *sizes])])
    for parts in taken.values():
        their_drawn, *their_sizes = parts[0].view(torch.int64).tolist()
        if their_sizes != sizes:
            raise ShapeError(SHAPES)
        if their_drawn != drawn:
            raise ShapeError(DRAWS)


def _keep_grad(output: torch.Tensor) -> None:
    """Let a leaf that left have a ``.grad`` in the script's world."""
    whole = whole_of(output)
    if (source := outgoing(whole)) is not None:
        retain_grad(whole, source)


def _wanting(region: Region, leaves: list[Any], proof: Proof) -> list[Any]:
    """Outputs that want gradients on all workers alike, whatever is in their rows."""
    mine = [isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in leaves]
    if len(proof.wanting) != len(mine):
        wants = region.group.all_reduce("outputs that want gradients", torch.tensor(mine).int())
        proof.wanting = [bool(count) for count in wants.tolist()]
    if mine == proof.wanting:
        return leaves
    proof.wanting = [a or b for a, b in zip(mine, proof.wanting, strict=True)]
    return [
        Tied.apply(leaf, *region.ties) if wants and not wanted else leaf
        for leaf, wants, wanted in zip(leaves, proof.wanting, mine, strict=True)
    ]


def hand_out_computed(region: Region, modules: Sequence[nn.Module]) -> None:
    """What torch's own hooks computed of parameters: the script may make a penalty of it.

    Args:
        region: the call.
        modules: all that took part in it.
    """
    for part in modules:
        if not part._forward_pre_hooks:
            continue
        for name in computed_by_torch(part):
            value = vars(part).get(name)
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                vars(part)[name] = _left(region, value, None)


def _same_as(leaves: list[Any], returned: int) -> dict[int, int]:
    """Which of the leaves in attributes stand elsewhere, too, and where."""
    same: dict[int, int] = {}
    seen: dict[int, int] = {}
    for k, leaf in enumerate(leaves if returned < len(leaves) else ()):
        first = seen.setdefault(id(leaf), k)
        if first != k >= returned:
            same[k] = first
    return same


def _is_small(region: Region, leaf: Any, dim: Joint, *, asked_for: bool) -> bool:
    """Whether an output's rows are to be joined at once; the same answer on all workers.

    What is in an attribute may never be asked for, and stays behind a view where it can.
    """
    if not isinstance(leaf, torch.Tensor) or not isinstance(dim, int):
        return False
    stays = dim == 0 and leaf.shape[0] == region.rows.local
    return not stays or (asked_for and not _is_large(leaf, region.rows))


def _left(region: Region, leaf: Any, dim: Joint) -> Any:
    """An output of which no rows are joined."""
    if dim == COUNT:
        return region.rows.total
    if not isinstance(leaf, torch.Tensor):
        return leaf
    crossing: Any
    if dim is None:
        if not _has_graph(leaf):
            return leaf
        crossing = named_after(LeaveShare, leaf)
        return crossing.apply(region.group, leaf, *region.ties)
    if _has_graph(leaf) and region.ties:
        crossing = named_after(Tied, leaf)
        return BatchView(region.group, region.rows, crossing.apply(leaf, *region.ties))
    return BatchView(region.group, region.rows, leaf)


def _joined(region: Region, dim: int, whole: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """An output, gathered, with the graph of our rows of it."""
    if not _has_graph(part):
        return whole
    crossing: Any = named_after(Joined, part)
    joined: torch.Tensor = crossing.apply(
        region.group, region.rows, dim, [whole], part, *region.ties
    )
    return joined


def _has_graph(leaf: torch.Tensor) -> bool:
    return leaf.requires_grad and torch.is_grad_enabled()


def _is_large(leaf: torch.Tensor, rows: Rows) -> bool:
    """Whether joining an output is dear."""
    per_row = leaf.numel() // rows.local * leaf.element_size()
    return per_row * rows.total >= LARGE_BYTES
