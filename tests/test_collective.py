"""The GPU exchange with the process group of a CPU library in NCCL's place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from pellucid.transport import memory
from pellucid.transport.board import Board, Field, Flag, State
from pellucid.transport.collective import CollectiveGroup


def run(workers: int, folder: Path, body: Callable[[CollectiveGroup], Any]) -> list[Any]:
    """Run a body once a worker, in threads, and return what each returned."""
    board, fd = Board.create(workers), memory.create(workers)
    results: list[Any] = [None] * workers

    def work(index: int) -> None:
        def connect() -> Any:
            store = FileStore(str(folder / "store"), workers)
            return dist.ProcessGroupGloo(store, index, workers, timedelta(seconds=60))

        results[index] = body(CollectiveGroup(fd, board, index, connect, lambda _: True))

    threads = [threading.Thread(target=work, args=(w,)) for w in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_slices_on_both_sides_of_the_threshold_take_one_way(tmp_path: Path) -> None:
    rows = [8, 7]  # of 8 KiB each: the library's way begins at eight

    def body(group: CollectiveGroup) -> torch.Tensor:
        part = torch.full((rows[group.index], 2048), float(group.index))
        return group.gather("rows", [part], [rows], [0])[0]

    for whole in run(2, tmp_path, body):
        assert whole[:, 0].tolist() == [0.0] * 8 + [1.0] * 7


@pytest.mark.parametrize("workers", [2, 3])
def test_sums_and_joins_large_tensors(workers: int, tmp_path: Path) -> None:
    rows = [40 + (w == 0) for w in range(workers)]

    def body(group: CollectiveGroup) -> tuple[torch.Tensor, torch.Tensor, list[list[torch.Tensor]]]:
        part = torch.full((rows[group.index], 3000), float(group.index))
        (whole,) = group.gather("rows", [part], [rows], [0])
        total = group.all_reduce("sum", torch.arange(50_000.0) * (group.index + 1))
        buckets = [group.post([torch.full((7,), 1.0 + group.index), torch.ones(2, 2)])]
        buckets.append(group.post([torch.full((90_000,), 0.5)]))
        sums = group.collect(buckets)
        group.end_pass()
        return whole, total, sums

    for whole, total, sums in run(workers, tmp_path, body):
        assert whole.shape == (sum(rows), 3000)
        expected = torch.cat([torch.full((r,), float(w)) for w, r in enumerate(rows)])
        assert torch.equal(whole[:, 0], expected)
        factor = sum(range(1, workers + 1))
        assert torch.equal(total, torch.arange(50_000.0) * factor)
        assert torch.equal(sums[0][0], torch.full((7,), float(factor)))
        assert torch.equal(sums[0][1], torch.full((2, 2), float(workers)))
        assert torch.equal(sums[1][0], torch.full((90_000,), 0.5 * workers))


def test_goes_on_through_shared_memory_after_a_death(tmp_path: Path) -> None:
    """The third worker is dead from the start: nobody may enter the library."""

    def body(group: CollectiveGroup) -> torch.Tensor | None:
        if group.index == 2:
            group.board.fields[2][Field.STATE] = State.DEAD
            group.board.fields[2][Field.DIED] = 1
            group.board.flags[Flag.EPOCH] = 1
            return None
        total = group.all_reduce("sum", torch.ones(50_000))
        assert group.living == [0, 1]
        ((flat,),) = group.collect([group.post([torch.ones(60_000)])])
        assert torch.equal(flat, torch.full((60_000,), 2.0))
        return total

    first, second, _ = run(3, tmp_path, body)
    assert torch.equal(first, torch.full((50_000,), 2.0))
    assert torch.equal(first, second)
