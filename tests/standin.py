"""A stand-in for a worker: keeps to the contract with the launcher, without torch and mode.

It runs the target as the real worker does. The target finds a module ``standin``: ``index`` tells
which worker it is, ``spec`` all it was told, ``step(rows)`` is a training step in which all living
workers meet, ``ended`` sets the state of the board, ``tell`` writes an event.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from pellucid.errors import StoppedError
from pellucid.script.execute import execute
from pellucid.settings import WORKER_VARIABLE, WorkerSpec
from pellucid.transport.board import Board, Field, Flag, State


class Standin(ModuleType):
    """What the target can import."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__("standin")
        self.spec = spec
        self.index = spec.index
        self.board = Board(spec.board_fd, spec.workers)
        self.fields = self.board.fields[spec.index]

    def step(self, rows: int = 64) -> None:
        """Meet the others."""
        fields = self.fields
        began = time.perf_counter_ns()
        if self.board.flags[Flag.LEADER] == self.index:
            self.board.flags[Flag.GO] = 1
        fields[Field.ARRIVED] += 1
        self.board.write_text(self.index, f"step {fields[Field.ARRIVED]}")
        for other in range(self.board.workers):
            self._wait_for(other, fields[Field.ARRIVED])
        fields[Field.STEPS] += 1
        fields[Field.SAMPLES] += rows
        waited = time.perf_counter_ns() - began
        fields[Field.WAIT_NS] += waited
        fields[Field.TRAIN_NS] += 4 * waited

    def _wait_for(self, other: int, number: int) -> None:
        row = self.board.fields[other]
        while row[Field.ARRIVED] < number and row[Field.STATE] != State.DEAD:
            if self.board.flags[Flag.STOP]:
                msg = "the run is being stopped"
                raise StoppedError(msg)
            time.sleep(0.001)

    def tell(self, event: str, text: str, **facts: Any) -> None:
        """Write an event."""
        message = {"event": event, "worker": self.index, "text": text, **facts}
        os.write(self.spec.events_fd, json.dumps(message).encode() + b"\n")

    def secret(self) -> str:
        """Of a run with several boxes; it is there to be read."""
        assert self.spec.cluster is not None
        return os.pread(self.spec.cluster.secret_fd, 100, 0).decode()

    def leave_asked(self) -> bool:
        """Whether this box is to leave the others."""
        return bool(self.board.flags[Flag.LEAVE])

    def ended(self) -> None:
        """The script has ended."""
        self.fields[Field.STATE] = State.FINISHED


def main() -> None:
    """Be a worker."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    spec = WorkerSpec.load(os.environ.pop(WORKER_VARIABLE))
    standin = sys.modules["standin"] = Standin(spec)
    standin.fields[Field.PID] = os.getpid()
    atexit.register(standin.ended)
    standin.fields[Field.STATE] = State.PARKED
    while spec.index and not standin.board.flags[Flag.GO]:
        time.sleep(0.001)
    standin.fields[Field.STATE] = State.RUNNING
    record = Path(spec.run_dir) / f"worker-{spec.index}.traceback"
    execute(
        spec.target,
        spec.argv,
        is_module=spec.is_module,
        silent=(StoppedError,),
        record=record,
    )


if __name__ == "__main__":
    main()
