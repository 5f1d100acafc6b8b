"""Caffe's log lines, in the shape glog gives them, so that existing parsers read them.

    I1017 07:36:17.370688 31333 loop.py:228] Iteration 100, lr = 0.00992565

First the level and the date, the time, the process, where in the source, then the message.
"""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import Final, TextIO

__all__ = ["LOGGER", "begin", "number"]

LOGGER: Final = logging.getLogger("pellucid.caffe")
LETTERS: Final = {
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}


class _Glog(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        letter = LETTERS.get(record.levelno, "I")
        when = datetime.fromtimestamp(record.created)
        where = f"{record.filename}:{record.lineno}"
        return f"{letter}{when:%m%d %H:%M:%S.%f} {record.process:5} {where}] {record.getMessage()}"


def begin(stream: TextIO | None = None) -> None:
    """Write the log, to stderr unless told otherwise, as Caffe's programs do."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Glog())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def number(value: float) -> str:
    """A number as C++ streams print it: six digits."""
    return f"{value:g}"
