"""Exact mode: the script sees one big machine.

This is where its parts meet: loaders give slices, outermost module calls run on them, backward sums
gradients. `seams` is all it asks of the outside: which attributes of torch it wants to answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from pellucid.sync.exact import (
    alone,
    asked_grads,
    hooks,
    losses,
    norm,
    packing,
    randomness,
    replicas,
    view,
)
from pellucid.sync.exact.calls import Calls
from pellucid.sync.exact.gradients import Reducer
from pellucid.sync.exact.loader import Loaders
from pellucid.sync.exact.race import Lap, Laps, is_faster_alone
from pellucid.sync.shared import generators
from pellucid.transport.board import Field, Flag
from pellucid.transport.shared_memory import Group

__all__ = ["ExactMode"]

Tell = Callable[[str, str], None]


class ExactMode:
    """One worker's exact mode.

    Args:
        group: the workers.
        tell: ``tell(event, text)`` says something to the user; called by the leader only.
        release: lets the followers start; called by the leader only.
        always_split: split also what is too small to gain by it.
        all_threads: of a worker that goes on alone.
        reason: why so many workers and threads, for the line at the start.
    """

    def __init__(
        self,
        group: Group,
        tell: Tell,
        release: Callable[[], None],
        *,
        always_split: bool = False,
        all_threads: int = 1,
        reason: str = "",
    ) -> None:
        self.group = group
        self._tell = tell
        self._release = release
        self._reason = reason
        self._may_stand_down = not always_split
        self._laps = Laps()
        self._all_threads = all_threads
        self._told: set[str] = set()
        self._started = False
        self._overdue = False  # the weights could not be compared when it was time
        self._steps = 0  # of optimizers
        self._first_step_ns = 0
        self._mine = group.board.fields[group.index]
        self._reducer = Reducer(group)
        self.calls = Calls(
            group,
            self._reducer,
            self.start,
            self.explain,
            always_split=always_split,
            all_threads=all_threads,
        )
        self.loaders = Loaders(self)

    def seams(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        """Functions to answer: triples (owner, name, handler)."""
        within = [*randomness.SEAMS, *losses.SEAMS, *norm.SEAMS, *packing.SEAMS]
        return [*within, *view.SEAMS, *asked_grads.SEAMS, *hooks.seams(self.calls, within)]

    def start(self) -> None:
        """Let the followers begin, wait for them, and give all the leader's random state."""
        if self._started and not self._overdue:
            return
        with torch._C._DisableFuncTorch():  # a transform may surround the call
            if self._overdue:  # all are at the same place again
                self._overdue = False
                replicas.compare(self.group, list(self.calls.order), self.calls.order)
                return
            self._begin()

    def _begin(self) -> None:
        self._started = True
        group = self.group
        if self._is_leader():
            self._release()
        taken = group.swap("start", [generators.encode_states()])
        leader = min(taken)
        if group.index != leader:
            generators.decode_states(taken[leader][0])

    def explain(self, slug: str, text: str) -> None:
        """Tell the user something about the script, once."""
        if slug not in self._told:
            self._told.add(slug)
            if self._is_leader():
                self._tell("notice", text)

    def on_step(self, optimizer: Any, *_: Any) -> None:
        """An optimizer has stepped: for the meters, and to look after the weights."""
        mine = self._mine
        self.look_after(optimizer)
        mine[Field.STEPS] = self._steps
        mine[Field.SAMPLES] += self.calls.rows
        now = time.perf_counter_ns()
        if not self._first_step_ns:
            self._first_step_ns = now
            self._describe()
        else:
            mine[Field.TRAIN_NS] = now - self._first_step_ns
        self.calls.rows = 0

    def look_after(self, optimizer: Any) -> None:
        """See to it, after a step, that the workers' weights are alike and all are of use."""
        self._steps += 1
        if self._started and not self.calls.alone:
            if self._steps % replicas.EVERY_STEPS == 0:
                weights = [p for group in optimizer.param_groups for p in group["params"]]
                self._overdue = not replicas.compare(self.group, weights, self.calls.order)
            if self._may_stand_down and self._steps >= alone.AFTER_STEPS:
                self._reconsider()

    def _reconsider(self) -> None:
        """Go on with one worker, if more are of no use."""
        why = f"nothing of the first {alone.AFTER_STEPS} steps could be split with gain"
        if self.calls.trains_split:
            if not self._laps.step(time.perf_counter_ns(), self.group.spent_beside()):
                return
            if self.calls.races is None:  # now all is warm: the next step's calls race
                self.calls.races = {}
                return
            if not self._is_faster_alone():
                self._may_stand_down, self.calls.races = False, None
                return
            why = "one process with all threads trains this model faster"
        if alone.stand_down(self.group, self._all_threads):
            self.calls.alone = self.loaders.alone = True
            self.explain(
                "alone",
                f"{why}: the other workers stand down, and this one goes on as plain python would, "
                f"with {self._all_threads} threads (--split always keeps them all)",
            )

    def _is_faster_alone(self) -> bool:
        """Whether one worker would be faster; all decide alike, by the slowest."""
        lap = self._laps.best()
        mine = torch.tensor([lap.seconds, lap.compute], dtype=torch.float64)
        taken = self.group.swap("lap", [mine])
        laps = [parts[0].view(torch.float64).tolist() for parts in taken.values()]
        lap = Lap(*(max(each) for each in zip(*laps, strict=True)))
        races = [race for race in (self.calls.races or {}).values() if race is not None]
        return bool(races) and is_faster_alone(races, lap)

    def _is_leader(self) -> bool:
        return self.group.board.flags[Flag.LEADER] == self.group.index

    def _describe(self) -> None:
        """The line at the start: what was decided."""
        if self._is_leader():
            workers = self._reason or f"{len(self.group.living)} workers"
            self._tell("plan", ", ".join([workers, "1 box", "exact", *self.division()]))

    def division(self) -> list[str]:
        """How the latest batch was divided, in words."""
        group, rows = self.group, self.calls.rows
        if not rows or self.calls.latest_region is None:
            return ["nothing is split: every worker does all the work"]
        each, rest = divmod(rows, len(group.living))
        shares = f"{len(group.living)} x {each}" if not rest else f"slices of {each} or {each + 1}"
        megabytes = self._reducer.latest_bytes / 1e6
        return [
            f"batch {rows} = {shares}",
            f"all-reduce of {megabytes:.2g} MB a step through shared memory",
        ]
