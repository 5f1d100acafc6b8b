"""Measure Caffe's front end: the LeNet it builds against one written by hand, and two workers.

- *built / by hand*: training steps a second of the net built of examples/caffe, divided by those of
  the same net as a class of PyTorch. One process, one thread, the same images.
- *2 workers / alone*: iterations a second that the log of ``pellucid caffe train`` shows, with two
  workers of one thread each, divided by those of one worker with one thread.

Everything is measured in turns, in one call; each ratio is taken within a round. The median and
[min..max] over the rounds are printed; all of it goes to a JSON file.

    python benchmarks/caffe.py
    python benchmarks/caffe.py --quick     # does it run? numbers worth nothing
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from machine import commit, machine
from torch import Tensor, nn

from pellucid.caffe.net import Net
from pellucid.caffe.proto import messages, read_net
from pellucid.caffe.tools.database_writer import write_database

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "caffe"
RESULTS = HERE.parent / "build" / "benchmarks" / "caffe.json"
BATCH = 64
RECORDS = 6400  # of the database: what is in them does not matter to speed
GOAL = 0.98  # of the built net to the one by hand


class LeNet(nn.Module):
    """As one would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.ip1, self.ip2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        scores: Tensor = self.ip2(F.relu(self.ip1(x.flatten(1))))
        return scores


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round of very few steps")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args()
    steps, iterations = (5, 60) if args.quick else (40, 300)
    rounds = 1 if args.quick else args.rounds
    torch.set_num_threads(1)
    runs = {"by hand": list[float](), "built": list[float]()}
    train = {"by hand": _steps_by_hand(), "built": _steps_built()}
    for number in range(2 * rounds):  # these are short: twice as many
        for name in sorted(train, reverse=bool(number % 2)):
            runs[name].append(_speed(train[name], steps))
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder), iterations)
        for number in range(max(1, rounds // 2)):
            for name in sorted(FLAGS, reverse=bool(number % 2)):
                runs.setdefault(name, []).append(_train(Path(folder), FLAGS[name]))
    ratios = {
        "built / by hand": _ratio(runs["built"], runs["by hand"]),
        "2 workers / alone": _ratio(runs["2 workers"], runs["alone"]),
    }
    for name, found in ratios.items():
        missed = f"  < {GOAL}" if name.startswith("built") and found["median"] < GOAL else ""
        print(f"{name:25} {found['median']:.2f} [{found['min']:.2f}..{found['max']:.2f}]{missed}")
    report = {
        "what": "LeNet of examples/caffe, batch 64: ratios of steps or iterations a second",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "settings": {"rounds": rounds, "quick": args.quick},
        "ratios": ratios,
        "runs": runs,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"everything is in {args.json}")


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    found = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": median(found), "min": min(found), "max": max(found)}


# one process

Step = Callable[[Tensor, Tensor], Tensor]


def _steps_by_hand() -> Callable[[], None]:
    net = LeNet()
    return _stepping(net, lambda images, labels: F.cross_entropy(net(images), labels))


def _steps_built() -> Callable[[], None]:
    shapes = {"data": (BATCH, 1, 28, 28), "label": (BATCH,)}
    net = Net(read_net(EXAMPLE / "lenet_train_test.prototxt"), data_shapes=shapes)
    return _stepping(net, lambda images, labels: net.run({"data": images, "label": labels}).loss)


def _stepping(net: nn.Module, loss_of: Step) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((BATCH, 1, 28, 28), generator=generator)
    labels = torch.randint(0, 10, (BATCH,), generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(images, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _speed(step: Callable[[], None], steps: int) -> float:
    for _ in range(3):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return steps / (time.perf_counter() - began)


# whole trainings

FLAGS = {
    "alone": ("--workers", "1", "--threads-per-worker", "1"),
    "2 workers": ("--workers", "2", "--threads-per-worker", "1"),
}


def _prepare(folder: Path, iterations: int) -> None:
    """A database, and the example without tests."""
    random = np.random.default_rng(0)

    def records() -> Any:
        for k in range(RECORDS):
            image = random.integers(0, 256, (28, 28), np.uint8).tobytes()
            shape = {"channels": 1, "height": 28, "width": 28}
            yield f"{k:08d}", messages.Datum(data=image, label=k % 10, **shape)

    write_database(folder / "mnist_train_lmdb", records())
    net = (EXAMPLE / "lenet_train_test.prototxt").read_text()
    (folder / "lenet_train_test.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        'net: "lenet_train_test.prototxt" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005\n'
        'lr_policy: "inv" gamma: 0.0001 power: 0.75 random_seed: 1 solver_mode: CPU\n'
        f"display: {iterations // 3} max_iter: {iterations + 1} snapshot_after_train: false\n"
    )


def _train(folder: Path, flags: tuple[str, ...]) -> float:
    """Iterations a second, without the first part, which lasts until the first display."""
    command = [sys.executable, "-m", "pellucid", "caffe", "train", "-solver", "solver.prototxt"]
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [*command, *flags], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    shown = re.findall(r"Iteration (\d+) \(.*, ([\d.e+-]+)s/", done.stderr)
    if done.returncode or len(shown) < 4:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    (first, _), *later = [(int(iteration), float(seconds)) for iteration, seconds in shown[1:]]
    return (later[-1][0] - first) / sum(seconds for _, seconds in later)


if __name__ == "__main__":
    main()
