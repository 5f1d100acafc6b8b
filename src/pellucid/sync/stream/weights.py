"""The weights of one box in the cluster: a box's shared array, which the node exchanges.

[Note: last look]
When the leader's script leaves a training pass it is about to evaluate, or to save. What it sees
then are the cluster's weights, the owners': it gives them its own deltas and collects everybody's
(it *settles*), for a while at most. If the network is too slow for that, it sees its own weights, in
which the others' progress is as new as the network brought it.
"""

from __future__ import annotations

import functools
import hashlib
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from pellucid.params.layout import Array, Kind
from pellucid.sync.hogwild.weights import BoxWeights, Held
from pellucid.sync.shared.dealer import Block
from pellucid.sync.stream.blocks import ChunkKind
from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.mirror import Mirror
from pellucid.sync.stream.node import WAIT

__all__ = ["ClusterWeights"]

LEAST_SECONDS: Final = 2.0  # the leader settles for so long, at most, ...
SHARE: Final = 0.1  # ... and this share of the time its pass took
ROUNDS: Final = 2  # the first gives our deltas; the others' are on their way at the same time
AVERAGES_LESS: Final = 0.5  # the gain of optimizers that scale by the gradient's size
SCALED: Final = ("Adam", "Adagrad", "Adadelta", "Rprop", "RMSprop", "Lamb", "Lion", "Adafactor")


@dataclass
class _Exchanged:
    """One array that the node exchanges."""

    id: int
    mirror: Mirror
    array: int  # its index in the layout


class ClusterWeights(BoxWeights):
    """Keeps the boxes' weights together; see `Weights`.

    Args:
        fd: memory for the box's weights.
        leads: whether this worker's doings are real, now.
        engine: of this box.
        tell: ``tell(event, text)`` says something to the user.
    """

    def __init__(
        self, fd: int, leads: Callable[[], bool], engine: Engine, tell: Callable[[str, str], None]
    ) -> None:
        super().__init__(fd, leads)
        self._engine = engine
        self._tell = tell
        self._exchanged: dict[str, list[_Exchanged]] = {}  # by block
        self._of_optimizer: weakref.WeakKeyDictionary[Any, tuple[int, list[str]]] = (
            weakref.WeakKeyDictionary()
        )
        self._entered = 0.0
        self._settled = False
        self._stepped = True  # since the script got its batch
        self._told_slow = False

    def register(self, block: Block) -> None:
        """See `Weights.register`; waits for the cluster's weights, if it has any."""
        super().register(block)
        held = self.held[-1]
        mine = self._exchanged[block.name] = []
        for number, array in enumerate(held.shared.layout.arrays):
            if held.shared.arrays[number].is_floating_point():
                mine.append(self._add(block, held, number, array))

    def _add(self, block: Block, held: Held, number: int, array: Array) -> _Exchanged:
        mirror = Mirror(held.shared.arrays[number])
        text = f"{block.name}/{number}/{block.flat.layout.fingerprint()}"
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        kinds = [
            ChunkKind.TRAINED if array.kind_of(chunk) is Kind.TRAINED else ChunkKind.AVERAGED
            for chunk in range(array.chunks)
        ]
        id_ = self._engine.ask(lambda node, _: node.next_block(fingerprint))
        with self._engine.node() as node:
            node.add_block(id_, fingerprint, mirror.values, array.chunk, kinds)
        self._engine.ask(lambda node, _: node.ready(id_) or WAIT)
        mirror.adopt()
        return _Exchanged(id_, mirror, number)

    def enter(self, *, keep: bool) -> None:
        """See `Weights.enter`."""
        super().enter(keep=keep)
        self._entered = time.monotonic()

    def leave(self) -> None:
        """See `Weights.leave` and [Note: last look]."""
        with self._engine.node() as node:
            node.settle()
        self._settled = self._leads() and self._settle()
        self._correct(list(self._exchanged))
        super().leave()

    def after_step(self, optimizer: Any) -> None:
        """What others have done meanwhile comes into the weights that were stepped."""
        self._stepped = True
        self._correct(self._blocks_of(optimizer))

    def before_batch(self) -> None:
        """The script is about to get a batch. If it steps by hand, that is a step's end, too."""
        if not self._stepped:
            self._correct(list(self._exchanged))
        self._stepped = False

    def _latest(self, held: Held) -> Sequence[torch.Tensor]:
        arrays = list(held.shared.arrays)
        if self._settled:
            for one in self._exchanged[held.block.name]:
                with self._engine.node() as node:
                    values = node.weights(one.id)
                arrays[one.array] = torch.from_numpy(values)
        return arrays

    def _settle(self) -> bool:
        """Collect the weights of all; whether that came to its end in time."""
        limit = LEAST_SECONDS + SHARE * (time.monotonic() - self._entered)
        until = time.monotonic() + limit
        for again in range(ROUNDS):
            if again:
                with self._engine.node() as node:
                    node.settle()
            left = until - time.monotonic()
            if not self._engine.wait_until(lambda node: node.settled, left):
                self._tell_slow(limit)
                return False
        return True

    def _tell_slow(self, limit: float) -> None:
        if not self._told_slow:
            self._told_slow = True
            self._tell(
                "notice",
                f"the weights of all boxes did not come together within {limit:.0f} seconds after "
                f"a pass: what is evaluated and saved now are this box's, with the others' "
                f"progress as far as the network has brought it",
            )

    def _correct(self, blocks: Sequence[str]) -> None:
        for name in blocks:
            for one in self._exchanged[name]:
                with self._engine.node() as node:
                    one.mirror.correct(functools.partial(node.correct, one.id))

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
            if any(kind in type(optimizer).__name__ for kind in SCALED):
                self._amplify(names)
        return names

    def _amplify(self, blocks: Sequence[str]) -> None:
        with self._engine.node() as node:
            for name in blocks:
                for one in self._exchanged[name]:
                    node.amplify(one.id, AVERAGES_LESS)
