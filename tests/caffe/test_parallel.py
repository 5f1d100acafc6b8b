"""Published nets, trained with two workers as alone: the same losses, the same weights."""

from __future__ import annotations

import io
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from pellucid.caffe import log
from pellucid.caffe.proto import messages
from pellucid.caffe.solver.build import Options, build
from pellucid.caffe.tools.database_writer import write_database
from pellucid.caffe.weights import read_weights
from pellucid.settings import Mode
from tests.caffe import nets

SOLVER = """
net: "net.prototxt" base_lr: 0.001 lr_policy: "inv" gamma: 0.001 power: 0.75 momentum: 0.9
weight_decay: 0.0005 display: 1 max_iter: 2 random_seed: 5 snapshot_prefix: "{}" solver_mode: CPU
"""
LOSS = re.compile(r"(?:loss|accuracy|output #\d+: \w+) = (\S+)")


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path, flags: Sequence[str]) -> str:
    """Train in this process; return the log."""
    monkeypatch.chdir(folder)
    stream = io.StringIO()
    log.begin(stream)
    try:
        build(Options(solver="solver.alone", double="--double" in flags)).solve()
    finally:
        log.LOGGER.handlers = []
    return stream.getvalue()


def with_two(folder: Path, flags: Sequence[str]) -> str:
    """Train with two workers; return the log."""
    command = [sys.executable, "-m", "pellucid", "caffe", "train", "-solver", "solver.two"]
    done = subprocess.run(
        [*command, "--workers", "2", *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def numbers(said: str) -> list[float]:
    """Every loss and measure of a log, in order."""
    return [float(found) for found in LOSS.findall(said)]


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    def train(net: str, solver: str = SOLVER) -> str:
        """Train a net both ways and compare; return the log of two workers."""
        (tmp_path / "net.prototxt").write_text(net)
        for name in ("alone", "two"):
            (tmp_path / f"solver.{name}").write_text(solver.format(name))
        first, second = alone(monkeypatch, tmp_path, ["--double"]), with_two(tmp_path, ["--double"])
        assert len(numbers(first)) > 3
        assert numbers(second) == pytest.approx(numbers(first), rel=1e-5)  # it shows six digits
        (one,) = tmp_path.glob("alone_iter_*.caffemodel")
        mine = read_weights(one)
        other = read_weights(tmp_path / one.name.replace("alone", "two"))
        for layer, blobs in mine.items():
            for k, values in blobs.items():
                assert values.dtype == np.float64
                np.testing.assert_allclose(other[layer][k], values, rtol=1e-9, atol=1e-9)
        return second

    return train


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        nets.cifar10_quick,
        nets.cifar10_full,
        nets.autoencoder,
        nets.siamese,
        nets.squeezenet,
        nets.googlenet,
        partial(nets.alexnet, size=67),
    ],
)
@pytest.mark.timeout(300)
def test_a_published_net_trains_with_two_workers_as_alone(
    make: Callable[[], str], both: Callable[[str], str]
) -> None:
    said = both(nets.dummies(make()))
    assert "exact, batch " in said  # it was divided
    assert "every worker loads" not in said


def digits(path: Path, count: int, seed: int) -> None:
    """A database in the shape of MNIST's: bright squares, whose place is their label."""
    random = np.random.default_rng(seed)

    def records() -> Any:
        for k in range(count):
            label = int(random.integers(10))
            image = random.integers(0, 60, (28, 28), np.uint8)
            row, column = divmod(label, 4)
            image[4 + 8 * row : 10 + 8 * row, 1 + 7 * column : 6 + 7 * column] += 150
            yield (
                f"{k:08d}",
                messages.Datum(channels=1, height=28, width=28, label=label, data=image.tobytes()),
            )

    write_database(path, records())


def test_lenet_from_databases_is_the_same_with_two_workers(
    tmp_path: Path, both: Callable[[str, str], str]
) -> None:
    """The example's own files: databases, test net, snapshot; ten iterations and three tests."""
    digits(tmp_path / "mnist_train_lmdb", 100, 1)  # the second pass begins within a batch
    digits(tmp_path / "mnist_test_lmdb", 30, 2)
    example = Path(__file__).parents[2] / "examples" / "caffe"
    net = (
        (example / "lenet_train_test.prototxt")
        .read_text()
        .replace("batch_size: 100", "batch_size: 10")
    )
    solver = (example / "lenet_solver.prototxt").read_text()
    for name, value in {
        "net": '"net.prototxt"',
        "test_iter": "3",
        "test_interval": "5",
        "display": "2",
        "max_iter": "10",
        "snapshot_prefix": '"{}"',
    }.items():
        solver = re.sub(rf"^{name}: .*$", f"{name}: {value}", solver, flags=re.MULTILINE)
    said = both(net, solver + "random_seed: 3\nsolver_mode: CPU\n")
    assert "batch 64 = 2 x 32" in said
    assert "every worker loads" not in said  # each worker reads its own records
    assert said.count("Testing net (#0)") == 3


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.parametrize("mode", sorted(set(get_args(Mode)) - {"exact", "auto"}))
def test_lenet_learns_in_every_mode(tmp_path: Path, mode: str) -> None:
    """Workers that do not wait for each other: every iteration is done once, and it learns."""
    digits(tmp_path / "mnist_train_lmdb", 640, 1)
    digits(tmp_path / "mnist_test_lmdb", 100, 2)
    example = Path(__file__).parents[2] / "examples" / "caffe"
    (tmp_path / "net.prototxt").write_text((example / "lenet_train_test.prototxt").read_text())
    (tmp_path / "solver.two").write_text(
        SOLVER.format("two").replace("max_iter: 2", "max_iter: 120").replace("0.001 lr", "0.01 lr")
        + "test_iter: 1 test_interval: 60 snapshot: 60\n"
    )
    more = ["--listen", f"127.0.0.1:{free_port()}"] if mode == "stream" else []
    said = with_two(tmp_path, ["--mode", mode, *more])
    accuracies = [float(found) for found in re.findall(r"accuracy = ([\d.e-]+)", said)]
    assert len(accuracies) == 3
    assert accuracies[2] > max(0.8, accuracies[0])
    assert "120 steps" in said
    assert (tmp_path / "two_iter_120.caffemodel").exists()


LINREG = """
import caffe
import numpy as np

class Loss(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i, sign in ((0, 1), (1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.diff / bottom[i].num
"""


@pytest.mark.slow
def test_a_loss_in_python_is_the_same_with_two_workers(
    tmp_path: Path, both: Callable[[str], str]
) -> None:
    (tmp_path / "pyloss.py").write_text(LINREG)
    loss = 'python_param { module: "pyloss" layer: "Loss" } loss_weight: 1'
    net = (
        'name: "linreg"\n'
        + nets.inputs(x=(10, 3, 2), y=(10, 2))
        + nets.full("ipx", "x", 10)
        + nets.full("ipy", "y", 10)
        + nets.layer("loss", "Python", "ipx ipy", "loss", loss)
    )
    both(nets.dummies(net))


@pytest.mark.slow
def test_signals_ask_both_workers_for_a_snapshot_and_for_the_end(tmp_path: Path) -> None:
    """Ctrl-C stops with a snapshot, SIGHUP takes one and goes on: at one iteration in all."""
    (tmp_path / "net.prototxt").write_text(nets.dummies(nets.lenet(8)))
    endless = SOLVER.format("two").replace("max_iter: 2", "max_iter: 1000000")
    (tmp_path / "solver.two").write_text(endless)
    command = [sys.executable, "-m", "pellucid", "caffe", "train", "-solver", "solver.two"]
    with subprocess.Popen(
        [*command, "--workers", "2"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        said = []

        def until(what: str) -> None:
            for line in running.stderr or ():
                said.append(line)
                if what in line:
                    return
            pytest.fail(f"it ended before it said {what!r}: {''.join(said)}")

        try:
            until("Iteration 3 ")
            running.send_signal(signal.SIGHUP)
            until("Snapshotting solver state")
            until("Iteration ")
            running.send_signal(signal.SIGINT)
            until("Optimization stopped early.")
            running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 0
    assert len(list(tmp_path.glob("two_iter_*.solverstate"))) == 2
