"""Run a small program under plain python, and as leader and follower side by side.

[Note: meeting]
The program may ``from meeting import meet``: alone that does nothing; side by side it is where
the workers wait for each other. The follower starts when the leader is at the first meeting. What
lies between two meetings is done by one worker after the other, in the order that a test asks
for: so "the leader is a little ahead" is no matter of luck.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import runpy
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pellucid
from pellucid.intercept.side_effects import RealStreams, SideEffects
from pellucid.transport.board import Board, Field, Flag, State

__all__ = ["Ran", "alone", "side_by_side"]

SOURCE = Path(pellucid.__file__).parent.parent
FAR = 1 << 30  # meetings; a worker that has ended is at all of them
TIMEOUT = 100.0
MEETING = "def meet(name=''):\n    pass\n\n\nindex = None\n"


@dataclass(frozen=True)
class Ran:
    """What a program left."""

    code: int
    out: str
    err: str
    files: Mapping[str, bytes | str | None]  # contents; the text of a link; None for a folder
    follower_out: str = ""
    follower_err: str = ""
    follower_code: int = 0


def alone(
    program: str, folder: Path, *args: str, stdin: str = "", files: Mapping[str, str] | None = None
) -> Ran:
    """Run a program under plain python, in a folder with some files in it."""
    _fill(folder, files)
    script = _write(program, folder)
    env = os.environ | {"PYTHONPATH": str(script.parent)}
    done = subprocess.run(
        [sys.executable, script, *args],
        cwd=folder, env=env, input=stdin, capture_output=True, text=True, timeout=TIMEOUT,
        check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr, _files(folder))


def side_by_side(
    program: str,
    folder: Path,
    *args: str,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    order: str = "",
    die: str = "",
    ahead: str = "",
    run_dir: Path | None = None,
    terminal: bool = False,
) -> Ran:
    """Run a program as leader and follower, in a folder.

    Args:
        program: text of the program.
        folder: where both believe to be.
        args: of the program.
        stdin: what can be read.
        files: what there is before.
        order: who is first between two meetings: leader, follower, or nobody in particular.
        die: name of the meeting at which the leader kills itself.
        ahead: who comes to know of that only at the next meeting: leader, follower, or nobody.
        run_dir: directory of the run, if not beside the folder.
        terminal: whether the real stdin and stdout are one.
    """
    _fill(folder, files)
    script = _write(program, folder)
    run_dir = run_dir or folder.parent / "run"
    run_dir.mkdir(exist_ok=True)
    board = Board.create(2)
    for row in board.fields:
        row[Field.STATE] = State.RUNNING
    with (_terminal if terminal else _pipes)(run_dir, stdin) as real:
        start = _starter(script, folder, board, real, [run_dir, order, die, ahead, *args])
        workers = [start(0, real)]
        with (run_dir / "1.out").open("wb") as one, (run_dir / "1.err").open("wb") as two:
            workers.append(start(1, RealStreams(-1, one.fileno(), two.fileno())))
        _watch(board, workers, die)
    leader = workers[1] if die else workers[0]
    return Ran(
        leader.returncode,
        (run_dir / "real.out").read_text(), (run_dir / "real.err").read_text(), _files(folder),
        (run_dir / "1.out").read_text(), (run_dir / "1.err").read_text(), workers[1].returncode,
    )  # fmt: skip


@contextmanager
def _pipes(run_dir: Path, stdin: str) -> Iterator[RealStreams]:
    read, write = os.pipe()
    os.write(write, stdin.encode())
    os.close(write)
    with (run_dir / "real.out").open("wb") as out, (run_dir / "real.err").open("wb") as err:
        yield RealStreams(read, out.fileno(), err.fileno())
    os.close(read)


@contextmanager
def _terminal(run_dir: Path, stdin: str) -> Iterator[RealStreams]:
    far, near = pty.openpty()
    os.write(far, stdin.encode())
    with (run_dir / "real.out").open("wb") as out, (run_dir / "real.err").open("wb") as err:
        yield RealStreams(near, near, err.fileno())
        os.set_blocking(far, False)
        with contextlib.suppress(BlockingIOError):
            while shown := os.read(far, 1 << 16):
                out.write(shown)
    os.close(far)
    os.close(near)


def _starter(
    script: Path, folder: Path, board: Board, real: RealStreams, arguments: list[Any]
) -> Callable[[int, RealStreams], subprocess.Popen[bytes]]:
    def start(index: int, streams: RealStreams) -> subprocess.Popen[bytes]:
        spec = json.dumps([index, board.fd, list(real), str(script), *map(str, arguments)])
        return subprocess.Popen(
            [sys.executable, __file__, spec],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
            stdin=streams.stdin if streams.stdin >= 0 else subprocess.DEVNULL,
            stdout=streams.stdout,
            stderr=streams.stderr,
            pass_fds=(board.fd, *real),
        )

    return start


def _watch(board: Board, workers: list[subprocess.Popen[bytes]], die: str) -> None:
    """Wait for the workers, as the launcher would: when the leader dies, the other one leads."""
    try:
        workers[0].wait(TIMEOUT)
        board.fields[0][Field.ARRIVED] = FAR
        board.flags[Flag.GO] = 1
        if die:
            board.fields[0][Field.STATE] = State.DEAD
            board.flags[Flag.LEADER] = 1
        workers[1].wait(TIMEOUT)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _fill(folder: Path, files: Mapping[str, str] | None) -> None:
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _write(program: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / "program"
    beside.mkdir(exist_ok=True)
    (beside / "meeting.py").write_text(MEETING)
    script = beside / "program.py"
    script.write_text(textwrap.dedent(program))
    return script


def _files(folder: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = None
    return found


class _Worker:
    """One of the processes that `side_by_side` starts."""

    def __init__(self, spec: list[Any]) -> None:
        (
            self.index,
            board_fd,
            real,
            self.script,
            run_dir,
            self.order,
            self.die,
            self.ahead,
            *args,
        ) = spec
        self.board = Board(board_fd, 2)
        self.meetings = 0
        self.ends = False  # at the next meeting
        self.ended = False
        sys.argv = [self.script, *args]
        sys.path[0] = str(Path(self.script).parent)
        if self.index == 0:
            self.effects = SideEffects.leader(run_dir, self.board, 0)
        else:
            self.effects = SideEffects.follower(run_dir, self.board, 1, RealStreams(*real))

    def run(self) -> None:
        if self.index:
            self.wait(lambda: self.board.flags[Flag.GO])
            self.after_other()
        meeting: Any = ModuleType("meeting")
        meeting.meet, meeting.index = self.meet, self.index
        sys.modules["meeting"] = meeting
        self.effects.install()
        try:
            runpy.run_path(self.script, run_name="__main__")
        finally:
            self.board.fields[self.index][Field.ARRIVED] = FAR

    def meet(self, name: str = "") -> None:
        if self.ends:
            self.end()
        self.meetings += 1
        self.board.fields[self.index][Field.ARRIVED] = self.meetings
        self.effects.settle()
        self.board.flags[Flag.GO] = 1
        self.wait(lambda: self.arrived(1 - self.index) >= self.meetings)
        if name and name == self.die:
            self.ends = True
            if self.ahead != ("leader", "follower")[self.index]:
                self.end()
        elif not self.ended:
            self.after_other()

    def end(self) -> None:
        """The leader dies; the follower takes over."""
        self.ends, self.ended = False, True
        if self.index == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.wait(lambda: self.board.flags[Flag.LEADER] == 1)
        self.effects.promote()

    def after_other(self) -> None:
        """Let the other one do first what comes before the next meeting, if a test wants that."""
        if self.order == ("leader", "follower")[1 - self.index]:
            self.wait(lambda: self.arrived(1 - self.index) > self.meetings)

    def arrived(self, index: int) -> int:
        return int(self.board.fields[index][Field.ARRIVED])

    @staticmethod
    def wait(ready: Callable[[], Any]) -> None:
        end = time.monotonic() + TIMEOUT
        while not ready():
            if time.monotonic() > end:
                msg = "the other worker does not come"
                raise TimeoutError(msg)
            time.sleep(0.001)


if __name__ == "__main__":
    _Worker(json.loads(sys.argv[1])).run()
