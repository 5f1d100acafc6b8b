"""Train ``examples/digits.py`` with plain python, then with ``pellucid run``, and compare.

What this file is given on its command line goes to the script, except ``--workers N``. It fails if
the two trainings are not the same.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

SCRIPT = Path(__file__).parent.parent / "examples" / "digits.py"
LINE = re.compile(r"^epoch +\d+ +loss (\S+) +accuracy (\S+)% +(\S+) images/s$", re.MULTILINE)
# float32 sums in another order differ in the 7th digit; training makes that grow, and plain
# python with another number of threads does just the same
SAME_LOSS = 0.01


@dataclass(frozen=True)
class Training:
    """What the script printed in one run, an item an epoch, and how long all of it took."""

    losses: list[float]
    accuracies: list[float]
    speeds: list[float]
    seconds: float

    @property
    def speed(self) -> float:
        """Images a second once warm: the first epoch is left out when there are others."""
        return median(self.speeds[1:] or self.speeds)


def train(console: Console, command: list[str]) -> Training:
    """Run a command, show what it prints as it comes, and read the script's lines."""
    shown = " ".join(["python", *command]).replace("python -m pellucid", "pellucid")
    console.print(f"\n[bold]$ {shown}")
    start = time.perf_counter()
    lines = []
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}  # show each epoch when it ends
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            console.print(line, end="", highlight=False)
            lines.append(line)
    if process.returncode:
        sys.exit(process.returncode)
    found = LINE.findall("".join(lines))
    losses, accuracies, speeds = ([float(row[k]) for row in found] for k in range(3))
    return Training(losses, accuracies, speeds, time.perf_counter() - start)


def largest_difference(plain: list[float], ours: list[float]) -> float:
    """Largest difference between two trainings at the same epoch."""
    return max(abs(a - b) for a, b in zip(plain, ours, strict=True))


def table(plain: Training, ours: Training) -> Table:
    """Both trainings side by side."""
    shown = Table("", "plain python", "pellucid run", "")
    apart = largest_difference(plain.losses, ours.losses)
    shown.add_row(
        "loss, last epoch",
        f"{plain.losses[-1]:.4f}",
        f"{ours.losses[-1]:.4f}",
        "same in all epochs" if apart == 0 else f"at most {apart:.4f} apart in any epoch",
    )
    apart = largest_difference(plain.accuracies, ours.accuracies)
    shown.add_row(
        "test accuracy",
        f"{plain.accuracies[-1]:.2f}%",
        f"{ours.accuracies[-1]:.2f}%",
        "same in all epochs" if apart == 0 else f"at most {apart:.2f}% apart in any epoch",
    )
    shown.add_row(
        "images/s, training",
        f"{plain.speed:.0f}",
        f"{ours.speed:.0f}",
        f"[bold]{ours.speed / plain.speed:.2f} times as fast",
    )
    shown.add_row(
        "whole run",
        f"{plain.seconds:.1f} s",
        f"{ours.seconds:.1f} s",
        "imports and start-up included",
    )
    return shown


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", help="workers of pellucid; all cores when not given")
    args, script_args = parser.parse_known_args()
    workers = ["--workers", args.workers] if args.workers else []
    script = [str(os.path.relpath(SCRIPT)), *script_args]

    console = Console()
    plain = train(console, script)
    ours = train(console, ["-m", "pellucid", "run", *workers, *script])
    console.print()
    console.print(table(plain, ours))
    console.print("Plain python already uses every core, by threads within each operation.")
    apart = max(abs(a - b) / a for a, b in zip(plain.losses, ours.losses, strict=True))
    if apart > SAME_LOSS:
        sys.exit(f"The trainings are not the same: losses differ by up to {apart:.1%}.")


if __name__ == "__main__":
    main()
