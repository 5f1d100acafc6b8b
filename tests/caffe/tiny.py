"""A small net with a data source, in the shape the training loop expects; no Caffe file needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.caffe.proto import messages
from pellucid.caffe.solver.feed import Feed
from pellucid.caffe.solver.loop import Training, tests_before
from pellucid.caffe.solver.optimizers import Rule, make_optimizer
from pellucid.caffe.solver.policies import LearningRate, Schedule
from pellucid.caffe.solver.requests import Requests
from pellucid.caffe.solver.snapshot import Snapshots
from pellucid.caffe.solver.testing import TestNet

BATCH = 4


@dataclass
class Blob:
    name: str
    parameter: Tensor


@dataclass
class Outputs:
    loss: Tensor
    blobs: dict[str, Tensor]
    weights: dict[str, float] = field(default_factory=lambda: {"loss": 1.0})


class Head(nn.Module):
    def run(self, blobs: dict[str, Tensor]) -> Outputs:
        head: Any = self.head
        outputs: Outputs = head({**blobs, **self(blobs)})
        return outputs

    def forward(self, blobs: dict[str, Tensor]) -> Outputs:
        loss = nn.functional.cross_entropy(blobs["ip"], blobs["label"])
        right = (blobs["ip"].argmax(1) == blobs["label"]).to(loss.dtype).mean()
        return Outputs(loss, {"accuracy": right.detach(), "loss": loss})


class Net(nn.Module):
    """One hidden layer, with dropout so that random numbers matter."""

    head: Head
    param = messages.NetParameter(name="Tiny")

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 3)
        self.drop = nn.Dropout(0.3)
        self.head = Head()
        self.params = [Blob(name, p) for name, p in self.named_parameters()]

    def run(self, blobs: dict[str, Tensor]) -> Outputs:
        head: Any = self.head
        outputs: Outputs = head({**blobs, **self(blobs)})
        return outputs

    def forward(self, blobs: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden = self.drop(torch.relu(self.one(blobs["data"])))
        return {"ip": self.two(hidden)}


@dataclass
class Drawn:
    """Batch k is a function of k."""

    seed: int

    def take(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        return {
            "data": torch.randn(BATCH, 5, generator=generator),
            "label": torch.randint(0, 3, (BATCH,), generator=generator),
        }

    def some(self, start: int, count: int) -> Iterator[dict[str, Tensor]]:
        return map(self.take, range(start, start + count))


@dataclass
class Weights:
    net: Net

    def save(self, path: str) -> None:
        torch.save(self.net.state_dict(), path)

    def load(self, path: str) -> None:
        self.net.load_state_dict(torch.load(path))


def solver(**fields: Any) -> Any:
    """A SolverParameter with these fields."""
    defaults = {"base_lr": 0.1, "lr_policy": "fixed", "max_iter": 6, "random_seed": 7}
    param = messages.SolverParameter()
    for name, value in (defaults | fields).items():
        if isinstance(value, list):
            getattr(param, name).extend(value)
        else:
            setattr(param, name, value)
    return param


def training(
    param: Any,
    folder: str = "",
    *,
    resume: str = "",
    requests: Requests | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> Training:
    """A training of the tiny net, as build.py would make one."""
    net = Net()
    optimizer = make_optimizer(
        param.type, list(net.parameters()), param.base_lr, Rule.of(param), lambda _: None
    )
    hdf5 = param.snapshot_format == type(param).HDF5
    snapshots = Snapshots(f"{folder}/tiny", Weights(net), net.params, optimizer, hdf5=hdf5)
    rate = LearningRate(Schedule.of(param))
    iteration = 0
    if resume:
        state = snapshots.restore(resume)
        iteration, rate.progress = state.iteration, state.progress
    test = Net().eval()
    test.one, test.two = net.one, net.two
    made = tests_before(param, iteration)
    device = torch.device("cpu")
    return Training(
        param=param,
        feed=Feed(net, [Drawn(1)], device),
        tests=[
            TestNet(k, Feed(test, [Drawn(2)], device), count, made * count)
            for k, count in enumerate(param.test_iter)
        ],
        optimizer=optimizer,
        rate=rate,
        requests=requests or Requests({}),
        save=lambda one: snapshots.save(one.iteration, one.rate.progress),
        iteration=iteration,
        seed=param.random_seed,
        clock=clock,
    )
