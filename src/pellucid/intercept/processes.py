"""Commands that the script runs to their end: the leader runs them, all get what they came to.

[Note: commands]
``subprocess.run``, ``call``, ``check_call``, ``check_output``, ``getoutput``, ``os.system`` and
``os.popen`` give back what a finished command left. The leader records that; a follower waits for
the record of its own call, the n-th of that thread, and has the command's effects without
repeating them. When the two commands differ, the copies of the script took different paths.

Only calls of the script itself are handled so (see `callers`). What is started and not waited for
(``Popen``, ``multiprocessing``, ``os.fork``) runs for each worker; in a forked child commands are
run as ever.
"""

# `Path` would come back to the very functions that are patched here
# ruff: noqa: PTH103, PTH105, PTH118, PTH123

from __future__ import annotations

import functools
import io
import os
import pickle
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple

from pellucid.errors import DivergenceError
from pellucid.intercept.callers import is_of_script
from pellucid.intercept.leadership import Leadership
from pellucid.intercept.patch import Patches

__all__ = ["Commands"]

STREAMS = ("stdout", "stderr")


class Outcome(NamedTuple):
    """What one command came to."""

    command: str
    value: Any
    error: Exception | None
    written: dict[str, bytes]  # to files that the script had given the command to write to


class Commands:
    """The commands of one worker's script; see [Note: commands].

    Args:
        run_dir: directory of the run.
        leadership: this worker's role.
    """

    def __init__(self, run_dir: str, leadership: Leadership) -> None:
        self._folder = os.path.join(run_dir, "commands")
        os.makedirs(self._folder, exist_ok=True)
        self._leadership = leadership
        self._pid = os.getpid()
        self._calls: dict[str, int] = {}  # by thread, so far
        self._patches = Patches()

    def install(self) -> None:
        """Take hold of the functions that run a command to its end."""
        for owner, name in ((subprocess, "run"), (subprocess, "call"), (os, "system")):
            self._patches.replace(owner, name, self._seam(getattr(owner, name)))
        self._patches.replace(os, "popen", self._popen(os.popen))

    def undo(self) -> None:
        """Let go of them."""
        self._patches.undo()

    def _seam(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def seam(*args: Any, **options: Any) -> Any:
            if not self._is_ours(sys._getframe(1)):
                return original(*args, **options)
            command = _text(args[0] if args else options.get("args", options.get("command")))
            files = {name: fd for name in STREAMS if (fd := _file(options.get(name))) is not None}
            return self._once(command, functools.partial(original, *args, **options), files)

        return seam

    def _popen(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def seam(cmd: Any, mode: str = "r", buffering: int = -1) -> Any:
            reads = isinstance(cmd, str) and mode == "r"
            if not reads or not self._is_ours(sys._getframe(1)):
                return original(cmd, mode, buffering)

            def run() -> Any:
                with subprocess.Popen(cmd, shell=True, stdout=subprocess.PIPE) as process:
                    return process.communicate()[0], process.returncode

            output, code = self._once(cmd, run, {})
            ended: Any = SimpleNamespace(wait=lambda: code)
            return os._wrap_close(io.TextIOWrapper(io.BytesIO(output)), ended)

        return seam

    def _once(self, command: str, act: Callable[[], Any], files: dict[str, int]) -> Any:
        """Run a command, or give what it came to when the leader ran it."""
        thread = threading.current_thread().name
        number = self._calls[thread] = self._calls.get(thread, 0) + 1
        path = os.path.join(self._folder, f"{thread.replace('/', '_')}-{number}")
        if not self._leadership.leads:
            outcome = self._leadership.wait(functools.partial(_load, path))
            if outcome is not None:
                return _replay(command, outcome, files)
        elif (outcome := _load(path)) is not None:  # an earlier leader ran it, and died
            return _replay(command, outcome, files)
        starts = {name: os.fstat(fd).st_size for name, fd in files.items()}
        value, error = None, None
        try:
            value = act()
        except Exception as failed:
            error = failed
        written = {name: _written(fd, starts[name]) for name, fd in files.items()}
        _save(path, Outcome(command, value, error, written))
        if error is not None:
            raise error
        return value

    def _is_ours(self, frame: FrameType) -> bool:
        return os.getpid() == self._pid and is_of_script(frame)


def _text(command: Any) -> str:
    """A command as a person would write it."""
    if isinstance(command, str | bytes | os.PathLike):
        return os.fsdecode(command)
    try:
        return " ".join(os.fsdecode(part) for part in command)
    except TypeError:  # not a command at all: the function will say so
        return repr(command)


def _file(stream: Any) -> int | None:
    """The descriptor of a regular file that a command shall write to."""
    try:
        fd = stream if isinstance(stream, int) else stream.fileno()
        return fd if fd >= 0 and stat.S_ISREG(os.fstat(fd).st_mode) else None
    except (AttributeError, OSError):
        return None


def _written(fd: int, start: int) -> bytes:
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        file.seek(start)
        return file.read()


def _save(path: str, outcome: Outcome) -> None:
    try:
        data = pickle.dumps(outcome)
    except Exception:
        data = pickle.dumps(outcome._replace(error=RuntimeError(repr(outcome.error))))
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.replace(path + ".new", path)


def _load(path: str) -> Outcome | None:
    try:
        with open(path, "rb") as file:
            outcome: Outcome = pickle.loads(file.read())  # the leader's, of our own user
    except FileNotFoundError:
        return None
    return outcome


def _replay(command: str, outcome: Outcome, files: dict[str, int]) -> Any:
    if command != outcome.command:
        msg = (
            f"this worker's script runs the command {command!r} where the leader's ran "
            f"{outcome.command!r}: the copies of the script took different paths; make the "
            f"command the same in every run (no process id, no time of day in it)"
        )
        raise DivergenceError(msg)
    for name, fd in files.items():
        os.write(fd, outcome.written.get(name, b""))
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
