"""Virtual boxes: a cluster of `pellucid.sync.stream.node.Node` in one process, training for real.

Each box has its own LeNet, its own optimizer and its own node; computing takes simulated time, and
the links are those of the network in memory. So what is measured is what staleness, averaging and
the codec do to learning, not how fast this machine is.

Time is counted in *steps*: what the fastest box needs for one batch.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from benchmarks.workloads.nets import LeNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pellucid.cluster.membership import Timing
from pellucid.sync.stream.node import WAIT, Lease, NodeSettings
from pellucid.sync.stream.rehearsal import Box, Rehearsal
from pellucid.transport.loopback import Link
from pellucid.wire.owner import Outer

__all__ = ["Digits", "Outcome", "Scenario", "load", "rehearse"]

STEP = 0.01  # seconds of simulated time
CHUNK = 16384


class Digits(NamedTuple):
    """MNIST."""

    images: Tensor  # [60000, 1, 28, 28], normalised
    labels: Tensor  # [60000]
    test_images: Tensor
    test_labels: Tensor


def load(folder: Path, limit: int | None = None) -> Digits:
    """Read MNIST's four idx files.

    Args:
        folder: where they are, compressed or not.
        limit: training images to keep.
    """

    def read(name: str) -> NDArray[np.uint8]:
        path = folder / name
        raw = (
            path.read_bytes()
            if path.exists()
            else gzip.decompress((folder / f"{name}.gz").read_bytes())
        )
        dimensions = raw[3]
        shape = np.frombuffer(raw, ">i4", dimensions, 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)

    def pictures(name: str) -> Tensor:
        values = torch.from_numpy(read(name).astype(np.float32))
        pictures = (values[:, None] / 255 - 0.1307) / 0.3081
        return pictures.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU

    def labels(name: str) -> Tensor:
        return torch.from_numpy(read(name).astype(np.int64))

    return Digits(
        pictures("train-images-idx3-ubyte")[:limit],
        labels("train-labels-idx1-ubyte")[:limit],
        pictures("t10k-images-idx3-ubyte"),
        labels("t10k-labels-idx1-ubyte"),
    )


@dataclass(frozen=True)
class Scenario:
    """One run.

    Attributes:
        boxes: how many.
        optimizer: sgd (with momentum 0.9) or adam.
        lr: learning rate.
        epochs: over the training images, by all boxes together.
        seed: of weights, order and network.
        batch: images.
        stride: power of the number of boxes by which steps are longer; see `Node.stride`.
        gain: see `pellucid.sync.stream.desk.NodeSettings`.
        staleness: steps from a delta's leaving to the answer's arrival.
        cycle: steps between two exchanges of a chunk.
        slowest: how many times slower the slowest box is; the others lie evenly in between.
        deaths: boxes whose process ends when half of the samples are trained.
        codec: int8, bf16 or fp32.
        outer: momentum at the owners.
        net: lenet, or small: one hidden layer of 64, to look around quickly.
    """

    boxes: int = 1
    optimizer: str = "sgd"
    lr: float = 0.01
    epochs: float = 2
    seed: int = 0
    batch: int = 64
    stride: float = 1.0
    gain: float = 0.0
    staleness: float = 2
    cycle: float = 3
    slowest: float = 1.0
    deaths: int = 0
    codec: str = "int8"
    outer: tuple[float, float, int] = (0.0, 1.0, 16)
    net: str = "lenet"


class Outcome(NamedTuple):
    """What came of it."""

    accuracy: float  # of the owners' weights on the test images, in percent
    loss: float
    samples: int
    behind: float  # deltas that owners accepted between two exchanges of a chunk
    lost: int  # batches dealt again after deaths


def _small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


class _Trainer:
    """One box's script."""

    def __init__(self, box: Box, scenario: Scenario, digits: Digits, speed: float) -> None:
        torch.manual_seed(scenario.seed)
        self.box = box
        self.model = LeNet() if scenario.net == "lenet" else _small()
        self.speed = speed
        self._digits = digits
        self._scenario = scenario
        parameters = list(self.model.parameters())
        self.flat = np.concatenate([p.detach().numpy().ravel() for p in parameters])
        at = 0
        for p in parameters:
            p.data = torch.from_numpy(self.flat[at : at + p.numel()]).view(p.shape)
            at += p.numel()
        if scenario.optimizer == "sgd":
            self._optimizer: torch.optim.Optimizer = torch.optim.SGD(
                parameters, scenario.lr, momentum=0.9
            )
        else:
            self._optimizer = torch.optim.Adam(parameters, scenario.lr)
        box.node.add_block(0, "lenet", self.flat, CHUNK)
        self._epoch = -1
        self._orders: dict[int, Tensor] = {}
        self._opened = True
        self._lease: Lease | None = None
        self._finishes = 0.0
        self.finished = False

    def go_on(self, now: float) -> int:
        """Do what is due; returns samples trained."""
        if self.finished or not self.box.node.ready(0):
            return 0
        trained = 0
        if self._lease is not None and now >= self._finishes:
            trained = self._train(self._lease)
            self._lease = None
        if self._lease is None:
            self._begin(now)
        return trained

    def _begin(self, now: float) -> None:
        key = (0, self._epoch)
        if self._epoch < 0 or not self._opened:
            self._open(max(self._epoch, 0))
            return
        lease = self.box.node.take(key, now)
        if lease is None:
            self.box.node.close(key)
            if self._epoch + 1 >= self._scenario.epochs:
                self.finished = True
            else:
                self._open(self._epoch + 1)
        elif lease is not WAIT:
            assert isinstance(lease, Lease)
            self._lease = lease
            self._finishes = now + STEP / self.speed

    def _open(self, epoch: int) -> None:
        self._epoch = epoch
        batches = -(-len(self._digits.images) // self._scenario.batch)
        part = self._scenario.epochs - epoch
        batches = round(batches * min(1.0, part))
        self._opened = self.box.node.open_pass((0, epoch), b"", batches) is not WAIT

    def _train(self, lease: Lease) -> int:
        rows = self._order(lease.key[1])[lease.index * self._scenario.batch :]
        rows = rows[: self._scenario.batch]
        self._optimizer.zero_grad()
        logits = self.model(self._digits.images[rows])
        cross_entropy(logits, self._digits.labels[rows]).backward()  # type: ignore[no-untyped-call]
        for group in self._optimizer.param_groups:
            group["lr"] = self._scenario.lr * self.box.node.stride(self._scenario.stride)
        self._optimizer.step()
        self.box.node.correct(0)
        self.box.node.trained(len(rows))
        self.box.node.done(lease)
        return len(rows)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(1000 * self._scenario.seed + epoch)
            self._orders[epoch] = torch.randperm(len(self._digits.images), generator=generator)
        return self._orders[epoch]


def rehearse(scenario: Scenario, digits: Digits) -> Outcome:
    """Train, and test what came of it."""
    settings = NodeSettings(
        timing=Timing(heartbeat=10 * STEP, suspected=100 * STEP, dead=200 * STEP, closed=20 * STEP),
        codec=scenario.codec,
        credit=64,
        cycle=scenario.cycle * STEP,
        idle=scenario.cycle * STEP,
        retry=max(20 * STEP, 2 * scenario.staleness * STEP),
        gain=scenario.gain,
        outer=Outer(*scenario.outer),
        most=64,
    )
    link = Link(latency=scenario.staleness * STEP / 2)
    world = Rehearsal(settings, link, seed=scenario.seed, step=STEP / 2)
    spread = np.linspace(1.0, 1 / scenario.slowest, scenario.boxes)
    trainers = [
        _Trainer(world.start(number), scenario, digits, float(speed))
        for number, speed in enumerate(spread)
    ]
    total = int(len(digits.images) * scenario.epochs)
    samples, doomed = 0, list(range(scenario.boxes))[: scenario.deaths]
    while not all(trainer.finished for trainer in trainers):
        world.run(STEP / 2)
        samples += sum(trainer.go_on(world.now) for trainer in trainers)
        if doomed and 2 * samples >= total:
            for number in doomed:
                world.crash(number)
            trainers = trainers[len(doomed) :]
            doomed = []
    behind = trainers[0].box.node.status(world.now).staleness
    if not world.settle():
        msg = "the boxes could not settle"
        raise RuntimeError(msg)
    return _test(trainers[0], digits, samples, behind, samples - total)


def _test(trainer: _Trainer, digits: Digits, samples: int, behind: float, again: int) -> Outcome:
    trainer.flat[:] = trainer.box.node.weights(0)
    right, loss = 0, 0.0
    with torch.no_grad():
        for at in range(0, len(digits.test_images), 1000):
            labels = digits.test_labels[at : at + 1000]
            logits = trainer.model(digits.test_images[at : at + 1000])
            right += int((logits.argmax(1) == labels).sum())
            loss += float(cross_entropy(logits, labels, reduction="sum"))
    count = len(digits.test_images)
    return Outcome(100 * right / count, loss / count, samples, behind, again)
