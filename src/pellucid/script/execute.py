"""Run the user's program in this process as ``python`` would run it in its own.

What the program can see of how it was started is made the same: ``sys.argv``, ``sys.path[0]``, the
module ``__main__`` and all its attributes. What happens at its end needs no imitation: exceptions
and ``SystemExit`` pass on to the interpreter, which prints, waits for threads, calls ``atexit``
and picks the exit code as ever. Only the traceback is peeled on the way, so that it shows the
program's frames and none of ours; the whole one goes to a file, for whoever looks for our bugs.
"""

from __future__ import annotations

import contextlib
import io
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, Final

__all__ = ["execute", "peel"]

OUR_FOLDER: Final = str(Path(__file__).parents[1]) + os.sep
# for the developers of pellucid: not to hide our frames from the traceback
WHOLE_TRACEBACK: Final = "PELLUCID_TRACEBACK"


def execute(
    target: str,
    argv: Sequence[str],
    *,
    is_module: bool = False,
    silent: tuple[type[BaseException], ...] = (),
    record: Path | None = None,
) -> None:
    """Run a program to its end and return; what it raises passes through.

    Call it once, as the last thing a process does, and let the exception reach the interpreter.

    Args:
        target: a file, a folder or zip archive with a ``__main__.py``, or the name of a module.
        argv: the program's own arguments.
        is_module: whether ``target`` is the name of a module, as after ``python -m``.
        silent: exceptions that end the program without a traceback.
        record: file for the whole traceback, when ours differs from the one that is shown.
    """
    main = _new_main()
    sys.orig_argv = [sys.executable, *(["-m"] if is_module else []), target, *argv]
    try:
        if is_module:
            _run_module(target, argv)
        else:
            _run_path(target, argv, main)
    except SystemExit:
        raise
    except BaseException as error:
        shown = None if WHOLE_TRACEBACK in os.environ else _Peeled(error)
        sys.excepthook = _Hook(sys.excepthook, shown, silent, record)
        raise


def _new_main() -> ModuleType:
    """A ``__main__`` as empty as python's own when a program starts."""
    main = ModuleType("__main__")
    # the interpreter hands a program the module, elsewhere it is the module's dictionary
    main.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={})
    sys.modules["__main__"] = main
    return main


def _run_module(name: str, argv: Sequence[str]) -> None:
    """As ``python -m name``; runpy is what the interpreter itself calls there."""
    from runpy import _run_module_as_main  # type: ignore[attr-defined]

    _put_on_path(str(Path.cwd()))
    sys.argv = ["-m", *argv]  # runpy puts the file's name there, once found
    _run_module_as_main(name)


def _run_path(target: str, argv: Sequence[str], main: ModuleType) -> None:
    """As ``python target``."""
    sys.argv = [target, *argv]
    # not made simple: python shows `sub/../train.py` in `__file__` and tracebacks as it was given
    here = os.getcwd()  # noqa: PTH109
    path = here if target == "." else os.path.join(here, target)  # noqa: PTH118
    if pkgutil.get_importer(path) is not None:  # a folder or an archive
        from runpy import _run_module_as_main  # type: ignore[attr-defined]

        _put_on_path(path, always=True)
        _run_module_as_main("__main__", alter_argv=False)
        return
    try:
        code = _compile(path)
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{sys.executable}: can't open file {path!r}: {reason}\n")
        sys.exit(2)
    _put_on_path(str(Path(path).resolve().parent))
    loader = SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader
    main.__dict__.update(__file__=path, __cached__=None, __loader__=loader("__main__", path))
    exec(code, main.__dict__)


def _compile(path: str) -> CodeType:
    with io.open_code(path) as file:
        if path.endswith(".pyc"):
            code: CodeType | None = pkgutil.read_code(file)
            if code is None:
                msg = f"Bad magic number in {path!r}: compiled by another version of python"
                raise ImportError(msg)
            return code
        return compile(file.read(), path, "exec", dont_inherit=True)


def _put_on_path(folder: str, *, always: bool = False) -> None:
    """Make this the first place imports look, where python would.

    This process was itself started in one of the two ways: with ``-P`` there is no entry of its
    own at the head of ``sys.path``, else that entry goes.
    """
    if not sys.flags.safe_path:
        del sys.path[0]
    if always or not os.environ.get("PYTHONSAFEPATH"):
        sys.path.insert(0, folder)


def peel(frames: TracebackType | None) -> TracebackType | None:
    """The same traceback without the frames of pellucid itself."""
    kept = [
        part
        for part in _walk(frames)
        if not part.tb_frame.f_code.co_filename.startswith(OUR_FOLDER)
    ]
    peeled = None
    for part in reversed(kept):
        peeled = TracebackType(peeled, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return peeled


def _walk(frames: TracebackType | None) -> Iterator[TracebackType]:
    while frames is not None:
        yield frames
        frames = frames.tb_next


def _family(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that its traceback will show: causes, contexts, members of groups."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


class _Peeled:
    """The tracebacks of an exception and its family, peeled when it leaves the program.

    Taken at that moment, because the frames that run the program are added on the way out.
    """

    def __init__(self, error: BaseException) -> None:
        self.tracebacks = [(one, peel(one.__traceback__)) for one in _family(error)]

    def put(self) -> TracebackType | None:
        """Make them the exceptions' own; return the first one's."""
        for one, frames in self.tracebacks:
            one.__traceback__ = frames
        return self.tracebacks[0][1]


@dataclass(frozen=True)
class _Hook:
    """Stands between the interpreter and the excepthook in force when the program ended."""

    hook: Callable[[type[BaseException], BaseException, TracebackType | None], Any]
    shown: _Peeled | None
    silent: tuple[type[BaseException], ...]
    record: Path | None

    def __call__(
        self, kind: type[BaseException], value: BaseException, frames: TracebackType | None
    ) -> None:
        if self.record is not None:
            text = "".join(traceback.format_exception(kind, value, frames))
            with contextlib.suppress(OSError):  # the script's own traceback matters more
                self.record.write_text(text, errors="backslashreplace")
        if isinstance(value, self.silent):
            return
        if self.shown is not None:
            frames = sys.last_traceback = self.shown.put()
        try:
            self.hook(kind, value, frames)
        except SystemExit:
            raise
        except BaseException as broken:
            # the words of the interpreter, which would add our frame to them
            broken.__traceback__ = peel(broken.__traceback__)
            sys.stderr.write("Error in sys.excepthook:\n")
            traceback.print_exception(broken)
            sys.stderr.write("\nOriginal exception was:\n")
            traceback.print_exception(kind, value, frames)
