"""The one weight array of a box, and each worker's hold on it.

[Note: standing still]
Within training passes a worker's tensors are views of the shared array, which everybody writes
without locks. Between passes they are views of a private copy, made when the pass ended: so an
evaluation, a checkpoint, an average of weights that is swapped in for a while see weights that
stand still, and what a follower's copy of the script does to its weights there (it loads *its*
best checkpoint, say) reaches nobody. What the leader's does is added to the shared array when it
enters the next pass: zero, most often; what it loaded, if it loaded something.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from pellucid.errors import LayoutError
from pellucid.params.flat import Memory, private_memory, views
from pellucid.params.layout import Layout
from pellucid.params.memory import WEIGHTS_BYTES
from pellucid.sync.hogwild.locks import Lock
from pellucid.sync.shared.dealer import Block

__all__ = ["BoxWeights", "Held"]

ENTRY: Final = 128  # of one block: its name (64 bytes), fingerprint (32), start and users (8 each)
ENTRIES: Final = 1 << 16
_COUNT, _END = 0, 1  # numbers in the header
_START, _USERS = 96, 104  # bytes in an entry; users are one bit a worker
_PINNED: Final = 1 << 62  # the bit of a user that is no worker
_HEADER_BYTES: Final = 4096
_BLOCKS_START: Final = _HEADER_BYTES + ENTRY * ENTRIES


@dataclass
class Held:
    """One block as this worker holds it."""

    block: Block
    shared: Memory
    start: int  # of its arrays in the memory
    private: Memory | None = None
    before: list[torch.Tensor] | None = None  # the private arrays when they were made


class BoxWeights:
    """Keeps the workers of one box on one weight array; see `Weights`.

    Args:
        fd: of memory made by `pellucid.params.memory.create`.
        index: of this worker.
        leads: whether this worker's doings are real, now: only then must it remember, at the cost
            of a further copy, what its weights were between passes.
    """

    def __init__(self, fd: int, index: int, leads: Callable[[], bool]) -> None:
        self._fd = fd
        self._bit = 1 << index
        self._lock = Lock(fd)
        self._leads = leads
        self._map = mmap.mmap(fd, WEIGHTS_BYTES)
        self._header = memoryview(self._map)[:_HEADER_BYTES].cast("q")
        self.held: list[Held] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(held.block.flat.layout.nbytes for held in self.held)

    def register(self, block: Block) -> None:
        """See `Weights.register`."""
        flat = block.flat
        off = next((a.device for a in flat.layout.arrays if a.device != "cpu"), None)
        if off is not None:
            msg = (
                f"{block.kind} lies on {off}: hogwild shares weights in the memory of processors. "
                f"Keep the model there (--device cpu), or use --mode exact"
            )
            raise LayoutError(msg)
        with self._lock:
            at = self._find(block)
            start = self._end() if at is None else self._number(at, _START)
            shared = self._memory(flat.layout, start)
            flat.bind(shared, keep=at is None)
            at = self._publish(block, start) if at is None else at
            self._set_number(at, _USERS, self._number(at, _USERS) | self._bit)
        self.held.append(Held(block, shared, start))

    @torch.no_grad()
    def enter(self, *, keep: bool) -> None:
        """See `Weights.enter`."""
        self._let_go()
        for held in self.held:
            flat = held.block.flat
            flat.mend()
            if keep and _is_changed(held):
                self._bring_changes(held)
            flat.bind(held.shared, keep=False)

    def _bring_changes(self, held: Held) -> None:
        """Bring what the script changed between passes to the shared arrays."""
        assert held.private is not None
        assert held.before is not None
        _add_changes(held.shared, held.private, held.before)

    @torch.no_grad()
    def leave(self) -> None:
        """See `Weights.leave`."""
        for held in self.held:
            flat = held.block.flat
            flat.mend()
            if held.private is None:
                held.private = private_memory(flat.layout)
            for mine, latest in zip(held.private.arrays, self._latest(held), strict=True):
                mine.copy_(latest)
            held.before = [a.clone() for a in held.private.arrays] if self._leads() else None
            flat.bind(held.private, keep=False)

    def _latest(self, held: Held) -> Sequence[torch.Tensor]:
        """What the script is to see of a block's arrays between passes."""
        return held.shared.arrays

    def pin(self, block: Block) -> None:
        """Keep a block's memory, also when no worker's script holds the model any more."""
        with self._lock:
            at = self._find(block)
            if at is not None:
                self._set_number(at, _USERS, self._number(at, _USERS) | _PINNED)

    def before_step(self, optimizer: Any) -> None:
        """Nothing: the optimizer writes the shared array."""

    def after_step(self, optimizer: Any) -> None:
        """Nothing."""

    # the directory of blocks; the lock is held

    def _entry(self, number: int) -> int:
        return _HEADER_BYTES + ENTRY * number

    def _find(self, block: Block) -> int | None:
        """The entry of a block, if somebody has it.

        Raises:
            LayoutError: another worker's block of this name is of another shape.
        """
        name = _key(block)
        print_ = bytes.fromhex(block.flat.layout.fingerprint())
        for number in range(self._header[_COUNT]):
            at = self._entry(number)
            if self._map[at : at + 64] != name:
                continue
            if self._map[at + 64 : at + 96] != print_:
                msg = (
                    f"{block.kind} has other tensors in this worker than in another: the workers' "
                    f"copies of the script built different models. Make them the same in all (no "
                    f"clock, no process id, no unseeded random number decides), or use --workers 1"
                )
                raise LayoutError(msg)
            return at
        return None

    def _publish(self, block: Block, start: int) -> int:
        number = self._header[_COUNT]
        at = self._entry(number)
        self._map[at : at + 64] = _key(block)
        self._map[at + 64 : at + 96] = bytes.fromhex(block.flat.layout.fingerprint())
        self._set_number(at, _START, start)
        self._header[_END] = start + _paged(block.flat.layout.nbytes)
        self._header[_COUNT] = number + 1  # last: until then, it is not there
        return at

    def _let_go(self) -> None:
        """Give back the memory of models that nobody holds any more."""
        gone = [held for held in self.held if not held.block.flat.alive]
        if not gone:
            return
        self.held = [held for held in self.held if held.block.flat.alive]
        with self._lock:
            for held in gone:
                at = self._find(held.block)
                if at is None:
                    continue
                users = self._number(at, _USERS) & ~self._bit
                self._set_number(at, _USERS, users)
                if not users:
                    self._map[at : at + 64] = bytes(64)
                    length = _paged(held.block.flat.layout.nbytes)
                    self._map.madvise(mmap.MADV_REMOVE, self._number(at, _START), length)

    def _number(self, at: int, field: int) -> int:
        return int.from_bytes(self._map[at + field : at + field + 8], "little")

    def _set_number(self, at: int, field: int, value: int) -> None:
        self._map[at + field : at + field + 8] = value.to_bytes(8, "little")

    def _end(self) -> int:
        return max(self._header[_END], _paged(_BLOCKS_START))

    def _memory(self, layout: Layout, start: int) -> Memory:
        starts = []
        for array in layout.arrays:
            starts.append(start)
            start += array.nbytes
        return views(layout, [self._map] * len(starts), starts)


def _key(block: Block) -> bytes:
    """64 bytes for a name of any length."""
    return hashlib.sha256(block.name.encode()).hexdigest().encode()


def _paged(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _is_changed(held: Held) -> bool:
    """Whether the script changed weights between passes, where that may count."""
    if held.private is None or held.before is None:
        return False
    arrays = zip(held.private.arrays, held.before, strict=True)
    return any(not torch.equal(mine, was) for mine, was in arrays)


def _add_changes(shared: Memory, private: Memory, before: list[torch.Tensor]) -> None:
    """Bring what the script changed between passes to the shared arrays."""
    for array, mine, was in zip(shared.arrays, private.arrays, before, strict=True):
        if torch.equal(mine, was):
            continue
        if array.is_floating_point() or array.is_complex():
            # where nobody else wrote meanwhile, the value itself: a sum would round it
            array.copy_(torch.where(array == was, mine, array + (mine - was)))
        else:
            array.copy_(torch.where(mine == was, array, mine))
