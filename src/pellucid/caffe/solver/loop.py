"""Caffe's training loop, as an ordinary program of one process.

[Note: one iteration]
    test        every test_interval iterations, and at the start if test_initialization
    forward and backward on iter_size batches
    display     every `display` iterations: the loss smoothed over average_loss, outputs, rate
    update      see optimizers.py
    snapshot    every `snapshot` iterations, or as a signal asks
An iteration is a batch of the data layer (iter_size of them), however many workers share it.

[Note: numbers]
Everything follows from the iteration's number: its batches, its rate, its random numbers. Numbers
come from one place, `_part`, which lets `pellucid.share` deal them out: alone and in exact mode
each worker gets all of them, in the asynchronous modes each gets some. What must see all updates
done (tests, snapshots) comes between two parts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid.caffe.log import LOGGER, number
from pellucid.caffe.solver.feed import Feed, Outputs
from pellucid.caffe.solver.optimizers import CaffeOptimizer
from pellucid.caffe.solver.policies import LearningRate
from pellucid.caffe.solver.requests import Action, Requests
from pellucid.caffe.solver.testing import TestNet, log_test, score_lines

__all__ = ["Training", "tests_before"]


class SmoothedLoss:
    """The mean of the latest losses; kept where they were computed until somebody asks.

    Args:
        count: of how many.
    """

    def __init__(self, count: int) -> None:
        self._losses: deque[Tensor] = deque(maxlen=max(count, 1))

    def add(self, loss: Tensor) -> None:
        """Take in the loss of an iteration."""
        self._losses.append(loss.detach())

    def mean(self) -> float:
        """Of what there is."""
        return float(torch.stack(tuple(self._losses)).double().mean()) if self._losses else 0.0


@dataclass
class Training:
    """A training and where it stands.

    Attributes:
        param: the SolverParameter.
        feed: the net and its batches.
        tests: the nets to test with, sharing the net's weights.
        optimizer: of the net's parameters.
        rate: of each iteration.
        requests: what signals ask for.
        save: writes a snapshot of the training.
        iteration: updates done so far.
        seed: of all randomness; see `_seed`.
        clock: seconds.
    """

    param: Any
    feed: Feed
    tests: list[TestNet]
    optimizer: CaffeOptimizer
    rate: LearningRate
    requests: Requests
    save: Callable[[Training], object]
    iteration: int = 0
    seed: int = 0
    clock: Callable[[], float] = time.monotonic
    _smoothed: SmoothedLoss = field(init=False)
    _stopping: bool = field(default=False, init=False)
    _displayed: tuple[int, float] = field(default=(0, 0.0), init=False)
    _shown: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        """Begin to smooth."""
        self._smoothed = SmoothedLoss(self.param.average_loss)

    def solve(self) -> None:
        """Train to the end, or until a signal stops it."""
        param = self.param
        LOGGER.info("Solving %s", self.feed.net.param.name)
        LOGGER.info("Learning Rate Policy: %s", param.lr_policy)
        self._displayed = (self.iteration, self.clock())
        self._shown = (self.iteration - 1) // max(param.display, 1)
        while self.iteration < param.max_iter and not self._stopping:
            self._test_if_due()
            self._part()
        if param.snapshot_after_train and not (
            param.snapshot and self.iteration % param.snapshot == 0
        ):
            self.save(self)
        if self._stopping:
            LOGGER.info("Optimization stopped early.")
            return
        self._look_back()
        LOGGER.info("Optimization Done.")

    def _part(self) -> None:
        """The iterations up to the next test or snapshot; see [Note: numbers]."""
        if self._stopping:
            return
        until = self._next_pause()
        for iteration in pellucid.share(range(self.iteration, until)):
            self.iteration = iteration
            self._iterate()
            if self._stopping:
                break
        else:
            self.iteration = until
        if self._due(self.param.snapshot):
            self.save(self)

    def _next_pause(self) -> int:
        """Number of the iteration before which there is a test or a snapshot, or the end."""
        intervals = (self.param.test_interval, self.param.snapshot)
        after = [(self.iteration // every + 1) * every for every in intervals if every]
        return min(self.param.max_iter, *after) if after else int(self.param.max_iter)

    def _test_if_due(self) -> None:
        if self._due(self.param.test_interval) and (
            self.iteration or self.param.test_initialization
        ):
            self._test()

    def _iterate(self) -> None:
        self._seed()
        loss, outputs = self._gradient()
        self._smoothed.add(loss)
        if display := self._shows():
            self._display(outputs)
        self._update(display=display)
        self.iteration += 1
        action = self.requests.poll()
        self._stopping = action is Action.STOP
        if action is Action.SNAPSHOT and not self._due(self.param.snapshot):
            self.save(self)

    def _shows(self) -> bool:
        """Whether to display: at each multiple, or the first number after it that came here."""
        if self.param.display <= 0:
            return False
        shown, self._shown = self._shown, self.iteration // self.param.display
        return self._shown > shown

    def _due(self, interval: int) -> bool:
        return bool(interval) and self.iteration % interval == 0

    def _seed(self) -> None:
        """Make dropout and its like a function of the seed and the iteration.

        Caffe keeps no random state in its snapshots; so a resumed training draws what the
        uninterrupted one would have drawn.
        """
        mixed = np.random.SeedSequence([self.seed, self.iteration]).generate_state(1)[0]
        torch.manual_seed(int(mixed))

    def _gradient(self) -> tuple[Tensor, Outputs]:
        """Sum the gradient of an iteration's batches.

        Returns:
            The mean loss, and the outputs on the last batch.
        """
        self.optimizer.zero_grad()
        losses = []
        first = self.iteration * self.param.iter_size
        for batch in range(first, first + self.param.iter_size):
            outputs = self.feed.forward(batch)
            outputs.loss.backward()  # type: ignore[no-untyped-call]
            losses.append(outputs.loss.detach())
        return sum(losses[1:], losses[0]) / len(losses), outputs

    def _update(self, *, display: bool) -> None:
        rate = self.rate.at(self.iteration, self._smoothed.mean)
        if display:
            LOGGER.info("Iteration %d, lr = %s", self.iteration, number(rate))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["updates"] = self.iteration  # of all workers
        self.optimizer.step()

    def _display(self, outputs: Outputs) -> None:
        iteration, at = self._displayed
        loss = number(self._smoothed.mean())  # waits for the device: before the clock is read
        now = self.clock()
        lapse = now - at
        pace = number((self.iteration - iteration) / (lapse or 1.0))
        self._displayed = (self.iteration, now)
        LOGGER.info(
            "Iteration %d (%s iter/s, %ss/%d iters), loss = %s",
            *(self.iteration, pace, number(lapse), self.param.display, loss),
        )
        for line in score_lines("Train", outputs):
            LOGGER.info(line)
        if self.feed.broken:
            LOGGER.warning("    Skipped broken records so far: %d", self.feed.broken)

    def _test(self) -> None:
        for test in self.tests:
            compute = self.param.test_compute_loss
            if not log_test(self.iteration, test, compute_loss=compute, go_on=self._goes_on):
                return

    def _goes_on(self) -> bool:
        """Do what was asked for in the middle of a test."""
        action = self.requests.poll()
        if action is Action.SNAPSHOT:
            self.save(self)
        self._stopping = self._stopping or action is Action.STOP
        return not self._stopping

    def _look_back(self) -> None:
        """The loss and the test after the last update."""
        if self._due(self.param.display):
            with torch.no_grad():
                batch = self.iteration * self.param.iter_size
                self._smoothed.add(self.feed.forward(batch).loss)
            LOGGER.info("Iteration %d, loss = %s", self.iteration, number(self._smoothed.mean()))
        if self._due(self.param.test_interval):
            self._test()


def tests_before(param: Any, iteration: int) -> int:
    """How many tests a training has made before it comes to this iteration.

    Args:
        param: the SolverParameter.
        iteration: at which a resumed training starts, with a test if one is due.
    """
    if not param.test_interval or not iteration:
        return 0
    due: int = -(-iteration // param.test_interval)
    return due if param.test_initialization else due - 1
