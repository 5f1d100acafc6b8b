"""Run a program under plain python and under pellucid, and say every way in which they differ.

[Note: programs]
A program is a file of ``tests/programs``; or a folder of it, with either ``main.py`` (a script
with files beside it) or ``__main__.py`` (a package, run with ``-m``). Comments at its head tell the
harness what it cannot know:

    # args: --epochs 2            arguments of the script
    # stdin: 5\\n7\\n               what it may read, backslashes escaped
    # env: NAME=value             one more environment variable
    # exit: 3                     the exit code plain python must give (0 when not said)
    # runs: 2                     run it so many times in the same folder (resume)
    # tolerance: 1e-5 (reason)    of numbers; 1e-9 when not said
    # ignore: REGEX               text that may differ, such as a clock
    # stderr: REGEX               what matches on stderr must be the same; `traceback` is short for
                                  the frames of the script and the final line
    # slow: reason                left out of the fast tests

Each run happens in a fresh folder with a copy of the program in it. Standard output, the exit code
and every file and folder left behind are compared.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.same_output import Sameness, different_folders, different_text
from tests.warm_python import WarmPython

__all__ = ["Both", "LikePython", "Outcome", "Program", "programs"]

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(__file__).parent / "programs"
TIMEOUT = 100.0  # seconds a run may take: a hang must fail the test, not stop the suite
HEADER = re.compile(r"^# (args|stdin|env|exit|runs|tolerance|ignore|stderr|slow): (.*)$")
# what depends on how the interpreter starts, how it ends, or what it has not imported yet
COLD = re.compile("compile|exit|process|import|hash|fork|spawn|console")
TRACEBACK = r'^(?:Traceback .*|  File "<cwd>.*|\w+(?:\.\w+)*(?:Error|Exception|Interrupt)\b.*)$'


@dataclass(frozen=True)
class Program:
    """A program and what its head says; see [Note: programs]."""

    path: Path
    args: tuple[str, ...] = ()
    stdin: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    runs: int = 1
    tolerance: float = 1e-9
    ignore: tuple[str, ...] = ()
    stderr: tuple[str, ...] = ()
    slow: bool = False

    @property
    def is_simple(self) -> bool:
        """Whether a warm python runs it as a new one would, alone and under pellucid."""
        plain = not self.env and not self.code and self.runs == 1 and not self.stderr
        return plain and self.command[0] != "-m" and not COLD.search(self.name)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def command(self) -> list[str]:
        """What follows ``python`` to run it, in the folder it was copied to."""
        if self.path.is_file():
            return [self.path.name]
        if (self.path / "main.py").exists():
            return ["main.py"]
        return ["-m", self.path.name]

    def copy(self, folder: Path) -> None:
        """Put the program into the folder it will run in."""
        ignore = shutil.ignore_patterns("__pycache__")
        if self.path.is_file():
            folder.mkdir(parents=True)
            shutil.copy(self.path, folder)
        elif (self.path / "main.py").exists():
            shutil.copytree(self.path, folder, ignore=ignore)
        else:
            shutil.copytree(self.path, folder / self.path.name, ignore=ignore)

    @classmethod
    def read(cls, path: Path) -> Program:
        """Read the head of a program."""
        mains = (path, path / "main.py", path / "__main__.py")
        text = next(main for main in mains if main.is_file()).read_text()
        said: dict[str, list[str]] = {}
        for line in text.splitlines():
            if match := HEADER.match(line):
                said.setdefault(match[1], []).append(match[2])
            elif not line.startswith("#"):
                break
        return cls(
            path=path,
            args=tuple(shlex.split(" ".join(said.get("args", [])))),
            stdin="".join(said.get("stdin", [])).encode().decode("unicode_escape"),
            env=dict(pair.split("=", 1) for pair in said.get("env", [])),
            code=int(said.get("exit", ["0"])[0]),
            runs=int(said.get("runs", ["1"])[0]),
            tolerance=float(said.get("tolerance", ["1e-9"])[0].split()[0]),
            ignore=tuple(said.get("ignore", [])),
            stderr=tuple(TRACEBACK if s == "traceback" else s for s in said.get("stderr", [])),
            slow="slow" in said,
        )


def programs() -> list[Program]:
    """All programs of the corpus, in the order of their names."""
    return [
        Program.read(path)
        for path in sorted(PROGRAMS.iterdir())
        if not path.name.startswith(("_", ".")) and (path.is_dir() or path.suffix == ".py")
    ]


@dataclass(frozen=True)
class Outcome:
    """What a run did that a user could see. Paths of its folder read ``<cwd>``."""

    folder: Path
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Both:
    """A program under plain python and under pellucid."""

    program: Program
    plain: Outcome
    ours: Outcome
    workers: int

    def differences(self) -> list[str]:
        """Every way in which they differ, most telling first."""
        same = Sameness(self.program.tolerance, self.program.ignore)
        found = []
        if self.plain.code != self.ours.code:
            found.append(f"exit code: python {self.plain.code}, pellucid {self.ours.code}")
        found += different_text(same, "stdout", self.plain.stdout, self.ours.stdout)
        for pattern in self.program.stderr:
            matched = (
                "\n".join(re.findall(pattern, text, re.MULTILINE))
                for text in (self.plain.stderr, self.ours.stderr)
            )
            found += different_text(same, f"stderr ({pattern})", *matched)
        found += different_folders(same, self.plain.folder, self.ours.folder)
        return found

    def report(self) -> str:
        """Empty when they are the same; else what differs and what pellucid said."""
        found = self.differences()
        if not found:
            return ""
        tail = "\n".join(self.ours.stderr.splitlines()[-40:])
        head = f"{self.program.name} on {self.workers} workers differs from plain python"
        return "\n".join([head, *(f"- {line}" for line in found), "pellucid's stderr ends:", tail])


class LikePython:
    """Runs programs both ways; plain results are kept, so that more workers cost no second one.

    Args:
        folder: an empty folder for the copies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plain: dict[object, Outcome] = {}
        self._count = 0
        self._warm = WarmPython(_environment({}))

    def stop(self) -> None:
        """End what runs in the background."""
        self._warm.stop()

    def run_both(
        self,
        program: Program,
        workers: int,
        *,
        args: Sequence[str] = (),
        stdin: str | None = None,
        files: Mapping[str, str] | None = None,
        split: str = "always",
        quiet: bool = True,
    ) -> Both:
        """Run the program both ways.

        Args:
            program: what to run.
            workers: workers pellucid uses.
            args: more arguments for the script, after those of its head.
            stdin: what it may read; that of its head when None.
            files: text files to put beside it, by name.
            split: pellucid's choice of that name. Left to itself it would run most of these
                models whole, because they are too small to gain, and the tests would see nothing.
            quiet: whether pellucid keeps its notices to itself.
        """
        given = program.stdin if stdin is None else stdin
        files = files or {}
        key = (program.path, tuple(args), given, tuple(sorted(files.items())))
        script = [*program.command, *program.args, *args]
        if key not in self._plain:
            command = script if program.is_simple else [sys.executable, *script]
            plain = self._run(program, "python", command, given, files)
            if plain.code != program.code:
                msg = (
                    f"{program.name} is broken: plain python gives exit code {plain.code}, "
                    f"not {program.code}; its stderr:\n{plain.stderr}"
                )
                raise RuntimeError(msg)
            self._plain[key] = plain
        # three workers start as users start them, two in a python that has torch already
        warm = program.is_simple and workers == 2
        command = ["pellucid"] if warm else [sys.executable, "-m", "pellucid"]
        command += ["run", *(["--quiet"] if quiet else [])]
        command += ["--workers", str(workers), "--split", split, "--on-failure", "stop"]
        ours = self._run(program, f"pellucid{workers}", [*command, *script], given, files)
        return Both(program, self._plain[key], ours, workers)

    def _run(
        self,
        program: Program,
        label: str,
        command: list[str],
        stdin: str,
        files: Mapping[str, str],
    ) -> Outcome:
        self._count += 1
        folder = self._folder / f"{self._count:04d}-{program.name}-{label}"
        program.copy(folder)
        for name, text in files.items():
            (folder / name).write_text(text)
        code, out, err = 0, "", ""
        for _ in range(program.runs):
            if command[0] == sys.executable:
                env = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}-inductor", **program.env}
                code, *texts = _finish(command, folder, stdin, env)
            else:
                code, texts = self._warm.start(command, folder, stdin, TIMEOUT)
            more_out, more_err = (_readable(text, folder) for text in texts)
            out, err = out + more_out, err + more_err
        return Outcome(folder, code, out, err)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    inherited = dict(os.environ)
    paths = [str(ROOT / "src"), inherited.get("PYTHONPATH", "")]
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",  # more would not make such small models faster
        **more,
    }


def _readable(text: bytes, folder: Path) -> str:
    return text.decode("utf-8", "replace").replace(str(folder), "<cwd>")


def _finish(
    command: list[str], folder: Path, stdin: str, env: Mapping[str, str]
) -> tuple[int, bytes, bytes]:
    """Run to the end, or to the timeout, and leave no process behind."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin.encode(), timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        # the launcher first: it takes its workers along; the group would not reach followers
        process.terminate()
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        err += f"\nTIMEOUT: still running after {TIMEOUT:.0f} s, killed by the test\n".encode()
    return process.returncode, out, err
