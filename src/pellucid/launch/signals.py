"""Signals to the launcher, taken when it looks for them, with the knowledge of who sent them.

Ctrl-C in a terminal reaches the leader by itself, for it shares the terminal's process group with
the launcher; ``kill -INT`` of the launcher does not. The two must be told apart, or the script
would get one interrupt too many, or none. Only a signal that is blocked and fetched says where it
comes from, so the launcher blocks them, in every thread, and polls.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["Signal", "blocked", "let_through", "pending", "suspend"]

TAKEN: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
SI_KERNEL: Final = 0x80  # the origin of signals that a terminal sends, from <asm/siginfo.h>


@dataclass(frozen=True)
class Signal:
    """A signal that came.

    Attributes:
        number: which.
        from_terminal: whether a key was pressed, so that the whole process group got it.
    """

    number: signal.Signals
    from_terminal: bool


@contextmanager
def blocked() -> Iterator[None]:
    """Keep signals waiting until `pending` asks for them.

    To be entered before numpy is imported: its threads inherit what is blocked, and one thread
    that lets a signal through is enough for it not to wait.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _minded())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def let_through() -> Iterator[None]:
    """Within `blocked`, act on signals as ever: a process started now inherits that."""
    blocked_now = signal.pthread_sigmask(signal.SIG_UNBLOCK, _minded())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_now)


def _minded() -> set[signal.Signals]:
    """Not those that are ignored, as ``nohup`` and a shell's ``&`` want it: they would wait too."""
    return {number for number in TAKEN if signal.getsignal(number) is not signal.SIG_IGN}


def pending() -> list[Signal]:
    """Take the signals that have come since, without waiting."""
    taken: list[Signal] = []
    minded = _minded()
    while minded and (info := signal.sigtimedwait(minded, 0)) is not None:
        taken.append(Signal(signal.Signals(info.si_signo), info.si_code == SI_KERNEL))
    return taken


def suspend() -> None:
    """Do what SIGTSTP (Ctrl-Z) does to a process; return when it is continued.

    By the signal's own default action, because the kernel ignores it where nobody could continue
    the process again.
    """
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
