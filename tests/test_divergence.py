"""Copies of a script that take different paths: an error that says where each is, never a hang."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real_run import RealRun, ended

pytestmark = pytest.mark.slow

Start = Callable[..., RealRun]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(script, *options)``; nothing outlives the test."""
    with ExitStack() as stack:
        yield lambda *args, **kw: stack.enter_context(ended(RealRun(tmp_path, *args, **kw)))


HEAD = """
import os, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import fate

model, other = nn.Linear(4, 2), nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def step(net=model):
    optimizer.zero_grad()
    net(torch.rand(8, 4)).pow(2).sum().backward()
    optimizer.step()

for _ in range(3):
    step()
"""


def line_of(script: str, text: str) -> int:
    """Where a line of the script is."""
    return next(k for k, line in enumerate(script.splitlines(), 1) if text in line)


def ends_with_an_error(run: RealRun) -> str:
    code, _, err = run.finish()
    assert code == 1, err
    assert err.count("pellucid:") >= 1
    return err


def test_a_loop_by_wall_clock(start: Start) -> None:
    script = HEAD + "began = time.monotonic()\nwhile time.monotonic() - began < 0.5: step()\n"
    # the leader's clock began first: it comes to the end while the other waits for it
    script = script.replace(
        "began = time.monotonic()", "began = time.monotonic() + 0.5 * fate.index"
    )
    err = ends_with_an_error(start(script, "--workers", "2", "--stall-after", "20"))
    assert "different paths" in err
    assert "worker 0 came to the end" in err
    assert f"script.py:{line_of(script, 'net(torch.rand')}" in err


def test_a_branch_by_process_id(start: Start) -> None:
    """One trains another model than the other: their exchanges do not match."""
    script = HEAD + "step(other if os.getpid() % 2 == PARITY else model)\nstep()\n"
    script = script.replace("PARITY", "(os.getpid() + fate.index) % 2")
    err = ends_with_an_error(start(script, "--workers", "2", "--stall-after", "20"))
    assert "different paths" in err
    assert "worker 0 is at" in err or "worker 1 is at" in err
    assert err.count("different paths") == 1


@pytest.mark.parametrize("early", [0, 1], ids=["leader", "follower"])
def test_more_steps_in_one_than_in_the_other(start: Start, early: int) -> None:
    script = HEAD + f"for _ in range(3 + (fate.index != {early})): step()\nprint('done')\n"
    err = ends_with_an_error(start(script, "--workers", "2", "--stall-after", "20"))
    assert "different paths" in err
    assert f"worker {early} came to the end" in err
    assert f"worker {1 - early}: " in err


def test_one_that_does_not_come_back(start: Start) -> None:
    script = HEAD + "while fate.index == 1:\n    time.sleep(0.01)  # waits for itself\nstep()\n"
    err = ends_with_an_error(start(script, "--workers", "2", "--stall-after", "3"))
    assert "worker 0 waited 3 seconds for worker 1" in err
    assert f"script.py:{line_of(script, 'waits for itself')}" in err
    assert "--stall-after" in err


def test_a_leader_that_does_not_come_back(start: Start) -> None:
    script = HEAD + "while fate.index == 0:\n    time.sleep(0.01)  # waits for itself\nstep()\n"
    err = ends_with_an_error(start(script, "--workers", "2", "--stall-after", "3"))
    assert "worker 1 waited 3 seconds for worker 0" in err
    assert f"script.py:{line_of(script, 'waits for itself')}" in err


BATCHES = """
for epoch in range(3):
    if epoch == 1:
        torch.manual_seed(os.getpid())
    for (x,) in DataLoader(data, batch_size=16, shuffle=True):
        model(x).sum().backward()
"""


@pytest.mark.parametrize("made", ["TensorDataset(rows)", "[(row,) for row in rows]"])
def test_different_batches_of_the_same_loader(start: Start, made: str) -> None:
    script = f"{HEAD}\nrows = torch.rand(64, 4)\ndata = {made}\n{BATCHES}"
    err = ends_with_an_error(start(script, "--workers", "2", "--stall-after", "20"))
    assert "different batches" in err
    assert "process id" in err
    assert err.count("different batches") == 1


def test_different_losses_may_decide_nothing(start: Start) -> None:
    """A script that stops by its loss stops alike in all: losses are the same to the bit."""
    script = HEAD + (
        "torch.manual_seed(1)\ncount = 0\n"
        "while model(torch.ones(5, 4)).pow(2).mean().item() > 1e-3:\n    step()\n    count += 1\n"
        "print('stopped', count > 0)\n"
    )
    code, out, err = start(script, "--workers", "3").finish()
    assert (code, out) == (0, "stopped True\n"), err
