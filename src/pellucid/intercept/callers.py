"""Who calls: the script, by way of the standard library perhaps, or a library for itself.

What the script does happens once, whoever does it for the script. What an installed library does
for itself (a compiler asked for its version, a source file written for it) may well happen in one
worker and not in another, and is let be.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH100, PTH120

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from types import FrameType

__all__ = ["is_of_script", "script_frames"]

STANDARD = tuple(sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib"))
INSTALLED = ("/site-packages/", "/dist-packages/")
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/"


def is_of_script(frame: FrameType | None) -> bool:
    """Whether the call in this frame is the script's: the nearest caller with a purpose decides."""
    while frame is not None:
        path = frame.f_code.co_filename
        if any(part in path for part in INSTALLED):
            # the script itself may be an installed package, run with -m
            main = vars(sys.modules["__main__"]).get("__package__") or "__main__"
            module = str(frame.f_globals.get("__name__"))
            return module.partition(".")[0] == str(main).partition(".")[0]
        if not path.startswith((*STANDARD, OURS)) and not path.startswith("<frozen"):
            return True
        frame = frame.f_back
    return True  # a thread whose target is the function itself


def script_frames() -> Iterator[FrameType]:
    """Frames of the script's own functions that are being run, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        passes_by = path.startswith((*STANDARD, OURS, "<frozen"))
        if (any(part in path for part in INSTALLED) or not passes_by) and is_of_script(frame):
            yield frame
        frame = frame.f_back
