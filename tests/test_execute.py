"""A program run by `execute` cannot tell that it was not started by python."""

from __future__ import annotations

import os
import py_compile
import re
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import pytest

from pellucid.script.execute import peel

SOURCE = Path(__file__).parent.parent / "src"

# what a worker does around the program, in one line
WORKER = """
import sys
from pellucid.script.execute import execute
execute(sys.argv[2], sys.argv[3:], is_module=sys.argv[1] == "module", silent=(BufferError,))
"""

SELF_PORTRAIT = """
import __main__, os, pickle, sys, inspect
class Thing: pass
print(__name__, __file__, __package__, __cached__, __builtins__, sorted(globals()))
print(type(__loader__), __loader__ and __loader__.name if hasattr(__loader__, "name") else 0)
print(__spec__ and (__spec__.name, __spec__.origin, __spec__.parent))
print(sys.argv, sys.path, sys.orig_argv[1:])
print(sys.modules["__main__"] is __main__, vars(__main__) is globals(), __annotations__)
print(pickle.loads(pickle.dumps(Thing)) is Thing, inspect.getfile(Thing))
print(__main__)
"""

ENDINGS = {
    "returns": "print('done')",
    "exit number": "import sys; sys.exit(3)",
    "exit none": "import sys; sys.exit()",
    "exit text": "import sys; sys.exit('told you so')",
    "exit object": "import sys; sys.exit([1, 2])",
    "exit true": "import sys; sys.exit(True)",
    "exit large": "raise SystemExit(259)",
    "builtin exit": "exit(4)",
    "hard exit": "import os; os._exit(5)",
    "raises": "def f():\n    g()\ndef g():\n    raise ValueError('é')\nf()",
    "raises from": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e"
    ),
    "raises while": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('k')",
    "raises group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
    "recursion": "def f(): f()\nf()",
    "syntax error": "x = = 1",
    "interrupted": "raise KeyboardInterrupt",
    "interrupted by signal": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**9): pass"
    ),
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "own hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[:2])\nraise ValueError(1)",
    "hook sees": (
        "import sys, traceback\n"
        "def hook(kind, value, frames):\n"
        "    print([f.name for f in traceback.extract_tb(frames)])\n"
        "    print(frames is value.__traceback__ is sys.last_traceback, sys.last_value is value)\n"
        "sys.excepthook = hook\n"
        "def f(): raise ValueError(1)\n"
        "f()"
    ),
    "hook exits": (
        "import sys\ndef hook(*a): sys.exit(6)\nsys.excepthook = hook\nraise ValueError(1)"
    ),
    "atexit": "import atexit; atexit.register(print, 'at exit'); raise ValueError(1)",
    "atexit exits": "import atexit, sys; atexit.register(sys.exit, 7); print('end')",
    "thread goes on": (
        "import threading, time\n"
        "def late():\n    threading.main_thread().join()\n    print('late')\n"
        "threading.Thread(target=late).start()\nprint('main ends')"
    ),
    "thread raises": (
        "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()"
    ),
    "closed stdout": "import sys, os; print('lost'); os.close(1)",
    "future of ours": "def f(x: no_such_name): pass",
    "stdin": "print(input('? '), input())",
    "subprocess": (
        "import multiprocessing as m\n"
        "def twice(x): return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(1) as pool: print(pool.map(twice, [1, 2]))"
    ),
}


@dataclass(frozen=True)
class Ending:
    """All that can be seen of a process that has ended."""

    stdout: str
    stderr: str
    code: int


def run(command: list[str], folder: Path, **variables: str) -> Ending:
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment | variables,
        input="a\nb\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return Ending(done.stdout, done.stderr, done.returncode)


def both(folder: Path, *target: str, **variables: str) -> tuple[Ending, Ending]:
    """A program by python, and by `execute` as a worker calls it."""
    plain = run([*target], folder, **variables)
    kind, rest = ("module", target[1:]) if target[0] == "-m" else ("path", target)
    ours = run(["-P", "-c", WORKER, kind, *rest], folder, **variables)
    return plain, ours


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("way", ["file", "module"])
def test_a_program_ends_as_under_python(name: str, way: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(ENDINGS[name], encoding="utf-8")
    target = ["program.py"] if way == "file" else ["-m", "program"]
    plain, ours = both(tmp_path, *target)
    if name == "recursion":  # it may go less deep by the frames that lie below it
        repeated = r"repeated \d+ more times"
        plain, ours = (replace(e, stderr=re.sub(repeated, "", e.stderr)) for e in (plain, ours))
    assert ours == plain


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """The same program as a file, a link to one, a package, a folder and an archive."""
    package = tmp_path / "package"
    package.mkdir()
    for path in (tmp_path / "script.py", package / "__main__.py", package / "inner.py"):
        path.write_text(SELF_PORTRAIT)
    (package / "__init__.py").write_text("")
    (tmp_path / "link.py").symlink_to("package/inner.py")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", SELF_PORTRAIT.replace(", inspect.getfile(Thing)", ""))
    py_compile.compile(str(tmp_path / "script.py"), str(tmp_path / "compiled.pyc"), doraise=True)
    return tmp_path


@pytest.mark.parametrize(
    "target",
    [
        "script.py",
        "./script.py",
        "package/../script.py",
        "package/inner.py",
        "link.py",
        "compiled.pyc",
        "package",
        "package/",
        "archive.zip",
        "-m script",
        "-m package",
        "-m package.inner",
        "nothing.py",
        "-m nothing",
        "-m package.nothing",
        ".",
    ],
)
def test_a_program_sees_of_itself_what_it_sees_under_python(target: str, places: Path) -> None:
    plain, ours = both(places, *target.split(), "-x", "--workers", "7", "a b")
    assert ours == plain


def test_safe_path_is_respected(places: Path) -> None:
    plain, ours = both(places, "script.py", PYTHONSAFEPATH="1")
    assert ours == plain
    assert str(places) not in ours.stdout.splitlines()[3].split("]")[1]


def test_the_folder_of_the_program_comes_first_in_a_process_without_safe_path(
    places: Path,
) -> None:
    plain = run(["script.py"], places)
    ours = run(["-c", WORKER, "path", "script.py"], places)
    assert ours == plain


def test_a_silent_exception_gives_exit_code_one_and_no_word(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("raise BufferError('quiet')")
    assert run(["-c", WORKER, "path", "program.py"], tmp_path) == Ending("", "", 1)


def test_an_excepthook_that_fails_is_told_as_python_tells_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import sys\ndef hook(*a): raise TypeError('hook')\nsys.excepthook = hook\n1 / 0\n"
    )
    plain, ours = both(tmp_path, "program.py")
    assert ours == plain


def test_the_whole_traceback_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("1 / 0")
    worker = WORKER.replace(
        "silent=(BufferError,)", "record=__import__('pathlib').Path('worker.traceback')"
    )
    ended = run(["-c", worker, "path", "program.py"], tmp_path)
    assert "execute.py" not in ended.stderr
    assert "execute.py" in (tmp_path / "worker.traceback").read_text()


def test_developers_may_see_our_frames(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("1 / 0")
    ended = run(["-c", WORKER, "path", "program.py"], tmp_path, PELLUCID_TRACEBACK="1")
    assert "execute.py" in ended.stderr


def test_an_interrupted_program_dies_by_the_signal_as_under_python(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("raise KeyboardInterrupt")
    assert run(["-c", WORKER, "path", "program.py"], tmp_path).code == -signal.SIGINT


def test_peel_takes_our_frames_out_of_the_middle() -> None:
    def script() -> None:
        code = compile("def call(f): f()", str(SOURCE / "pellucid" / "seam.py"), "exec")
        names: dict[str, object] = {}
        exec(code, names)
        ours = names["call"]
        assert callable(ours)
        ours(fails)

    def fails() -> None:
        msg = "of the script"
        raise LookupError(msg)

    with pytest.raises(LookupError) as caught:
        script()
    assert names_of(caught.value.__traceback__)[-3:] == ["script", "call", "fails"]
    assert names_of(peel(caught.value.__traceback__))[-2:] == ["script", "fails"]


def names_of(frames: TracebackType | None) -> list[str]:
    names = []
    while frames is not None:
        names.append(frames.tb_frame.f_code.co_name)
        frames = frames.tb_next
    return names
