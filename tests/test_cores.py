"""Which processors each worker gets."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from pellucid.cluster.cores import core_groups, share_out
from pellucid.intercept.loaders import count_cores
from pellucid.intercept.patch import Patches


def test_logical_processors_are_grouped_by_core(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert core_groups({0, 1, 2, 3}, tmp_path) == [[0, 2], [1, 3]]
    assert core_groups({1, 2, 7}, tmp_path) == [[1], [2], [7]]  # 7 says nothing of itself


@pytest.mark.parametrize(
    ("workers", "threads", "expected"),
    [
        (2, 1, [[0, 2], [1, 3]]),
        (1, 2, [[0, 2, 1, 3]]),
        (2, 2, [[], []]),  # not enough cores: left to the kernel
        (3, 1, [[], [], []]),
    ],
)
def test_cores_are_for_one_worker_each(
    workers: int, threads: int, expected: list[list[int]]
) -> None:
    assert share_out([[0, 2], [1, 3]], workers, threads) == expected


@pytest.mark.parametrize(("cores", "warned"), [({0, 1}, []), ({0}, [1])])
def test_a_loader_counts_the_cores_that_its_processes_will_have(
    monkeypatch: pytest.MonkeyPatch, cores: set[int], warned: list[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    patches = Patches()
    count_cores(patches, cores)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        DataLoader([1, 2], num_workers=2)  # type: ignore[arg-type]
    patches.undo()
    assert [1 for one in said if "suggested max number of worker" in str(one.message)] == warned
    assert os.sched_getaffinity(0) == {0}
