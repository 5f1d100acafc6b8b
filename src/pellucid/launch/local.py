"""A run on this box, from its first process to its last.

The launcher starts the workers, then looks at them a few times a second, does what the supervisor
decides (see [Note: supervisor]), passes on what the workers say, and ends when they have. It
runs no script and imports no torch: while the script trains, it sleeps.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pellucid.cluster.cores import core_groups, share_out
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
    Leave,
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
from pellucid.params import memory as weights_memory
from pellucid.settings import Settings, WorkerSpec
from pellucid.sync.hogwild.table import Table
from pellucid.transport import memory
from pellucid.transport.board import Board, Field, Flag, State

if TYPE_CHECKING:  # only runs with several boxes need what this brings in
    from pellucid.launch.company import Company

__all__ = ["Program", "Run", "Seeds", "launch"]

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


@dataclass(frozen=True)
class Seeds:
    """Where randomness starts from, equal in all workers.

    Attributes:
        seed: of the generators.
        hash_seed: with equal hashes, sets have the same order in all copies of the script.
        given: whether the user gave the seed.
    """

    seed: int
    hash_seed: int
    given: bool

    @classmethod
    def draw(cls, seed: int | None) -> Seeds:
        """From the user's seed or, without, from the system's entropy."""
        if seed is not None:
            return cls(seed, seed % 2**32, given=True)
        source = random.SystemRandom()
        return cls(source.getrandbits(63), source.getrandbits(32), given=False)


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
        run = Run(settings, box, console, run_dir)
        exchange = make_exchange(settings.workers)
        return run.whole(program, Seeds.draw(settings.seed), command, exchange)


class Run:
    """The parts of one run on this box, and the loop that joins them.

    Args:
        settings: what was decided.
        box: this machine.
        console: whom to tell.
        run_dir: where the records go.
        company: the other boxes, if there are any.
    """

    def __init__(
        self,
        settings: Settings,
        box: Box,
        console: Console,
        run_dir: RunDir,
        company: Company | None = None,
    ) -> None:
        self._settings = settings
        self._company = company
        self._box = box
        self._console = console
        self._run_dir = run_dir
        self._board = Board.create(settings.workers)
        self._events, self._events_end = os.pipe()
        os.set_blocking(self._events, False)
        self._reader = EventReader()
        self._log = EventLog(run_dir.events)
        self._crew = Crew(self._board, self._events)
        self._meters = Meters(adds=not settings.lockstep)
        killed_before = oom_kills()
        lockstep = settings.lockstep
        self._words = words = Words(
            box.name, str(run_dir.path), lambda: oom_kills() > killed_before, lockstep
        )
        policy = Policy(
            settings.on_failure,
            settings.dead_after,
            settings.stall_after,
            lockstep=lockstep,
            part="all" if company is None else company.part,
        )
        self._supervisor = Supervisor(settings.workers, policy, words)
        self._began = time.monotonic()
        self._told: set[str] = set()
        self._error_at: float | None = None
        self._code: int | None = None
        self._argv: list[str] = []

    def whole(self, program: Program, seeds: Seeds, command: Sequence[str], exchange: int) -> int:
        """From the first process to the last; returns the exit code.

        Args:
            program: what to run.
            seeds: where randomness starts from.
            command: the program of a worker.
            exchange: the memory the workers exchange values through; the run's from now on.
        """
        try:
            self._start(program, seeds, command, exchange)
            code = self._watch()
        except BaseException:
            self._close()
            self._run_dir.remove()
            raise
        self._close()
        self._report(code)
        return code

    def _start(self, program: Program, seeds: Seeds, command: Sequence[str], exchange: int) -> None:
        """Start all workers at once: they import in parallel."""
        settings = self._settings
        if settings.device == "cpu" and settings.workers > self._box.cores:
            self._console.say(self._words.crowded(settings.workers, self._box.cores))
        streams = [_duplicate(fd) for fd in (0, 1, 2)]
        shared = _shared_memory(settings)
        cpus = _cpus(settings)
        lines = _lines(settings)
        self._argv = program.argv
        self._log.write(0.0, {"event": "start", **_facts(settings, program), "seed": seeds.seed})
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
                seed=seeds.seed,
                seeded=seeds.given,
                run_dir=str(self._run_dir.path),
                on_failure=settings.on_failure,
                profile=settings.profile,
                split=settings.split,
                stall_after=settings.stall_after,
                mode=settings.mode,
                weights_fd=shared[0],
                passes_fd=shared[1],
                cpus=cpus[index],
                stdin_fd=streams[0],
                stdout_fd=streams[1],
                stderr_fd=streams[2],
                reason=settings.reason(),
                cluster=None if self._company is None else self._company.cluster(index),
                lines=[line.fileno() for line in lines[index]],
            )
            gpus = self._box.gpus if settings.device == "cuda" else 0
            environment = worker_environment(os.environ, spec, hash_seed=seeds.hash_seed, gpus=gpus)
            with signals.let_through():
                self._crew.start(spec, environment, command)
        for fd in (exchange, self._events_end, *streams, *shared):
            if fd > STDERR:
                os.close(fd)
        for line in itertools.chain.from_iterable(lines):
            line.close()
        if self._company is not None:
            self._company.hand_over()

    def _watch(self) -> int:
        """Look and act until the run is over; return its exit code."""
        while self._code is None:
            self._crew.wait()
            now = time.monotonic()
            self._hear()
            sights = self._crew.look(now)
            self._take_signals(sights)
            self._look_out()
            go = bool(self._board.flags[Flag.GO])
            self._do(self._supervisor.look(sights, now, go=go))
            if self._company is not None and self._supervisor.conclusion is not None:
                self._company.conclude(self._supervisor.conclusion)
            self._meters.update([_reading(row) for row in self._board.fields], now)
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
            if came.number == signal.SIGHUP and self._crew.catches(
                self._supervisor.leader, came.number
            ):
                # the script acts on it by itself: that is no wish to end the run
                for worker in self._supervisor.living:
                    if worker != self._supervisor.leader or not reached:
                        self._crew.send(worker, came.number)
                continue
            self._do(self._supervisor.interrupt(came.number, sights, reached_leader=reached))

    def _look_out(self) -> None:
        """See what the other boxes are doing."""
        if self._company is None:
            return
        for event in self._company.news():
            self._log.write(self._elapsed(), event)
            self._console.say(event["text"])
        if (over := self._company.over) is not None:
            self._do(self._supervisor.over(over.box, over.code))

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
                case Leave():
                    self._board.flags[Flag.LEAVE] = 1
                case End(code):
                    self._code = code

    def _bury(self, worker: int, leader: int) -> None:
        epoch = self._board.flags[Flag.EPOCH] + 1
        self._board.fields[worker][Field.DIED] = epoch
        self._board.fields[worker][Field.STATE] = State.DEAD
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
        if self._company is not None:
            self._company.hear(event)
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
            others = () if self._company is None else self._company.parts()
            self._console.show(self._meters.progress(leader, alive, others), now)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _close(self) -> None:
        """Leave no process and no trace in the terminal."""
        self._crew.close()
        if self._company is not None:
            self._company.close()
        self._console.hide()
        self._hear()
        os.close(self._events)

    def _report(self, code: int) -> None:
        """Say how it was, and keep the records where they may be of use."""
        leader = self._supervisor.leader
        summary = self._meters.summary(leader)
        if self._company is not None:
            summary = "; ".join([summary, *self._company.parts()])
            ended = self._supervisor.conclusion
            if code > 0 and ended and self._company.part == "joined":
                self._say("error", self._company.failed(self._run_dir.path, ended))
        self._log.write(self._elapsed(), {"event": "end", "code": code, "text": summary})
        self._log.close()
        if self._log.trouble:
            text = f"the records in {self._run_dir.path} are not complete: {self._log.trouble}"
            self._console.say(text)
        # of one worker nothing is to be divided
        divides = self._settings.workers > 1 or self._company is not None
        if (code == 0 and divides) or self._meters.latest[leader].steps:
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


def _shared_memory(settings: Settings) -> tuple[int, int]:
    """Memory for weights and the table of passes, where the mode has them."""
    if settings.mode == "exact":
        return -1, -1
    return weights_memory.create(), Table.create(settings.workers)


def _lines(settings: Settings) -> list[list[socket.socket]]:
    """Each worker's sockets to other workers, in stream mode: see [Note: relay]."""
    lines: list[list[socket.socket]] = [[] for _ in range(settings.workers)]
    if settings.mode == "stream":
        for other in lines[1:]:
            first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            lines[0].append(first)
            other.append(second)
    return lines


def _cpus(settings: Settings) -> list[list[int]]:
    """The processors of each worker; nothing where they had better not be bound to any."""
    workers = settings.workers
    if settings.mode != "hogwild":  # several boxes may be one machine
        return [[] for _ in range(workers)]
    groups = core_groups(os.sched_getaffinity(0))
    return share_out(groups, workers, settings.threads_per_worker)


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
        posted=row[Field.POSTED],
    )
