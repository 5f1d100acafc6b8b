"""One worker: where the parts of a process meet. The tour of the code starts here.

launch/     started this process and told it, in one variable, which worker it is
intercept/  takes hold of the seams of torch and of the system
sync/       answers them: that is the mode
script/     runs the user's program
transport/  moves what the mode exchanges
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pellucid.errors import DivergenceError, ExchangeError, StoppedError
from pellucid.intercept.functions import patch_functions
from pellucid.intercept.loaders import patch_loaders
from pellucid.intercept.modules import patch_modules
from pellucid.intercept.patch import Patches
from pellucid.intercept.seeds import patch_entropy
from pellucid.intercept.side_effects import RealStreams, SideEffects
from pellucid.script.execute import execute
from pellucid.settings import ALLOCATOR, WORKER_VARIABLE, WorkerSpec
from pellucid.transport.board import Board, Field, Flag, State

if TYPE_CHECKING:
    from pellucid.transport.shared_memory import Group

__all__ = ["main"]

EVENT_BYTES: Final = 4000  # less than a pipe takes in one piece
WATCH_SECONDS: Final = 0.25
END_SECONDS: Final = 0.01
PR_SET_PDEATHSIG: Final = 1


class Worker:
    """This process's part in the run.

    Args:
        spec: what the launcher told us.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.board = Board(spec.board_fd, spec.workers)
        self._fields = self.board.fields[spec.index]
        self._fields[Field.PID] = os.getpid()
        self._patches = Patches()
        streams = RealStreams(spec.stdin_fd, spec.stdout_fd, spec.stderr_fd)
        self._effects = SideEffects(
            spec.run_dir, self.board, spec.index, streams if spec.index else None
        )
        self._failed = False  # the script raised: the launcher decides what that means
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def tell(self, event: str, text: str, **facts: Any) -> None:
        """Say something to the launcher, who tells the user."""
        message = {"event": event, "worker": self.spec.index, "text": text[:3000], **facts}
        line = json.dumps(message).encode()[:EVENT_BYTES]
        os.write(self.spec.events_fd, line + b"\n")

    def run(self) -> None:
        """Prepare, wait for our turn, run the script."""
        import torch

        torch.set_num_threads(self.spec.threads)
        atexit.register(self._end)  # the first to be registered is the last to be called
        if self.spec.workers > 1:
            self._install()
        elif self.spec.seeded:
            patch_entropy(self._patches, self.spec.seed)
        self._fields[Field.STATE] = State.PARKED
        while self.spec.index and not self.board.flags[Flag.GO]:
            time.sleep(0.005)
        self._fields[Field.STATE] = State.RUNNING
        if self.spec.workers > 1:
            self._effects.install()
        self._watch()
        record = Path(self.spec.run_dir) / f"worker-{self.spec.index}.traceback"
        try:
            execute(
                self.spec.target,
                self.spec.argv,
                is_module=self.spec.is_module,
                silent=(ExchangeError,),
                record=record,
            )
        except StoppedError:
            raise
        except ExchangeError as error:
            slug = "divergence" if isinstance(error, DivergenceError) else "exchange"
            self.tell("error", str(error), slug=slug)
            raise
        except SystemExit:
            raise
        except BaseException:
            self._failed = True
            raise

    def _install(self) -> None:
        """Take hold of the seams, for the mode to answer."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        from pellucid.sync.exact.mode import ExactMode

        group = self._group()
        group.on_change = self._take_over
        mode = ExactMode(
            group,
            self.tell,
            always_split=self.spec.split == "always",
            all_threads=self.spec.threads * self.spec.workers,
            reason=self.spec.reason,
        )
        patch_entropy(self._patches, self.spec.seed)
        patch_loaders(self._patches, mode.loaders.iterate)
        patch_modules(self._patches, mode.calls.call)
        patch_functions(self._patches, mode.seams())
        register_optimizer_step_post_hook(mode.on_step)
        # a process that the script forks trains by itself, if at all
        os.register_at_fork(after_in_child=self._patches.undo)

    def _group(self) -> Group:
        """The workers; those with a GPU each exchange what is large from GPU to GPU."""
        spec = self.spec
        if not spec.own_gpu:
            from pellucid.transport.shared_memory import Group

            return Group(spec.exchange_fd, self.board, spec.index)
        from pellucid.transport.collective import CollectiveGroup, nccl

        def connect() -> Any:
            return nccl(spec.run_dir, spec.index, spec.workers)

        return CollectiveGroup(spec.exchange_fd, self.board, spec.index, connect)

    def _watch(self) -> None:
        """Keep the board's line about this worker up to date, from a thread of its own."""

        def watch() -> None:
            dump = os.memfd_create("pellucid-where")
            while not self._ended.wait(WATCH_SECONDS):
                self.board.write_text(self.spec.index, _place(dump))
                self._fields[Field.PEAK_RSS] = _peak_rss()

        self._watcher = threading.Thread(target=watch, name="pellucid-watch", daemon=True)
        self._watcher.start()

    def _take_over(self) -> None:
        """Somebody died. If it was the leader, and we are next, our doings are real from now on."""
        if self.board.flags[Flag.LEADER] == self.spec.index:
            self._effects.promote()

    def _wait_for_leader(self) -> None:
        """Having ended, stay until the leader has too: it might die at the last moment."""
        while (leader := int(self.board.flags[Flag.LEADER])) != self.spec.index:
            if self._is_over(leader) or self.board.flags[Flag.STOP]:
                return
            time.sleep(END_SECONDS)
        self._take_over()

    def _is_over(self, worker: int) -> bool:
        return bool(self.board.fields[worker, Field.STATE] == State.FINISHED)

    def _end(self) -> None:
        """The script has ended, and so have its own exit handlers."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()  # a thread of ours must not outlive the interpreter
        self._fields[Field.PEAK_RSS] = _peak_rss()
        sys.stdout.flush()
        self._fields[Field.STATE] = State.FINISHED
        if self.spec.workers > 1 and not self._failed:
            self._wait_for_leader()


def _peak_rss() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_OURS = str(Path(__file__).parent) + os.sep
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


def _place(dump: int) -> str:
    """Where the script is: its innermost frame outside of pellucid and the installed packages.

    Looking at another thread's frames from Python would race with that thread, and keep what they
    hold alive; the fault handler prints them in one go.

    Args:
        dump: a file descriptor to print to.
    """
    os.ftruncate(dump, 0)
    os.lseek(dump, 0, os.SEEK_SET)
    faulthandler.dump_traceback(dump, all_threads=True)
    threads = os.pread(dump, 1 << 16, 0).decode("utf-8", "replace").split("\n\n")
    mine = f"0x{threading.main_thread().ident:016x}"
    frames = _FRAME.findall(next((t for t in threads if mine in t.split("\n", 1)[0]), ""))
    for name, line, function in frames:
        if not name.startswith((_OURS, sys.prefix, sys.base_prefix, "<")):
            return f"{name}:{line} in {function}"
    return "{}:{} in {}".format(*frames[0]) if frames else ""


def main() -> None:
    """Run as ``python -m pellucid.worker``, by the launcher only."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    spec = WorkerSpec.load(os.environ.pop(WORKER_VARIABLE))
    for name, value in ALLOCATOR.items():
        if os.environ.get(name) == value:  # not the script's, nor its children's
            del os.environ[name]
    Worker(spec).run()


if __name__ == "__main__":
    main()
