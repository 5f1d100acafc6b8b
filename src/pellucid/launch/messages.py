"""What the launcher says of deaths and standstills: who, where, why, and what to do."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Words", "signal_name"]


def signal_name(number: int) -> str:
    """SIGKILL for 9, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals have no names
        return f"signal {number}"


def _listed(workers: Sequence[int]) -> str:
    names = [str(worker) for worker in workers]
    word = "worker" if len(names) == 1 else "workers"
    return f"{word} {names[0] if len(names) == 1 else ', '.join(names[:-1]) + ' and ' + names[-1]}"


def _places(places: Mapping[int, str]) -> str:
    lines = [f"\n  worker {w}: {place or 'has said nothing yet'}" for w, place in places.items()]
    return "".join(lines)


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Words:
    """Sentences about a run.

    Attributes:
        box: name of the machine.
        run_dir: where the workers' records are.
        memory_ran_out: whether the kernel has killed a process for lack of memory since the start.
        lockstep: whether workers wait for each other.
    """

    box: str
    run_dir: str
    memory_ran_out: Callable[[], bool] = field(default=_never)
    lockstep: bool = True

    def crowded(self, workers: int, cores: int) -> str:
        """More workers than cores were asked for."""
        count = "1 core" if cores == 1 else f"{cores} cores"
        return f"{workers} workers share {count}: that is slower than --workers {cores}"

    def misplaced(self, options: Sequence[str]) -> str:
        """The script refused its arguments, and some look like ours."""
        return (
            f"{', '.join(options)} went to the script, as all that follows its name does; options "
            "of pellucid stand before it: pellucid run --workers 2 train.py"
        )

    def cause(self, worker: int, code: int) -> str:
        """Why a worker is gone, from the exit code of its process."""
        if code == -signal.SIGKILL:
            if self.memory_ran_out():
                return "was killed by the kernel for lack of memory (SIGKILL)"
            return "was killed by SIGKILL (out of memory?)"
        if code < 0:
            return f"was killed by {signal_name(-code)}"
        where = "" if worker == 0 else f" (see {self.run_dir}/worker-{worker}.err)"
        return f"ended with exit code {code} before the others{where}"

    def death(self, worker: int, cause: str, place: str) -> str:
        """Which worker is gone, why, and where it was."""
        at = f", at {place}" if place else ""
        return f"worker {worker} on box {self.box} {cause}{at}"

    def goes_on(self, left: int, leader: int | None) -> str:
        """The run continues after a death."""
        count = f"{left} worker{'s' if left > 1 else ''}"
        lead = "" if leader is None else f"; worker {leader} leads now, and prints and saves"
        lost = (
            "The rows that the dead worker had of the step in flight are lost"
            if self.lockstep
            else "The batches that the dead worker had in hand are done again"
        )
        return f". The run goes on with {count}{lead}. {lost}. To stop instead: --on-failure stop"

    def stopped_on_request(self) -> str:
        """The run ends after a death because the user wants it so."""
        return ". The run stops (--on-failure stop); to go on without it: --on-failure continue"

    def nobody_goes_on(self, *, began: bool) -> str:
        """The run ends after a death because it cannot go on."""
        if began:
            return (
                ". No worker is left to go on, so the run ends. For lack of memory: fewer --workers"
            )
        return (
            ". It was the leader, and the other workers had not begun, so the run ends. "
            "What it said is above, on stderr"
        )

    def diverged(
        self, ended: Sequence[int], waiting: Sequence[int], places: Mapping[int, str]
    ) -> str:
        """Somebody has finished the script while others wait for it."""
        return (
            f"the workers' copies of the script took different paths: {_listed(ended)} came to "
            f"the end of the script while {_listed(waiting)} waited for an exchange. Something in "
            "it differs between processes, such as a clock, a process id or an unseeded random "
            f"number; make it the same in all, or use --workers 1. They were at:{_places(places)}"
        )

    def stalled(
        self,
        seconds: float,
        behind: Sequence[int],
        waiting: Sequence[int],
        places: Mapping[int, str],
    ) -> str:
        """Nobody has made progress for too long."""
        return (
            f"{_listed(waiting)} waited {seconds:.0f} seconds for {_listed(behind)}, so the run "
            "stops. If that can take longer in this script, raise --stall-after (0: wait for "
            f"ever). They were at:{_places(places)}"
        )

    def waits(
        self, seconds: float, waiting: Sequence[int], limit: float, places: Mapping[int, str]
    ) -> str:
        """A standstill may become an error."""
        return (
            f"nothing has moved for {seconds:.0f} seconds; after {limit:.0f} the run will stop "
            f"(--stall-after). {_listed(waiting).capitalize()} waiting for:{_places(places)}"
        )

    def box_ends(self) -> str:
        """The worker that talks to the other boxes is gone."""
        return (
            ". It was the one that talks to the other boxes, so this box ends; the others notice, "
            "and go on without it. To come back: `pellucid join`"
        )

    def leaves(self) -> str:
        """The user wants this box out."""
        return "this box leaves the run, the others go on; interrupt again not to wait for that"

    def over(self, box: int, code: int) -> str:
        """The script has come to its end elsewhere."""
        if code < 0:
            return f"the run was ended on box {box}, by {signal_name(-code)}"
        how = "" if code == 0 else f", with exit code {code}: see what it says there"
        return f"the run has ended on box {box}{how}"

    def goes_on_interrupted(self) -> str:
        """The script has caught an interrupt."""
        return (
            "the script caught the interrupt and goes on, in one worker; interrupt again to end it"
        )
