"""Which processors each worker gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.cluster.cores import core_groups, share_out


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
