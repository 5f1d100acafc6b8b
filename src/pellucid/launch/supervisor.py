"""What is to be done about what the launcher sees: decisions only, no process, no clock.

[Note: supervisor]
A few times a second the launcher looks at every worker (`Sight`) and shows the supervisor what it
saw; the supervisor answers with actions, in the order in which they are to be done. Time is a
number in what it is shown, so that every decision is tested without waiting.

A run goes on until its *outcome*, the exit code, is known: because the leader has ended, because of
an error, or because the user wants it. From then on it *winds down*: what still runs gets a few
seconds, then is killed, and when nothing is left the run is over.

A box may be only a part of the run, in stream mode. Then its worker 0 is the one that talks to the
other boxes: without it the box ends, and the run goes on elsewhere.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pellucid.launch.messages import Words
from pellucid.settings import OnFailure
from pellucid.transport.board import State

__all__ = [
    "Action",
    "Bury",
    "End",
    "Kill",
    "Leave",
    "Part",
    "Policy",
    "Say",
    "Send",
    "Sight",
    "Stop",
    "Supervisor",
]

Part = Literal["all", "first", "joined"]  # what a box is of the run

FAILED_GRACE: Final = 3.0  # the leader may be about to end in the same way
DIVERGED_AFTER: Final = 3.0  # waiting for a worker that has ended: it may be about to be buried
FINISH_GRACE: Final = 5.0  # for followers after the leader's end; longer than DIVERGED_AFTER
STOP_GRACE: Final = 2.0  # for workers to unwind after an error
INTERRUPT_GRACE: Final = 4.0  # for workers to end after a signal
LEAVE_GRACE: Final = 10.0  # for a box to hand over what it holds
LONGEST_GAP: Final = 1.0  # between two looks; more than that the launcher itself was stopped
NOT_STARTED: Final = (State.STARTING, State.PARKED)


@dataclass(frozen=True)
class Sight:
    """One worker at one instant.

    Attributes:
        state: of the board; the script has not begun before `State.RUNNING`.
        exit: exit code of the process, negative for a signal; None while it is there.
        stopped: whether the process is halted by a signal (SIGSTOP).
        arrived: exchanges it has put its part into.
        posted: gradient buckets it has put its part into.
        reduced: gradient buckets whose shard it has reduced.
        place: what it says it is doing.
    """

    state: int = State.RUNNING
    exit: int | None = None
    stopped: bool = False
    arrived: int = 0
    posted: int = 0
    reduced: int = 0
    place: str = ""

    @property
    def progress(self) -> tuple[int, int, int]:
        """What changes while exchanges go on."""
        return self.arrived, self.posted, self.reduced

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than well."""
        return self.exit is not None and self.exit != 0

    @property
    def torn(self) -> bool:
        """Whether it was torn out of its script by a signal."""
        return self.exit is not None and self.exit < 0 and self.state != State.FINISHED

    def is_ahead_of(self, other: Sight) -> bool:
        """Whether it must wait for the other before it can go on."""
        return self.arrived > other.arrived or self.posted > other.posted


@dataclass(frozen=True)
class Policy:
    """What the user chose; see `Settings`.

    Attributes:
        on_failure: whether the run goes on after a death.
        dead_after: seconds after which a halted worker counts as dead.
        stall_after: seconds after which a standstill is an error; 0 for never.
        lockstep: whether workers wait for each other; if not, there is no standstill to look for,
            and nothing that a follower could still do for the run once the leader has ended.
        part: what this box is of the run.
    """

    on_failure: OnFailure
    dead_after: float
    stall_after: float
    lockstep: bool = True
    part: Part = "all"


@dataclass(frozen=True)
class Say:
    """Tell the user.

    Attributes:
        kind: ``notice`` or ``error``.
        text: what.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Send:
    """Send a worker a signal."""

    worker: int
    signal: signal.Signals


@dataclass(frozen=True)
class Kill:
    """Kill a worker and the processes it started."""

    worker: int


@dataclass(frozen=True)
class Bury:
    """Mark a worker as dead, so that the others go on without it.

    Attributes:
        worker: who is certainly gone.
        leader: who leads from now on.
    """

    worker: int
    leader: int


@dataclass(frozen=True)
class Stop:
    """Make every worker that waits for another stop waiting and unwind."""


@dataclass(frozen=True)
class Leave:
    """Let worker 0 hand over to the other boxes what this one holds, and end."""


@dataclass(frozen=True)
class End:
    """The run is over.

    Attributes:
        code: its exit code, negative for a signal.
    """

    code: int


Action = Say | Send | Kill | Bury | Stop | Leave | End


class Supervisor:
    """Decides; see [Note: supervisor].

    Args:
        workers: how many there are.
        policy: what the user chose.
        words: what to say.
    """

    def __init__(self, workers: int, policy: Policy, words: Words) -> None:
        self.leader = 0
        self.living = list(range(workers))
        self.deaths = 0
        self.conclusion: int | None = None  # exit code, if the script came to its end here
        self._policy = policy
        self._words = words
        self._actions: list[Action] = []
        self._outcome: int | None = None
        self._interrupted = 0  # signals that asked the run to end
        self._now = 0.0  # seconds watched: a launcher that was stopped itself saw nothing
        self._looked: float | None = None
        self._since: dict[tuple[str, int], float] = {}
        self._killed: dict[int, str] = {}  # by us, and why
        self._progress: list[tuple[int, int, int]] = []
        self._moved = 0.0
        self._went: float | None = None  # when the leader let the others start
        self._warned = False
        self._hurry: float | None = None  # when followers that were interrupted are killed
        self._deadline: float | None = None  # when everything is

    def look(self, sights: Sequence[Sight], now: float, *, go: bool) -> list[Action]:
        """Decide about what is seen.

        Args:
            sights: every worker, by index.
            now: seconds of any clock that does not jump back.
            go: whether the leader has let the others start.
        """
        self._watch_time(now)
        if go and self._went is None:
            self._went = self._now
        if self._outcome is None:
            self._look_for_deaths(sights)
        if self._outcome is None:
            self._look_for_the_end(sights)
        if self._policy.lockstep and not self._interrupted and self._outcome in (None, 0):
            self._look_for_standstill(sights)
        self._wind_down(sights)
        actions, self._actions = self._actions, []
        return actions

    def interrupt(
        self, number: signal.Signals, sights: Sequence[Sight], *, reached_leader: bool
    ) -> list[Action]:
        """The user wants the run to end (Ctrl-C, ``kill``).

        The followers end at once, and are buried as they do. The leader does what its script does
        under python: it may catch the interrupt, save, and go on, alone. A second signal, or
        one that is no Ctrl-C, gives it a few seconds.

        Args:
            number: the signal.
            sights: every worker, by index.
            reached_leader: whether the leader got it too, as it does from the terminal.
        """
        if self._policy.part == "joined":
            return self._leave(number)
        if not self._interrupted:
            self._hurry = self._now + INTERRUPT_GRACE
        elif self._deadline is None:
            self._deadline = self._now + INTERRUPT_GRACE
        if self._deadline is None and number != signal.SIGINT:
            self._deadline = self._hurry
        self._interrupted += 1
        running = [w for w in self.living if sights[w].exit is None]
        return [
            Send(worker, number)
            for worker in running
            if worker != self.leader or not reached_leader
        ]

    def diverged(self) -> list[Action]:
        """A worker has seen that the copies of the script took different paths, and said so."""
        if self._outcome is None:
            self._finish(1, STOP_GRACE)
            return [Stop()]
        return []

    def over(self, box: int, code: int) -> list[Action]:
        """The script has come to its end on another box: there is nothing left to do here.

        Args:
            box: where.
            code: its exit code.
        """
        if self._outcome is not None:
            return []
        self._finish(0 if code == 0 else 1, STOP_GRACE)
        return [Say("notice", self._words.over(box, code)), Stop()]

    def _leave(self, number: signal.Signals) -> list[Action]:
        """The user wants this box out of a run that goes on; asked twice, at once."""
        self._interrupted += 1
        if self._interrupted == 1 and self._outcome is None:
            self._finish(0, LEAVE_GRACE)
            return [Say("notice", self._words.leaves()), Leave()]
        self._finish(-number, 0.0)
        return []

    # time

    def _watch_time(self, now: float) -> None:
        if self._looked is not None:
            self._now += min(now - self._looked, LONGEST_GAP)
        self._looked = now

    def _lasts(self, what: str, worker: int, holds: bool) -> float:
        """For how long a condition has held without a break; -1 when it does not."""
        if not holds:
            self._since.pop((what, worker), None)
            return -1.0
        return self._now - self._since.setdefault((what, worker), self._now)

    # ends and deaths

    def _look_for_the_end(self, sights: Sequence[Sight]) -> None:
        leader = sights[self.leader]
        if leader.exit is None:
            return
        ended_itself = leader.exit == 0 or leader.state == State.FINISHED
        # os._exit leaves no trace in the state: but then all copies of the script call it
        all_ended = all(sights[w].exit is not None and not sights[w].torn for w in self.living)
        if ended_itself or all_ended or self._interrupted:
            self.conclusion = leader.exit
            grace = FINISH_GRACE if leader.exit == 0 else STOP_GRACE
            self._finish(leader.exit, grace if self._policy.lockstep else 0.0)

    def _look_for_deaths(self, sights: Sequence[Sight]) -> None:
        for worker in list(self.living):
            sight = sights[worker]
            if sight.state == State.RETIRED or self._left_quietly(worker, sight):
                self._bury(worker, self.leader)
                continue
            if self._interrupted:
                if sight.exit is not None and worker != self.leader:
                    self._bury(worker, self.leader)
                continue
            stopped = self._lasts("stopped", worker, sight.stopped and sight.exit is None)
            if stopped >= self._policy.dead_after and worker not in self._killed:
                self._kill(worker, f"was stopped (SIGSTOP) for {stopped:.0f} seconds")
            failed = self._lasts("failed", worker, sight.failed and not self._is_end(worker, sight))
            if sight.torn or failed >= FAILED_GRACE:
                self._mourn(worker, sights)
            if self._outcome is not None:
                return

    def _left_quietly(self, worker: int, sight: Sight) -> bool:
        """Whether a follower is gone without a word, as by ``os._exit(0)``.

        In lock-step all copies of the script do the same; else it may hold what others wait for.
        """
        quiet = sight.exit == 0 and sight.state != State.FINISHED
        return quiet and worker != self.leader and not self._policy.lockstep

    def _is_end(self, worker: int, sight: Sight) -> bool:
        """Whether this exit is the run's: the leader's script has come to its end."""
        return worker == self.leader and sight.state == State.FINISHED

    def _mourn(self, worker: int, sights: Sequence[Sight]) -> None:
        """A worker is gone: go on without it or stop, as the user wishes and as can be."""
        sight = sights[worker]
        cause = self._killed.get(worker) or self._words.cause(worker, sight.exit or 0)
        left = [w for w in self.living if w != worker and sights[w].exit is None]
        began = sights[self.leader].state not in NOT_STARTED and self._went is not None
        death = self._words.death(worker, cause, sight.place)
        self.deaths += 1
        if self._policy.on_failure == "stop":
            self._fail(death + self._words.stopped_on_request())
        elif worker == self.leader and self._policy.part != "all":
            self._fail(death + self._words.box_ends(), sight.exit or 1)
        elif not left or (worker == self.leader and not began):
            self._fail(death + self._words.nobody_goes_on(began=began), sight.exit or 1)
        else:
            led = worker == self.leader
            leader = left[0] if led else self.leader
            self._bury(worker, leader)
            text = death + self._words.goes_on(len(left), leader if led else None)
            self._actions.append(Say("notice", text))

    def _bury(self, worker: int, leader: int) -> None:
        self.living.remove(worker)
        self.leader = leader
        self._moved = self._now
        self._actions.append(Bury(worker, leader))

    def _kill(self, worker: int, reason: str) -> None:
        self._killed.setdefault(worker, reason)
        self._actions.append(Kill(worker))

    # workers that wait in vain

    def _look_for_standstill(self, sights: Sequence[Sight]) -> None:
        progress = [sights[w].progress for w in self.living]
        if progress != self._progress:
            self._progress, self._moved, self._warned = progress, self._now, False
        idle = self._now - self._moved
        behind, waiting = self._lagging(sights)
        if not waiting:
            return
        # one that has ended stays until the leader has, too
        stays = State.FINISHED
        ended = [
            w
            for w in behind
            if sights[w].exit == 0 or (sights[w].exit is None and sights[w].state == stays)
        ]
        limit = self._patience(sights)
        if ended and idle >= DIVERGED_AFTER:
            places = {w: sights[w].place for w in self.living}
            self._fail(self._words.diverged(ended, waiting, places))
        elif limit and idle >= limit:
            places = {w: sights[w].place for w in self.living}
            self._fail(self._words.stalled(idle, behind, waiting, places))
        elif limit and idle >= limit / 2 and not self._warned:
            self._warned = True
            places = {w: sights[w].place for w in behind}
            self._actions.append(Say("notice", self._words.waits(idle, waiting, limit, places)))

    def _lagging(self, sights: Sequence[Sight]) -> tuple[list[int], list[int]]:
        """Workers that others wait for, and the running workers that wait."""
        behind, waiting = set(), set()
        for worker in self.living:
            for other in self.living:
                if sights[worker].is_ahead_of(sights[other]):
                    behind.add(other)
                    if sights[worker].exit is None:
                        waiting.add(worker)
        return sorted(behind - waiting) or sorted(behind), sorted(waiting)

    def _patience(self, sights: Sequence[Sight]) -> float:
        """Seconds without progress that are too many; 0 for none.

        Followers repeat what the leader did before it let them start, such as reading the data.
        That may take them as long as it took the leader, or, all at once, several times so.
        """
        limit = self._policy.stall_after
        if limit and any(sights[w].progress == (0, 0, 0) for w in self.living):
            limit += 3 * (self._went or 0.0)
        return limit

    # the end

    def _fail(self, text: str, code: int = 1) -> None:
        self._actions += [Say("error", text), Stop()]
        self._finish(code, STOP_GRACE)

    def _finish(self, code: int, grace: float) -> None:
        self._outcome = code
        self._deadline = self._now + grace

    def _wind_down(self, sights: Sequence[Sight]) -> None:
        left = [w for w, sight in enumerate(sights) if sight.exit is None]
        if self._outcome is not None and not left:
            self._actions.append(End(self._outcome))
        hurry = self._hurry is not None and self._now >= self._hurry
        late = self._deadline is not None and self._now >= self._deadline
        if hurry and not late and self.leader in left and self._outcome is None:
            self._hurry = None
            self._actions.append(Say("notice", self._words.goes_on_interrupted()))
        for worker in left:
            # one that has not started has nothing that it could finish
            useless = self._outcome is not None and sights[worker].state in NOT_STARTED
            if worker not in self._killed and (
                late or useless or (hurry and worker != self.leader)
            ):
                self._kill(worker, "")
