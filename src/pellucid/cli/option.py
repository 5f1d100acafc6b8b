"""What the commands that train have in common: flags that are settings, and how they end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

import click

from pellucid.settings import describe

__all__ = ["USAGE", "leave", "option"]

# python's exit code for a command line that cannot be
USAGE: Final = 2

# an end that was asked for from outside looks the same to who asked, a shell for instance
ASKED_FOR: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def option(name: str, **kind: Any) -> Callable[[Any], Any]:
    """A flag for a setting: its name and its help are the setting's."""
    flag = "--" + name.replace("_", "-")
    if kind.get("is_flag"):
        flag = f"{flag}/--no-{name}"
    return click.option(flag, name, default=None, help=describe(name), **kind)


def leave(code: int) -> NoReturn:
    """End with the run's exit code, by the same signal if one was sent to end it."""
    if -code in ASKED_FOR:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code if code >= 0 else 128 - code)
