"""Boxes with several workers that divide each batch exactly, while the boxes stream weights."""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.real_run import ROOT, TIMEOUT, RealRun, ended

pytestmark = pytest.mark.slow

EXACT = ("--mode", "stream", "--within", "exact", "--listen", "127.0.0.1:0", "--seed", "1")

# dropout, statistics of batches, a scheduler a step, a look between passes
TRAINS = """
import hashlib

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fate

PRECISION

class Noisy(Dataset):
    def __len__(self):
        return len(x)

    def __getitem__(self, index):
        return x[index] + 0.1 * torch.randn(8), y[index]


torch.manual_seed(0)
y = torch.randint(0, 3, (192,))
x = torch.randn(3, 8)[y] + 0.5 * torch.randn(192, 8)
model = nn.Sequential(
    nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.9)


def weights():
    return b"".join(v.detach().numpy().tobytes() for v in (*model.parameters(), *model.buffers()))


step = 0
for epoch in range(EPOCHS):
    for data, processes in ((Noisy(), PROCESSES), (TensorDataset(x, y), 0)):
        loader = DataLoader(data, batch_size=16, shuffle=True, num_workers=processes)
        for rows, target in loader:
            loss = nn.functional.cross_entropy(model(rows), target)
            optimizer.zero_grad()
            loss.backward()
            fate.at(step, "update")
            optimizer.step()
            scheduler.step()
            step += 1
            print(FACTS)
            if step % 20 == 19:
                break
    model.eval()
    with torch.no_grad():
        print("right", (model(x).argmax(1) == y).double().mean().item())
    model.train()
torch.save(model.state_dict(), "model.pt")
"""
NUMBERS = (
    """[loss.item(), *scheduler.get_last_lr(), *model[0].weight.detach().flatten().tolist()]"""
)
WEIGHTS = """step, scheduler.get_last_lr(), hashlib.sha256(weights()).hexdigest()"""


def script(facts: str, *, epochs: int, processes: int = 0, precision: str = "") -> str:
    filled = TRAINS.replace("FACTS", facts).replace("EPOCHS", str(epochs))
    return filled.replace("PROCESSES", str(processes)).replace("PRECISION", precision)


def test_a_box_of_two_workers_makes_the_steps_of_one(tmp_path: Path) -> None:
    double = "torch.set_default_dtype(torch.float64)"
    text = script(NUMBERS, epochs=2, processes=1, precision=double)
    said, saved = [], []
    for workers in ("1", "2"):
        folder = tmp_path / workers
        folder.mkdir()
        options = (*EXACT, "--codec", "fp32", "--workers", workers)
        with ended(RealRun(folder, text, *options)) as run:
            code, out, err = run.finish()
        assert code == 0, err
        said.append([ast.literal_eval(line) for line in out.splitlines() if line[0] == "["])
        saved.append(torch.load(folder / "model.pt"))
    assert "batch 16 = 2 x 8" in err
    assert "the loader processes of Noisy (1 in all) are dealt out over the workers" in err
    one, two = (torch.tensor(lines, dtype=torch.float64) for lines in said)
    assert len(one) == 39
    first = 12  # steps of the first pass
    torch.testing.assert_close(one[:first], two[:first], rtol=1e-9, atol=1e-9)
    # at its end weights are exchanged, as float32: runs with one worker differ as much from then on
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(saved[0], saved[1], rtol=1e-5, atol=1e-6)


def test_workers_of_each_box_stay_the_same_bits_whoever_dies(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("only this test knows it")
    (tmp_path / "secret").chmod(0o600)
    secret = ("--secret-file", str(tmp_path / "secret"), "--workers", "2")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    options = (*EXACT, *secret, "--boxes", "2", "--log-dir", str(tmp_path / "a"))
    # long enough for the other box to come in time, if it takes longer to start
    text = script(WEIGHTS, epochs=40)
    run = RealRun(first, text, *options, fate="1 30 update SIGKILL")
    with ended(run), _joined(second, run, *secret, "--log-dir", str(tmp_path / "b")) as joiner:
        code, out, err = run.finish()
        _, joined_err = joiner.communicate(timeout=TIMEOUT)
    assert (code, joiner.returncode) == (0, 0), err + joined_err
    assert "worker 1 on box" in err
    assert "The run goes on with 1 worker" in err
    # the one that died had said the same as the other until then
    dead = (tmp_path / "a" / "worker-1.out").read_text()
    assert len(dead.splitlines()) >= 20
    assert out.startswith(dead)
    others = [(tmp_path / "b" / f"worker-{worker}.out").read_text() for worker in (0, 1)]
    assert others[0] == others[1]
    assert len(others[0].splitlines()) > 20
    assert float(out.split()[-1]) > 0.9


@contextlib.contextmanager
def _joined(folder: Path, run: RealRun, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Another box joins a run."""
    assert run.process.stderr is not None
    line = next(line for line in run.process.stderr if "pellucid join" in line)
    address = line.partition("pellucid join ")[2].split()[0]
    with subprocess.Popen(
        [sys.executable, "-m", "pellucid", "join", *options, address],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PELLUCID_SPLIT": "always"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as joiner:
        try:
            yield joiner
        finally:
            joiner.kill()
