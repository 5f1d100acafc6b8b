"""Effect handlers of Pyro, which look on while a model is run, and count what it samples.

They are to see each run once, and whole values. So a module that reports to them runs whole.
Whether it does is seen in its trials, in which there is but one handler, ours.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Final

from pellucid.sync.exact.proof import UntriedError

__all__ = ["are_looking_on", "left_out"]

REPORTS: Final = "it reports to handlers of Pyro what it samples, or the parameters that it takes"


def are_looking_on() -> bool:
    """Whether there are any."""
    return bool(_stack())


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """While the body runs, what is reported to them is an error."""
    stack = _stack()
    before = list(stack)
    stack[:] = [_Handler() for _ in before[:1]]
    try:
        yield
    finally:
        stack[:] = before


class _Handler:
    def _process_message(self, _: Any) -> None:
        raise UntriedError(REPORTS)


def _stack() -> list[Any]:
    """Pyro's own, if the script uses it."""
    runtime = sys.modules.get("pyro.poutine.runtime")
    stack: list[Any] = getattr(runtime, "_PYRO_STACK", [])
    return stack
