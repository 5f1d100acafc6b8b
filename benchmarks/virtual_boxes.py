"""What many boxes learn from as many samples as one: LeNet on MNIST, boxes in one process.

python -m benchmarks.virtual_boxes data/mnist                  # all that is missing in the file
python -m benchmarks.virtual_boxes data/mnist --seconds 170    # a part of it; call it again
python -m benchmarks.virtual_boxes                             # print the tables of the file

Results are kept in a JSON file, one entry a run, and a run that is in it is not repeated. They do
not depend on how fast the machine is: time in them is simulated (see `workloads/virtual.py`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from benchmarks.workloads.virtual import Outcome, Scenario, load, rehearse

SEEDS = (0, 1, 2)
COUNTS = (1, 2, 4, 8)
FILE = Path(__file__).parent / "virtual_boxes.json"
SGD = Scenario(optimizer="sgd", lr=0.01)
ADAM = Scenario(optimizer="adam", lr=0.001)


class Table(NamedTuple):
    """A title, and rows of what is run with every seed."""

    title: str
    rows: list[Scenario]
    seeds: Sequence[int] = SEEDS

    def runs(self) -> Iterator[Scenario]:
        """All of them, a seed at a time."""
        for seed in self.seeds:
            yield from (dataclasses.replace(row, seed=seed) for row in self.rows)


def tables() -> list[Table]:
    """All that is measured."""
    change = dataclasses.replace
    four, eight = change(SGD, boxes=4), change(SGD, boxes=8)
    hard = [
        *(change(four, staleness=staleness) for staleness in (0, 10, 30, 100)),
        change(four, slowest=4.0),
        change(four, deaths=2),
    ]
    small = [change(row, net="small") for row in hard]
    quick, quick_adam = change(eight, net="small"), change(ADAM, boxes=8, net="small")
    return [
        # twice as many seeds: between one box and eight there is hardly more than their spread
        Table("LeNet, SGD with momentum 0.9", [change(SGD, boxes=n) for n in COUNTS], range(6)),
        Table("LeNet, Adam", [change(ADAM, boxes=n) for n in COUNTS]),
        Table("LeNet, SGD: staleness, speeds, deaths", hard),
        Table("LeNet, SGD: news at every step", [change(eight, cycle=1)]),
        Table("Small net, SGD", [change(SGD, boxes=n, net="small") for n in COUNTS]),
        Table("Small net, Adam", [change(ADAM, boxes=n, net="small") for n in COUNTS]),
        Table(
            "Small net, SGD, three times as long",
            [change(SGD, boxes=n, net="small", epochs=6) for n in (1, 8)],
        ),
        Table("Small net, SGD: staleness, speeds, deaths", small),
        Table(
            "Small net, SGD: what closes the gap",
            [
                quick,
                change(quick, stride=0.0),
                change(quick, stride=0.5),
                change(quick, cycle=1),
                change(quick, cycle=10),
                change(quick, cycle=60),
                change(quick, stride=0.0, gain=0.5),
                change(quick, stride=0.0, gain=1.0),
                change(quick, stride=0.0, outer=(0.5, 1.0, 16)),
                change(quick, outer=(0.5, 1.0, 16)),
                change(quick, codec="fp32"),
            ],
        ),
        Table(
            "Small net, Adam: what closes the gap",
            [
                quick_adam,
                change(quick_adam, stride=0.0),
                change(quick_adam, stride=0.5),
                change(quick_adam, stride=0.0, gain=0.5),
                change(quick_adam, cycle=10),
            ],
        ),
    ]


def key(scenario: Scenario) -> str:
    """A run's name in the file."""
    return json.dumps(dataclasses.asdict(scenario), sort_keys=True)


def _run(job: tuple[Scenario, str, float]) -> tuple[str, Outcome] | None:
    scenario, folder, deadline = job
    if time.monotonic() > deadline:
        return None
    torch.set_num_threads(1)
    return key(scenario), rehearse(scenario, load(Path(folder)))


def measure(args: argparse.Namespace) -> None:
    """Make the runs that are missing, as far as time permits."""
    done = json.loads(args.file.read_text()) if args.file.exists() else {}
    missing = [
        scenario
        for table in tables()
        for scenario in table.runs()
        if key(scenario) not in done and args.only in table.title
    ]
    deadline = time.monotonic() + args.seconds
    jobs = [(scenario, args.folder, deadline) for scenario in missing]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for result in pool.imap_unordered(_run, jobs):
            if result is None:
                continue
            done = json.loads(args.file.read_text()) if args.file.exists() else {}
            done[result[0]] = result[1]._asdict()
            args.file.write_text(json.dumps(done, indent=1, sort_keys=True) + "\n")
            print(*result, flush=True)


def print_tables(file: Path) -> None:
    """The tables, as Markdown."""
    done = json.loads(file.read_text())
    for table in tables():
        print(f"\n### {table.title}\n")
        print("| boxes | what is special | accuracy % | loss | runs |")
        print("| --- | --- | --- | --- | --- |")
        for row in table.rows:
            names = (key(dataclasses.replace(row, seed=seed)) for seed in table.seeds)
            outcomes = [done[name] for name in names if name in done]
            if not outcomes:
                continue
            accuracies = [outcome["accuracy"] for outcome in outcomes]
            spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
            loss = statistics.mean(outcome["loss"] for outcome in outcomes)
            print(
                f"| {row.boxes} | {_special(row)} | {statistics.mean(accuracies):.2f}{spread} "
                f"| {loss:.4f} | {len(outcomes)} |"
            )


def _special(scenario: Scenario) -> str:
    """What in a run is not the default."""
    told = {"boxes", "seed", "optimizer", "lr", "net"}
    return ", ".join(
        f"{field.name} {getattr(scenario, field.name)}"
        for field in dataclasses.fields(scenario)
        if field.name not in told and getattr(scenario, field.name) != field.default
    )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="MNIST's idx files; see benchmarks/mnist.py")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no run later")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--only", default="", help="of the tables with this in their title")
    args = parser.parse_args()
    if args.folder is not None:
        measure(args)
    else:
        print_tables(args.file)


if __name__ == "__main__":
    main()
