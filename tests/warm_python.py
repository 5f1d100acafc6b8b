"""Python with torch already imported, for scripts that only need to be run, many times.

Importing torch and what optimizers import on first use takes longer than most programs of the
corpus. One process does it once; each script runs in a fork of it, as ``__main__``, in a folder of
its own. Where the start of the interpreter or the way it ends matters (variables, ``-m``, exit
codes, exceptions), the harness starts a real python.

``pellucid run`` is run the same way: the launcher in a fork, and each worker, with all that a new
process would be given, in a fork of the launcher.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any

__all__ = ["WarmPython"]


class WarmPython:
    """The process that forks; started on first use.

    Args:
        env: its environment.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env
        self._process: subprocess.Popen[str] | None = None

    def start(self, argv: list[str], folder: Path, stdin: str, timeout: float) -> tuple[int, Any]:
        """Run a script to its end.

        Args:
            argv: the script's file name and its arguments; or ``pellucid`` and its own.
            folder: where it runs.
            stdin: what it may read.
            timeout: seconds it may take.

        Returns:
            Its exit code, and what it wrote to stdout and stderr, as bytes.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        records = [Path(f"{folder}.{name}") for name in ("stdin", "stdout", "stderr")]
        records[0].write_text(stdin)
        order = {"argv": argv, "folder": str(folder), "records": [str(r) for r in records]}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({**order, "timeout": timeout}), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return code, [record.read_bytes() for record in records[1:]]

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()


def serve() -> None:
    """Fork for every order until there are no more."""
    import torch
    import torch._dynamo  # optimizers import it on first use

    import pellucid.cli
    import pellucid.launch.local
    import pellucid.sync.exact.mode
    import pellucid.worker  # noqa: F401

    torch.get_num_threads()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            run(**order)
            return  # to the interpreter's end, which runs the script's exit handlers
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def run(argv: list[str], folder: str, records: list[str], timeout: float) -> None:
    """Become the script."""
    os.setsid()
    os.chdir(folder)
    modes = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for number, (record, mode) in enumerate(zip(records, modes, strict=True)):
        os.dup2(os.open(record, mode, 0o600), number)
    _open_streams()
    signal.setitimer(signal.ITIMER_REAL, timeout)  # its signal ends the process
    sys.argv[:] = argv
    if argv[0] == "pellucid":
        launch(argv[1:])
        return
    sys.path[0] = folder
    main = types.ModuleType("__main__")
    main.__file__ = argv[0]
    sys.modules["__main__"] = main
    exec(compile(Path(argv[0]).read_bytes(), argv[0], "exec"), vars(main))


def _open_streams() -> None:
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def launch(argv: list[str]) -> None:
    """Become the launcher, with forks for workers."""
    from pellucid.cli import main
    from pellucid.launch import crew

    forks: Any = types.SimpleNamespace(Popen=WarmWorker, DEVNULL=subprocess.DEVNULL)
    vars(crew)["subprocess"] = forks
    main(argv, prog_name="pellucid")


class WarmWorker(subprocess.Popen[bytes]):
    """A worker that is a fork of the launcher instead of a new python."""

    def __init__(
        self, command: Any, *, env: Any, pass_fds: Any, process_group: Any, **streams: Any
    ) -> None:
        """Fork, and make of the child what `subprocess` would have made of a new process."""
        self.args, self.returncode = command, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created = True
        self._waitpid_lock = threading.Lock()
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            if process_group is not None:
                os.setpgid(0, process_group)
            for number, name in enumerate(("stdin", "stdout", "stderr")):
                stream = streams[name]
                if stream == subprocess.DEVNULL:
                    os.dup2(os.open(os.devnull, os.O_RDWR), number)
                elif stream is not None:
                    os.dup2(stream.fileno(), number)
            for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
                if fd > 2 and fd not in pass_fds:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            os.environ.clear()
            os.environ.update(env)
            code = _work()
        finally:
            os._exit(code)


def _work() -> int:
    """Be a worker from beginning to end; its exit code."""
    from pellucid import worker

    del sys.path[0]
    _open_streams()
    code = 0
    try:
        worker.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve()
