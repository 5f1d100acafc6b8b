"""Real runs of ``pellucid run --mode hogwild``: every sample once, whoever dies.

The model is an embedding with a row a sample and sparse gradients: each step moves only the rows of
its batch, by one. So the saved weights tell how often each sample was trained on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.real_run import RealRun, ended

HOGWILD = ("--mode", "hogwild", "--workers", "2")
SAMPLES = 120

# the first worker waits in its first pass, a batch in hand, until the second one has its sixth
COUNTS = """
import os, socket, sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fate

meeting = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
place = chr(0) + os.getcwd()
try:
    meeting.bind(place)
    first = True
except OSError:
    first = False

torch.manual_seed(0)
model = nn.Embedding(120, 1, sparse=True)
nn.init.zeros_(model.weight)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
loader = DataLoader(TensorDataset(torch.arange(120)), batch_size=5, shuffle=True)
print("begins")
step = 0
for epoch in range(3):
    own = 0
    for (rows,) in loader:
        if first and step == 2:
            meeting.settimeout(60)
            meeting.recv(1)
        if not first and step == 5:
            meeting.sendto(b"!", place)
        optimizer.zero_grad()
        loss = model(rows).sum()
        loss.backward()
        fate.at(step, "update")
        optimizer.step()
        step += 1
        own += 1
    with torch.no_grad():
        times = -model.weight.sum().item()
    print("epoch", epoch, "trained" if own else "idle", f"{times:.0f}")
torch.save(model.state_dict(), "model.pt")
print("ends")
"""


def times_trained(folder: Path) -> torch.Tensor:
    weight: torch.Tensor = torch.load(folder / "model.pt")["weight"]
    return -weight.flatten()


def test_every_sample_is_trained_on_once_an_epoch(tmp_path: Path) -> None:
    with ended(RealRun(tmp_path, COUNTS, *HOGWILD)) as run:
        code, out, err = run.finish()
    assert (code, times_trained(tmp_path).tolist()) == (0, [3.0] * SAMPLES), err
    assert out.splitlines() == [
        "begins",
        "epoch 0 trained 120",
        "epoch 1 trained 240",
        "epoch 2 trained 360",
        "ends",
    ]
    assert "1 box, hogwild" in err
    assert "72 steps, 360 samples" in err
    assert (tmp_path / "model.pt").stat().st_size < 5000  # the piece, not the array


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("victim", [0, 1], ids=["leader", "follower"])
def test_what_a_dead_worker_had_in_hand_is_done_by_another(
    tmp_path: Path, victim: int, how: str
) -> None:
    # both have a batch in hand then: see COUNTS
    fate = f"{victim} {5 if victim else 2} update {how}"
    with ended(RealRun(tmp_path, COUNTS, *HOGWILD, "--dead-after", "1", fate=fate)) as run:
        code, out, err = run.finish()
    assert (code, times_trained(tmp_path).tolist()) == (0, [3.0] * SAMPLES), err
    lines = out.splitlines()
    assert (lines[0], lines[-2:]) == ("begins", ["epoch 2 trained 360", "ends"])
    assert f"worker {victim} on box" in err
    assert "The batches that the dead worker had in hand are done again" in err
    assert ("worker 1 leads now" in err) == (victim == 0)


@pytest.mark.slow
def test_the_run_stops_if_the_user_wants_it_so(tmp_path: Path) -> None:
    with ended(
        RealRun(tmp_path, COUNTS, *HOGWILD, "--on-failure", "stop", fate="1 5 update SIGKILL")
    ) as run:
        code, _, err = run.finish()
    assert code == 1
    assert "The run stops (--on-failure stop)" in err


ENDS_EARLY = COUNTS.replace(
    """        optimizer.zero_grad()
""",
    """        if not first and epoch == 1 and own == 2:
            sys.exit(5)
        optimizer.zero_grad()
""",
)


def test_the_batch_of_a_follower_whose_script_ends_early_is_done_by_another(tmp_path: Path) -> None:
    with ended(RealRun(tmp_path, ENDS_EARLY, *HOGWILD)) as run:
        code, out, err = run.finish()
    assert (code, times_trained(tmp_path).tolist()) == (0, [3.0] * SAMPLES), err
    assert out.splitlines()[-2:] == ["epoch 2 trained 360", "ends"]


ALONE = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.randn(64, 2)
for start in range(0, 64, 16):
    optimizer.zero_grad()
    model(data[start : start + 16]).pow(2).mean().backward()
    optimizer.step()
print(f"{model.weight.sum().item():.6f}")
"""


def test_a_script_without_loader_runs_as_ever_and_is_told_its_loop(tmp_path: Path) -> None:
    with ended(RealRun(tmp_path, ALONE, *HOGWILD)) as run:
        code, out, err = run.finish()
    assert code == 0, err
    assert float(out)
    assert "script.py:9 (for start in range(0, 64, 16):)" in err
    assert "is not divided: one worker does it alone, with all threads. To divide it" in err
    assert "write: for start in pellucid.share(range(0, 64, 16)):" in err


def test_of_one_worker_nothing_is_said_to_be_undivided(tmp_path: Path) -> None:
    with ended(RealRun(tmp_path, ALONE, "--mode", "hogwild", "--workers", "1")) as run:
        code, out, err = run.finish()
    assert (code, "divided" in err) == (0, False), err
    assert float(out)
