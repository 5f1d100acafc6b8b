"""Deaths: whoever dies, however, at whatever step, the run goes on or stops, as the user asked.

Real runs of real workers; see test_launch.py for what the launcher decides, at every moment, and
test_shared_memory.py for what the survivors agree on.
"""

from __future__ import annotations

import random
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.real_run import TRAINS, RealRun, ended

pytestmark = pytest.mark.slow

STEPS = 18
ALL_OF_IT = ["begins", *(f"step {k}" for k in range(STEPS)), "ends"]
Start = Callable[..., RealRun]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(script, *options, fate=...)``; nothing outlives the test."""
    with ExitStack() as stack:
        yield lambda *args, **kw: stack.enter_context(ended(RealRun(tmp_path, *args, **kw)))


def drawn(*seed: Any) -> tuple[int, str]:
    """A step and a place in it, at random but always the same for a test."""
    choice = random.Random(repr(seed))
    return choice.randrange(1, STEPS - 1), choice.choice(["forward", "backward", "update"])


def said_of(err: str, victim: int) -> str:
    """The one thing that is said of a worker's death."""
    (line,) = re.findall(rf"^pellucid: (worker {victim} on box .*)$", err, re.MULTILINE)
    assert socket.gethostname() in line
    return str(line)


CAUSES = {"SIGKILL": "SIGKILL", "SIGSTOP": "stopped (SIGSTOP)", "137": "exit code 137"}


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("victim", [0, 1], ids=["leader", "follower"])
@pytest.mark.parametrize("how", CAUSES)
def test_the_run_goes_on(start: Start, how: str, victim: int, workers: int) -> None:
    """What it prints and saves appears once, in order, also when the leader dies.

    Of this, that stdout and files are whole when the leader dies depends on `SideEffects`: its
    follower must go on exactly where the leader's own output ended.
    """
    step, where = drawn(how, victim, workers)
    run = start(
        TRAINS,
        "--workers",
        str(workers),
        "--dead-after",
        "1",
        fate=f"{victim} {step} {where} {how}",
    )
    code, out, err = run.finish()
    assert code == 0, err
    said = said_of(err, victim)
    assert CAUSES[how] in said
    assert f"goes on with {workers - 1} worker" in said
    assert ("leads now" in said) == (victim == 0)
    assert "script.py" in said
    assert out.splitlines() == ALL_OF_IT
    assert (run.folder / "log.txt").read_text() == "saved\n"
    weights = torch.load(run.folder / "model.pt")
    assert all(torch.isfinite(w).all() for w in weights.values())


@pytest.mark.parametrize("victim", [0, 1], ids=["leader", "follower"])
@pytest.mark.parametrize("how", CAUSES)
def test_the_run_stops_if_so_asked(start: Start, how: str, victim: int) -> None:
    step, where = drawn("stop", how, victim)
    run = start(
        TRAINS, "--workers", "2", "--on-failure", "stop", "--dead-after", "1",
        fate=f"{victim} {step} {where} {how}",
    )  # fmt: skip
    code, out, err = run.finish()
    assert code == 1
    said = said_of(err, victim)
    assert CAUSES[how] in said
    assert "--on-failure continue" in said
    assert "Traceback" not in err
    lines = out.splitlines()
    assert lines == ALL_OF_IT[: len(lines)]
    assert "ends" not in lines


def test_one_after_the_other_may_die(start: Start) -> None:
    """Each worker but the last is killed, the leader first; the last one finishes the work."""
    script = TRAINS.replace(
        'fate.at(step, "forward")',
        'fate.at(step, "forward")\n        if step == 5 * fate.index + 4 and fate.index < 2:\n'
        "            import os\n            os.kill(os.getpid(), 9)",
    )
    code, out, err = start(script, "--workers", "3").finish()
    assert code == 0, err
    assert out.splitlines() == ALL_OF_IT
    for victim in range(2):
        assert "SIGKILL" in said_of(err, victim)


ENDLESS = """
import torch
from torch import nn

model = nn.Linear(4, 2)
while True:
    model(torch.rand(8, 4)).sum().backward()
    print("a step", flush=True)
"""


def test_ctrl_c_ends_everything(start: Start) -> None:
    run = start(ENDLESS, "--workers", "3", terminal=True)
    for _ in range(3):
        run.read_until("a step")
    run.press(b"\x03")  # launcher and leader get it, once
    assert run.gone_within(5)
    code, _, err = run.finish()
    assert code == -signal.SIGINT
    assert err.count("KeyboardInterrupt") == 1
    assert "worker" not in err.split("Traceback", 1)[1]


def test_an_interrupt_of_the_launcher_alone_ends_everything(start: Start) -> None:
    run = start(ENDLESS, "--workers", "2")
    run.read_until("a step")
    run.process.send_signal(signal.SIGINT)
    assert run.gone_within(5)
    assert run.finish()[0] == -signal.SIGINT


def test_a_killed_launcher_leaves_no_orphans(start: Start) -> None:
    run = start(ENDLESS, "--workers", "2")
    run.read_until("a step")
    run.process.kill()
    assert run.gone_within(5)


@pytest.mark.parametrize("step", [0, 7])
def test_an_exception_is_the_scripts_own_and_comes_once(start: Start, step: int) -> None:
    script = TRAINS.replace(
        'fate.at(step, "forward")',
        f'if step == {step}:\n            raise ValueError("the script\'s own")',
    )
    code, out, err = start(script, "--workers", "2").finish()
    assert code == 1
    assert err.count("Traceback (most recent call last)") == 1
    assert err.count("ValueError: the script's own") == 1
    assert "pellucid/" not in err
    assert out.splitlines() == ALL_OF_IT[: step + 1]


def test_an_exception_in_one_worker_alone_is_a_death(start: Start) -> None:
    """The leader goes on; it is said where the other's traceback is."""
    script = TRAINS.replace(
        'fate.at(step, "forward")',
        'if step == 4 and fate.index == 1:\n            raise MemoryError("too little")',
    )
    code, out, err = start(script, "--workers", "2").finish()
    assert code == 0, err
    assert out.splitlines() == ALL_OF_IT
    assert "worker-1.err" in said_of(err, 1)
    assert "MemoryError" not in err.replace("worker-1", "")


LOADS = """
import random

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import fate


class Noise(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, i):
        return i + random.random() + torch.rand(2)


class Stream(IterableDataset):
    def __iter__(self):
        for k in range(9 + 6 * get_worker_info().id):
            yield k + random.random() + torch.rand(2)


torch.manual_seed(0)
shuffled = torch.Generator().manual_seed(7)
loader = LOADER
model = torch.nn.Linear(2, 1)
step = 0
for epoch in range(3):
    for x in loader:
        fate.at(step, "forward")
        print("step", epoch, x.tolist(), torch.rand(()).item())
        step += 1
    model(x).sum().backward()
"""
LOADERS = {
    "random": "DataLoader(Noise(), 5, True, num_workers=2, generator=shuffled)",
    "kept": "DataLoader(Noise(), 5, True, num_workers=2, persistent_workers=True)",
    "stream": "DataLoader(Stream(), 5, num_workers=3, persistent_workers=True)",
}


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("victim", [0, 1], ids=["leader", "follower"])
@pytest.mark.parametrize("kind", LOADERS)
def test_batches_of_dealt_loaders_do_not_die(
    start: Start, kind: str, victim: int, workers: int
) -> None:
    """Their processes die with their worker; others make the same batches again, bit by bit."""
    script = LOADS.replace("LOADER", LOADERS[kind])
    expected = start(script, "--workers", "1").finish()[1]
    step = random.Random(repr((kind, victim, workers))).randrange(1, 17)
    fate = f"{victim} {step} forward SIGKILL"
    code, out, err = start(script, "--workers", str(workers), fate=fate).finish()
    assert code == 0, err
    assert "SIGKILL" in said_of(err, victim)
    assert out == expected
