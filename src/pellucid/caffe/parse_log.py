"""A training's log as tables: what Caffe's ``parse_log.py`` makes of it.

Reads what Caffe writes as well as what we write. A table has a row an iteration that displayed or
tested, with the columns NumIters, Seconds, LearningRate and one a net output. Unlike Caffe's, a
row has the rate of its own iteration, and not of the displayed one before.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pellucid.caffe.errors import CaffeError

__all__ = ["Row", "parse", "parse_file", "write_tables"]

Row = dict[str, float]

FIXED: Final = ["NumIters", "Seconds", "LearningRate"]
NUMBER: Final = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"
HEAD: Final = re.compile(r"^[IWEF](\d{4}) (\d\d:\d\d:\d\d\.\d+)")
ITERATION: Final = re.compile(r"Iteration (\d+)")
RATE: Final = re.compile(rf"Iteration (\d+), lr = ({NUMBER})")
OUTPUT: Final = re.compile(rf"(Train|Test) net output #\d+: (\S+) = ({NUMBER})")
DAY: Final = timedelta(days=1)


class _Clock:
    """Seconds since the start; glog writes no year, so a new year looks like a step back."""

    def __init__(self) -> None:
        self._start: datetime | None = None
        self._latest: datetime | None = None

    def read(self, line: str) -> float | None:
        """Of a line; None before the start or without a time."""
        if (head := HEAD.match(line)) is None:
            return None
        # a leap year: the 29th of February is a day
        when = datetime.strptime(f"2000{head[1]} {head[2]}", "%Y%m%d %H:%M:%S.%f")
        if self._latest is not None and when < self._latest - DAY:
            when = when.replace(year=when.year + 1)
        self._latest = when
        if self._start is None and "Solving" in line:
            self._start = when
        return None if self._start is None else (when - self._start).total_seconds()


def parse(lines: Iterable[str]) -> tuple[list[Row], list[Row]]:
    """The rows of training and of testing, in the order of the log."""
    tables: dict[str, dict[int, Row]] = {"Train": {}, "Test": {}}
    clock = _Clock()
    iteration, rate = -1, float("nan")
    for line in lines:
        seconds = clock.read(line)
        if found := ITERATION.search(line):
            iteration = int(found[1])
        if found := RATE.search(line):
            rate = float(found[2])
            if iteration in tables["Train"]:
                tables["Train"][iteration]["LearningRate"] = rate
        if iteration < 0 or not (found := OUTPUT.search(line)):
            continue
        fresh = {
            "NumIters": iteration,
            "Seconds": float("nan") if seconds is None else seconds,
            "LearningRate": rate,
        }
        tables[found[1]].setdefault(iteration, fresh)[found[2]] = float(found[3])
    return list(tables["Train"].values()), list(tables["Test"].values())


def parse_file(path: str | Path) -> tuple[list[Row], list[Row]]:
    """As `parse`, of a file.

    Raises:
        CaffeError: the file cannot be read, or there is nothing of a training in it.
    """
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            tables = parse(file)
    except OSError as error:
        msg = f"cannot read the log {path}: {error.strerror}"
        raise CaffeError(msg) from error
    if not any(tables):
        msg = (
            f"{path} has no line 'Train net output' or 'Test net output': is it the log of a "
            "training, and does its solver have a display or a test_interval?"
        )
        raise CaffeError(msg)
    return tables


def write_tables(path: str | Path, folder: str | Path, delimiter: str = ",") -> list[Path]:
    """Write ``NAME.train`` and ``NAME.test`` of a log file into a folder.

    Raises:
        CaffeError: see `parse_file`.
    """
    written = []
    for rows, kind in zip(parse_file(path), ("train", "test"), strict=True):
        names = dict.fromkeys(name for row in rows for name in row)
        target = Path(folder) / f"{Path(path).name}.{kind}"
        with target.open("w", newline="", encoding="utf-8") as file:
            columns = [*FIXED, *(name for name in names if name not in FIXED)]
            writer = csv.DictWriter(file, columns, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        written.append(target)
    return written
