"""On one GPU: the same numbers with one worker and with two that share it.

Several GPUs, with NCCL between them, are tested with the process group faked: `test_collective.py`.
"""

from __future__ import annotations

import pytest
import torch

from tests.like_python import PROGRAMS, LikePython, Program

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["gpu_vision", "gpu_language"])
def test_on_one_gpu(like_python: LikePython, name: str, workers: int) -> None:
    program = Program.read(PROGRAMS / f"{name}.py")
    report = like_python.run_both(program, workers).report()
    if report:
        pytest.fail(report, pytrace=False)
