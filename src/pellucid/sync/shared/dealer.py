"""The two protocols behind which an asynchronous mode does its work.

[Note: passes]
A *pass* is one iteration of the script over a loader, begun with gradients enabled and neither
within another pass nor beside one (see [Note: companions]). Every worker runs the whole script, so
all come by the same passes; a pass is known by the ordinal of its loader among the loaders, in the
order in which they were first iterated, and by its number among the passes over that loader.

Whoever opens a loader's first pass *tries* it: this worker gets all batches, the others wait. The
first change of weights proves it a training pass, which it is from the next batch on, for all. A
whole pass without a change proves that it trains nothing, and every worker iterates all of it by
itself. What one pass of a loader was, the next ones are taken for without a trial.

The batches of a training pass are dealt out one by one as *leases*: first come, first served. A
lease that its worker did not come to finish is dealt again.

A worker that comes late finds passes of which nothing is left. But scripts go on to use what a loop
leaves behind (the last loss, a count to divide by), so no pass is quite empty: a worker that got
nothing gets the pass's first batch to *rehearse* with, on weights that nobody else sees, and what
it made of them is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from pellucid.params.flat import FlatParameters

__all__ = ["Block", "Dealer", "Lease", "Opened", "PassKey", "Role", "Weights"]


class PassKey(NamedTuple):
    """Which pass; see [Note: passes]."""

    loader: int
    number: int


@dataclass(frozen=True)
class Lease:
    """One batch of a pass, for one worker."""

    key: PassKey
    index: int


class Role(Enum):
    """What a worker does with a pass that it opened; see [Note: passes]."""

    TRY = "try"  # it gets all batches and is to find out what the pass is
    TRAIN = "train"  # it gets those that it takes
    WHOLE = "whole"  # it iterates by itself, and is dealt nothing
    SPENT = "spent"  # nothing is left: it rehearses


@dataclass(frozen=True)
class Opened:
    """What came of opening a pass.

    Attributes:
        role: what this worker does with it.
        order: what the first opener deposited, the same for all; empty when the pass is spent.
    """

    role: Role
    order: bytes = b""


class Dealer(Protocol):
    """Deals out the batches of training passes. Called from the thread that trains only."""

    def open(
        self, key: PassKey, order: bytes, batches: int | None, *, trains: bool = False
    ) -> Opened:
        """Open a pass; waits while another worker tries it.

        Args:
            key: the pass.
            order: opaque; kept if this is the first worker to open it.
            batches: how many it has; None if that is not known before its end.
            trains: whether it is known to be a training pass, so that no trial is needed.
        """

    def decide(self, key: PassKey, *, trains: bool) -> None:
        """Tell what a pass was found to be: the one that is tried, or later, if one errs.

        A whole pass in which weights changed is decided again with ``trains``: that holds for
        passes of this loader opened after it.
        """

    def undecided(self, key: PassKey) -> None:
        """The script left a pass that was tried before anything was found out (as to peek at it).

        Others iterate this pass by themselves; the next pass of the loader is tried again.
        """

    def take(self, key: PassKey) -> Lease | None:
        """The next lease; None when all are dealt. Does not wait.

        Its key may name an earlier pass of the loader, if a dead worker left it undone.
        """

    def done(self, lease: Lease) -> None:
        """The script has done with a batch."""

    def ended(self, lease: Lease) -> None:
        """There is no such batch: the pass came to its end before it."""

    def finish(self, key: PassKey) -> Lease | None:
        """All are dealt, and this worker's are done: wait for the others.

        Returns:
            A lease that another worker will not come to finish; None when the pass is over.
        """

    def close(self, key: PassKey, undone: list[Lease]) -> None:
        """The script has left the pass, by its end or by ``break``.

        Args:
            key: the pass.
            undone: leases that were taken and never handed to the script; others may take them.
        """

    def progress(self, key: PassKey) -> int:
        """Batches of this loader dealt so far to all workers, in all passes."""


@dataclass(frozen=True)
class Block:
    """Tensors of a model that came into use together.

    Attributes:
        name: the same on all workers, for what is the same in the script.
        flat: the tensors.
        kind: of which module or optimizer they are, for messages.
    """

    name: str
    flat: FlatParameters
    kind: str = ""


class Weights(Protocol):
    """Keeps the weights of the workers together. Called from the thread that trains only."""

    def register(self, block: Block) -> None:
        """Take hold of a block, in a training pass, before its first training forward.

        The values of the first worker to do so win; those of later ones are overwritten with the
        current weights.

        Raises:
            LayoutError: the block is another than the same block of another worker.
        """

    def enter(self, *, keep: bool) -> None:
        """The script enters a training pass: from now on its weights are the shared ones.

        Args:
            keep: whether changes that the script made to its weights since `leave` count (for the
                leader, and for a worker that has just tried a pass); those of others are dropped.
        """

    def leave(self) -> None:
        """The script leaves a training pass: its weights stand still until it enters another."""

    def before_step(self, optimizer: Any) -> None:
        """An optimizer is about to step, in a training pass."""

    def after_step(self, optimizer: Any) -> None:
        """An optimizer has stepped, in a training pass."""
