"""What the user is told while a run goes on; always on stderr, never on stdout.

Stdout belongs to the script, and so does the terminal: the script's process writes to it at any
time, and we cannot know where it left the cursor. So the status line lives in the terminal's last
row, outside of the region that scrolls, and everything the script writes stays above it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from pellucid.observe.meters import Progress

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

__all__ = ["Console", "Lines", "Quiet", "StatusLine", "open_console"]

STATUS_SECONDS: Final = 0.25
FIRST_LINE_SECONDS: Final = 10.0
LONGEST_LINE_SECONDS: Final = 300.0
FEWEST_ROWS: Final = 5  # in a smaller terminal the script needs every row

Write = Callable[[str], object]


class Console(Protocol):
    """The seam between a run and whoever watches it."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def error(self, text: str) -> None:
        """Something went wrong."""

    def wants_progress(self, now: float) -> bool:
        """Whether it is time to show progress again."""

    def show(self, progress: Progress, now: float) -> None:
        """The state of the run."""

    def hide(self) -> None:
        """Leave the terminal as it was found; `show` may follow."""


class Quiet:
    """Says nothing but errors.

    Args:
        write: takes the text.
    """

    def __init__(self, write: Write) -> None:
        self._write = write

    def say(self, text: str) -> None:
        """Not said."""

    def error(self, text: str) -> None:
        """Say it in a line of its own."""
        self._write(f"pellucid: {text}\n")

    def wants_progress(self, now: float) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def show(self, progress: Progress, now: float) -> None:
        """Not shown."""

    def hide(self) -> None:
        """There is nothing to hide."""


class Lines(Quiet):
    """Plain lines, for files and pipes: the status at growing intervals.

    Args:
        write: takes the text.
    """

    def __init__(self, write: Write) -> None:
        super().__init__(write)
        self._interval = FIRST_LINE_SECONDS
        self._next: float | None = None

    def say(self, text: str) -> None:
        """Say it in a line of its own."""
        self._write(f"pellucid: {text}\n")

    def wants_progress(self, now: float) -> bool:
        """After 10 seconds, then after twice as long each time, up to 5 minutes."""
        if self._next is None:
            self._next = now + self._interval
        return now >= self._next

    def show(self, progress: Progress, now: float) -> None:
        """Write a line."""
        self._interval = min(2 * self._interval, LONGEST_LINE_SECONDS)
        self._next = now + self._interval
        self.say(", ".join(progress.parts()))


class StatusLine(Lines):
    """A status line in the last row of a terminal.

    Args:
        write: takes text and control sequences, all of a call in one piece.
        size: tells columns and rows.
    """

    def __init__(self, write: Write, size: Callable[[], os.terminal_size]) -> None:
        super().__init__(write)
        self._size = size
        self._held: os.terminal_size | None = None
        self._rich: RichConsole | None = None

    def wants_progress(self, now: float) -> bool:
        """Four times a second."""
        return self._next is None or now >= self._next

    def show(self, progress: Progress, now: float) -> None:
        """Draw the line anew."""
        self._next = now + STATUS_SECONDS
        size = self._size()
        if size != self._held:
            self.hide()
            if size.lines < FEWEST_ROWS:
                return
            self._hold(size)
        text = self._render(progress, size.columns)
        # save the cursor, go to the last row, clear it, write, and go back
        self._write(f"\x1b7\x1b[{size.lines};1H\x1b[2K{text}\x1b8")

    def hide(self) -> None:
        """Give the last row back to the script."""
        if self._held is not None:
            rows = self._held.lines
            self._write(f"\x1b7\x1b[r\x1b[{rows};1H\x1b[2K\x1b8")
            self._held = None

    def _hold(self, size: os.terminal_size) -> None:
        """Take the last row out of the region that scrolls."""
        # the line feed scrolls when the cursor is in the last row, so that going up one line
        # afterwards ends within the region, and otherwise where it was
        self._write(f"\n\x1b7\x1b[1;{size.lines - 1}r\x1b8\x1b[A")
        self._held = size

    def _render(self, progress: Progress, columns: int) -> str:
        from rich.console import Console as RichConsole
        from rich.text import Text

        if self._rich is None:  # imported late: while the workers import torch, nobody waits for it
            self._rich = RichConsole(stderr=True, force_terminal=True, highlight=False)
        text = Text()
        text.append("pellucid ", style="bold")
        for place, part in enumerate(progress.parts()):
            text.append(" · " if place else " ", style="dim")
            text.append(part, style="cyan" if place == 0 else "")
        text.truncate(columns - 1)
        with self._rich.capture() as captured:
            self._rich.print(text, end="", soft_wrap=True)
        return captured.get()


def open_console(fd: int, *, quiet: bool, term: str) -> Console:
    """The console that suits this file descriptor.

    Args:
        fd: usually that of stderr.
        quiet: say nothing but errors.
        term: kind of terminal, as ``TERM`` names it.
    """

    def write(text: str) -> None:
        """All in one piece, so that the script's output does not come between."""
        data = text.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(fd, data) :]
            except OSError:
                return  # nobody reads it any more; that is no reason to end the run

    if quiet:
        return Quiet(write)
    if os.isatty(fd) and term not in ("", "dumb"):
        return StatusLine(write, lambda: os.get_terminal_size(fd))
    return Lines(write)
