"""Real runs of ``pellucid run`` in a folder of their own, of which nothing may be left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

__all__ = ["TRAINS", "RealRun", "ended"]

ROOT = Path(__file__).parent.parent
TIMEOUT = 90.0  # a hang must fail the test, not stop the suite

# a short training of a small model; fate may strike in three places of each of its 18 steps
TRAINS = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fate

torch.manual_seed(0)
data = TensorDataset(torch.rand(96, 8), torch.randint(0, 3, (96,)))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
print("begins")
step = 0
for epoch in range(3):
    for x, y in DataLoader(data, batch_size=16, shuffle=True):
        fate.at(step, "forward")
        output = model(x)
        output.register_hook(lambda grad: fate.at(step, "backward"))
        loss = nn.functional.cross_entropy(output, y)
        optimizer.zero_grad()
        loss.backward()
        fate.at(step, "update")
        optimizer.step()
        print("step", step)
        step += 1
torch.save(model.state_dict(), "model.pt")
with open("log.txt", "a") as log:
    log.write("saved\\n")
print("ends")
"""


class RealRun:
    """One run, begun by the constructor, in a process group of its own as a shell would start it.

    Args:
        folder: where; the script is written to ``script.py`` in it.
        script: its text.
        options: of ``pellucid run``.
        fate: what befalls whom, see ``fate.py``.
        terminal: give it a terminal of its own, for `press`.
    """

    def __init__(
        self, folder: Path, script: str, *options: str, fate: str = "", terminal: bool = False
    ) -> None:
        self.folder = folder
        self._terminal: tuple[int, ...] = os.openpty() if terminal else ()
        (folder / "script.py").write_text(textwrap.dedent(script))
        shutil.copy(ROOT / "tests" / "fate.py", folder)
        paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pellucid", "run", "--split", "always", *options, "script.py"],
            cwd=folder,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "FATE": fate},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=None if terminal else 0,
            start_new_session=terminal,
            preexec_fn=self._take_terminal if terminal else None,  # noqa: PLW1509 - no threads
            text=True,
        )

    def _take_terminal(self) -> None:
        """Make the terminal the new session's; its keys then reach the foreground's processes."""
        fcntl.ioctl(self._terminal[1], termios.TIOCSCTTY, 0)

    def press(self, key: bytes) -> None:
        """Press a key at the terminal."""
        os.write(self._terminal[0], key)

    def close(self) -> None:
        """Put the terminal away."""
        for fd in self._terminal:
            os.close(fd)

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end: exit code, stdout, stderr. Nobody may be left."""
        try:
            out, err = self.process.communicate(timeout=TIMEOUT)
        finally:
            left = self.left()
            for process in left:
                process.kill()
        assert left == []
        return self.process.returncode, out, err

    def left(self) -> list[psutil.Process]:
        """Processes that live in the run's folder."""
        return [p for p in psutil.process_iter() if self._is_here(p)]

    def _is_here(self, process: psutil.Process) -> bool:
        try:
            return bool(process.cwd() == str(self.folder) and process.status() != "zombie")
        except psutil.Error:
            return False

    def read_until(self, line: str) -> str:
        """Wait until the script has printed this line; return what came before it."""
        assert self.process.stdout is not None
        before = ""
        for got in self.process.stdout:
            if got == line + "\n":
                return before
            before += got
        raise AssertionError(self.process.communicate())

    def gone_within(self, seconds: float) -> bool:
        """Whether all processes of the run end within some seconds."""
        until = time.monotonic() + seconds
        while self.left():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


@contextlib.contextmanager
def ended(run: RealRun) -> Iterator[RealRun]:
    """See to it that nothing of a run is left behind, whatever happens."""
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        for process in run.left():
            process.kill()
        run.process.communicate()
        run.close()
