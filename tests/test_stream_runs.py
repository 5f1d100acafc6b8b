"""Real runs of ``pellucid run --mode stream`` and ``pellucid join``, on loopback.

Every box's script tells the test, over a socket, which samples it trains on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import torch

ROOT = Path(__file__).parent.parent
SECRET = "only the tests in this file know it"
SAMPLES, BATCH = 120, 5
PATIENCE = 60.0

SCRIPT = """
import socket, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

place, epochs, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
line.connect(place)

torch.manual_seed(0)
x = torch.randn(120, 8)
y = (x[:, 0] + x[:, 1] > 0).long()
loader = DataLoader(TensorDataset(x, y, torch.arange(120)), batch_size=5, shuffle=True)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)  # 4 workers make 0.12 of it
for epoch in range(epochs):
    for a, b, rows in loader:
        line.send(bytes([epoch, *rows.tolist()]))
        loss = nn.functional.cross_entropy(net(a), b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(pause)
    with torch.no_grad():
        right = (net(x).argmax(1) == y).double().mean().item()
    print(epoch, f"{loss.item():.3f}", f"{right:.3f}", flush=True)
torch.save(net.state_dict(), "net.pt")
"""


class Box:
    """A launcher with all its processes."""

    def __init__(self, folder: Path, *args: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.err, self.out = folder / "stderr", folder / "stdout"
        with self.err.open("w") as err, self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pellucid", args[0], "--log-dir", "logs", *args[1:]],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    def said(self) -> str:
        return self.err.read_text()

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def wait_for(self, holds: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE
        while not holds():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.02)

    def address(self) -> str:
        self.wait_for(lambda: "pellucid join " in self.said())
        return self.said().partition("pellucid join ")[2].split()[0]

    def finish(self) -> int:
        return self.process.wait(PATIENCE)

    def events(self, kind: str) -> list[dict[str, object]]:
        lines = (self.folder / "logs" / "events.jsonl").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line))["event"] == kind]

    def kill(self) -> None:
        """All at once, as if the box lost its power; but its system says so."""
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
            for process in (*children, self.process):
                process.kill()
        self.process.wait()


class Boxes:
    """Boxes of one run, and what their scripts told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.place = str(folder / "line")
        self.socket.bind(self.place)
        self.all: list[Box] = []
        self.trained: Counter[tuple[int, int]] = Counter()  # by epoch and sample

    def begin(self, *flags: str, epochs: int = 3, pause: float = 0.02) -> Box:
        folder = self.folder / "first"
        folder.mkdir()
        (folder / "train.py").write_text(SCRIPT)
        line = ["run", "--mode", "stream", "--listen", "127.0.0.1:0", "--threads-per-worker", "1"]
        line += ["--secret-file", str(self.secret), *flags]
        return self._add(Box(folder, *line, "train.py", self.place, str(epochs), str(pause)))

    def join(self, first: Box, *flags: str) -> Box:
        line = ["join", "--threads-per-worker", "1", "--secret-file", str(self.secret), *flags]
        return self._add(Box(self.folder / f"box-{len(self.all)}", *line, first.address()))

    def hear(self) -> Counter[tuple[int, int]]:
        """Take in what the scripts have told so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                epoch, *rows = self.socket.recv(4096)
                self.trained.update((epoch, row) for row in rows)
        return self.trained

    def _add(self, box: Box) -> Box:
        self.all.append(box)
        return box


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[Boxes]:
    made = Boxes(tmp_path)
    yield made
    for box in made.all:
        box.kill()
    made.socket.close()


def accuracy(line: str) -> float:
    return float(line.split()[2])


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_boxes_train_one_model_and_the_first_one_shows_it(boxes: Boxes, workers: str) -> None:
    # slow enough for several signs of life of each box
    first = boxes.begin("--boxes", "2", "--workers", workers, epochs=6, pause=0.06)
    second = boxes.join(first, "--workers", workers)
    first.wait_for(
        lambda: (boxes.hear() and first.process.poll() is not None) or len(first.lines()) == 6
    )
    assert first.finish() == 0, first.said()
    assert second.finish() == 0, second.said()
    boxes.hear()
    assert [line.split()[0] for line in first.lines()] == [str(e) for e in range(6)]
    assert accuracy(first.lines()[-1]) > 0.9
    assert second.lines() == []
    times = [boxes.trained[epoch, row] for epoch in range(6) for row in range(SAMPLES)]
    assert min(times) >= 1  # none is lost
    # none is dealt twice; but each worker tries a first batch, and may rehearse with one a pass
    all_workers = 2 * int(workers)
    assert sum(times) <= 6 * (SAMPLES + all_workers * BATCH) + all_workers * BATCH
    saved = torch.load(first.folder / "net.pt")
    assert {name: tuple(value.shape) for name, value in saved.items()} == {
        "0.weight": (16, 8),
        "0.bias": (16,),
        "2.weight": (2, 16),
        "2.bias": (2,),
    }
    kept = [path for path in second.folder.rglob("net.pt") if "overlay" not in str(path)]
    assert kept == []
    samples = [event["samples"] for event in first.events("status")]
    assert any(isinstance(one, dict) and one.get("1", 0) > 0 for one in samples)  # it took part


@pytest.mark.slow
def test_when_the_first_box_dies_the_second_goes_on_and_shows_it(boxes: Boxes) -> None:
    first = boxes.begin("--boxes", "2", "--workers", "1", epochs=12, pause=0.03)
    second = boxes.join(first, "--workers", "1")
    first.wait_for(lambda: boxes.hear() and len(first.lines()) >= 2)
    first.kill()
    second.wait_for(lambda: boxes.hear() and "box 1 leads now" in second.said())
    assert "box 0 is dead" in second.said()
    second.wait_for(lambda: boxes.hear() and len(second.lines()) == 12)
    assert second.finish() == 0, second.said()
    assert accuracy(second.lines()[-1]) > 0.9
    boxes.hear()
    later = [boxes.trained[epoch, row] for epoch in range(6, 12) for row in range(SAMPLES)]
    assert min(later) >= 1
    (kept,) = second.folder.rglob("net.pt")
    assert torch.load(kept)


@pytest.mark.slow
def test_a_box_may_leave_and_another_may_come(boxes: Boxes) -> None:
    first = boxes.begin("--boxes", "2", "--workers", "1", epochs=40, pause=0.02)
    leaver = boxes.join(first, "--workers", "1")
    first.wait_for(lambda: boxes.hear() and len(first.lines()) >= 2)
    leaver.process.send_signal(signal.SIGINT)
    assert leaver.finish() == 0, leaver.said()
    first.wait_for(lambda: boxes.hear() and "box 1 has left" in first.said())
    late = boxes.join(first, "--workers", "1")
    first.wait_for(lambda: boxes.hear() and "box 2 takes part" in first.said())
    first.wait_for(
        lambda: (boxes.hear() and first.process.poll() is not None) or len(first.lines()) == 40
    )
    assert first.finish() == 0, first.said()
    assert late.finish() == 0, late.said()
    assert accuracy(first.lines()[-1]) > 0.9
