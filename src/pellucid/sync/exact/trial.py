"""Running a module so that nothing of it stays, beside what `Saved` puts back."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from pellucid.sync.exact import handlers
from pellucid.sync.exact.kept import Place
from pellucid.sync.exact.proof import Traces, UntriedError
from pellucid.sync.exact.quiet import ignored_warnings
from pellucid.sync.exact.region import inside
from pellucid.sync.exact.saved import Saved
from pellucid.sync.shared import generators

__all__ = ["Trial", "refuse_step", "traces_of", "without_a_trace"]

STEPS: Final = "its forward steps an optimizer"


class _Current:
    is_running = False


@dataclass
class Trial:
    """What a run left behind."""

    output: Any  # and values of attributes that it kept tensors in
    states: generators.States
    parameters: dict[int, torch.Tensor]  # that it wrote to
    buffers: list[torch.Tensor]
    attributes: list[dict[str, Any]]
    kept: list[Place]
    printed: str
    seconds: float
    decides: str  # a reason why what it did this time says nothing about the next, if there is one


def traces_of(trial: Trial, before: Saved) -> Traces:
    """What a run has changed beside what it has kept; all has been put back since."""
    traces = Traces.NONE
    if not generators.same(before.states(), trial.states):
        traces |= Traces.GENERATORS
    then, now = before.buffers(), trial.buffers
    built = len(then) != len(now)  # by this run, which was the first
    if not built and any(not torch.equal(a, b) for a, b in zip(then, now, strict=True)):
        traces |= Traces.BUFFERS
    if built or trial.parameters or any(trial.attributes):
        traces |= Traces.MORE
    return traces


@contextlib.contextmanager
def without_a_trace(saved: Saved) -> Iterator[io.StringIO]:
    """Run a module's body without what it does beside computing; yields what it prints."""
    out = io.StringIO()
    with (
        inside(),
        contextlib.redirect_stdout(out),
        ignored_warnings(),
        saved.without_hooks(),
        saved.without_grads(),
        handlers.left_out(),
        # not those around the call, which count what it saves: a checkpoint's, for one
        torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is),
        _noted(),
    ):
        yield out


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    _Current.is_running = True
    try:
        yield
    finally:
        _Current.is_running = False


def refuse_step(*_: Any) -> None:
    """Before an optimizer steps: its state is not put back, so that a trial ends here.

    Raises:
        UntriedError: a trial is running.
    """
    if _Current.is_running:
        raise UntriedError(STEPS)


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
