"""Events of a run: JSON lines that workers write to a pipe, kept in a file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

__all__ = ["Event", "EventLog", "EventReader"]

Event = dict[str, Any]


class EventReader:
    """Puts the bytes that come out of the pipe together to events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Event]:
        """Events that are complete with these bytes.

        A worker that was killed while it wrote may leave half a line: what is no event is passed on
        as one of kind ``unreadable``, so that nothing is lost without a trace.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [self._parse(line) for line in lines if line]

    @staticmethod
    def _parse(line: bytes) -> Event:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            return event
        return {"event": "unreadable", "text": line.decode("utf-8", "replace")}


class EventLog:
    """Keeps events in a file, one JSON object a line.

    Args:
        path: the file; it is begun anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self.trouble = ""  # why nothing is kept any more: a full disk is no reason to end a run

    def write(self, now: float, event: Event) -> None:
        """Add an event.

        Args:
            now: seconds since the start of the run.
            event: what happened.
        """
        if self.trouble:
            return
        try:
            self._file.write(json.dumps({"time": round(now, 3), **event}) + "\n")
        except OSError as error:
            self.trouble = str(error)

    def close(self) -> None:
        """No more events."""
        with contextlib.suppress(OSError):  # it tries again to write what it could not
            self._file.close()
