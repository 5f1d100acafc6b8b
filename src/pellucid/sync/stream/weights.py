"""The weights of one worker whose box exchanges them with other boxes.

[Note: last look]
When the leader's script leaves a training pass it is about to evaluate, or to save. What it sees
then are the cluster's weights, the owners': it gives them its own deltas and collects everybody's
(it *settles*), for a while at most. If the network is too slow for that, it sees its own weights,
in which the others' progress is as new as the network brought it.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import torch

from pellucid.sync.hogwild.weights import BoxWeights, Held
from pellucid.sync.shared.dealer import Block
from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.exchange import BoxExchange, Exchange, describe
from pellucid.sync.stream.patience import patience

__all__ = ["ClusterWeights", "LastLook", "Settling"]

ROUNDS: Final = 2  # the first gives our deltas; the others' are on their way at the same time
# their rate is no factor of their step
UNSCALED: Final = ("LBFGS", "Rprop")
STRIDE_STEPS: Final = 16  # it changes slowly, and other workers have to ask the first one for it


class LastLook(Protocol):
    """The cluster's weights for a last look; see [Note: last look]."""

    def enter(self) -> None:
        """A pass begins."""

    def leave(self, *, look: bool) -> None:
        """A pass ends.

        Args:
            look: whether somebody will look at the weights: then wait for them, for a while.
        """

    def weights(self, block: str) -> dict[int, torch.Tensor]:
        """What to look at, by number of the array; empty if it did not come together in time."""


class Settling:
    """The cluster's weights for a last look; see `LastLook`.

    Args:
        engine: of the box.
        exchange: of the box.
        tell: ``tell(event, text)`` says something to the user.
    """

    def __init__(
        self, engine: Engine, exchange: BoxExchange, tell: Callable[[str, str], None]
    ) -> None:
        self._engine = engine
        self._exchange = exchange
        self._tell = tell
        self._told = False
        self._began = 0.0
        self.done = False

    def enter(self) -> None:
        """See `LastLook.enter`."""
        self._began = time.monotonic()

    def leave(self, *, look: bool) -> None:
        """See `LastLook.leave`."""
        self.done = False
        with self._engine.node() as node:
            node.settle()
        if look:
            limit = patience(time.monotonic() - self._began)
            self.done = self._wait(limit)
            if not self.done:
                self._tell_slow(limit)

    def weights(self, block: str) -> dict[int, torch.Tensor]:
        """See `LastLook.weights`."""
        if not self.done:
            return {}
        return {
            number: torch.from_numpy(values)
            for number, values in self._exchange.weights(block).items()
        }

    def _wait(self, limit: float) -> bool:
        until = time.monotonic() + limit
        for again in range(ROUNDS):
            if again:
                with self._engine.node() as node:
                    node.settle()
            if not self._engine.wait_until(lambda node: node.settled, until - time.monotonic()):
                return False
        return True

    def _tell_slow(self, limit: float) -> None:
        if not self._told:
            self._told = True
            self._tell(
                "notice",
                f"the weights of all boxes did not come together within {limit:.0f} seconds after "
                f"a pass: what is evaluated and saved now are this box's, with the others' "
                f"progress as far as the network has brought it",
            )


class ClusterWeights(BoxWeights):
    """Keeps a box's workers on one array, and that in step with other boxes'; see `Weights`.

    Args:
        fd: memory for the box's weights.
        index: of this worker.
        leads: whether this worker's doings are real, now.
        exchange: of the box.
        settling: in the box's first worker only, who may lead.
    """

    def __init__(
        self,
        fd: int,
        index: int,
        leads: Callable[[], bool],
        exchange: Exchange,
        settling: LastLook | None = None,
    ) -> None:
        super().__init__(fd, index, leads)
        self._exchange = exchange
        self._settling = settling
        self._of_optimizer: weakref.WeakKeyDictionary[Any, tuple[int, list[str]]] = (
            weakref.WeakKeyDictionary()
        )
        self._steps = 0
        self._stride = 1.0  # how many times as long steps are
        self._stepped = True  # since the script got its batch
        self._rates: list[tuple[dict[str, Any], Any]] = []  # while an optimizer steps: its own

    def register(self, block: Block) -> None:
        """See `Weights.register`; waits for the cluster's weights, if it has any."""
        super().register(block)
        self.pin(block)
        self._exchange.add(describe(block.name, block.flat.layout, self.held[-1].start))

    def enter(self, *, keep: bool) -> None:
        """See `Weights.enter`."""
        super().enter(keep=keep)
        if self._settling is not None:
            self._settling.enter()

    def _bring_changes(self, held: Held) -> None:
        """What the leader changes is what all are to go on with: it is not one box's share."""
        bring = super()._bring_changes
        self._exchange.change(held.block.name, lambda: bring(held))

    def leave(self) -> None:
        """See `Weights.leave` and [Note: last look]."""
        if self._settling is not None:
            self._settling.leave(look=self._leads())
            self._exchange.correct()
        super().leave()

    def before_step(self, optimizer: Any) -> None:
        """Steps are longer the more boxes there are: see docs/design/0007-stream.md."""
        self._give_back_rates()
        if self._steps % STRIDE_STEPS == 0:
            self._stride = self._exchange.stride()
        self._steps += 1
        stride = self._stride
        if stride != 1.0 and not type(optimizer).__name__.startswith(UNSCALED):
            groups = [group for group in optimizer.param_groups if "lr" in group]
            self._rates = [(group, group["lr"]) for group in groups]
            for group in groups:
                group["lr"] = group["lr"] * stride

    def _give_back_rates(self) -> None:
        for group, rate in self._rates:
            group["lr"] = rate
        self._rates = []

    def after_step(self, optimizer: Any) -> None:
        """What others have done meanwhile comes into the weights that were stepped."""
        self._give_back_rates()
        self._stepped = True
        self._exchange.correct(self._blocks_of(optimizer))

    def before_batch(self) -> None:
        """The script is about to get a batch. If it steps by hand, that is a step's end, too."""
        if not self._stepped:
            self._exchange.correct()
        self._stepped = False

    def _latest(self, held: Held) -> Sequence[torch.Tensor]:
        arrays = list(held.shared.arrays)
        if self._settling is not None:
            for number, values in self._settling.weights(held.block.name).items():
                arrays[number] = values
        return arrays

    def _blocks_of(self, optimizer: Any) -> list[str]:
        """The blocks that hold parameters of an optimizer."""
        count, names = self._of_optimizer.get(optimizer, (0, []))
        if count != len(self.held):
            stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
            names = [
                held.block.name
                for held in self.held
                if any(id(t) in stepped for t in held.block.flat.tensors())
            ]
            self._of_optimizer[optimizer] = (len(self.held), names)
        return names
