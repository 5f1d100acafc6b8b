"""A box's weights, as its node exchanges them with other boxes'.

The arrays lie in the memory that the workers of the box share. The node works on them whether or
not the first worker's script, in whose process it lives, has the model at the time.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.params.layout import Kind, Layout
from pellucid.params.memory import WEIGHTS_BYTES
from pellucid.sync.stream.blocks import ChunkKind
from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.mirror import Mirror
from pellucid.sync.stream.node import WAIT, Node, Wait

__all__ = ["ArrayFacts", "BlockFacts", "BoxExchange", "Exchange", "Stretch", "describe"]


class ArrayFacts(msgspec.Struct, frozen=True):
    """A float array of a block.

    Attributes:
        number: in its layout.
        start: the byte in the box's memory at which it begins.
        elements: its length.
        dtype: name of its dtype.
        chunk: elements of a chunk.
        trained: of each chunk, whether it is trained; otherwise it is only averaged.
    """

    number: int
    start: int
    elements: int
    dtype: str
    chunk: int
    trained: list[bool]

    def chunk_of(self, block: str, index: int) -> Stretch:
        """Where a chunk lies."""
        start = index * self.chunk
        return Stretch(block, self.number, start, min(start + self.chunk, self.elements))


class BlockFacts(msgspec.Struct, frozen=True):
    """What there is to know of a block of weights, to exchange it."""

    name: str
    fingerprint: str
    arrays: list[ArrayFacts]


class Stretch(NamedTuple):
    """Neighbouring elements of an array of a block."""

    block: str
    number: int
    start: int
    stop: int


def describe(name: str, layout: Layout, start: int) -> BlockFacts:
    """The facts of a block.

    Args:
        name: of the block.
        layout: its layout.
        start: the byte in the box's memory at which its first array begins.
    """
    arrays = []
    for number, array in enumerate(layout.arrays):
        if getattr(torch, array.dtype).is_floating_point:
            trained = [array.kind_of(chunk) is Kind.TRAINED for chunk in range(array.chunks)]
            arrays.append(
                ArrayFacts(number, start, array.elements, array.dtype, array.chunk, trained)
            )
        start += array.nbytes
    return BlockFacts(name, layout.fingerprint(), arrays)


class Exchange(Protocol):
    """What a worker's weights need of their box's exchange."""

    def add(self, facts: BlockFacts) -> None:
        """Exchange a block from now on; waits until it holds the cluster's weights."""

    def correct(self, blocks: Iterable[str] | None = None) -> object:
        """Bring what others have done into these blocks, or into all."""

    def change(self, block: str, apply: Callable[[], None]) -> None:
        """Let a block's weights be changed otherwise than by training: that counts whole."""

    def stride(self) -> float:
        """How many times as long an optimizer's step should be, for so many boxes."""


class BoxExchange:
    """The exchange, in the process of the box's first worker; see `Exchange`.

    Args:
        engine: of the box.
        fd: the box's memory.
        scales: whether steps are as many times as long as there are boxes.
    """

    def __init__(self, engine: Engine, fd: int, *, scales: bool = True) -> None:
        self._engine = engine
        self._scales = scales
        self._map = mmap.mmap(fd, WEIGHTS_BYTES)
        self._blocks: dict[str, list[_Exchanged]] = {}

    def add(self, facts: BlockFacts) -> None:
        """See `Exchange.add`."""
        with self._engine.node():  # one at a time
            mine = self._blocks.get(facts.name)
            if mine is None:
                mine = [_Exchanged(array, self._map) for array in facts.arrays]
                self._blocks[facts.name] = mine
        for one in mine:
            text = f"{facts.name}/{one.facts.number}/{facts.fingerprint}"
            one.join(self._engine, hashlib.sha256(text.encode()).hexdigest())

    def correct(self, blocks: Iterable[str] | None = None) -> list[Stretch]:
        """See `Exchange.correct`; returns what has changed."""
        changed = []
        for name in list(self._blocks) if blocks is None else blocks:
            for one in self._blocks[name]:
                with self._engine.node() as node:
                    if one.id is not None:
                        corrected = one.mirror.correct(functools.partial(node.correct, one.id))
                        changed += [one.facts.chunk_of(name, chunk) for _, chunk in corrected]
        return changed

    def change(self, block: str, apply: Callable[[], None]) -> None:
        """See `Exchange.change`."""
        with self._engine.node() as node:  # nothing is sent before it is known what is a change
            blocks = [one for one in self._blocks[block] if one.id is not None]
            before = [one.mirror.follow().copy() for one in blocks]
            apply()
            for one, was in zip(blocks, before, strict=True):
                if one.id is not None:
                    node.changed(one.id, one.mirror.follow() - was)

    def stride(self) -> float:
        """See `Exchange.stride`."""
        if not self._scales:
            return 1.0
        with self._engine.node() as node:
            return node.stride()

    def weights(self, block: str) -> dict[int, NDArray[np.float32]]:
        """The cluster's weights of a block as they are known here, by number of the array."""
        with self._engine.node() as node:
            return {
                one.facts.number: node.weights(one.id)
                for one in self._blocks[block]
                if one.id is not None
            }


class _Exchanged:
    """One array that the node exchanges."""

    def __init__(self, facts: ArrayFacts, memory: mmap.mmap) -> None:
        self.facts = facts
        self.id: int | None = None  # of the node's block
        dtype = getattr(torch, facts.dtype)
        self.mirror = Mirror(
            torch.frombuffer(memory, dtype=dtype, count=facts.elements, offset=facts.start)
        )

    def join(self, engine: Engine, fingerprint: str) -> None:
        """Take part with it, unless it does, and wait for the cluster's weights."""
        id_ = engine.ask(lambda node, now: self._enter(node, fingerprint, now))
        if engine.ask(lambda node, _: node.ready(id_) or WAIT):
            self.mirror.adopt()

    def _enter(self, node: Node, fingerprint: str, now: float) -> int | Wait:
        if self.id is None:
            number = node.next_block(fingerprint, now)
            if number is WAIT:
                return WAIT
            kinds = [
                ChunkKind.TRAINED if trained else ChunkKind.AVERAGED
                for trained in self.facts.trained
            ]
            node.add_block(number, fingerprint, self.mirror.values, self.facts.chunk, kinds)
            self.id = number
        return self.id
