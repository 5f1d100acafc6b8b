"""Exchange between workers that have a GPU each: large tensors by NCCL, all else as on one box.

What lies on a GPU and is large travels from GPU to GPU; small and host values keep going through
shared memory, which is quicker for them. Every collective is preceded by an empty exchange through
shared memory: it finds out who is there and that all mean the same, so that the library, which can
only hang, is entered together or not at all.

If a worker dies in the middle of a collective, its result is void for all: the survivors agree on
that, leave the library for good, and go on through shared memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from pellucid.transport.board import Board, Field, State
from pellucid.transport.shared_memory import Bucket, Group, row_bytes

__all__ = ["CollectiveGroup", "nccl"]

# below, the way through host memory is quicker than starting a collective
LARGE_BYTES: Final = 64 << 10
TIMEOUT: Final = timedelta(days=1)  # deaths are our business, not the library's


def nccl(run_dir: str, index: int, workers: int) -> Any:
    """A process group over NCCL, apart from torch.distributed's global one, which is the script's.

    Args:
        run_dir: folder that all workers of the run share.
        index: of this worker.
        workers: how many there are.
    """
    store = FileStore(str(Path(run_dir) / "collective"), workers)
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = TIMEOUT
    return dist.ProcessGroupNCCL(store, index, workers, options)


class CollectiveGroup(Group):
    """Workers of one box with a GPU each.

    Args:
        fd: memory made by `pellucid.transport.memory.create`.
        board: the box's board.
        index: which worker this is.
        connect: makes the process group, on first use; all workers call it together.
        takes: whether a tensor lies where the process group moves it from.
    """

    def __init__(
        self,
        fd: int,
        board: Board,
        index: int,
        connect: Callable[[], Any],
        takes: Callable[[torch.Tensor], bool] = lambda tensor: tensor.is_cuda,
    ) -> None:
        super().__init__(fd, board, index)
        self._connect = connect
        self._takes = takes
        self._library: Any = None
        self._void = False
        self._flying: dict[int, tuple[Any, torch.Tensor, list[torch.Tensor]]] = {}

    def gather(
        self,
        kind: str,
        parts: Sequence[torch.Tensor],
        rows: Sequence[Sequence[int]],
        dims: Sequence[int],
    ) -> list[torch.Tensor]:
        """Join everybody's slices into whole tensors; see `Group.gather`."""
        # by the longest slices, so that all workers decide alike
        sizes = (max(r) * row_bytes(p, d) for p, r, d in zip(parts, rows, dims, strict=True))
        size = sum(sizes)
        if size < LARGE_BYTES or not all(self._takes(p) for p in parts) or not self._enter(kind):
            return super().gather(kind, parts, rows, dims)
        wholes = []
        for part, counts, dim in zip(parts, rows, dims, strict=True):
            first = part.movedim(dim, 0)
            padded = first.new_zeros((max(counts), *first.shape[1:]))
            padded[: first.shape[0]] = first
            outs = [torch.empty_like(padded) for _ in counts]
            work = self._library.allgather([outs], [padded])
            if not self._complete(work, kind):
                return super().gather(kind, parts, rows, dims)
            slices = [out[:count] for out, count in zip(outs, counts, strict=True)]
            wholes.append(torch.cat(slices).movedim(0, dim).contiguous())
        return wholes

    def all_reduce(self, kind: str, part: torch.Tensor) -> torch.Tensor:
        """Sum over workers; see `Group.all_reduce`."""
        size = part.numel() * part.element_size()
        if size < LARGE_BYTES or not self._takes(part) or not self._enter(kind):
            return super().all_reduce(kind, part)
        total = part.clone()
        if not self._complete(self._library.allreduce([total]), kind):
            return super().all_reduce(kind, part)
        return total

    def post(self, values: Sequence[torch.Tensor], *, empty: bool = False) -> Bucket:
        """Let a bucket of gradients go; see `Group.post`."""
        values = list(values)
        if not all(self._takes(v) for v in values) or not self._enter("bucket"):
            return super().post(values, empty=empty)
        if empty:  # the library adds up what there is
            values = [torch.zeros_like(v) for v in values]
        flat = torch.cat([v.reshape(-1) for v in values])
        shapes = tuple(v.shape for v in values)
        bucket = Bucket(-1 - len(self._flying), 0, 0, flat.numel(), flat.dtype, shapes)
        self._flying[bucket.number] = (self._library.allreduce([flat]), flat, values)
        return bucket

    def collect(self, buckets: Sequence[Bucket]) -> list[list[torch.Tensor]]:
        """Wait for buckets and return the sums of their tensors; see `Group.collect`."""
        sums: list[list[torch.Tensor]] = []
        for bucket in buckets:
            if bucket.number >= 0:
                sums += super().collect([bucket])
                continue
            work, flat, values = self._flying.pop(bucket.number)
            if self._complete(work, "gradients"):
                sums.append(bucket.cut(flat))
            else:
                sums += super().collect([super().post(values)])
        return sums

    def _enter(self, kind: str) -> bool:
        """Whether the library can be used for what comes; all workers answer alike."""
        if self._void:
            return False
        taken = self.swap(f"before {kind}", [])
        if len(taken) < self.workers or len(self.living) < self.workers:
            self._void = True
            return False
        if self._library is None:
            self._library = self._connect()
        return True

    def _complete(self, work: Any, kind: str) -> bool:
        """Whether a collective came to its end for all; if not, the library is left for good."""
        if self._void:
            return False
        began = time.perf_counter_ns()
        while not work.is_completed() and not self._somebody_died():
            time.sleep(0)
        mine = torch.tensor([int(work.is_completed())])
        waited = time.perf_counter_ns() - began
        self._note(began, waited)
        taken = self.swap(f"after {kind}", [mine])
        done = all(int(parts[0].view(torch.int64)) for parts in taken.values())
        if done and len(taken) == self.workers:
            work.wait()  # makes the current stream wait for the library's, where there are streams
            return True
        self._void = True
        return False

    def _somebody_died(self) -> bool:
        return any(row[Field.STATE] == State.DEAD for row in self._rows)
