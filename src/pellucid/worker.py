"""One worker: where the parts of a process meet. The tour of the code starts here.

launch/     started this process and told it, in one variable, which worker it is
intercept/  takes hold of the seams of torch and of the system
sync/       answers them: that is the mode
script/     runs the user's program
transport/  moves what the mode exchanges
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import json
import os
import platform
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pellucid import __version__
from pellucid.errors import DivergenceError, ExchangeError, StoppedError
from pellucid.intercept.callers import script_frames
from pellucid.intercept.functions import patch_functions
from pellucid.intercept.loaders import count_cores, patch_loaders
from pellucid.intercept.modules import patch_modules
from pellucid.intercept.patch import Patches
from pellucid.intercept.seeds import patch_entropy
from pellucid.intercept.side_effects import RealStreams, SideEffects
from pellucid.script.execute import execute
from pellucid.settings import ALLOCATOR, WORKER_VARIABLE, WorkerSpec
from pellucid.transport.board import Board, Field, Flag, State

if TYPE_CHECKING:
    from pellucid.settings import Cluster
    from pellucid.sync.exact.mode import ExactMode
    from pellucid.sync.shared.mode import AsynchronousMode
    from pellucid.transport.shared_memory import Group
    from pellucid.wire.session import Hello

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
            spec.run_dir,
            self.board,
            spec.index,
            None if spec.leads else streams,
            same=spec.mode == "exact",
            follows=spec.index > 0,
        )
        self._close: Callable[[], None] = lambda: None  # the mode's work, at the script's end
        self._break_off: Callable[[], bool] = lambda: False  # likewise, where that is an early one
        self._failed = False  # the script raised: the launcher decides what that means
        self._code = 0  # what the script's process ends with, as far as its end is known
        self._soon: Any = None  # what the main thread is to run
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def _together(self) -> bool:
        """Whether there are other workers, or other boxes that may come."""
        return self.spec.workers > 1 or self.spec.cluster is not None

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
        if self._together:
            install = {
                "exact": self._install_exact,
                "hogwild": self._install_hogwild,
                "stream": self._install_stream,
            }
            install[self.spec.mode]()
            # a process that the script forks trains by itself, if at all
            os.register_at_fork(after_in_child=self._patches.undo)
        elif self.spec.seeded:
            patch_entropy(self._patches, self.spec.seed)
        self._fields[Field.STATE] = State.PARKED
        while self.spec.index and not self.board.flags[Flag.GO]:
            time.sleep(0.005)
        self._fields[Field.STATE] = State.RUNNING
        if self._together:
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
        except SystemExit as end:
            self._code = end.code if isinstance(end.code, int) else int(end.code is not None)
            raise
        except BaseException as error:
            self._failed = True
            self._code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            raise

    def _install_exact(self) -> None:
        """Take hold of the seams, for exact mode to answer."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        mode = self._exact_mode()
        mode.group.on_change = self._take_over
        patch_entropy(self._patches, self.spec.seed)
        patch_loaders(self._patches, mode.loaders.iterate)
        patch_modules(self._patches, mode.calls.call)
        patch_functions(self._patches, mode.seams())
        register_optimizer_step_post_hook(mode.on_step)

    def _exact_mode(self) -> ExactMode:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        from pellucid.sync.exact.mode import ExactMode
        from pellucid.sync.exact.trial import refuse_step

        register_optimizer_step_pre_hook(refuse_step)  # before any that counts a step
        return ExactMode(
            self._group(),
            self.tell,
            self._release,
            always_split=self.spec.split == "always",
            all_threads=self.spec.threads * self.spec.workers,
            reason=self.spec.reason,
        )

    def _install_hogwild(self) -> None:
        """Take hold of the seams, for hogwild mode to answer."""
        import torch

        from pellucid.sync.hogwild.mode import HogwildMode

        spec = self.spec
        mode = HogwildMode(
            self.board,
            spec.index,
            weights_fd=spec.weights_fd,
            passes_fd=spec.passes_fd,
            seed=spec.seed,
            tell=self.tell,
            frames=script_frames,
            release=self._release,
            on_begin=self._keep_to_our_cores,
            on_lead=self._take_over,
            patience=spec.stall_after,
            reason=spec.reason,
        )
        torch.set_num_threads(spec.threads * spec.workers)  # until there is something to divide
        self._answer_by(mode)

    def _install_stream(self) -> None:
        """Take hold of the seams, for stream mode to answer."""
        import torch

        from pellucid.sync.stream.mode import FirstWorkersMode, OtherWorkersMode, Surroundings

        spec, cluster = self.spec, self.spec.cluster
        assert cluster is not None  # the launcher gives one to each worker of this mode
        secret = "" if spec.index else _read(cluster.secret_fd)
        hello = _hello(cluster, str(torch.__version__))
        around = Surroundings(
            self.board,
            spec.index,
            cluster,
            weights_fd=spec.weights_fd,
            seed=spec.seed,
            tell=self.tell,
            frames=script_frames,
            release=self._release,
            on_begin=self._keep_to_our_cores,
            on_lead=self._effects.promote,
            reason=spec.reason,
        )
        if spec.lockstep:
            from pellucid.sync.stream.lockstep import LockstepMode

            mode = LockstepMode(around, self._exact_mode(), hello=hello, secret=secret)
            self._answer_by(mode)
            self._close = lambda: mode.end(failed=self._failed)
            return
        torch.set_num_threads(spec.threads * spec.workers)  # until there is something to divide
        if spec.index:
            self._answer_by(OtherWorkersMode(around, spec.lines[0]))
        else:
            first = FirstWorkersMode(around, spec.lines, hello=hello, secret=secret)
            self._answer_by(first)
            self._close = lambda: first.end(failed=self._failed)

    def _answer_by(self, mode: AsynchronousMode) -> None:
        """Take hold of the seams, for an asynchronous mode to answer."""
        from torch.optim import optimizer

        self._close = mode.close
        self._break_off = mode.break_off
        patch_entropy(self._patches, self.spec.seed)
        patch_loaders(self._patches, mode.iterate)
        patch_modules(self._patches, mode.call)
        patch_functions(self._patches, mode.seams())
        optimizer.register_optimizer_step_pre_hook(mode.before_step)
        optimizer.register_optimizer_step_post_hook(mode.after_step)

    def _release(self) -> None:
        """Let this box's other workers start."""
        self._effects.settle()
        self.board.flags[Flag.GO] = 1

    def _keep_to_our_cores(self) -> None:
        """The workers compute side by side from now on: each on its own cores."""
        import torch

        torch.set_num_threads(self.spec.threads)
        if threading.current_thread() is not threading.main_thread():
            # the script fetches its batches in a thread, and torch counts for each thread
            self._soon = _in_main_thread(lambda: torch.set_num_threads(self.spec.threads))
        if not self.spec.cpus:
            return
        everywhere = os.sched_getaffinity(0)
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                os.sched_setaffinity(int(thread.name), self.spec.cpus)
        # a loader's processes are to work beside the training, not in its place
        os.register_at_fork(after_in_child=lambda: os.sched_setaffinity(0, everywhere))
        count_cores(self._patches, everywhere)

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
        while (leader := self.board.flags[Flag.LEADER]) != self.spec.index:
            if self._is_over(leader) or self.board.flags[Flag.STOP]:
                return
            time.sleep(END_SECONDS)
        self._take_over()

    def _is_over(self, worker: int) -> bool:
        return self.board.fields[worker][Field.STATE] == State.FINISHED

    def _end(self) -> None:
        """The script has ended, and so have its own exit handlers."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()  # a thread of ours must not outlive the interpreter
        self._fields[Field.PEAK_RSS] = _peak_rss()
        if self.spec.cluster is not None and not self.spec.index:
            # before the others see this box leave: one of them would take over its lead
            self.tell("ended", "", code=self._code)
        broke_off = bool(self._code) and self._break_off()
        self._close()
        sys.stdout.flush()
        self._fields[Field.STATE] = State.FINISHED
        # one that broke off is missed: the launcher is to see its end, and to say so
        missed = self._failed or broke_off
        if self.spec.workers > 1 and self.spec.cluster is None and not missed:
            self._wait_for_leader()


def _hello(cluster: Cluster, torch: str) -> Hello:
    """What this box says of itself to others."""
    from pellucid.wire.session import Hello

    here = cluster.here
    return Hello(
        box=here.box,
        boot=here.nonce,
        run=cluster.run,
        pellucid=__version__,
        torch=torch,
        python=platform.python_version(),
    )


def _in_main_thread(run: Callable[[], None]) -> Any:
    """Have the main thread run something as soon as it comes back to Python.

    Returns:
        What must be kept until then.
    """

    def called(_: Any) -> int:
        run()
        return 0

    pending = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(called)
    ctypes.pythonapi.Py_AddPendingCall(pending, None)
    return pending


def _read(fd: int) -> str:
    with os.fdopen(fd) as file:
        return file.read()


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
