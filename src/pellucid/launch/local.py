"""A run on this box, from its first process to its last.

The launcher starts the workers, then looks at them a few times a second, does what the supervisor
decides (see [Note: supervisor]), passes on what the workers say, and ends when they have. It
runs no script and imports no torch: while the script trains, it sleeps.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pellucid.cluster.inventory import Box, oom_kills
from pellucid.launch import signals
from pellucid.launch.crew import WORKER_COMMAND, Crew
from pellucid.launch.environment import worker_environment
from pellucid.launch.messages import Words
from pellucid.launch.run_dir import RunDir
from pellucid.launch.supervisor import (
    Action,
    Bury,
    End,
    Kill,
    Policy,
    Say,
    Send,
    Sight,
    Stop,
    Supervisor,
)
from pellucid.observe.console import Console, open_console
from pellucid.observe.events import Event, EventLog, EventReader
from pellucid.observe.meters import Meters, Reading
from pellucid.settings import Settings, WorkerSpec
from pellucid.transport import memory
from pellucid.transport.board import Board, Field, Flag, State

__all__ = ["Program", "launch"]

REPEATED_WITHIN: Final = 5.0  # seconds in which the workers' errors are one error
STDERR: Final = 2
USAGE: Final = 2  # exit code of a program that does not know its arguments


@dataclass(frozen=True)
class Program:
    """What the user wants to be run.

    Attributes:
        target: a file, a folder, an archive, or the name of a module.
        argv: its own arguments.
        is_module: whether ``target`` is the name of a module.
    """

    target: str
    argv: list[str]
    is_module: bool = False


def launch(
    settings: Settings,
    program: Program,
    box: Box,
    *,
    command: Sequence[str] = WORKER_COMMAND,
    make_exchange: Callable[[int], int] = memory.create,
) -> int:
    """Run a program with several workers on this box.

    Args:
        settings: what was decided.
        program: what to run.
        box: this machine.
        command: the program of a worker.
        make_exchange: makes the memory for a number of workers.

    Returns:
        The exit code of the run; negative when a signal ended it.

    Raises:
        LaunchError: the workers could not be started.
    """
    console = open_console(STDERR, quiet=settings.quiet, term=os.environ.get("TERM", ""))
    with signals.blocked():
        run_dir = RunDir.make(settings.log_dir)
        run = _Run(settings, box, console, run_dir)
        try:
            run.start(program, command, make_exchange(settings.workers))
            code = run.watch()
        except BaseException:
            run.close()
            run_dir.remove()
            raise
        run.close()
        run.report(code)
    return code


class _Run:
    """The parts of one run, and the loop that joins them."""

    def __init__(self, settings: Settings, box: Box, console: Console, run_dir: RunDir) -> None:
        self._settings = settings
        self._box = box
        self._console = console
        self._run_dir = run_dir
        self._board = Board.create(settings.workers)
        self._events, self._events_end = os.pipe()
        os.set_blocking(self._events, False)
        self._reader = EventReader()
        self._log = EventLog(run_dir.events)
        self._crew = Crew(self._board, self._events)
        self._meters = Meters()
        killed_before = oom_kills()
        self._words = words = Words(
            box.name, str(run_dir.path), lambda: oom_kills() > killed_before
        )
        policy = Policy(settings.on_failure, settings.dead_after, settings.stall_after)
        self._supervisor = Supervisor(settings.workers, policy, words)
        self._began = time.monotonic()
        self._told: set[str] = set()
        self._error_at: float | None = None
        self._code: int | None = None
        self._argv: list[str] = []

    def start(self, program: Program, command: Sequence[str], exchange: int) -> None:
        """Start all workers at once: they import in parallel."""
        settings = self._settings
        if settings.device == "cpu" and settings.workers > self._box.cores:
            self._console.say(self._words.crowded(settings.workers, self._box.cores))
        seeds = random.SystemRandom()
        seed = settings.seed if settings.seed is not None else seeds.getrandbits(63)
        hash_seed = seed % 2**32 if settings.seed is not None else seeds.getrandbits(32)
        streams = [_duplicate(fd) for fd in (0, 1, 2)]
        self._argv = program.argv
        self._log.write(0.0, {"event": "start", **_facts(settings, program), "seed": seed})
        for index in range(settings.workers):
            spec = WorkerSpec(
                index=index,
                workers=settings.workers,
                board_fd=self._board.fd,
                exchange_fd=exchange,
                events_fd=self._events_end,
                target=program.target,
                is_module=program.is_module,
                argv=program.argv,
                threads=settings.threads_per_worker,
                device=settings.device,
                own_gpu=settings.device == "cuda" and self._box.gpus >= settings.workers,
                seed=seed,
                seeded=settings.seed is not None,
                run_dir=str(self._run_dir.path),
                on_failure=settings.on_failure,
                profile=settings.profile,
                split=settings.split,
                stall_after=settings.stall_after,
                mode=settings.mode,
                stdin_fd=streams[0],
                stdout_fd=streams[1],
                stderr_fd=streams[2],
                reason=settings.reason(),
            )
            gpus = self._box.gpus if settings.device == "cuda" else 0
            environment = worker_environment(os.environ, spec, hash_seed=hash_seed, gpus=gpus)
            with signals.let_through():
                self._crew.start(spec, environment, command)
        for fd in (exchange, self._events_end, *(fd for fd in streams if fd > STDERR)):
            os.close(fd)

    def watch(self) -> int:
        """Look and act until the run is over; return its exit code."""
        while self._code is None:
            self._crew.wait()
            now = time.monotonic()
            self._hear()
            sights = self._crew.look(now)
            self._take_signals(sights)
            go = bool(self._board.flags[Flag.GO])
            self._do(self._supervisor.look(sights, now, go=go))
            self._meters.update([_reading(row) for row in self._board.fields.tolist()], now)
            self._show(now)
        return self._code

    def _take_signals(self, sights: Sequence[Sight]) -> None:
        for came in signals.pending():
            if came.number == signal.SIGTSTP:
                self._suspend()
                continue
            # a follower that became the leader has a process group of its own
            reached = came.from_terminal and self._supervisor.leader == 0
            self._log.write(self._elapsed(), {"event": "signal", "signal": came.number.name})
            self._do(self._supervisor.interrupt(came.number, sights, reached_leader=reached))

    def _suspend(self) -> None:
        """Ctrl-Z: the leader got it from the terminal; stop the others, then this process."""
        self._console.hide()
        self._crew.send_followers(signal.SIGSTOP)
        signals.suspend()
        self._crew.send_followers(signal.SIGCONT)

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Say(kind, text):
                    self._say(kind, text)
                case Send(worker, number):
                    self._crew.send(worker, number)
                case Kill(worker):
                    self._crew.kill(worker)
                case Bury(worker, leader):
                    self._bury(worker, leader)
                case Stop():
                    self._board.flags[Flag.STOP] = 1
                case End(code):
                    self._code = code

    def _bury(self, worker: int, leader: int) -> None:
        epoch = int(self._board.flags[Flag.EPOCH]) + 1
        self._board.fields[worker, Field.DIED] = epoch
        self._board.fields[worker, Field.STATE] = State.DEAD
        self._board.flags[Flag.LEADER] = leader
        self._board.flags[Flag.EPOCH] = epoch  # last of all: workers act when they see it
        event = {"event": "death", "worker": worker, "leader": leader, "epoch": epoch}
        self._log.write(self._elapsed(), event)

    def _hear(self) -> None:
        """Take in what the workers have to say."""
        while True:
            try:
                data = os.read(self._events, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                return
            for event in self._reader.feed(data):
                self._take(event)

    def _take(self, event: Event) -> None:
        self._log.write(self._elapsed(), event)
        kind, text = event["event"], str(event.get("text", ""))
        if kind in ("notice", "plan", "error") and text not in self._told:
            self._told.add(text)
            self._say(kind, text, logged=True)
        if event.get("slug") == "divergence":
            self._do(self._supervisor.diverged())

    def _say(self, kind: str, text: str, *, logged: bool = False) -> None:
        now = self._elapsed()
        if not logged:
            self._log.write(now, {"event": kind, "text": text})
        if kind != "error":
            self._console.say(text)
        elif self._error_at is None or now - self._error_at > REPEATED_WITHIN:
            self._error_at = now
            self._console.error(text)

    def _show(self, now: float) -> None:
        leader = self._supervisor.leader
        if self._meters.latest[leader].steps and self._console.wants_progress(now):
            alive = len(self._supervisor.living)
            self._console.show(self._meters.progress(leader, alive), now)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def close(self) -> None:
        """Leave no process and no trace in the terminal."""
        self._crew.close()
        self._console.hide()
        self._hear()
        os.close(self._events)

    def report(self, code: int) -> None:
        """Say how it was, and keep the records where they may be of use."""
        leader = self._supervisor.leader
        summary = self._meters.summary(leader)
        self._log.write(self._elapsed(), {"event": "end", "code": code, "text": summary})
        self._log.close()
        if code == 0 or self._meters.latest[leader].steps:
            self._console.say(summary)
            if self._settings.profile:
                self._console.say(self._meters.profile())
        if code == USAGE and (ours := _options_of_ours(self._argv)):
            self._console.say(self._words.misplaced(ours))
        records = f"the records of this run are in {self._run_dir.path}"
        failed = code not in (0, -signal.SIGINT) or self._supervisor.deaths > 0
        if self._error_at is not None:
            self._console.error(records)
        elif self._run_dir.asked_for or (failed and not self._settings.quiet):
            self._console.say(records)
        else:
            self._run_dir.remove()


def _options_of_ours(argv: Sequence[str]) -> list[str]:
    """Arguments given to the script that are named as options of ours."""
    ours = {"--" + name.replace("_", "-") for name in Settings.__struct_fields__}
    return [word for word in argv if word.partition("=")[0] in ours]


def _duplicate(fd: int) -> int:
    """A copy for a follower that becomes the leader; -1 when there is nothing to copy."""
    try:
        return os.dup(fd)
    except OSError:
        return -1


def _facts(settings: Settings, program: Program) -> Event:
    return {
        "workers": settings.workers,
        "mode": settings.mode,
        "device": settings.device,
        "threads": settings.threads_per_worker,
        "target": program.target,
        "argv": program.argv,
    }


def _reading(row: Sequence[int]) -> Reading:
    return Reading(
        steps=row[Field.STEPS],
        samples=row[Field.SAMPLES],
        exchange_ns=row[Field.EXCHANGE_NS],
        wait_ns=row[Field.WAIT_NS],
        overhead_ns=row[Field.OVERHEAD_NS],
        train_ns=row[Field.TRAIN_NS],
        sent_bytes=row[Field.BYTES],
        peak_rss=row[Field.PEAK_RSS],
    )
