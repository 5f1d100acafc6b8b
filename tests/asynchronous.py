"""One worker's asynchronous mode in this process, without other workers, files or processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim import optimizer as optimizers

from pellucid.intercept.callers import script_frames
from pellucid.intercept.functions import patch_functions
from pellucid.intercept.loaders import patch_loaders
from pellucid.intercept.modules import patch_modules
from pellucid.intercept.patch import Patches
from pellucid.params.flat import Memory, private_memory
from pellucid.sync.shared.dealer import Block, Dealer
from pellucid.sync.shared.mode import AsynchronousMode
from pellucid.sync.shared.part import Part
from pellucid.transport.board import Field

__all__ = ["Side", "side"]


class OwnWeights:
    """Weights that one worker keeps to itself, noting what it is asked."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.blocks: list[Block] = []
        self._within: dict[int, Memory] = {}

    def register(self, block: Block) -> None:
        self.log.append(f"register {block.name}")
        self.blocks.append(block)
        block.flat.bind(private_memory(block.flat.layout), keep=True)

    def enter(self, *, keep: bool) -> None:
        self.log.append("enter and keep" if keep else "enter")

    def leave(self) -> None:
        self.log.append("leave")

    def before_step(self, optimizer: Any) -> None:  # noqa: ARG002
        self.log.append("before step")

    def after_step(self, optimizer: Any) -> None:  # noqa: ARG002
        self.log.append("after step")


class Side:
    """A worker, what it said, and what it was asked for."""

    def __init__(self, dealer: Dealer, number: int) -> None:
        self.weights = OwnWeights()
        self.said: list[str] = []
        self.begun = 0
        part = Part(
            number=number,
            seed=7,
            leads=lambda: number == 0,
            begin=self._begin,
            tell=lambda _, text: self.said.append(text),
            frames=script_frames,
        )
        self.mode = AsynchronousMode(
            part, dealer, self.weights, memoryview(bytearray(8 * len(Field))).cast("q")
        )

    def _begin(self) -> None:
        self.begun += 1


@contextmanager
def side(dealer: Dealer, number: int = 0) -> Iterator[Side]:
    """The seams of torch are this worker's meanwhile."""
    made, patches = Side(dealer, number), Patches()
    patch_loaders(patches, made.mode.iterate)
    patch_modules(patches, made.mode.call)
    patch_functions(patches, made.mode.seams())
    hooks = [
        optimizers.register_optimizer_step_pre_hook(made.mode.before_step),
        optimizers.register_optimizer_step_post_hook(made.mode.after_step),
    ]
    try:
        yield made
    finally:
        made.mode.close()
        for hook in hooks:
            hook.remove()
        patches.undo()
