"""Measure stream mode between boxes whose network is slow, against what one would use instead.

Boxes are network namespaces of this machine, one process of one thread on each, with links limited
by ``tc tbf``. Every round runs every column one after the other: one box alone, the boxes apart
(each trains for itself: what they can do together at best), ``pellucid run --mode stream``, and
torchrun + DistributedDataParallel over Gloo: as it is, with the fp16 hook, and with PowerSGD of
rank 1 in one bucket. Ratios are taken to the boxes apart within a round; their medians and spread
over the rounds are printed, and all of it goes to a JSON file. Absolute speeds are in there only to
compute ratios from. Bytes are those that ``ip -s link`` counts.

    python benchmarks/stream.py                              # all, as root: half an hour or more
    python benchmarks/stream.py --net lenet --rate 100mbit
    python benchmarks/stream.py --accuracy --mnist data/mnist # seconds to an accuracy instead
    python benchmarks/stream.py --quick                      # does it run?
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests know how to make boxes

from tests.boxes.fleet import BUSY, Fleet, busy_cores, one_thread, wait_for_idle
from tests.boxes.namespaces import Namespaces

HERE: Final = Path(__file__).parent
WORKLOADS: Final = HERE / "workloads"
RESULTS: Final = HERE.parent / "build" / "benchmarks" / "stream.json"
MNIST: Final = HERE.parent / "data" / "mnist"
DDP_PORT: Final = 29500
COLUMNS: Final = ("alone", "apart", "stream", "DDP", "DDP fp16", "DDP PowerSGD")
HOOKS: Final = {"DDP": "none", "DDP fp16": "fp16", "DDP PowerSGD": "powersgd"}
RATES: Final = ("unlimited", "1gbit", "100mbit", "10mbit")
LOOK_SECONDS: Final = 0.2
SECONDS_TO_START: Final = 60.0


@dataclass(frozen=True)
class Row:
    """A net and how long it is watched.

    Attributes:
        net: its name.
        batch: samples of a batch on each box.
        images: of an epoch, so many that none ends while it is watched.
        warmup: seconds after the first step.
        window: seconds that are watched then.
        goals: least ratio of stream to the boxes apart, by rate.
    """

    net: str
    batch: int
    images: int
    warmup: float
    window: float
    goals: dict[str, float] = field(default_factory=dict)


ROWS: Final = (
    Row("lenet", 64, 60_000, 3.0, 12.0),
    Row("alexnet", 16, 4096, 10.0, 30.0, {"1gbit": 0.95, "100mbit": 0.9}),
)


@dataclass
class Run:
    """What one run of one column gave.

    Attributes:
        speed: samples a second of all boxes; None if there was no step in time.
        sent: bytes a second that one box put on its wire.
        sent_per_sample: bytes on the wire of all boxes for each sample.
        reached: seconds from the first step to the accuracy, if that was asked for.
        accuracy: the last one.
        others: cores in use by others before it began.
        trouble: why there is no speed.
    """

    net: str
    rate: str
    column: str
    round: int
    speed: float | None = None
    sent: float = 0.0
    sent_per_sample: float = 0.0
    reached: float | None = None
    accuracy: float | None = None
    others: float = 0.0
    trouble: str = ""


def main() -> None:
    """Measure, print, write."""
    args = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and clean up
    console = Console()
    if not console.is_terminal:
        console = Console(width=130)
    rows = [row for row in ROWS if row.net in args.net]
    columns = [c for c in COLUMNS if c in args.column] if args.column else list(COLUMNS)
    runs: list[Run] = []
    for number in range(args.rounds):
        for row in rows:
            for rate in args.rate:
                turn = number % len(columns)  # a machine that warms up favours nobody
                for column in columns[turn:] + columns[:turn]:
                    if column == "alone" and rate != args.rate[0]:
                        continue  # it has no network: once a round will do
                    run = _measure(row, rate, column, number, args)
                    runs.append(run)
                    busy = f"  (others used {run.others:.1f} cores)" if run.others > BUSY else ""
                    said = run.trouble.splitlines()[0] if run.trouble else "done"
                    line = f"round {number + 1}  {row.net:8}  {rate:9}  {column:13}  {said}{busy}"
                    console.print(line, highlight=False, markup=False)
                    _write(args, runs)
    for row in rows:
        console.print(_accuracies(row, args, runs) if args.accuracy else _speeds(row, args, runs))
    console.print(f"everything is in {args.json}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    nets = [row.net for row in ROWS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--boxes", type=int, default=2)
    parser.add_argument("--net", action="append", choices=nets)
    parser.add_argument("--rate", action="append", help="as tc writes it, or unlimited")
    parser.add_argument("--column", action="append", choices=COLUMNS)
    parser.add_argument("--codec", default="int8", help="of stream")
    parser.add_argument("--no-encrypt", action="store_true", help="stream sends in the clear")
    parser.add_argument("--accuracy", action="store_true", help="time to an accuracy, with LeNet")
    parser.add_argument("--goal", type=float, default=0.98, help="that accuracy")
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--mnist", metavar="DIR", help="idx files; data/mnist if there")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for a run's window")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for idle")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="numbers worth nothing")
    args = parser.parse_args()
    args.rate = args.rate or list(RATES)
    args.net = ["lenet"] if args.accuracy else args.net or nets
    if args.mnist is None and MNIST.is_dir():
        args.mnist = str(MNIST)
    if args.accuracy and args.mnist is None:
        parser.error("an accuracy needs real digits: --mnist DIR (see benchmarks/mnist.py)")
    if args.mnist is not None:
        args.mnist = str(Path(args.mnist).absolute())
    if args.quick:
        args.rounds, args.patience = 1, 0.0
    return args


# running


def _measure(row: Row, rate: str, column: str, number: int, args: argparse.Namespace) -> Run:
    run = Run(row.net, rate, column, number)
    run.others = wait_for_idle(args.patience) if args.patience else busy_cores(0.1)
    count = 1 if column == "alone" else args.boxes
    limit = None if rate == "unlimited" else rate
    with (
        tempfile.TemporaryDirectory(prefix="pellucid-bench-") as folder,
        Namespaces(count, rate=limit) as boxes,
    ):
        watch = _Watch(boxes, Path(folder), row, args)
        try:
            watch.start(column)
            if args.accuracy:
                watch.until_accurate(run)
            else:
                watch.speed(run)
        except RuntimeError as error:
            run.trouble = str(error)
        finally:
            watch.fleet.stop()
    return run


class _Watch:
    """One run, from outside."""

    def __init__(self, boxes: Namespaces, folder: Path, row: Row, args: argparse.Namespace) -> None:
        self.boxes = boxes
        self.row = row
        self.args = args
        self.fleet = Fleet(boxes, folder, WORKLOADS, one_thread())
        self.outputs: list[Path] = []
        epochs = 100 if args.accuracy or row.net == "lenet" else 10
        self.script = [
            *(row.net, "--batch-size", str(row.batch), "--epochs", str(epochs)),
            *("--optimizer", args.optimizer),
            *(["--images", str(row.images)] if row.net == "alexnet" else []),
            *(["--mnist", args.mnist] if args.mnist and row.net == "lenet" else []),
        ]
        if not args.accuracy and row.net == "lenet":
            self.script += ["--no-tests"]

    def start(self, column: str) -> None:
        """Start all boxes at once."""
        if column == "stream":
            self._start_stream()
            return
        for box in range(self.boxes.count):
            if column in HOOKS:
                torchrun = ["-m", "torch.distributed.run", "--nnodes", str(self.boxes.count)]
                torchrun += ["--nproc-per-node", "1", "--node-rank", str(box)]
                torchrun += ["--master-addr", self.boxes.address(0)]
                torchrun += ["--master-port", str(DDP_PORT)]
                line = [*torchrun, "epochs_ddp.py", *self.script, "--hook", HOOKS[column]]
            else:
                # each on its own learns from other batches, as it would with others
                line = ["epochs.py", *self.script, "--seed", str(box)]
            self._plain(box, line)
        if column in HOOKS:
            del self.outputs[1:]  # rank 0 counts for all

    def _start_stream(self) -> None:
        flags = ["--codec", self.args.codec]
        open_ = ["--no-encrypt"] if self.args.no_encrypt else []
        self.fleet.begin(["epochs.py", *self.script], [*flags, *open_], wait_for=self.boxes.count)
        self.outputs = [self.fleet.path(0, "stdout")]
        self.fleet.wait_until(
            lambda: "pellucid join" in self.fleet.said(0), SECONDS_TO_START, "the first box"
        )
        for box in range(1, self.boxes.count):
            self.fleet.join(box, flags=open_)
            self.outputs.append(self.fleet.path(box, "logs", "worker-0.out"))

    def _plain(self, box: int, line: Sequence[str]) -> None:
        here = self.fleet.path(box)
        here.mkdir(parents=True, exist_ok=True)
        with (here / "stdout").open("wb") as out, (here / "stderr").open("wb") as err:
            process = self.boxes.start(
                box,
                [sys.executable, *line],
                cwd=WORKLOADS,
                env={**one_thread(), "GLOO_SOCKET_IFNAME": "eth0"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.fleet.launchers[box] = process
        self.outputs.append(here / "stdout")

    def speed(self, run: Run) -> None:
        """Watch for a while, then take all boxes' speeds together."""
        row, limit = self.row, self.args.limit
        if self.args.quick:
            row = Row(row.net, row.batch, row.images, 1.0, 5.0)
        self._wait(lambda: all(self._steps()), SECONDS_TO_START + limit, "the first step")
        began = max(steps[0][0] for steps in self._steps())
        self._wait(lambda: time.time() >= began + row.warmup, limit, "the end of the warm-up")
        before, opened = self._traffic(), time.time()
        # slow steps need a longer look: at least three are to be seen on each box

        def seen() -> bool:
            enough = [sum(t > opened for t, _ in steps) >= 3 for steps in self._steps()]
            return time.time() >= opened + row.window and all(enough)

        self._wait(seen, limit, "three steps")
        after, closed = self._traffic(), time.time()
        speeds = []
        for steps in self._steps():
            inside = [(t, n) for t, n in steps if opened <= t <= closed]
            trained = sum(n for _, n in inside[1:])
            speeds.append(trained / (inside[-1][0] - inside[0][0]))
        run.speed = sum(speeds)
        sent = sum(a - b for a, b in zip(after, before, strict=True)) / (closed - opened)
        run.sent = sent / self.boxes.count
        run.sent_per_sample = sent / run.speed

    def until_accurate(self, run: Run) -> None:
        """Wait for an accuracy, and take the time since the first step."""

        def accuracies() -> list[tuple[float, float]]:
            return [(float(t), float(a)) for t, _, a in self._said("accuracy", 0)]

        def reached() -> bool:
            return any(accuracy >= self.args.goal for _, accuracy in accuracies())

        self._wait(lambda: bool(self._said("samples", 0)), SECONDS_TO_START, "the first step")
        began = float(self._said("samples", 0)[0][0])
        try:
            self._wait(reached, self.args.limit, f"an accuracy of {self.args.goal}")
            run.reached = next(t for t, a in accuracies() if a >= self.args.goal) - began
        finally:
            run.accuracy = accuracies()[-1][1] if accuracies() else None

    def _steps(self) -> list[list[tuple[float, int]]]:
        """Of each box: when a step ended, and samples it had."""
        boxes = range(len(self.outputs))
        return [[(float(t), int(n)) for t, n in self._said("samples", box)] for box in boxes]

    def _said(self, word: str, box: int) -> list[list[str]]:
        """What follows this word in what a box's script has printed."""
        try:
            lines = self.outputs[box].read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [line.split()[1:] for line in lines if line.startswith(word + " ")]

    def _traffic(self) -> list[int]:
        return [self.boxes.traffic(box).sent for box in range(self.boxes.count)]

    def _wait(self, holds: Any, seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not holds():
            ended = [p for p in self.fleet.launchers.values() if p.poll() is not None]
            if ended or time.monotonic() > until:
                why = f"exit code {ended[0].returncode}" if ended else f"not in {seconds:g} s"
                said = "\n".join(self.fleet.said(b)[-1500:] for b in range(self.boxes.count))
                msg = f"no {what.removeprefix('the ')}: {why}\n{said}"
                raise RuntimeError(msg)
            time.sleep(LOOK_SECONDS)


# telling


def _speeds(row: Row, args: argparse.Namespace, runs: Sequence[Run]) -> Table:
    """Ratios to the boxes apart, and what went over the wire."""
    title = f"{row.net}, {args.boxes} boxes: speed as a ratio to the boxes apart (MB/s sent a box)"
    table = Table("rate", *COLUMNS, "goal of stream", title=title)
    for rate in args.rate:
        cells = []
        for column in COLUMNS:
            ratios, sent = [], []
            for number in range(args.rounds):
                of = {
                    r.column: r
                    for r in runs
                    if (r.net, r.round) == (row.net, number)
                    and (r.rate == rate or r.column == "alone")
                }
                run, apart = of.get(column), of.get("apart")
                if run and apart and run.speed and apart.speed:
                    ratios.append(run.speed / apart.speed)
                    sent.append(run.sent / 1e6)
            flow = f"  ({median(sent):.1f})" if sent and max(sent) > 0.1 else ""
            cells.append(_spread(ratios) + flow)
        table.add_row(rate, *cells, f"{row.goals[rate]:.2f}" if rate in row.goals else "")
    return table


def _accuracies(row: Row, args: argparse.Namespace, runs: Sequence[Run]) -> Table:
    """Time to an accuracy as a ratio to one box alone."""
    title = f"{row.net}, {args.boxes} boxes: time to {args.goal:.1%} as a ratio to one box alone"
    table = Table("rate", *COLUMNS, title=title)
    for rate in args.rate:
        cells = []
        for column in COLUMNS:
            ratios = []
            for number in range(args.rounds):
                of = {
                    r.column: r
                    for r in runs
                    if r.round == number and (r.rate == rate or r.column == "alone")
                }
                run, alone = of.get(column), of.get("alone")
                if run and alone and run.reached and alone.reached:
                    ratios.append(run.reached / alone.reached)
            cells.append(_spread(ratios))
        table.add_row(rate, *cells)
    return table


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return "-"
    return f"{median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"


def _write(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    commit = subprocess.run(
        ["git", "-C", HERE, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    told = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "arch": os.uname().machine,
        },
        "arguments": {name: str(value) for name, value in vars(args).items()},
        "rows": [asdict(row) for row in ROWS],
        "runs": [asdict(run) for run in runs],
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
