"""Learning rates by iteration: Caffe's seven policies, and those NVIDIA's fork adds.

Source: BVLC/caffe, ``lr_policy`` of SolverParameter; NVIDIA/caffe 0.15 (``plateau``) and 0.17
(``rampup_interval``, ``min_lr``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pellucid.errors import SettingsError

__all__ = ["LearningRate", "Progress", "Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a solver file says about its rate; the names are Caffe's.

    Attributes:
        lr_policy: one of `POLICIES`.
        base_lr: the rate that the policy changes.
        gamma: factor of a step, or steepness.
        power: exponent of ``inv`` and ``poly``.
        stepsize: iterations of a ``step``, or the middle of ``sigmoid``.
        stepvalue: iterations at which ``multistep`` takes a step.
        max_iter: where ``poly`` ends.
        plateau_winsize: iterations without a new lowest loss before each step of ``plateau``.
        rampup_interval: iterations in which the rate climbs to ``base_lr``, quadratically.
        rampup_lr: where the climb starts.
        min_lr: no policy goes below; ``poly`` ends there.
    """

    lr_policy: str
    base_lr: float
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalue: tuple[int, ...] = ()
    max_iter: int = 0
    plateau_winsize: tuple[int, ...] = ()
    rampup_interval: int = 0
    rampup_lr: float = 0.0
    min_lr: float = 0.0

    @classmethod
    def of(cls, param: Any) -> Schedule:
        """Take it from a SolverParameter.

        Raises:
            SettingsError: the policy is unknown, or lacks what it needs.
        """
        return cls(
            lr_policy=param.lr_policy or "fixed",
            base_lr=param.base_lr,
            gamma=param.gamma,
            power=param.power,
            stepsize=param.stepsize,
            stepvalue=tuple(param.stepvalue),
            max_iter=param.max_iter,
            plateau_winsize=tuple(param.plateau_winsize),
            rampup_interval=param.rampup_interval,
            rampup_lr=param.rampup_lr,
            min_lr=param.min_lr,
        )

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a training."""
        if self.lr_policy not in POLICIES:
            known = ", ".join(POLICIES)
            msg = f"unknown lr_policy {self.lr_policy!r} in the solver. It is one of: {known}"
            raise SettingsError(msg)
        for name in NEEDED.get(self.lr_policy, ()):
            value = getattr(self, name)
            if not value or (isinstance(value, int) and value < 0):
                msg = (
                    f"lr_policy {self.lr_policy!r} needs a {name} above 0, the solver has "
                    f"{name} = {value!r}. Add a line `{name}: ...` to the solver file"
                )
                raise SettingsError(msg)


@dataclass
class Progress:
    """What a rate remembers; part of a snapshot.

    Attributes:
        current_step: steps taken so far.
        minimum_loss: the lowest smoothed loss seen (``plateau``).
        iter_last_event: when that was, or the last step.
    """

    current_step: int = 0
    minimum_loss: float = math.inf
    iter_last_event: int = 0


class LearningRate:
    """The rate of each iteration; call it once an iteration, in order.

    Args:
        schedule: what the solver file says.
        note: told of each step that ``multistep`` and ``plateau`` take.
    """

    def __init__(self, schedule: Schedule, note: Callable[[str], None] = lambda _: None) -> None:
        self.schedule = schedule
        self.progress = Progress()
        self._note = note

    def at(self, iteration: int, smoothed_loss: Callable[[], float]) -> float:
        """The rate to update with.

        Args:
            iteration: counted from 0.
            smoothed_loss: asked by ``plateau`` only.
        """
        schedule = self.schedule
        if iteration < schedule.rampup_interval:
            climbed = (iteration / schedule.rampup_interval) ** 2
            rate = schedule.rampup_lr + (schedule.base_lr - schedule.rampup_lr) * climbed
        else:
            rate = POLICIES[schedule.lr_policy](self, iteration, smoothed_loss)
        return max(rate, schedule.min_lr)

    def _stepped(self) -> float:
        return self.schedule.base_lr * math.pow(self.schedule.gamma, self.progress.current_step)

    def _fixed(self, _iteration: int, _loss: Callable[[], float]) -> float:
        return self.schedule.base_lr

    def _step(self, iteration: int, _loss: Callable[[], float]) -> float:
        self.progress.current_step = iteration // self.schedule.stepsize
        return self._stepped()

    def _exp(self, iteration: int, _loss: Callable[[], float]) -> float:
        return self.schedule.base_lr * math.pow(self.schedule.gamma, iteration)

    def _inv(self, iteration: int, _loss: Callable[[], float]) -> float:
        schedule = self.schedule
        return schedule.base_lr * math.pow(1 + schedule.gamma * iteration, -schedule.power)

    def _multistep(self, iteration: int, _loss: Callable[[], float]) -> float:
        progress, values = self.progress, self.schedule.stepvalue
        # one step an iteration at most, as in Caffe: it shows where two stepvalues are equal
        if progress.current_step < len(values) and iteration >= values[progress.current_step]:
            progress.current_step += 1
            self._note(f"MultiStep Status: Iteration {iteration}, step = {progress.current_step}")
        return self._stepped()

    def _poly(self, iteration: int, _loss: Callable[[], float]) -> float:
        schedule = self.schedule
        left = 1 - iteration / schedule.max_iter
        return schedule.min_lr + (schedule.base_lr - schedule.min_lr) * math.pow(
            left, schedule.power
        )

    def _sigmoid(self, iteration: int, _loss: Callable[[], float]) -> float:
        schedule = self.schedule
        # math.exp overflows far below the middle, where the rate is nothing
        exponent = min(-schedule.gamma * (iteration - schedule.stepsize), 700.0)
        return schedule.base_lr / (1 + math.exp(exponent))

    def _plateau(self, iteration: int, loss: Callable[[], float]) -> float:
        progress, windows = self.progress, self.schedule.plateau_winsize
        if (now := loss()) < progress.minimum_loss:
            progress.minimum_loss = now
            progress.iter_last_event = iteration
        since = iteration - progress.iter_last_event
        if progress.current_step < len(windows) and since >= windows[progress.current_step]:
            progress.current_step += 1
            progress.iter_last_event = iteration
            self._note(f"Plateau Status: Iteration {iteration}, step = {progress.current_step}")
        return self._stepped()


POLICIES: Final[dict[str, Callable[[LearningRate, int, Callable[[], float]], float]]] = {
    "fixed": LearningRate._fixed,
    "step": LearningRate._step,
    "exp": LearningRate._exp,
    "inv": LearningRate._inv,
    "multistep": LearningRate._multistep,
    "poly": LearningRate._poly,
    "sigmoid": LearningRate._sigmoid,
    "plateau": LearningRate._plateau,
}
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "step": ("stepsize",),
    "poly": ("max_iter",),
    "plateau": ("plateau_winsize",),
}
