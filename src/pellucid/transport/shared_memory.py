"""Exchange between the workers of one box, through memory they share.

[Note: mailboxes]
Every worker owns two *slots*, used in turn by the number of the exchange: it writes its part into
``slot[number % 2]``, raises ``Field.ARRIVED`` to that number, waits until every living worker has
arrived, and reads the others' slots. That is the whole barrier: a worker can only write into a
slot again two exchanges later, and by then everybody has arrived at the exchange in between, that
is, has finished reading. No lock, no system call, no socket.

[Note: arena]
Gradients go through an *arena* of their own, because a backward pass posts several buckets and
waits for them only at its end. Each worker has two halves, used in turn by the number of the
backward pass; ``Field.POSTED`` counts buckets. With few workers everybody adds up all parts by
itself, in worker order, so that all get the same bits with a single wait. With many, that would
read every part once a worker: then each reduces its own shard and reads the others'.

[Note: death]
Whether a dead worker's part of an exchange counts is decided by what it managed to publish:
``ARRIVED`` and ``POSTED`` stay in the board, so that all survivors decide alike. The launcher marks
a worker dead only when its process is certainly gone. Who is *living*, that is, who gets rows from
now on, is agreed: each part carries the epoch its writer saw, and all take the highest they read.

x86 keeps the order of stores; elsewhere the interpreter's own lock operations between a store to
a slot and the store to the board serve as the fence (see `_fence`).
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import platform
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from pellucid.errors import (
    DisputeError,
    DivergenceError,
    ExchangeError,
    ShapeError,
    StoppedError,
)
from pellucid.transport.board import Board, Field, Flag, State
from pellucid.transport.memory import HALF_BYTES, SLOT_BYTES, total_bytes

__all__ = ["Bucket", "Group", "joined", "row_bytes"]

HEADER_BYTES: Final = 64
HEADER_WORDS: Final = HEADER_BYTES // 8
ALIGN: Final = 64
# up to this many workers, reading all parts oneself is cheaper than a second wait
REDUCE_ALONE_WORKERS: Final = 3
SPIN: Final = 4000  # polls (about 0.1 us each) before giving the core away
NAP_AFTER: Final = 12000  # polls before sleeping between two polls
UNLIKE: Final = "the workers' parts of a batch have not the shape of their rows"
KEPT_CUTS: Final = 1024  # lists of tensors


# enum members cost a lookup by name: too slow for what takes microseconds
_STATE, _DEAD = int(Field.STATE), int(State.DEAD)
_ARRIVED, _POSTED, _REDUCED = int(Field.ARRIVED), int(Field.POSTED), int(Field.REDUCED)
_EXCHANGE_NS, _WAIT_NS = int(Field.EXCHANGE_NS), int(Field.WAIT_NS)
_OVERHEAD_NS, _BYTES = int(Field.OVERHEAD_NS), int(Field.BYTES)
_EPOCH = int(Flag.EPOCH)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def row_bytes(part: torch.Tensor, dim: int) -> int:
    """Bytes of one row, also where there is none."""
    if rows := part.shape[dim]:
        return part.nbytes // rows
    return math.prod(n for d, n in enumerate(part.shape) if d != dim) * part.element_size()


def joined(
    slices: Sequence[torch.Tensor], like: torch.Tensor, sizes: Sequence[int], dim: int
) -> torch.Tensor:
    """Join slices along a dimension, into a fresh tensor on the CPU.

    If they are not alike, each worker that joins them finds one that has other rows than its own.

    Args:
        slices: their bytes, as `Group.swap` hands them out.
        like: one of them, for its type and the other dimensions.
        sizes: of all slices along that dimension; those of none have no bytes here.
        dim: the dimension.

    Raises:
        ShapeError: one has other rows than `like`.
    """
    own = [size for size in sizes if size]
    row = row_bytes(like, dim)
    if any(len(piece) != size * row for piece, size in zip(slices, own, strict=True)):
        raise ShapeError(UNLIKE)
    shape = list(like.shape)
    if dim == 0:  # they lie one behind the other
        shape[0] = sum(sizes)
        # through tensors it would take several times as long, and be a view of another one
        whole = torch.empty(shape, dtype=like.dtype, device="cpu")
        at = whole.data_ptr()
        for piece in slices:
            ctypes.memmove(at, piece.data_ptr(), len(piece))
            at += len(piece)
        return whole
    shaped = []
    for piece, size in zip(slices, own, strict=True):
        shape[dim] = size
        shaped.append(piece.view(like.dtype).view(shape))
    return torch.cat(shaped, dim)


if platform.machine() in ("x86_64", "AMD64"):

    def _fence() -> None:
        """Stores are ordered by the processor."""
else:
    _lock = threading.Lock()

    def _fence() -> None:
        """Release, acquire: a full fence on processors that reorder stores."""
        with _lock:
            pass
        with _lock:
            pass


@dataclass
class Bucket:
    """One posted bucket of gradients on its way."""

    number: int
    half: int
    start: int  # offset in bytes within a half
    length: int  # values
    dtype: torch.dtype
    shapes: tuple[torch.Size, ...]  # of the tensors in it, one behind the other

    def cut(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Tensors of its shapes, over the memory of a flat one."""
        pieces = flat.split_with_sizes([shape.numel() for shape in self.shapes])
        # a view would refuse what scripts do with .grad, such as detach_()
        shaped = zip(pieces, self.shapes, strict=True)
        return [piece.view(shape).detach() for piece, shape in shaped]


class Group:
    """The workers of one box as one of them sees them.

    Args:
        fd: memory made by `pellucid.transport.memory.create`.
        board: the box's board.
        index: which worker this is.
    """

    def __init__(self, fd: int, board: Board, index: int) -> None:
        self.board = board
        self.index = index
        self.workers = board.workers
        self.living = list(range(self.workers))
        self.on_change: Callable[[], None] = lambda: None  # called when somebody has died
        self._epoch = 0
        self._map = mmap.mmap(fd, total_bytes(self.workers))
        # one flat uint8 tensor over everything; slices of it cost no copy
        memory = torch.frombuffer(self._map, dtype=torch.uint8)
        slots = memory[: self.workers * 2 * SLOT_BYTES]
        self._slots = [
            [slots[(2 * w + s) * SLOT_BYTES :][:SLOT_BYTES] for s in range(2)]
            for w in range(self.workers)
        ]
        arena = memory[self.workers * 2 * SLOT_BYTES :]
        self._halves = [
            [arena[(2 * w + h) * HALF_BYTES :][:HALF_BYTES] for h in range(2)]
            for w in range(self.workers)
        ]
        # the same as whole numbers
        words = memoryview(self._map)[self.workers * 2 * SLOT_BYTES :]
        self._words = [
            [words[(2 * w + h) * HALF_BYTES :][:HALF_BYTES].cast("q") for h in range(2)]
            for w in range(self.workers)
        ]
        self._result = arena[self.workers * 2 * HALF_BYTES :][:HALF_BYTES]
        # plain integers of a memoryview: several times faster to get at than an array's
        words = memoryview(self._map)
        self._headers = [
            [words[(2 * w + s) * SLOT_BYTES :][:SLOT_BYTES].cast("q") for s in range(2)]
            for w in range(self.workers)
        ]
        self._flags = board.flags
        self._rows = board.fields
        self._mine = self._rows[index]
        self._spent = 0  # nanoseconds of exchanging and waiting
        self._number = 0
        self._claimed, self._dispute = 0, ""
        self._posted = 0
        self._pass = 0
        self._filled = 0
        self._unreduced: list[Bucket] = []
        # where the tensors of buckets lie, by worker and bucket: cutting takes longer than adding
        self._cuts: dict[Any, list[torch.Tensor]] = {}
        self._kinds: dict[str, int] = {}
        cores = len(os.sched_getaffinity(0))
        self._spin = SPIN if cores >= self.workers else 50

    # exchanges through mailboxes

    def swap(self, kind: str, parts: Sequence[torch.Tensor]) -> dict[int, list[torch.Tensor]]:
        """Hand everybody these tensors, get everybody's.

        Args:
            kind: what the exchange is for; all workers must name the same.
            parts: any tensors; together at most `SLOT_BYTES`.

        Returns:
            For each worker that took part, one flat uint8 tensor a part. They lie in shared
            memory and are valid until the next but one exchange: copy what is to stay.

        Raises:
            DivergenceError: the workers are at different exchanges.
            StoppedError: the run is being stopped.
        """
        began = time.perf_counter_ns()
        number = self._number = self._number + 1
        slot = number & 1
        mine = self._slots[self.index][slot]
        header = self._headers[self.index][slot]
        at = HEADER_BYTES + 8 * len(parts)
        at = _aligned(at)
        lengths = []
        for part in parts:
            size = part.numel() * part.element_size()
            if at + size > SLOT_BYTES:
                msg = f"exchange {kind!r} of {at + size} bytes does not fit a slot of {SLOT_BYTES}"
                raise ExchangeError(msg)
            if size:
                mine[at : at + size].view(part.dtype).view(part.shape).copy_(part)
            lengths.append(size)
            at = _aligned(at + size)
        for place, length in enumerate(lengths, HEADER_WORDS):
            header[place] = length
        header[0] = self._code(kind)
        header[1] = len(parts)
        header[2] = self._flags[_EPOCH]
        header[3] = self._claimed
        _fence()
        self._mine[_ARRIVED] = number
        waited = self._wait(_ARRIVED, number, kind)
        taken = self._read(slot, number, kind)
        self._note(began, waited, at)
        return taken

    def claim(self, value: int, dispute: str) -> None:
        """Say something that must be so for all workers; the next exchange tells whether it is.

        Args:
            value: 64 bits, signed.
            dispute: what the error says if another worker claims another value.
        """
        self._claimed, self._dispute = value, dispute

    def _read(self, slot: int, number: int, kind: str) -> dict[int, list[torch.Tensor]]:
        code = self._code(kind)
        taken = {}
        epoch = self._epoch
        for worker in range(self.workers):
            if self._rows[worker][_ARRIVED] < number:
                continue  # dead: its part is missing
            header = self._headers[worker][slot]
            if header[0] != code:
                raise DivergenceError(self._divergence(kind, worker, header[0]))
            if header[3] != self._claimed:
                raise DisputeError(self._dispute)
            epoch = max(epoch, header[2])
            memory = self._slots[worker][slot]
            count = header[1]
            at = _aligned(HEADER_BYTES + 8 * count)
            parts = []
            for length in header[HEADER_WORDS : HEADER_WORDS + count].tolist():
                parts.append(memory[at : at + length])
                at = _aligned(at + length)
            taken[worker] = parts
        if epoch != self._epoch:
            self._agree(epoch)
        return taken

    def _agree(self, epoch: int) -> None:
        """From now on, the living are those who had not died in this epoch."""
        self._epoch = epoch
        died = [row[Field.DIED] for row in self._rows]
        self.living = [w for w in range(self.workers) if not 0 < died[w] <= epoch]
        self.on_change()

    def gather(
        self,
        kind: str,
        parts: Sequence[torch.Tensor],
        rows: Sequence[Sequence[int]],
        dims: Sequence[int],
    ) -> list[torch.Tensor]:
        """Join everybody's slices into whole tensors.

        Args:
            kind: what the exchange is for.
            parts: this worker's slices.
            rows: for each part, the size of each worker's slice along the part's dim.
            dims: for each part, the dimension along which it is sliced.

        Returns:
            The whole tensors, on the parts' devices. A dead worker's rows are zeros.

        Raises:
            ShapeError: the rows are not alike on all workers; raised on all.
        """
        longest = zip(parts, rows, dims, strict=True)
        # by the longest slices, so that all workers decide alike
        if sum(_aligned(max(r) * row_bytes(p, d)) for p, r, d in longest) + 4096 > SLOT_BYTES:
            return [
                self._gather_large(kind, p, r, d) for p, r, d in zip(parts, rows, dims, strict=True)
            ]
        taken = self.swap(kind, parts)
        wholes = []
        for k, (part, sizes, dim) in enumerate(zip(parts, rows, dims, strict=True)):
            slices = []
            for worker, size in enumerate(sizes):
                if size == 0:
                    continue
                if worker in taken:
                    slices.append(taken[worker][k])
                else:
                    lost = size * row_bytes(part, dim)
                    slices.append(torch.zeros(lost, dtype=torch.uint8, device="cpu"))
            wholes.append(joined(slices, part, sizes, dim).to(part.device))
        return wholes

    def _gather_large(
        self, kind: str, part: torch.Tensor, sizes: Sequence[int], dim: int
    ) -> torch.Tensor:
        """Gather a tensor that does not fit a slot, piece by piece."""
        local = part.detach().movedim(dim, 0).reshape(-1)
        row = row_bytes(part, dim) // part.element_size()
        shape = list(part.movedim(dim, 0).shape)
        shape[0] = sum(sizes)
        whole = torch.zeros(shape, dtype=part.dtype, device=part.device).reshape(-1)
        starts = [sum(sizes[:w]) * row for w in range(len(sizes))]
        piece = (SLOT_BYTES - 4096) // part.element_size()
        for at in range(0, max(sizes) * row, piece):
            taken = self.swap(kind, [local[at : at + piece]])
            for worker, (data,) in taken.items():
                values = data.view(part.dtype)
                whole[starts[worker] + at :][: values.numel()].copy_(values)
        return whole.view(shape).movedim(0, dim).contiguous()

    def all_reduce(self, kind: str, part: torch.Tensor) -> torch.Tensor:
        """Sum over workers, the same bits for all; for small tensors (statistics, loss sums)."""
        if part.numel() * part.element_size() + 4096 > SLOT_BYTES:
            flat = part.detach().reshape(-1)
            piece = (SLOT_BYTES - 4096) // part.element_size()
            pieces = [self.all_reduce(kind, p) for p in flat.split(piece)]
            return torch.cat(pieces).view(part.shape)
        taken = self.swap(kind, [part])
        parts = [data[0].view(part.dtype) for data in taken.values()]
        total = parts[0].clone()
        for other in parts[1:]:
            total.add_(other)
        return total.view(part.shape).to(part.device)

    def broadcast(self, kind: str, value: torch.Tensor, source: int) -> torch.Tensor:
        """The source worker's tensor, of the same shape and dtype everywhere."""
        flat = value.detach().reshape(-1)
        piece = (SLOT_BYTES - 4096) // max(value.element_size(), 1)
        got = []
        for part in flat.split(piece) if flat.numel() else []:
            taken = self.swap(kind, [part] if self.index == source else [])
            if source not in taken:
                msg = f"worker {source} died while the others were waiting for its {kind}"
                raise ExchangeError(msg)
            got.append(taken[source][0].view(value.dtype).clone())
        return torch.cat(got).view(value.shape).to(value.device) if got else value

    # gradients through the arena

    def post(self, values: Sequence[torch.Tensor], *, empty: bool = False) -> Bucket:
        """Put a bucket of this worker's partial gradients where the others can read it.

        Args:
            values: tensors of one dtype; they travel as one flat array.
            empty: there is nothing to add; the values only tell the shapes.
        """
        began = time.perf_counter_ns()
        dtype = values[0].dtype
        length = sum(v.numel() for v in values)
        size = length * values[0].element_size()
        start = self._filled + ALIGN  # behind a word that tells whether anything is there
        if start + size > HALF_BYTES:
            msg = f"gradients of over {HALF_BYTES >> 30} GiB in one backward do not fit the arena"
            raise ExchangeError(msg)
        half = self._halves[self.index][self._pass & 1]
        self._words[self.index][self._pass & 1][self._filled // 8] = not empty
        flat = half[start : start + size].view(dtype)
        if empty:
            pass
        elif values[0].is_cuda:
            flat.copy_(torch.cat([v.reshape(-1) for v in values]))
        else:
            torch.cat([v.reshape(-1) for v in values], out=flat)
        self._posted += 1
        shapes = tuple(v.shape for v in values)
        bucket = Bucket(self._posted, self._pass & 1, start, length, dtype, shapes)
        self._unreduced.append(bucket)
        self._filled = _aligned(start + size)
        _fence()
        self._mine[_POSTED] = self._posted
        self._note(began, 0, size)
        return bucket

    def collect(self, buckets: Sequence[Bucket]) -> list[list[torch.Tensor]]:
        """Wait for everybody's part of these buckets and return the sums of their tensors.

        The sums are fresh CPU tensors: they may be kept and written to; not so those of a bucket
        that was empty everywhere, which are zeros.
        """
        began = time.perf_counter_ns()
        waited = 0
        sharded = len(self.living) > REDUCE_ALONE_WORKERS
        if sharded:
            # in the order of posting, whatever is asked for first: ``REDUCED`` only counts up
            while self._unreduced and self._unreduced[0].number <= max(b.number for b in buckets):
                bucket = self._unreduced.pop(0)
                waited += self._wait(_POSTED, bucket.number, "gradients")
                self._reduce_shard(bucket)
                _fence()
                self._mine[_REDUCED] = bucket.number
        sums = []
        for bucket in buckets:
            column = _REDUCED if sharded else _POSTED
            waited += self._wait(column, bucket.number, "gradients")
            sums.append(bucket.cut(self._collect(bucket)) if sharded else self._add(bucket))
        self._note(began, waited)
        return sums

    def end_pass(self) -> None:
        """All buckets of a backward pass are collected: the next one uses the other half."""
        self._pass += 1
        self._filled = 0
        self._unreduced.clear()

    def _posters(self, bucket: Bucket) -> list[int]:
        """Workers whose part of a bucket counts, and is not empty, in order."""
        word = (bucket.start - ALIGN) // 8
        return [
            w
            for w in range(self.workers)
            if self._rows[w][_POSTED] >= bucket.number and self._words[w][bucket.half][word]
        ]

    def _part(self, bucket: Bucket, worker: int) -> torch.Tensor:
        """A worker's part of a bucket, flat, where it wrote it."""
        size = bucket.length * bucket.dtype.itemsize
        half = self._halves[worker][bucket.half]
        return half[bucket.start : bucket.start + size].view(bucket.dtype)

    def _add(self, bucket: Bucket) -> list[torch.Tensor]:
        """The sums of a bucket's tensors, in the order of workers."""
        parts = [self._cut(bucket, worker) for worker in self._posters(bucket)]
        if not parts:
            return [torch.zeros(1, dtype=bucket.dtype).expand(shape) for shape in bucket.shapes]
        first, *others = parts
        if not others:
            return [part.clone() for part in first]
        total = list(torch._foreach_add(first, others[0]))
        for part in others[1:]:
            torch._foreach_add_(total, part)
        return total

    def _cut(self, bucket: Bucket, worker: int) -> list[torch.Tensor]:
        """A worker's part of a bucket's tensors, where it wrote them."""
        place = (worker, bucket.half, bucket.start, bucket.dtype, bucket.shapes)
        cut = self._cuts.get(place)
        if cut is None:
            if len(self._cuts) >= KEPT_CUTS:  # of a model whose gradients come in ever new shapes
                self._cuts.clear()
            cut = self._cuts[place] = bucket.cut(self._part(bucket, worker))
        return cut

    def _reduce(self, bucket: Bucket, start: int, stop: int, out: torch.Tensor) -> None:
        """Add up some of a bucket's values, in the order of workers."""
        parts = [self._part(bucket, w)[start:stop] for w in self._posters(bucket)]
        if not parts:
            out.zero_()
            return
        first, *others = parts
        if not others:
            out.copy_(first)
            return
        torch.add(first, others[0], out=out)
        for part in others[1:]:
            out.add_(part)

    def _shard(self, bucket: Bucket, worker: int) -> tuple[int, int]:
        each = -(-bucket.length // self.workers)
        each = -(-each // 16) * 16  # whole cache lines
        return min(worker * each, bucket.length), min((worker + 1) * each, bucket.length)

    def _result_of(self, bucket: Bucket) -> torch.Tensor:
        size = bucket.length * bucket.dtype.itemsize
        return self._result[bucket.start : bucket.start + size].view(bucket.dtype)

    def _reduce_shard(self, bucket: Bucket) -> None:
        start, stop = self._shard(bucket, self.index)
        if stop > start:
            self._reduce(bucket, start, stop, out=self._result_of(bucket)[start:stop])

    def _collect(self, bucket: Bucket) -> torch.Tensor:
        total = self._result_of(bucket).clone()
        for worker in range(self.workers):
            if self._rows[worker][_REDUCED] < bucket.number:  # died before its shard
                start, stop = self._shard(bucket, worker)
                if stop > start:
                    self._reduce(bucket, start, stop, out=total[start:stop])
        return total

    # waiting

    def _wait(self, column: int, number: int, kind: str) -> int:
        """Wait until every living worker's column reached the number; return nanoseconds."""
        began = 0
        polls = 0
        for worker in self.living:
            row = self._rows[worker]
            while row[column] < number:
                if not polls:
                    began = time.perf_counter_ns()
                polls += 1
                if polls > self._spin:
                    if polls % 64 == 0:
                        self._look_up(kind, worker, column, number)
                    if polls > NAP_AFTER:
                        time.sleep(0.0001)
                    else:
                        os.sched_yield()
                    if row[_STATE] == _DEAD:
                        break
        return time.perf_counter_ns() - began if polls else 0

    def _look_up(self, kind: str, worker: int, column: int, number: int) -> None:
        """What a waiting worker looks at now and then."""
        if column != _ARRIVED and self._is_beyond(worker, column, number):
            msg = (
                f"worker {self.index} is waiting for the {kind} of worker {worker}, which is at an "
                f"exchange beyond: their copies of the script took different paths, or an error "
                f"was raised in one of them only, and caught"
            )
            raise DivergenceError(msg)
        if self.board.flags[Flag.STOP]:
            msg = f"the run is being stopped; worker {self.index} was waiting for {worker} ({kind})"
            raise StoppedError(msg)

    def _is_beyond(self, worker: int, column: int, number: int) -> bool:
        """Whether a worker is at a later exchange, and has left out what is awaited here."""
        row = self._rows[worker]
        if row[_ARRIVED] <= self._number:
            return False
        _fence()  # it may have come here and gone on since this was looked at last
        return row[column] < number

    def own_time(self) -> int:
        """A clock in nanoseconds that stands still while this worker exchanges or waits."""
        return time.perf_counter_ns() - self._spent

    def note_overhead(self, nanoseconds: int) -> None:
        """Time that the script alone would not have spent, exchanges and waiting left out."""
        self._mine[_OVERHEAD_NS] += nanoseconds

    def spent_beside(self) -> int:
        """Nanoseconds so far that the script alone would not have spent: all that is noted."""
        mine = self._mine
        return int(mine[_EXCHANGE_NS] + mine[_WAIT_NS] + mine[_OVERHEAD_NS])

    def _note(self, began: int, waited: int, nbytes: int = 0) -> None:
        """An exchange is over: of the time since it began, so much was waiting."""
        spent = time.perf_counter_ns() - began
        self._spent += spent
        mine = self._mine
        mine[_WAIT_NS] += waited
        mine[_EXCHANGE_NS] += spent - waited
        mine[_BYTES] += nbytes

    def _code(self, kind: str) -> int:
        code = self._kinds.get(kind)
        if code is None:
            code = self._kinds[kind] = zlib.crc32(kind.encode())
        return code

    def _divergence(self, kind: str, worker: int, code: int) -> str:
        names = {c: k for k, c in self._kinds.items()}
        theirs = names.get(code, "another exchange")
        return (
            f"worker {self.index} is at {kind!r} while worker {worker} is at {theirs!r}: "
            f"their copies of the script took different paths"
        )

    def statistics(self) -> dict[str, Any]:
        """Counters of this worker so far."""
        return {field.name.lower(): int(self._mine[field]) for field in Field}
