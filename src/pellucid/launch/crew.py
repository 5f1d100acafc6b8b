"""The processes of the workers: start them, look at them, signal them. Knows no policy."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from pellucid.errors import LaunchError
from pellucid.launch.supervisor import Sight
from pellucid.settings import WorkerSpec
from pellucid.transport.board import Board, Field

__all__ = ["WORKER_COMMAND", "Crew", "catches", "is_stopped"]

WORKER_COMMAND: Final = [
    sys.executable,
    # python's own options (-O, -W, -X), as multiprocessing hands them down
    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
    "-P",  # not to search the folder we are called in for the modules the worker itself needs
    "-m",
    "pellucid.worker",
]
TICK: Final = 0.1  # seconds between two looks at the board
TICK_WITHOUT_PIDFD: Final = 0.03  # where the kernel cannot tell of a process's end
STOPPED_EVERY: Final = 0.5  # seconds between two questions to the kernel whether one is stopped


class Crew:
    """All workers of this box as processes.

    Args:
        board: their board.
        events: the reading end of the event pipe, which `wait` watches too.
    """

    def __init__(self, board: Board, events: int) -> None:
        self._board = board
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ends: dict[int, int] = {}  # pidfds of running workers
        self._poll = select.poll()
        self._poll.register(events, select.POLLIN)
        self._tick = TICK
        self._apart: set[int] = set()  # those with a process group of their own
        self._gone: set[int] = set()
        self._stopped: set[int] = set()
        self._asked = 0.0

    def start(
        self, spec: WorkerSpec, environment: Mapping[str, str], command: Sequence[str]
    ) -> None:
        """Start the next worker.

        Args:
            spec: what it was told; file descriptors in it are handed down.
            environment: all its variables.
            command: the program of a worker.

        Raises:
            LaunchError: it cannot be started.
        """
        streams = (spec.stdin_fd, spec.stdout_fd, spec.stderr_fd)
        fds = {spec.board_fd, spec.exchange_fd, spec.events_fd, *streams}
        fds |= {spec.weights_fd, spec.passes_fd, *spec.lines}
        if spec.cluster is not None:
            fds |= {spec.cluster.data_fd, spec.cluster.secret_fd}
        if not spec.leads:
            self._apart.add(spec.index)
        try:
            with contextlib.ExitStack() as files:
                out = err = stdin = None
                if not spec.leads:
                    stdin = subprocess.DEVNULL
                    out, err = (
                        files.enter_context(_record(spec, ending)) for ending in ("out", "err")
                    )
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=stdin,
                    stdout=out,
                    stderr=err,
                    pass_fds=[fd for fd in fds if fd > 2],
                    # the leader stays with the terminal; a follower gets a group of its own, with
                    # all processes its copy of the script starts
                    process_group=None if spec.leads else 0,
                )
        except OSError as error:
            msg = (
                f"cannot start worker {spec.index} with {command[0]!r}: {error.strerror}. "
                "Processes, memory or files may be at their limit: see `pellucid doctor`"
            )
            raise LaunchError(msg) from error
        self._processes.append(process)
        try:
            end = os.pidfd_open(process.pid)
        except (AttributeError, OSError):
            self._tick = TICK_WITHOUT_PIDFD
        else:
            self._ends[spec.index] = end
            self._poll.register(end, select.POLLIN)

    def wait(self) -> None:
        """Sleep until a worker ends, an event comes, or it is time to look again."""
        self._poll.poll(self._tick * 1000)

    def look(self, now: float) -> list[Sight]:
        """See every worker.

        Args:
            now: seconds of a monotonic clock; it costs more to ask the kernel who is stopped, so
                that is done only now and then.
        """
        sights = [self._look_at(worker) for worker in range(len(self._processes))]
        if now - self._asked >= STOPPED_EVERY:
            self._asked = now
            self._stopped = {
                worker
                for worker, process in enumerate(self._processes)
                if process.returncode is None and is_stopped(process.pid)
            }
        return sights

    def _look_at(self, worker: int) -> Sight:
        process = self._processes[worker]
        if worker not in self._gone and process.poll() is not None:
            self._part_with(worker)
        row = self._board.fields[worker]  # read now, so that it has what it did last of all
        return Sight(
            state=row[Field.STATE],
            exit=process.returncode,
            stopped=worker in self._stopped,
            arrived=row[Field.ARRIVED],
            posted=row[Field.POSTED],
            reduced=row[Field.REDUCED],
            place=self._board.read_text(worker),
        )

    def _part_with(self, worker: int) -> None:
        """A worker has ended: end what it started, too, and stop waiting for it."""
        self._gone.add(worker)
        end = self._ends.pop(worker, None)
        if end is not None:
            self._poll.unregister(end)
            os.close(end)
        if worker in self._apart:
            self._kill_group(worker)

    def send(self, worker: int, number: signal.Signals) -> None:
        """Send one worker a signal."""
        self._processes[worker].send_signal(number)

    def catches(self, worker: int, number: signal.Signals) -> bool:
        """Whether a worker's script has a handler of its own for a signal."""
        return catches(self._processes[worker].pid, number)

    def send_followers(self, number: signal.Signals) -> None:
        """Send every follower a signal."""
        for worker in self._apart:
            self._processes[worker].send_signal(number)

    def kill(self, worker: int) -> None:
        """Kill a worker and the processes it started."""
        process = self._processes[worker]
        if process.poll() is not None:
            return
        if worker in self._apart:
            self._kill_group(worker)
        else:
            _kill_children(process.pid)
        process.kill()

    def _kill_group(self, worker: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._processes[worker].pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave no process behind."""
        for worker, process in enumerate(self._processes):
            if process.returncode is None:
                self.kill(worker)
                process.wait()
            if worker not in self._gone:
                self._part_with(worker)


def _record(spec: WorkerSpec, ending: str) -> IO[bytes]:
    return (Path(spec.run_dir) / f"worker-{spec.index}.{ending}").open("wb")


def _kill_children(pid: int) -> None:
    import psutil  # type: ignore[import-untyped]

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal; False if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in text.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def is_stopped(pid: int) -> bool:
    """Whether a process is halted by a signal; one halted by a debugger is not meant."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "T"
