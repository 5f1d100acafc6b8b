"""Running a module so that nothing of it stays, beside what `Saved` puts back."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any, Final

import torch

from pellucid.sync.exact import handlers
from pellucid.sync.exact.proof import UntriedError
from pellucid.sync.exact.quiet import ignored_warnings
from pellucid.sync.exact.region import inside
from pellucid.sync.exact.saved import Saved

__all__ = ["refuse_step", "without_a_trace"]

STEPS: Final = "its forward steps an optimizer"


class _Trial:
    is_running = False


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
    _Trial.is_running = True
    try:
        yield
    finally:
        _Trial.is_running = False


def refuse_step(*_: Any) -> None:
    """Before an optimizer steps: its state is not put back, so that a trial ends here.

    Raises:
        UntriedError: a trial is running.
    """
    if _Trial.is_running:
        raise UntriedError(STEPS)


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
