"""The folder of one run's records: events and what the followers printed."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import LaunchError

__all__ = ["RunDir"]

EVENTS = "events.jsonl"


@dataclass(frozen=True)
class RunDir:
    """A folder for one run.

    Attributes:
        path: where it is.
        asked_for: whether the user named it, so that it is kept in any case.
    """

    path: Path
    asked_for: bool

    @property
    def events(self) -> Path:
        """The file of events."""
        return self.path / EVENTS

    @classmethod
    def make(cls, log_dir: str | None) -> RunDir:
        """Make the folder; one that holds an earlier run's records gets another within it.

        Raises:
            LaunchError: it cannot be made.
        """
        try:
            if log_dir is None:
                return cls(Path(tempfile.mkdtemp(prefix="pellucid-")), asked_for=False)
            path = parent = Path(log_dir).absolute()
            number = 1
            while (path / EVENTS).exists():
                number += 1
                path = parent / f"run-{number}"
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            place = log_dir or tempfile.gettempdir()
            msg = (
                f"cannot make a folder for the run's records in {place!r}: {error.strerror}. "
                "Name one with --log-dir, or free some space"
            )
            raise LaunchError(msg) from error
        return cls(path, asked_for=True)

    def remove(self) -> None:
        """Remove it, unless the user asked for it."""
        if not self.asked_for:
            shutil.rmtree(self.path, ignore_errors=True)
