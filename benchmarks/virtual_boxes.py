"""What many boxes learn from as many samples as one: LeNet on MNIST, boxes in one process.

python benchmarks/virtual_boxes.py data/mnist                    # all that is missing in the file
python benchmarks/virtual_boxes.py data/mnist --seconds 170      # a part of it; call it again
python benchmarks/virtual_boxes.py --tables                      # print the tables of the file

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
from typing import Any

import torch
from benchmarks.workloads.virtual import Outcome, Scenario, load, rehearse

SEEDS = (0, 1, 2)
FILE = Path(__file__).parent / "virtual_boxes.json"
SGD = Scenario(optimizer="sgd", lr=0.01)
ADAM = Scenario(optimizer="adam", lr=0.001)


def family(title: str, *scenarios: Scenario, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """A table: a title, and its rows, each with a run for every seed."""
    rows = [[dataclasses.replace(one, seed=seed) for seed in seeds] for one in scenarios]
    return {"title": title, "rows": rows}


def tables() -> Iterator[dict[str, Any]]:
    """All that is measured."""
    change = dataclasses.replace
    counts = (1, 2, 4, 8)
    yield family("SGD with momentum 0.9", *(change(SGD, boxes=n) for n in counts))
    yield family("Adam", *(change(ADAM, boxes=n) for n in counts))
    four = change(SGD, boxes=4)
    yield family("Staleness", *(change(four, staleness=s) for s in (0, 10, 30, 100)), seeds=(0,))
    yield family(
        "Unequal and dying boxes",
        change(four, slowest=4.0),
        change(four, deaths=2),
        seeds=(0,),
    )


def key(scenario: Scenario) -> str:
    """A run's name in the file."""
    return json.dumps(dataclasses.asdict(scenario), sort_keys=True)


def _run(job: tuple[Scenario, str, int | None, float]) -> tuple[str, Outcome] | None:
    scenario, folder, limit, deadline = job
    if time.monotonic() > deadline:
        return None
    torch.set_num_threads(1)
    return key(scenario), rehearse(scenario, load(Path(folder), limit))


def measure(folder: str, file: Path, seconds: float, processes: int) -> None:
    """Make the runs that are missing, as far as time permits."""
    done = json.loads(file.read_text()) if file.exists() else {}
    missing = [
        scenario
        for table in tables()
        for row in table["rows"]
        for scenario in row
        if key(scenario) not in done
    ]
    deadline = time.monotonic() + seconds
    jobs = [(scenario, folder, None, deadline) for scenario in missing]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for result in pool.imap_unordered(_run, jobs):
            if result is None:
                continue
            done[result[0]] = result[1]._asdict()
            file.write_text(json.dumps(done, indent=1, sort_keys=True) + "\n")
            print(*result, flush=True)


def print_tables(file: Path) -> None:
    """The tables, as Markdown."""
    done = json.loads(file.read_text())
    for table in tables():
        print(f"\n### {table['title']}\n")
        print("| boxes | lr | gain | staleness | speeds | deaths | accuracy % | loss | runs |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for row in table["rows"]:
            outcomes = [done[key(scenario)] for scenario in row if key(scenario) in done]
            if not outcomes:
                continue
            one = row[0]
            accuracies = [outcome["accuracy"] for outcome in outcomes]
            spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
            loss = statistics.mean(outcome["loss"] for outcome in outcomes)
            print(
                f"| {one.boxes} | {one.lr} | {one.gain} | {one.staleness:g} | 1 to "
                f"1/{one.slowest:g} | {one.deaths} | {statistics.mean(accuracies):.2f}{spread} "
                f"| {loss:.4f} | {len(outcomes)} |"
            )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="MNIST's idx files; see benchmarks/mnist.py")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no run later")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--tables", action="store_true", help="print what was measured")
    args = parser.parse_args()
    if args.folder is not None:
        measure(args.folder, args.file, args.seconds, args.processes)
    if args.tables or args.folder is None:
        print_tables(args.file)


if __name__ == "__main__":
    main()
