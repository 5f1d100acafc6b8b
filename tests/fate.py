"""Beside a script: what befalls its process, and when. It knows nothing of pellucid.

A process finds out which of its siblings it is, from the order in which their parent started them.
The variable FATE says what shall happen to which one, at which step of the script and where in it:
``1 5 backward SIGKILL``. A number in the place of a signal is an exit code.
"""

from __future__ import annotations

import os
import signal

import psutil  # type: ignore[import-untyped]

__all__ = ["at", "index"]


def _place_among_siblings() -> int:
    siblings = psutil.Process(os.getppid()).children()
    siblings.sort(key=lambda p: (p.create_time(), p.pid))
    return [p.pid for p in siblings].index(os.getpid())


# to be asked at once: later, siblings may be gone
index = _place_among_siblings()
_FATE = os.environ.get("FATE", "").split()


def at(step: int, where: str) -> None:
    """The script is here; if this is where our fate is, it finds us."""
    if _FATE[:3] != [str(index), str(step), where]:
        return
    how = _FATE[3]
    if how.isdecimal():
        os._exit(int(how))
    os.kill(os.getpid(), signal.Signals[how])
