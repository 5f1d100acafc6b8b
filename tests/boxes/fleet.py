"""A run of pellucid over boxes of this machine, started as a user starts it.

Boxes are network namespaces; see ``tests/boxes/namespaces.py``. What is measured comes from outside
of the run: from what its leader prints, from the event log of each box, and from ``ip -s link``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]

from tests.boxes.namespaces import Namespaces

__all__ = ["BUSY", "Fleet", "Moment", "busy_cores", "one_thread", "wait_for_idle"]

PORT: Final = 7070
SECRET: Final = "measured on one machine, by nobody else"
START_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.05
BUSY: Final = 0.25  # cores in use by others that make a measurement worth repeating


@dataclass(frozen=True)
class Moment:
    """What a box knew at one moment.

    Attributes:
        time: seconds since its launcher began.
        samples: trained so far, by number of box.
        rates: samples a second, by number of box.
        told: the whole event.
    """

    time: float
    samples: Mapping[str, int]
    rates: Mapping[str, float]
    told: Mapping[str, Any]

    @property
    def total(self) -> int:
        """Samples of all boxes."""
        return sum(self.samples.values())


class Fleet:
    """The boxes of one run.

    Args:
        boxes: where they are.
        folder: for their records; each box has its own folder in it.
        cwd: where the run is started on box 0.
        environment: variables of every process.
    """

    def __init__(
        self, boxes: Namespaces, folder: Path, cwd: Path, environment: Mapping[str, str]
    ) -> None:
        self._cwd = cwd
        self.boxes = boxes
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.launchers: dict[int, subprocess.Popen[bytes]] = {}
        self._environment = environment

    def begin(self, script: Sequence[str], flags: Sequence[str] = (), *, wait_for: int = 1) -> None:
        """Start the run on box 0.

        Args:
            script: a file and its arguments.
            flags: of ``pellucid run``, beside those that every run has.
            wait_for: boxes to wait for.
        """
        at = f"{self.boxes.address(0)}:{PORT}"
        line = ["run", "--mode", "stream", "--listen", at, "--boxes", str(wait_for), *flags]
        self._launch(0, [*line, *self._common(0), *script])

    def join(self, box: int, *, through: int = 0, flags: Sequence[str] = ()) -> None:
        """Let another box join, through any that is in; returns when it has its number."""
        at = f"{self.boxes.address(through)}:{PORT}"
        self._launch(box, ["join", *flags, *self._common(box), at])
        process = self.launchers[box]

        def is_in() -> bool:
            return "let in at" in self.said(box) or process.poll() is not None

        self.wait_until(is_in, START_SECONDS, f"a place for box {box}")

    def _common(self, box: int) -> list[str]:
        records = str(self.path(box, "logs"))
        threads = ["--workers", "1", "--threads-per-worker", "1", "--device", "cpu"]
        return ["--secret-file", str(self.secret), "--log-dir", records, *threads]

    def _launch(self, box: int, line: Sequence[str]) -> None:
        here = self.folder / f"box-{box}"
        (here / "tmp").mkdir(parents=True, exist_ok=True)
        shutil.rmtree(here / "logs", ignore_errors=True)  # of an earlier part this box had
        with (here / "stdout").open("wb") as out, (here / "stderr").open("wb") as err:
            process = self.boxes.start(
                box,
                [sys.executable, "-m", "pellucid", *line],
                cwd=self._cwd if line[0] == "run" else here,
                env={**self._environment, "TMPDIR": str(here / "tmp")},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )
        self.launchers[box] = process

    def path(self, box: int, *names: str) -> Path:
        """A file of a box."""
        return self.folder.joinpath(f"box-{box}", *names)

    def printed(self, box: int = 0) -> str:
        """What a box has written to stdout."""
        return self.path(box, "stdout").read_text()

    def said(self, box: int) -> str:
        """What its launcher has said."""
        return self.path(box, "stderr").read_text()

    def events(self, box: int) -> list[dict[str, Any]]:
        """All events of a box so far."""
        try:
            lines = self.path(box, "logs", "events.jsonl").read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line]

    def moments(self, box: int) -> list[Moment]:
        """What a box knew of all, once a second."""
        return [
            Moment(event["time"], event.get("samples", {}), event.get("rates", {}), event)
            for event in self.events(box)
            if event["event"] == "status"
        ]

    def wait_until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something; what the boxes say is in the error if it does not come."""
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                said = "\n".join(self.said(box)[-2000:] for box in self.launchers)
                msg = f"{what} did not come within {seconds:g} seconds. The boxes say:\n{said}"
                raise RuntimeError(msg)
            time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """End all boxes at once."""
        for box in range(self.boxes.count):
            self.boxes.signal(box, signal.SIGKILL)
        for process in self.launchers.values():
            process.wait()


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores are in use now."""
    return float(psutil.cpu_percent(seconds)) / 100 * (psutil.cpu_count() or 1)


def wait_for_idle(patience: float) -> float:
    """Wait for the machine to be idle, not for ever; returns the cores in use at last."""
    until = time.monotonic() + patience
    while (busy := busy_cores()) > BUSY and time.monotonic() < until:
        pass
    return busy


def one_thread() -> dict[str, str]:
    """This process's variables, for programs that compute with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
