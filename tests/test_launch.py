"""The launcher: what it decides (on sights and a clock of our own), and what it does (processes).

The processes are stand-ins for workers, which need no torch; see ``standin.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from pellucid.errors import LaunchError
from pellucid.launch.crew import catches
from pellucid.launch.environment import visible_gpu, worker_environment
from pellucid.launch.messages import Words, signal_name
from pellucid.launch.run_dir import RunDir
from pellucid.launch.supervisor import (
    Action,
    Bury,
    End,
    Kill,
    Leave,
    Part,
    Policy,
    Say,
    Send,
    Sight,
    Stop,
    Supervisor,
)
from pellucid.settings import ALLOCATOR, WorkerSpec
from pellucid.transport.board import State

ROOT = Path(__file__).parent.parent
SIGKILL = -signal.SIGKILL


class Scene:
    """Workers as the supervisor sees them, and the time that passes for it."""

    def __init__(
        self,
        workers: int = 3,
        *,
        on_failure: Any = "continue",
        dead_after: float = 8.0,
        stall_after: float = 60.0,
        lockstep: bool = True,
        part: Part = "all",
    ) -> None:
        policy = Policy(on_failure, dead_after, stall_after, lockstep, part)
        words = Words("lab", "/runs/1", lockstep=lockstep)
        self.supervisor = Supervisor(workers, policy, words)
        self.sights = [Sight(arrived=1, place=f"train.py:{10 + w}") for w in range(workers)]
        self.now = 100.0
        self.go = True
        self.done: list[Action] = []

    def see(self, worker: int, **changes: Any) -> None:
        self.sights[worker] = replace(self.sights[worker], **changes)

    def look(self) -> list[Action]:
        actions = self.supervisor.look(self.sights, self.now, go=self.go)
        self.done += actions
        return actions

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, looking every quarter of a second; return all that was decided."""
        until = self.now + seconds
        actions = []
        while self.now < until:
            self.now += 0.25
            actions += self.look()
        return actions

    def interrupt(
        self, number: signal.Signals = signal.SIGINT, *, reached_leader: bool = True
    ) -> list[Action]:
        return self.supervisor.interrupt(number, self.sights, reached_leader=reached_leader)

    def said(self, kind: str) -> list[str]:
        return [a.text for a in self.done if isinstance(a, Say) and a.kind == kind]


def only(kind: type, actions: list[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def test_workers_that_do_not_walk_in_step_are_not_waited_for() -> None:
    scene = Scene(lockstep=False)
    scene.see(1, arrived=900)
    assert scene.wait(500) == []
    scene.see(0, exit=0, state=State.FINISHED)
    scene.see(2, exit=0, state=State.FINISHED)
    assert scene.look() == [Kill(1)]  # nothing it does could still count


def test_a_follower_that_left_without_a_word_is_no_longer_waited_for() -> None:
    scene = Scene(lockstep=False)
    scene.see(1, exit=0)
    assert scene.look() == [Bury(1, 0)]
    scene.see(2, exit=0, state=State.FINISHED)
    assert scene.look() == []


def test_what_a_dead_worker_had_in_hand_is_said_to_be_done_again() -> None:
    scene = Scene(lockstep=False)
    scene.see(0, exit=SIGKILL)
    assert Bury(0, 1) in scene.look()
    (said,) = scene.said("notice")
    assert "worker 1 leads now" in said
    assert "had in hand are done again" in said


@pytest.mark.parametrize("code", [0, 1, 3, 120])
def test_the_runs_exit_code_is_the_leaders(code: int) -> None:
    scene = Scene()
    assert scene.look() == []
    for worker in range(3):
        scene.see(worker, exit=code, state=State.FINISHED)
    assert scene.look() == [End(code)]


def test_a_leader_that_crashes_after_its_script_gives_its_signal() -> None:
    scene = Scene(1)
    scene.see(0, exit=-signal.SIGSEGV, state=State.FINISHED)
    assert scene.look() == [End(-signal.SIGSEGV)]


def test_all_leaving_by_os_exit_is_an_end_like_any_other() -> None:
    scene = Scene(2)
    scene.see(1, exit=5)
    assert scene.wait(1) == []
    scene.see(0, exit=5)
    assert scene.look() == [End(5)]


def test_followers_get_some_seconds_after_the_leaders_end() -> None:
    scene = Scene(2)
    scene.look()
    scene.see(0, exit=0, state=State.FINISHED)
    assert scene.wait(4.5) == []
    assert scene.wait(1) == [Kill(1)]
    scene.see(1, exit=SIGKILL)
    assert scene.look() == [End(0)]
    assert scene.said("error") == []


def test_followers_that_never_started_go_at_once() -> None:
    scene = Scene(2)
    scene.go = False
    scene.see(1, state=State.PARKED, arrived=0)
    scene.see(0, exit=0, state=State.FINISHED)
    assert scene.look() == [Kill(1)]


def test_a_killed_follower_is_buried_and_the_run_goes_on() -> None:
    scene = Scene()
    scene.see(1, exit=SIGKILL)
    actions = scene.look()
    assert only(Bury, actions) == [Bury(1, 0)]
    (notice,) = scene.said("notice")
    for part in ("worker 1", "box lab", "SIGKILL", "out of memory?", "train.py:11", "2 workers"):
        assert part in notice
    assert scene.wait(20) == []


def test_a_killed_leader_hands_over_to_the_lowest_that_lives() -> None:
    scene = Scene(4)
    scene.see(1, exit=SIGKILL)
    scene.look()
    scene.see(0, exit=-signal.SIGSEGV)
    assert only(Bury, scene.look()) == [Bury(0, 2)]
    assert "worker 2 leads now" in scene.said("notice")[1]
    for worker, code in ((2, 4), (3, 0)):
        scene.see(worker, exit=code, state=State.FINISHED)
    assert scene.look() == [End(4)]


def test_two_deaths_at_once() -> None:
    scene = Scene(3)
    scene.see(0, exit=SIGKILL)
    scene.see(1, exit=SIGKILL)
    assert only(Bury, scene.look()) == [Bury(0, 2), Bury(1, 2)]
    assert scene.supervisor.living == [2]


def test_a_follower_is_only_dead_when_the_leader_outlives_its_failure() -> None:
    scene = Scene(2)
    scene.see(1, exit=1, state=State.FINISHED)
    assert scene.wait(2.5) == []
    assert only(Bury, scene.wait(1)) == [Bury(1, 0)]
    assert "exit code 1" in scene.said("notice")[0]
    assert "/runs/1/worker-1.err" in scene.said("notice")[0]


def test_a_failure_of_all_is_no_death() -> None:
    scene = Scene(2)
    scene.see(1, exit=1, state=State.FINISHED)
    scene.wait(2)
    scene.see(0, exit=1, state=State.FINISHED)
    assert scene.look() == [End(1)]
    assert scene.supervisor.deaths == 0


def test_stop_on_failure_stops_with_one_error() -> None:
    scene = Scene(3, on_failure="stop")
    scene.see(1, exit=SIGKILL)
    actions = scene.look()
    assert only(Stop, actions) == [Stop()]
    assert only(Bury, actions) == []
    assert only(Kill, scene.wait(3)) == [Kill(0), Kill(2)]
    for worker in (0, 2):
        scene.see(worker, exit=SIGKILL)
    assert scene.look() == [End(1)]
    (error,) = scene.said("error")
    assert "--on-failure continue" in error


def test_a_stopped_worker_is_killed_in_time_and_then_buried() -> None:
    scene = Scene(2, dead_after=8)
    scene.see(1, stopped=True)
    assert scene.wait(8) == []
    assert scene.wait(1) == [Kill(1)]
    scene.see(1, stopped=False, exit=SIGKILL)
    assert only(Bury, scene.look()) == [Bury(1, 0)]
    assert "was stopped (SIGSTOP) for 8 seconds" in scene.said("notice")[0]


def test_a_worker_that_stood_down_is_no_death() -> None:
    scene = Scene(3, on_failure="stop")
    scene.see(2, state=State.RETIRED)
    assert only(Bury, scene.look()) == [Bury(2, 0)]
    scene.see(2, exit=0)
    assert scene.wait(60) == []
    scene.see(0, exit=0, state=State.FINISHED)
    scene.see(1, exit=0, state=State.FINISHED)
    assert scene.look() == [End(0)]
    assert not scene.said("error")
    assert not scene.said("notice")


def test_a_worker_that_continues_in_time_lives() -> None:
    scene = Scene(2, dead_after=8)
    for _ in range(4):
        scene.see(1, stopped=True)
        assert scene.wait(7) == []
        scene.see(1, stopped=False)
        assert scene.wait(1) == []


def test_time_in_which_the_launcher_was_stopped_itself_does_not_count() -> None:
    scene = Scene(2, dead_after=8, stall_after=20)
    scene.look()
    scene.see(1, stopped=True)
    scene.see(0, arrived=9)
    for _ in range(4):
        scene.now += 3600
        assert scene.look() == []


def test_a_leader_that_dies_before_training_ends_the_run() -> None:
    scene = Scene(2)
    scene.go = False
    scene.see(1, state=State.PARKED)
    scene.see(0, exit=SIGKILL)
    assert only(Kill, scene.look()) == [Kill(1)]
    scene.see(1, exit=SIGKILL)
    assert scene.look() == [End(SIGKILL)]
    assert "had not begun" in scene.said("error")[0]


def test_the_last_workers_death_ends_the_run() -> None:
    scene = Scene(1)
    scene.see(0, exit=SIGKILL)
    assert only(End, scene.look()) == [End(SIGKILL)]
    assert "No worker is left" in scene.said("error")[0]


def test_a_standstill_is_announced_and_then_an_error_that_says_where_everybody_is() -> None:
    scene = Scene(3, stall_after=60)
    for worker in (0, 2):
        scene.see(worker, arrived=5)
    scene.look()
    assert scene.wait(29) == []
    scene.wait(2)
    (notice,) = scene.said("notice")
    assert "Workers 0 and 2 waiting for:" in notice
    assert "worker 1: train.py:11" in notice
    actions = scene.wait(30)
    assert only(Stop, actions) == [Stop()]
    (error,) = scene.said("error")
    assert "workers 0 and 2 waited 60 seconds for worker 1" in error
    for place in ("worker 0: train.py:10", "worker 1: train.py:11", "worker 2: train.py:12"):
        assert place in error


def test_progress_of_any_kind_is_no_standstill() -> None:
    scene = Scene(2, stall_after=10)
    for number in range(2, 12):
        scene.see(0, arrived=number, posted=number + 1)
        assert scene.wait(4.5) == []


def test_equal_workers_may_compute_for_ever() -> None:
    scene = Scene(2, stall_after=10)
    assert scene.wait(100) == []


def test_a_standstill_may_be_allowed_for_ever() -> None:
    scene = Scene(2, stall_after=0)
    scene.see(0, arrived=5)
    assert scene.wait(1000) == []


def test_followers_may_take_several_times_as_long_as_the_leader_to_come_to_the_first_exchange() -> (
    None
):
    scene = Scene(2, stall_after=10)
    scene.go = False
    scene.see(0, arrived=0)
    scene.see(1, arrived=0, state=State.PARKED)
    scene.wait(100)
    scene.go = True
    scene.see(0, arrived=1)
    scene.see(1, state=State.RUNNING)
    scene.wait(300)
    assert scene.said("error") == []
    scene.wait(20)
    assert len(scene.said("error")) == 1


@pytest.mark.parametrize("ended", [0, 1])
def test_waiting_for_a_worker_that_has_ended_is_divergence(ended: int) -> None:
    scene = Scene(2)
    other = 1 - ended
    scene.look()
    scene.see(ended, exit=0, state=State.FINISHED, arrived=7)
    scene.see(other, arrived=8)
    assert scene.wait(2) == []
    assert only(Stop, scene.wait(2)) == [Stop()]
    (error,) = scene.said("error")
    assert "different paths" in error
    assert f"worker {ended} came to the end" in error
    assert f"worker {other}: train.py:1{other}" in error
    scene.see(other, exit=1, state=State.FINISHED)
    assert scene.look() == [End(1)]


def test_a_worker_that_reports_divergence_stops_the_run() -> None:
    scene = Scene(2)
    scene.look()
    assert scene.supervisor.diverged() == [Stop()]
    assert scene.supervisor.diverged() == []
    for worker in range(2):
        scene.see(worker, exit=1, state=State.FINISHED)
    assert scene.look() == [End(1)]


def test_ctrl_c_reaches_the_followers_and_the_leaders_end_is_the_runs() -> None:
    scene = Scene(3)
    scene.look()
    assert scene.interrupt() == [Send(1, signal.SIGINT), Send(2, signal.SIGINT)]
    for worker in range(3):
        scene.see(worker, exit=-signal.SIGINT, state=State.FINISHED)
    assert only(End, scene.look()) == [End(-signal.SIGINT)]
    assert scene.said("error") == scene.said("notice") == []


def test_an_interrupt_of_the_launcher_alone_is_passed_on_to_the_leader() -> None:
    scene = Scene(2)
    sent = scene.interrupt(reached_leader=False)
    assert sent == [Send(0, signal.SIGINT), Send(1, signal.SIGINT)]


def test_followers_that_ignore_an_interrupt_are_killed() -> None:
    scene = Scene(2)
    scene.interrupt()
    scene.see(0, exit=-signal.SIGINT, state=State.FINISHED)
    assert only(Kill, scene.wait(5)) == [Kill(1)]


def test_a_script_that_catches_the_interrupt_goes_on_alone() -> None:
    scene = Scene(2)
    scene.interrupt()
    scene.see(1, exit=-signal.SIGINT, state=State.FINISHED)
    assert scene.wait(3) == [Bury(1, 0)]
    assert only(Kill, scene.wait(60)) == []
    assert len(scene.said("notice")) == 1
    scene.interrupt()
    assert only(Kill, scene.wait(5)) == [Kill(0)]


def test_sigterm_gives_the_leader_a_few_seconds() -> None:
    scene = Scene(2)
    assert len(scene.interrupt(signal.SIGTERM, reached_leader=False)) == 2
    assert only(Kill, scene.wait(5)) == [Kill(0), Kill(1)]
    scene.see(0, exit=SIGKILL)
    scene.see(1, exit=SIGKILL)
    assert only(End, scene.look()) == [End(SIGKILL)]


@pytest.mark.parametrize("part", ["first", "joined"])
def test_a_box_of_several_ends_without_its_worker_0(part: Part) -> None:
    scene = Scene(3, lockstep=False, part=part)
    scene.look()
    scene.see(0, exit=SIGKILL)
    assert only(Bury, scene.look()) == []
    assert "this box ends; the others notice" in scene.said("error")[0]
    assert only(Kill, scene.wait(3)) == [Kill(1), Kill(2)]
    for worker in (1, 2):
        scene.see(worker, exit=SIGKILL)
    assert scene.look() == [End(SIGKILL)]
    assert scene.supervisor.conclusion is None


def test_a_box_of_several_goes_on_without_another_worker() -> None:
    scene = Scene(2, lockstep=False, part="joined")
    scene.look()
    scene.see(1, exit=SIGKILL)
    assert only(Bury, scene.look()) == [Bury(1, 0)]


def test_a_joined_box_leaves_when_asked_to_and_at_once_when_asked_again() -> None:
    scene = Scene(1, lockstep=False, part="joined")
    scene.look()
    assert only(Leave, scene.interrupt(reached_leader=False)) == [Leave()]
    assert scene.wait(9) == []
    scene.see(0, exit=0, state=State.FINISHED)
    assert scene.look() == [End(0)]

    scene = Scene(1, lockstep=False, part="joined")
    scene.interrupt(reached_leader=False)
    assert scene.interrupt(reached_leader=False) == []
    assert only(Kill, scene.look()) == [Kill(0)]
    scene.see(0, exit=SIGKILL)
    assert scene.look() == [End(-signal.SIGINT)]


def test_a_box_that_does_not_manage_to_leave_is_killed() -> None:
    scene = Scene(1, lockstep=False, part="joined")
    scene.interrupt(reached_leader=False)
    assert only(Kill, scene.wait(11)) == [Kill(0)]


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 1), (-signal.SIGINT, 1)])
def test_the_end_on_another_box_is_the_end_here(code: int, ends: int) -> None:
    scene = Scene(1, lockstep=False, part="joined")
    scene.look()
    assert only(Stop, scene.supervisor.over(0, code)) == [Stop()]
    assert scene.supervisor.over(0, code) == []
    assert only(Kill, scene.wait(3)) == [Kill(0)]
    scene.see(0, exit=SIGKILL)
    assert scene.look() == [End(ends)]
    assert scene.supervisor.conclusion is None


def test_a_script_that_comes_to_its_end_concludes() -> None:
    scene = Scene(1, lockstep=False, part="first")
    scene.see(0, exit=3, state=State.FINISHED)
    assert scene.look() == [End(3)]
    assert scene.supervisor.conclusion == 3


def test_causes_are_told_apart() -> None:
    assert "lack of memory" in Words("lab", "/runs/1", lambda: True).cause(1, SIGKILL)
    assert "SIGSEGV" in Words("lab", "/runs/1").cause(1, -signal.SIGSEGV)
    assert signal_name(40) == "signal 40"


def spec(**changes: Any) -> WorkerSpec:
    values: dict[str, Any] = {
        "index": 1,
        "workers": 2,
        "board_fd": 3,
        "exchange_fd": 4,
        "events_fd": 5,
        "target": "train.py",
        "is_module": False,
        "argv": ["--lr", "0.1", "caf\udce9"],
        "threads": 4,
        "device": "cpu",
        "seed": 2**63 - 1,
        "seeded": False,
        "run_dir": "/runs/1",
        "on_failure": "continue",
        "profile": False,
        "stall_after": 300.0,
    }
    return WorkerSpec(**values | changes)


def test_a_worker_reads_what_it_was_told() -> None:
    told = worker_environment({"HOME": "/h"}, spec(), hash_seed=7, gpus=0)
    assert WorkerSpec.load(told.pop("PELLUCID_WORKER")) == spec()
    assert told == ALLOCATOR | {
        "HOME": "/h",
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
        "PYTHONHASHSEED": "7",
    }


def test_in_hogwild_mode_a_script_finds_no_gpu() -> None:
    told = worker_environment({}, spec(mode="hogwild"), hash_seed=7, gpus=0)
    assert told["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("given", "found"), [("3", "3"), ("0", "0"), ("random", "7"), ("", "7")])
def test_hashes_are_equal_in_all_workers(given: str, found: str) -> None:
    told = worker_environment({"PYTHONHASHSEED": given}, spec(), hash_seed=7, gpus=0)
    assert told["PYTHONHASHSEED"] == found


def test_one_worker_keeps_pythons_own_hashes() -> None:
    told = worker_environment({}, spec(workers=1, index=0), hash_seed=7, gpus=0)
    assert "PYTHONHASHSEED" not in told


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [(None, 2, ["0", "1", "0"]), ("3, 1", 2, ["3", "1", "3"]), ("GPU-a", 1, ["GPU-a"] * 3)],
)
def test_gpus_are_dealt_out(visible: str | None, gpus: int, expected: list[str]) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert [visible_gpu(environ, worker, gpus) for worker in range(3)] == expected
    told = worker_environment(environ, spec(device="cuda"), hash_seed=7, gpus=gpus)
    assert told["CUDA_VISIBLE_DEVICES"] == expected[1]


def test_records_of_another_run_are_not_mixed_with_ours(tmp_path: Path) -> None:
    folders = []
    for _ in range(3):
        made = RunDir.make(str(tmp_path / "logs"))
        made.events.touch()
        made.remove()
        folders.append(made.path.relative_to(tmp_path))
    assert folders == [Path("logs"), Path("logs/run-2"), Path("logs/run-3")]


def test_a_folder_nobody_asked_for_is_removed() -> None:
    made = RunDir.make(None)
    assert made.path.is_dir()
    made.remove()
    assert not made.path.exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="Not a directory"):
        RunDir.make(str(tmp_path / "file" / "logs"))


# with processes

DRIVER = f"""
import functools, os, sys
from pellucid.launch.signals import blocked
with blocked():
    from pellucid.launch import local
    local.launch = functools.partial(
        local.launch,
        command=[sys.executable, "-P", {str(ROOT / "tests" / "standin.py")!r}],
        make_exchange=lambda workers: os.memfd_create("exchange"),
    )
    from pellucid.cli import main
    main(["run", *sys.argv[1:]], prog_name="pellucid")
"""

HEAD = """
import os, signal, sys, time
from standin import step, index, tell, spec, board
def wait(): time.sleep(60)
"""


class Launched:
    """A launcher in a process group of its own, as a shell would start it."""

    def __init__(self, folder: Path, script: str, *args: str, prelude: str = "") -> None:
        (folder / "script.py").write_text(HEAD + script)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", prelude + DRIVER, "--log-dir", "logs", *args],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            text=True,
        )
        self.workers: list[psutil.Process] = []

    def finish(self, stdin: str = "") -> tuple[int, str, str]:
        """Wait for the end: exit code, stdout, stderr. Nobody may be left."""
        out, err = self.process.communicate(stdin, timeout=30)
        assert [p for p in self.workers if p.is_running() and p.status() != "zombie"] == []
        return self.process.returncode, out, err

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something has happened in the run."""
        until = time.monotonic() + 20
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.workers = sorted(children, key=lambda child: child.create_time())

    def wait_for_file(self, *names: str) -> None:
        """Wait until the script has made these files."""
        self.wait_for(lambda: all((self.folder / name).exists() for name in names))

    def events(self) -> list[dict[str, Any]]:
        lines = (self.folder / "logs" / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


Launch = Callable[..., Launched]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a launcher of stand-ins: ``launch(script, *arguments)``; nothing outlives the test."""
    started = []

    def start(
        script: str, *args: str, target: Sequence[str] = ("script.py",), prelude: str = ""
    ) -> Launched:
        launched = Launched(tmp_path, script, *args, *target, prelude=prelude)
        started.append(launched)
        return launched

    yield start
    for launched in started:
        if launched.process.poll() is None:
            launched.process.kill()
        launched.process.communicate()


TRAINS = "for _ in range(20): step()\n"


def test_a_run_from_start_to_end(launch: Launch) -> None:
    script = TRAINS + "print('worker', index, sys.stdin.read())\nsys.stderr.write(f'err {index}')"
    code, out, err = (run := launch(script, "--workers", "3")).finish("typed")
    assert (code, out) == (0, "worker 0 typed\n")
    assert "err 0" in err
    assert "20 steps, 1,280 samples" in err
    logs = run.folder / "logs"
    assert (logs / "worker-2.out").read_text() == "worker 2 \n"
    assert (logs / "worker-1.err").read_text() == "err 1"
    assert [event["event"] for event in run.events()] == ["start", "end"]


def test_quiet_says_nothing(launch: Launch) -> None:
    script = TRAINS + "tell('plan', 'two workers')\nsys.exit(3)"
    assert launch(script, "--workers", "2", "--quiet").finish() == (3, "", "")


def test_what_workers_tell_is_said_once(launch: Launch) -> None:
    script = "step()\ntell('plan', 'the plan')\ntell('note', 'unsaid')\nstep()"
    run = launch(script, "--workers", "2")
    _, _, err = run.finish()
    assert err.count("pellucid: the plan\n") == 1
    assert "unsaid" not in err
    assert sum(event["event"] == "note" for event in run.events()) == 2


def test_a_script_without_steps_ends_as_fast_as_the_leader(launch: Launch) -> None:
    code, out, err = launch("print(index)\nsys.exit('bad')", "--workers", "2").finish()
    assert (code, out) == (1, "0\n")
    assert err.startswith("bad\n")
    assert "logs" in err


def test_a_traceback_is_the_scripts_own_and_comes_once(launch: Launch) -> None:
    run = launch(TRAINS + "raise ValueError('mine')", "--workers", "2")
    code, _, err = run.finish()
    assert code == 1
    assert err.count("ValueError: mine") == 1
    assert "standin.py" not in err
    assert "execute.py" not in err
    for worker in range(2):
        assert "execute.py" in (run.folder / "logs" / f"worker-{worker}.traceback").read_text()


ENDLESS = "while True: step(); open(f'ready-{index}', 'w').close(); time.sleep(0.001)\n"
# one worker lingers before its sixth step, and the others wait for it
LINGERS = """
victim = int(sys.argv[1])
for _ in range(5): step()
open(f'ready-{index}', 'w').close()
if index == victim: wait()
for _ in range(5): step()
print('done by', index)
"""


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_the_run_goes_on_after_a_death(launch: Launch, victim: int, how: signal.Signals) -> None:
    script = ["script.py", str(victim)]
    run = launch(LINGERS, "--workers", "3", "--dead-after", "0.6", target=script)
    run.wait_for_file("ready-0", "ready-1", "ready-2")
    run.workers[victim].send_signal(how)
    code, out, err = run.finish()
    assert code == 0
    assert out == ("done by 0\n" if victim else "")
    assert (run.folder / "logs" / "worker-1.out").read_text() == ("" if victim else "done by 1\n")
    assert err.count(f"worker {victim} on box") == 1
    assert "2 workers" in err


def test_the_run_stops_after_a_death_if_so_asked(launch: Launch) -> None:
    run = launch(ENDLESS, "--workers", "3", "--on-failure", "stop")
    run.wait_for_file("ready-0", "ready-1", "ready-2")
    run.workers[2].kill()
    code, _, err = run.finish()
    assert code == 1
    assert err.count("pellucid: worker 2 on box") == 1
    assert "Traceback" not in err


STARTS_CHILD = """
import subprocess
if index == int(sys.argv[1]): child = subprocess.Popen(['sleep', '60'])
"""


def test_what_a_dead_follower_started_goes_with_it(launch: Launch) -> None:
    script = STARTS_CHILD + LINGERS
    run = launch(script, "--workers", "2", target=["script.py", "1"])
    run.wait_for_file("ready-0", "ready-1")
    assert len(run.workers) == 3
    next(worker for worker in run.workers[1:] if worker.name() != "sleep").kill()
    assert run.finish()[0] == 0


def test_the_leader_and_what_it_started_are_killed_when_it_hangs(launch: Launch) -> None:
    script = STARTS_CHILD + LINGERS
    run = launch(script, "--workers", "2", "--dead-after", "0.6", target=["script.py", "0"])
    run.wait_for_file("ready-0", "ready-1")
    run.workers[0].suspend()
    assert run.finish()[0] == 0


def test_an_interrupt_of_the_launcher_ends_everything_as_it_ends_python(launch: Launch) -> None:
    run = launch(ENDLESS, "--workers", "2", "--quiet")
    run.wait_for_file("ready-0", "ready-1")
    run.process.send_signal(signal.SIGINT)
    code, out, err = run.finish()
    assert out == ""
    assert err.count("KeyboardInterrupt") == 1
    assert code == -signal.SIGINT


COUNTS_INTERRUPTS = """
count = 0
def on_interrupt(*_):
    global count
    count += 1
    if index: sys.exit()
signal.signal(signal.SIGINT, on_interrupt)
while not count: step(); open(f'ready-{index}', 'w').close()
until = time.monotonic() + 0.5
while time.monotonic() < until: time.sleep(0.1)
print('interrupts:', count, 'terminal:', sys.stdout.isatty())
"""


def test_ctrl_c_in_a_terminal_interrupts_the_leader_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(HEAD + COUNTS_INTERRUPTS)
    near, far = os.openpty()
    own_terminal = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", own_terminal + DRIVER, "--workers", "2", "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "TERM": "dumb"},
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    )
    os.close(far)
    until = time.monotonic() + 20
    while not (tmp_path / "ready-0").exists() or not (tmp_path / "ready-1").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    os.write(near, b"\x03")
    shown = b""
    with contextlib.suppress(OSError):  # which is how a terminal says that nobody is left
        while data := os.read(near, 4096):
            shown += data
    os.close(near)
    assert process.wait(timeout=10) == 0
    assert b"interrupts: 1 terminal: True" in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_the_run_as_they_end_python(
    launch: Launch, number: signal.Signals
) -> None:
    run = launch(ENDLESS, "--workers", "2", "--quiet")
    run.wait_for_file("ready-0", "ready-1")
    run.process.send_signal(number)
    assert run.finish() == (-number, "", "")


def test_a_signal_that_nohup_ignores_is_ignored(launch: Launch) -> None:
    script = "step()\nopen(f'ready-{index}', 'w').close()\nsys.stdin.read()\nprint('end')"
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    run = launch(script, "--workers", "2", "--quiet", prelude=ignore)
    run.wait_for_file("ready-0", "ready-1")
    run.process.send_signal(signal.SIGHUP)
    assert run.finish("go on") == (0, "end\n", "")


def test_a_script_that_catches_the_interrupt_goes_on_in_the_leader(launch: Launch) -> None:
    script = (
        "try:\n    while True: step(); open(f'ready-{index}', 'w').close()\n"
        "except KeyboardInterrupt:\n    if index: sys.exit()\n    for _ in range(9): step()\n"
        "print('saved')"
    )
    run = launch(script, "--workers", "2", "--quiet")
    run.wait_for_file("ready-0", "ready-1")
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == (0, "saved\n", "")


def test_a_killed_launcher_leaves_nobody(launch: Launch) -> None:
    run = launch(ENDLESS, "--workers", "2")
    run.wait_for_file("ready-0", "ready-1")
    run.process.kill()
    psutil.wait_procs(run.workers, timeout=10)
    run.finish()


def test_copies_that_take_different_paths_stop_the_run(launch: Launch) -> None:
    run = launch(TRAINS + "if index == 0: step()", "--workers", "2")
    code, _, err = run.finish()
    assert code == 1
    assert "worker 1 came to the end of the script while worker 0 waited" in err
    assert "worker 0: step 21" in err


def test_a_worker_that_waits_too_long_stops_the_run(launch: Launch) -> None:
    script = TRAINS + "if index == 1: board.write_text(1, 'at the bar'); wait()\nstep()"
    code, _, err = launch(script, "--workers", "2", "--stall-after", "1").finish()
    assert code == 1
    assert "worker 0 waited 1 seconds for worker 1" in err
    assert "worker 1: at the bar" in err


def test_a_divergence_that_a_worker_sees_stops_the_run(launch: Launch) -> None:
    script = "step()\nif index: tell('error', 'not the same', slug='divergence')\nwait()"
    code, _, err = launch(script, "--workers", "2").finish()
    assert code == 1
    assert err.count("pellucid: not the same\n") == 1


def test_workers_that_cannot_start_are_an_error(launch: Launch) -> None:
    run = launch("", "--workers", "2", target=["missing.py"])
    code, _, err = run.finish()
    assert code == 2
    assert "cannot find the script 'missing.py'" in err


def test_a_process_is_known_to_catch_a_signal() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert not catches(os.getpid(), signal.SIGHUP)
        signal.signal(signal.SIGHUP, lambda *_: None)
        assert catches(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not catches(2**22 + 1, signal.SIGHUP)  # no such process
