"""Measure hogwild mode: how fast it is, and what becomes of momentum and Adam.

    python benchmarks/hogwild.py speed --rounds 5 --mnist data/mnist
    python benchmarks/hogwild.py momentum --mnist data/mnist

*speed*: LeNet, batch 64. In every round, one after the other: as many independent plain processes
as there are workers, with a core each and nothing shared (their speeds added up: what no mode that
shares anything can exceed); ``pellucid run --mode hogwild``; plain python with all threads; plain
python with one. Ratios are taken within a round.

*momentum*: LeNet (or a perceptron) on MNIST, one pass, so many workers on one weight array,
accuracy on the test set.
Compared are three ways to treat an optimizer's state when several workers update one set of
weights: see [Note: variants].

[Note: variants]
private    every worker has an optimizer of its own, as it is: what pellucid does
shared     momentum (Adam: both averages and the step count) lie in shared memory, written by all
corrected  private, but decaying in the time of all workers: mu^N instead of mu, and the rate times
           (1 - mu^N) / (1 - mu), so that a gradient moves the weights as far in the end. For Adam,
           both betas to the power N
raw mu^N   as corrected, with the rate as it is
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "workloads"))

import torch.nn.functional as F  # noqa: E402, N812
from data import digits  # type: ignore[import-not-found]  # noqa: E402
from nets import LeNet  # type: ignore[import-not-found]  # noqa: E402

RESULTS = HERE.parent / "build" / "benchmarks"
BATCH = 64
LIMIT = 300.0  # seconds a run may take
COLUMNS = ("independent", "pellucid", "plain all threads", "plain 1 thread")
NETS: dict[str, Callable[[], torch.nn.Module]] = {
    "lenet": LeNet,
    # much less to compute, for a machine that has no time
    "perceptron": lambda: torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    ),
}
VARIANTS = ("private", "shared", "corrected", "raw mu^N")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("--rounds", type=int, default=5)
    speed.add_argument("--workers", type=int, default=2)
    speed.add_argument("--warmup", type=int, default=300)
    speed.add_argument("--steps", type=int, default=600)
    speed.add_argument("--workload", default="lenet")
    speed.add_argument("--without", action="append", choices=COLUMNS, default=[])
    speed.add_argument("--mnist", metavar="DIR")
    study = commands.add_parser("momentum")
    study.add_argument("--net", choices=NETS, default="lenet")
    study.add_argument("--optimizer", action="append", choices=("sgd", "adam"))
    study.add_argument("--workers", type=int, action="append")
    study.add_argument("--variant", action="append", choices=VARIANTS)
    study.add_argument("--seed", type=int, action="append")
    study.add_argument("--samples", type=int, default=60_000)
    study.add_argument("--mnist", metavar="DIR", required=True)
    study.add_argument("--json", type=Path, default=RESULTS / "hogwild-momentum.jsonl")
    args = parser.parse_args()
    {"speed": measure_speed, "momentum": study_momentum}[args.command](args)


# speed


def measure_speed(args: argparse.Namespace) -> None:
    """Interleaved rounds, and their ratios."""
    columns = [column for column in COLUMNS if column not in args.without]
    speeds: dict[str, list[float]] = {column: [] for column in columns}
    for number in range(args.rounds):
        turn = number % len(columns)
        for column in columns[turn:] + columns[:turn]:
            speeds[column].append(_speed(column, args))
        others = [column for column in columns if column != "pellucid"]
        ratios = {c: speeds["pellucid"][-1] / speeds[c][-1] for c in others}
        told = ", ".join(f"{column} {ratio:.3f}" for column, ratio in ratios.items())
        print(f"round {number + 1}: pellucid / {told}", flush=True)
    for column in others:
        found = [a / b for a, b in zip(speeds["pellucid"], speeds[column], strict=True)]
        print(f"pellucid / {column}: {_spread(found)}")


def _speed(column: str, args: argparse.Namespace) -> float:
    script = [str(HERE / "workloads" / "passes.py"), args.workload]
    script += ["--warmup", str(args.warmup), "--steps", str(args.steps)]
    if args.mnist:
        script += ["--mnist", args.mnist]
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    plain = [sys.executable, *script]
    if column == "independent":
        cores = sorted(os.sched_getaffinity(0))
        own = [["taskset", "-c", str(core), *plain] for core in cores[: args.workers]]
        return sum(_run(own, env | {"OMP_NUM_THREADS": "1"}))
    if column == "pellucid":
        launch = ["-m", "pellucid", "run", "--mode", "hogwild", "--workers", str(args.workers)]
        return sum(_run([[sys.executable, *launch, *script]], env))
    if column == "plain 1 thread":
        env |= {"OMP_NUM_THREADS": "1"}
    return sum(_run([plain], env))


def _run(commands: list[list[str]], env: dict[str, str]) -> list[float]:
    """Run commands side by side; what each of them measured."""
    processes = [
        subprocess.Popen(c, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for c in commands
    ]
    found = []
    for process in processes:
        out, err = process.communicate(timeout=LIMIT)
        if process.returncode:
            sys.exit(f"{process.args!r} failed:\n{err[-2000:]}")
        found.append(float(out.rsplit("samples_per_second", 1)[1]))
    return found


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}..{max(values):.2f}]"


# momentum


def study_momentum(args: argparse.Namespace) -> None:
    """Every combination that was asked for, one line each, then a table of all lines there are."""
    args.json.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    train, test = digits(args.mnist).tensors, _test_digits(args.mnist)
    for optimizer in args.optimizer or ("sgd", "adam"):
        for workers in args.workers or (1, 2, 4, 8):
            for variant in args.variant or (VARIANTS if workers > 1 else VARIANTS[:1]):
                for seed in args.seed or (0, 1, 2):
                    torch.manual_seed(seed)
                    net = NETS[args.net]().share_memory()
                    order = torch.randperm(len(train[0]))[: args.samples]
                    _train(net, optimizer, workers, variant, (*train, order))
                    rate = _accuracy(net, test)
                    facts = {"optimizer": optimizer, "workers": workers, "variant": variant}
                    with args.json.open("a") as file:
                        file.write(json.dumps({**facts, "seed": seed, "accuracy": rate}) + "\n")
    print_table(args.json)


def print_table(path: Path) -> None:
    """Mean accuracy and spread over seeds of all lines in a file."""
    cells: dict[tuple[Any, ...], list[float]] = {}
    for line in path.read_text().splitlines():
        run = json.loads(line)
        key = (run["optimizer"], run["workers"], run["variant"])
        cells.setdefault(key, []).append(100 * run["accuracy"])
    for (optimizer, workers, variant), found in sorted(cells.items()):
        spread = f"{mean(found):6.2f} [{min(found):.2f}..{max(found):.2f}]"
        print(f"{optimizer:5} {workers} {variant:10} {spread}  {len(found)} seeds")


def _test_digits(folder: str) -> tuple[torch.Tensor, torch.Tensor]:
    import numpy as np

    images = np.fromfile(Path(folder, "t10k-images-idx3-ubyte"), np.uint8)[16:]
    labels = np.fromfile(Path(folder, "t10k-labels-idx1-ubyte"), np.uint8)[8:]
    return (
        torch.from_numpy(images).view(-1, 1, 28, 28).float() / 255,
        torch.from_numpy(labels).long(),
    )


def _train(
    net: torch.nn.Module,
    optimizer: str,
    workers: int,
    variant: str,
    data: tuple[torch.Tensor, ...],
) -> None:
    """Train with so many processes on one weight array.

    Args:
        net: in shared memory.
        optimizer: ``sgd`` or ``adam``.
        workers: how many processes.
        variant: see [Note: variants].
        data: images, labels, and the order in which to take them.
    """
    images, labels, order = data
    state = _shared_state(net, optimizer) if variant == "shared" else None
    fork = multiprocessing.get_context("fork")
    taken = fork.Value("q", 0)

    def work() -> None:
        torch.set_num_threads(1)
        chosen = _optimizer(net, optimizer, workers if "mu^N" in variant else 1)
        if variant == "corrected":
            chosen = _optimizer(net, optimizer, workers, rescaled=True)
        if state is not None:
            for parameter, tensors in zip(net.parameters(), state, strict=True):
                chosen.state[parameter].update(tensors)
        for batch in _taken(order, taken):
            chosen.zero_grad()
            F.cross_entropy(net(images[batch]), labels[batch]).backward()
            chosen.step()

    _side_by_side(fork, work, workers)


def _side_by_side(fork: Any, work: Callable[[], None], workers: int) -> None:
    processes = [fork.Process(target=work) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit(f"a worker of the study ended with exit code {process.exitcode}")


def _taken(order: torch.Tensor, taken: Any) -> Iterator[torch.Tensor]:
    """The batches that this process gets: first come, first served."""
    while True:
        with taken.get_lock():
            start = taken.value
            taken.value += BATCH
        if start >= len(order):
            return
        yield order[start : start + BATCH]


def _optimizer(
    net: torch.nn.Module, name: str, power: int, *, rescaled: bool = False
) -> torch.optim.Optimizer:
    """The optimizer, its decay raised to a power."""
    if name == "sgd":
        mu = 0.9**power
        rate = 0.01 * ((1 - mu) / 0.1 if rescaled else 1)
        return torch.optim.SGD(net.parameters(), lr=rate, momentum=mu)
    betas = (0.9**power, 0.999**power)
    return torch.optim.Adam(net.parameters(), lr=1e-3, betas=betas)


def _shared_state(net: torch.nn.Module, name: str) -> list[dict[str, torch.Tensor]]:
    """An optimizer's state before the first step, in shared memory."""
    keys = ("momentum_buffer",) if name == "sgd" else ("exp_avg", "exp_avg_sq")
    found = []
    for parameter in net.parameters():
        tensors = {key: torch.zeros_like(parameter).detach().share_memory_() for key in keys}
        if name == "adam":
            tensors["step"] = torch.zeros(()).share_memory_()
        found.append(tensors)
    return found


@torch.no_grad()
def _accuracy(net: torch.nn.Module, test: tuple[torch.Tensor, torch.Tensor]) -> float:
    right = [
        net(images).argmax(1).eq(labels).sum()
        for images, labels in zip(test[0].split(1000), test[1].split(1000), strict=True)
    ]
    return float(sum(right)) / len(test[0])


if __name__ == "__main__":
    main()
