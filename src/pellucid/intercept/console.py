"""The console: one stdin, stdout and stderr for all workers' copies of the script.

The leader's are the real ones. What it prints is counted (``Field.STDOUT_BYTES``) and what it reads
is recorded, by a raw layer below the streams that Python itself would have made. A follower prints
to a file and reads what the leader read. When it becomes the leader, it first prints what the old
one had not come to, and keeps to itself what the old one had printed already.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import builtins
import io
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from pellucid.intercept.leadership import Leadership
from pellucid.intercept.patch import Patches
from pellucid.transport.board import Field

__all__ = ["Console", "RealStreams"]

STDIN, STDOUT, STDERR = 0, 1, 2
LENGTH = struct.Struct("<I")  # before every chunk of the record of stdin; 0: the end of the input
PIECE = 1 << 16


class RealStreams(NamedTuple):
    """File descriptors that a follower keeps of the run's real streams, until it needs them.

    Those that the run itself was started without are -1.
    """

    stdin: int
    stdout: int
    stderr: int


class Output(io.FileIO):
    """A raw layer that tells how much was written, and can leave out what others wrote before."""

    def __init__(self, fd: int, name: str, *, terminal: bool, count: Callable[[int], None]) -> None:
        super().__init__(fd, "w", closefd=False)
        self.name = name
        self.skip = 0  # bytes still to be left out
        self._terminal = terminal
        self._count = count

    def isatty(self) -> bool:
        """Whether the run's real stream is a terminal, so that all copies take the same way."""
        return self._terminal

    def write(self, data: Any) -> int:
        """Write, and count what got through."""
        view = memoryview(data).cast("B")
        skipped = min(self.skip, len(view))
        self.skip -= skipped
        written = super().write(view[skipped:]) or 0 if skipped < len(view) else 0
        self._count(written)
        return skipped + written


class Record:
    """What the leader read from stdin, chunk by chunk, in a file.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._at = 0

    def append(self, chunk: bytes) -> None:
        """Add a chunk; it counts as taken by this worker."""
        os.write(self._fd, LENGTH.pack(len(chunk)) + chunk)
        self._at += LENGTH.size + len(chunk)

    def take(self) -> bytes | None:
        """The next chunk; None if there is none yet."""
        head = os.pread(self._fd, LENGTH.size, self._at)
        if len(head) < LENGTH.size:
            return None
        (size,) = LENGTH.unpack(head)
        chunk = os.pread(self._fd, size, self._at + LENGTH.size)
        if len(chunk) < size:
            return None
        self._at += LENGTH.size + size
        return chunk


class Input(io.RawIOBase):
    """A raw layer that gives every worker's script the same bytes.

    Args:
        record: of what the leader read.
        leadership: tells who reads the real stream.
        terminal: whether that is a terminal.
    """

    def __init__(self, record: Record, leadership: Leadership, *, terminal: bool) -> None:
        self.name = "<stdin>"
        self.mode = "rb"
        self._record = record
        self._leadership = leadership
        self._terminal = terminal
        self._left = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """As plain Python's."""
        return STDIN

    def isatty(self) -> bool:
        """Whether the run's real stream is a terminal."""
        return self._terminal

    def readinto(self, buffer: Any) -> int:
        """Read what the leader read at this point, or else, as the leader, from the stream."""
        size = len(buffer)
        chunk = self._left or self._next()
        if chunk is None:
            chunk = os.read(STDIN, size)
            self._record.append(chunk)
        buffer[: len(chunk[:size])] = chunk[:size]
        self._left = chunk[size:]
        return len(chunk[:size])

    def _next(self) -> bytes | None:
        """What was read before this worker led, or by the leader; None: it is our turn."""
        if self._leadership.leads:
            return self._record.take()
        return self._leadership.wait(self._record.take)


class Console:
    """The streams of one worker.

    Args:
        run_dir: directory of the run.
        leadership: this worker's role.
        real: of a follower: the run's real streams. It has its own file as stdout.
        same: whether all workers print the same. If not, one that becomes the leader leaves out
            about as much as the old one printed, and goes on with a whole line.
    """

    def __init__(
        self,
        run_dir: str,
        leadership: Leadership,
        real: RealStreams | None = None,
        *,
        same: bool = True,
    ) -> None:
        self._same = same
        self._leadership = leadership
        self._record = Record(os.path.join(run_dir, "stdin"))
        self._real = real
        self._patches = Patches()
        self._output: Output | None = None
        self._stream: io.TextIOWrapper | None = None  # above it, whatever the script has put there
        self._start = 0  # size of a follower's stdout before the script began

    def install(self) -> None:
        """Put our layers below ``sys.stdin`` and ``sys.stdout``, for the script that comes."""
        fds = self._real or RealStreams(STDIN, STDOUT, STDERR)
        if self._real is not None:
            sys.stdout.flush()
            self._start = os.fstat(STDOUT).st_size
        if isinstance(sys.stdout, io.TextIOWrapper):
            self._output = Output(
                STDOUT, "<stdout>", terminal=os.isatty(fds.stdout), count=self._count
            )
            self._stream = _text(self._output, sys.stdout)
            self._replace("stdout", self._stream)
        if isinstance(sys.stdin, io.TextIOWrapper):
            terminal = os.isatty(fds.stdin)
            raw = Input(self._record, self._leadership, terminal=terminal)
            self._replace("stdin", _text(raw, sys.stdin))
            if terminal:
                self._patches.replace(builtins, "input", self._input(input))

    def promote(self) -> None:
        """Go on where the old leader stopped; the role itself has changed already."""
        board = self._leadership.board
        printed = max(board.column(Field.STDOUT_BYTES))  # only leaders count
        self._flush()
        if self._real is None:
            return
        ours = os.fstat(STDOUT).st_size - self._start
        if ours > printed and self._real.stdout >= 0:
            start = self._start + printed
            if not self._same:
                start = _next_line("/proc/self/fd/1", start)
            _send("/proc/self/fd/1", start, self._real.stdout)
        elif self._output is not None and self._same:
            self._output.skip = max(0, printed - ours)
        board.fields[self._leadership.index][Field.STDOUT_BYTES] = max(ours, printed)
        for fd, real in zip((STDIN, STDOUT, STDERR), self._real, strict=True):
            if real >= 0:
                os.dup2(real, fd)

    def undo(self) -> None:
        """Put Python's own streams back."""
        self._flush()
        self._patches.undo()

    def _flush(self) -> None:
        if self._stream is not None and not self._stream.closed:
            self._stream.flush()

    def _replace(self, name: str, stream: io.TextIOWrapper) -> None:
        getattr(sys, name).flush()
        self._patches.replace(sys, name, stream)
        self._patches.replace(sys, f"__{name}__", stream)

    def _count(self, written: int) -> None:
        if self._leadership.leads:
            board = self._leadership.board
            board.fields[self._leadership.index][Field.STDOUT_BYTES] += written

    def _input(self, original: Callable[..., str]) -> Callable[..., str]:
        """Python reads a line from a terminal past ``sys.stdin``: that is recorded here."""

        def seam(prompt: object = "", /) -> str:
            usual = isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin is sys.__stdin__
            if not (usual and self._leadership.leads and sys.stdout.isatty()):
                return original(prompt)
            try:
                line = original(prompt)
            except EOFError:
                self._record.append(b"")
                raise
            self._record.append((line + "\n").encode(sys.stdin.encoding, sys.stdin.errors or ""))
            # followers, who have no terminal, have the prompt among what they print
            self._count(len(str(prompt).encode(sys.stdout.encoding, "replace")))
            return line

        return seam


def _text(raw: io.RawIOBase, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """The stream that Python would have made of a raw layer at its start."""
    buffer: Any = raw  # with `python -u`, there is no buffer
    if not isinstance(like.buffer, io.RawIOBase):
        plain = getattr(like.buffer, "raw", None)
        size = getattr(plain, "_blksize", io.DEFAULT_BUFFER_SIZE)
        buffer = (io.BufferedWriter if raw.writable() else io.BufferedReader)(raw, size)
    stream = io.TextIOWrapper(
        buffer,
        encoding=like.encoding,
        errors=like.errors,
        newline="\n",
        line_buffering=like.line_buffering or raw.isatty(),
        write_through=like.write_through,
    )
    stream.mode = "w" if raw.writable() else "r"  # type: ignore[misc]
    return stream


def _next_line(path: str, start: int) -> int:
    """Where the first line begins that does not begin before a place in a file."""
    with open(path, "rb") as file:
        file.seek(max(0, start - 1))
        if start:
            file.readline()
        return file.tell()


def _send(path: str, start: int, target: int) -> None:
    """Write the rest of a file to a descriptor."""
    with open(path, "rb") as file:
        file.seek(start)
        while chunk := file.read(PIECE):
            left = memoryview(chunk)
            while left:
                left = left[os.write(target, left) :]
