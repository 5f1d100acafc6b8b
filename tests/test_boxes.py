"""Several boxes on loopback, with stand-ins for workers: what launchers do from start to end.

What the workers of different boxes do together is not tested here; see ``standin.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

ROOT = Path(__file__).parent.parent
SECRET = "only the tests in this file know it"

DRIVER = f"""
import functools, os, sys
from pellucid.launch.signals import blocked
with blocked():
    from pellucid.launch import first, joiner
    standins = dict(
        command=[sys.executable, "-P", {str(ROOT / "tests" / "standin.py")!r}],
        make_exchange=lambda workers: os.memfd_create("exchange"),
    )
    first.begin = functools.partial(first.begin, **standins)
    joiner.join = functools.partial(joiner.join, **standins)
    from pellucid.cli import main
    main(sys.argv[1:], prog_name="pellucid")
"""

HEAD = """
import os, sys, time
from pathlib import Path
from standin import board, index, leave_asked, spec, step, tell
box = spec.cluster.here.box
shared = Path(sys.argv[1])
def wait_for(name):
    while not (shared / name).exists() and not leave_asked():
        time.sleep(0.01)
(shared / f"began-{box}").write_text(str(os.getpid()))
"""


class Box:
    """A launcher with a process group of its own, as a shell would start it."""

    def __init__(self, folder: Path, *args: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.err = folder / "stderr"
        with self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", DRIVER, args[0], "--log-dir", "logs", *args[1:]],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                process_group=0,
                text=True,
            )

    def said(self) -> str:
        return self.err.read_text()

    def wait_for(self, words: str) -> str:
        """Wait until something is said; returns its line."""
        until = time.monotonic() + 20
        while not (lines := [line for line in self.said().splitlines() if words in line]):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.01)
        return lines[0]

    def address(self) -> str:
        """Where it lets boxes in."""
        return self.wait_for("pellucid join").partition("pellucid join ")[2].split()[0]

    def finish(self, stdin: str = "") -> tuple[int, str]:
        """Wait for the end: exit code and stdout."""
        out, _ = self.process.communicate(stdin, timeout=30)
        return self.process.returncode, out

    def events(self) -> list[dict[str, Any]]:
        lines = (self.folder / "logs" / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        """As if the box lost its power."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        for process in (*children, self.process):
            process.kill()


class Boxes:
    """Boxes of one run; each has its own folder, and all can see ``shared``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = folder / "first"
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.all: list[Box] = []

    def put(self, name: str, text: str) -> None:
        """A file on the first box."""
        (self.first / name).parent.mkdir(parents=True, exist_ok=True)
        (self.first / name).write_text(text)

    def begin(self, script: str, *flags: str, secret: bool = True) -> Box:
        self.put("train.py", HEAD + script)
        given = ["--secret-file", str(self.secret)] if secret else []
        line = ["run", "--mode", "stream", "--listen", "127.0.0.1:0", "--workers", "1", *given]
        return self._start(Box(self.first, *line, *flags, "train.py", str(self.shared)))

    def join(self, address: str, *flags: str, secret: bool = True) -> Box:
        given = ["--secret-file", str(self.secret)] if secret else []
        folder = self.folder / f"joiner-{len(self.all)}"
        return self._start(Box(folder, "join", "--workers", "1", *given, *flags, address))

    def _start(self, box: Box) -> Box:
        self.all.append(box)
        return box

    def wait_for_file(self, name: str) -> str:
        until = time.monotonic() + 20
        while not (self.shared / name).exists() or not (self.shared / name).read_text():
            assert time.monotonic() < until, [box.said() for box in self.all]
            time.sleep(0.01)
        return (self.shared / name).read_text()

    def let(self, name: str) -> None:
        (self.shared / name).write_text("go")


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[Boxes]:
    made = Boxes(tmp_path)
    yield made
    for box in made.all:
        with contextlib.suppress(psutil.Error):
            box.kill()
        box.process.communicate()


def test_a_second_box_runs_what_the_first_one_sends_and_shows_nothing_of_it(boxes: Boxes) -> None:
    script = """
(shared / f"told-{box}").write_text(repr((Path("nets/lenet.py").read_text(), sys.argv[1:])))
print("from box", box, flush=True)
wait_for("never" if box else "end")
"""
    boxes.put("nets/lenet.py", "class LeNet: ...")
    first = boxes.begin(script, "--boxes", "2")
    first.wait_for("waiting for boxes: 1 of 2 are here")
    assert not (boxes.shared / "began-0").exists()
    second = boxes.join(first.address())
    assert boxes.wait_for_file("told-0") == boxes.wait_for_file("told-1")
    boxes.let("end")
    assert first.finish() == (0, "from box 0\n")
    assert second.finish() == (0, "")
    assert "let in at 127.0.0.1" in second.said()
    assert "the run has ended on box 0" in second.said()
    assert (second.folder / "logs/worker-0.out").read_text() == "from box 1\n"


def test_the_secret_is_in_no_argument_variable_or_record(boxes: Boxes) -> None:
    script = "from standin import secret\n(shared / f'secret-{box}').write_text(secret())\n"
    first = boxes.begin(script + "wait_for('end')")
    second = boxes.join(first.address())
    assert [boxes.wait_for_file(f"secret-{box}") for box in (0, 1)] == [SECRET, SECRET]
    for box in (first, second):
        root = psutil.Process(box.process.pid)
        for process in (root, *root.children(recursive=True)):
            assert SECRET not in " ".join(process.cmdline())
            assert SECRET not in " ".join(process.environ().values())
    boxes.let("end")
    for box in (first, second):
        assert box.finish()[0] == 0
        assert SECRET not in box.said()
        records = [path for path in (box.folder / "logs").rglob("*") if path.is_file()]
        assert records
        assert all(SECRET.encode() not in path.read_bytes() for path in records)


def test_a_secret_is_made_shown_once_and_asked_for(boxes: Boxes) -> None:
    first = boxes.begin("wait_for('end')", secret=False)
    made = first.wait_for("secret: ").partition("secret: ")[2]
    assert first.said().count(made) == 1
    second = boxes.join(first.address(), secret=False)
    assert second.process.stdin is not None
    second.process.stdin.write(made + "\n")
    second.process.stdin.close()
    second.process.stdin = None
    boxes.wait_for_file("began-1")
    boxes.let("end")
    assert [box.finish()[0] for box in (first, second)] == [0, 0]


def test_a_script_that_fails_on_one_box_ends_that_box_and_says_why(boxes: Boxes) -> None:
    script = "if box: open('/no/such/data')\nwait_for('end')\nprint('well')"
    first = boxes.begin(script)
    second = boxes.join(first.address())
    assert second.finish() == (1, "")
    assert "the script failed on this box" in second.said()
    assert "No such file or directory: '/no/such/data'" in second.said()
    boxes.let("end")
    assert first.finish() == (0, "well\n")


def test_a_script_that_fails_on_the_first_box_ends_the_run(boxes: Boxes) -> None:
    first = boxes.begin("wait_for('never' if box else 'end')\nsys.exit(3)")
    second = boxes.join(first.address())
    boxes.wait_for_file("began-1")
    boxes.let("end")
    assert first.finish()[0] == 3
    assert second.finish()[0] == 1
    assert "the run has ended on box 0, with exit code 3" in second.said()


def test_the_end_is_told_before_the_first_box_leaves(boxes: Boxes) -> None:
    script = "wait_for('never' if box else 'end')\ntell('ended', '', code=0)\nwait_for('left')"
    first = boxes.begin(script)
    second = boxes.join(first.address())
    boxes.wait_for_file("began-1")
    boxes.let("end")
    assert second.finish()[0] == 0
    assert first.process.poll() is None
    boxes.let("left")
    assert first.finish()[0] == 0
    assert "the run has ended" not in first.said()


def test_a_killed_worker_0_ends_its_box_only(boxes: Boxes) -> None:
    first = boxes.begin("wait_for('end')")
    second = boxes.join(first.address())
    os.kill(int(boxes.wait_for_file("began-1")), signal.SIGKILL)
    assert second.finish()[0] == 128 + signal.SIGKILL
    assert "It was the one that talks to the other boxes, so this box ends" in second.said()
    boxes.let("end")
    assert first.finish()[0] == 0


def test_ctrl_c_lets_a_joined_box_leave(boxes: Boxes) -> None:
    first = boxes.begin("wait_for('end')\nif leave_asked(): (shared / 'left').write_text('1')")
    second = boxes.join(first.address())
    boxes.wait_for_file("began-1")
    second.process.send_signal(signal.SIGINT)
    assert second.finish()[0] == 0
    assert "this box leaves the run, the others go on" in second.said()
    boxes.wait_for_file("left")
    boxes.let("end")
    assert first.finish()[0] == 0


def test_ctrl_c_on_the_first_box_ends_the_run(boxes: Boxes) -> None:
    first = boxes.begin("wait_for('end')")
    second = boxes.join(first.address())
    boxes.wait_for_file("began-1")
    first.process.send_signal(signal.SIGINT)
    assert first.finish()[0] == -signal.SIGINT
    assert second.finish()[0] == 1
    assert "the run was ended on box 0, by SIGINT" in second.said()


def test_ctrl_c_while_waiting_for_boxes(boxes: Boxes) -> None:
    first = boxes.begin("", "--boxes", "3")
    second = boxes.join(first.address())
    first.wait_for("2 of 3 are here")
    first.process.send_signal(signal.SIGINT)
    assert first.finish()[0] == -signal.SIGINT
    assert second.finish()[0] == 1
    assert not list(boxes.shared.iterdir())


def test_a_box_that_goes_while_it_waits_is_not_waited_with(boxes: Boxes) -> None:
    first = boxes.begin("wait_for('end')", "--boxes", "3")
    second = boxes.join(first.address())
    first.wait_for("2 of 3 are here")
    second.kill()
    first.wait_for("box 1 (")
    first.wait_for("went away before it had started")
    others = [boxes.join(first.address()) for _ in range(2)]
    boxes.wait_for_file("began-0")
    boxes.let("end")
    assert [box.finish()[0] for box in (first, *others)] == [0, 0, 0]


def test_when_the_first_box_is_dead_another_lets_boxes_in_and_ends_the_run(boxes: Boxes) -> None:
    script = """
if box == 1:
    wait_for("dead")
    tell("boxes", "", living=[1], leader=1)
if box == 2:
    tell("boxes", "", living=[1, 2], leader=1)
    time.sleep(60)
wait_for("end")
"""
    first = boxes.begin(script)
    second = boxes.join(first.address())
    boxes.wait_for_file("began-1")
    door = first.wait_for("box 1 (").split(", ")[1]
    first.kill()
    boxes.let("dead")
    third = boxes.join(door)
    boxes.wait_for_file("began-2")
    boxes.let("end")
    assert second.finish()[0] == 0
    assert "files that the script wrote while this box led are in" in second.said()
    assert third.finish()[0] == 0
    assert "the run has ended on box 1" in third.said()


def test_what_worker_0_says_of_the_others_is_shown_and_kept(boxes: Boxes) -> None:
    script = """
tell("boxes", "", living=[0, 1], leader=0)
tell("status", "", rates={"0": 100, "1": 50}, sent=2e6, received=1e6, staleness=1.5)
step()
"""
    first = boxes.begin(script)
    assert first.finish()[0] == 0
    summary = first.said().splitlines()[-2]
    for part in ("box 0", "2 of 2 boxes", "150 samples/s of all (100 + 50)", "2.0 MB/s out"):
        assert part in summary
    assert "status" in [event["event"] for event in first.events()]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["join", "127.0.0.1"], 2, "'127.0.0.1' is no address"),
        (["join", "127.0.0.1:7070", "--secret-file", "none"], 2, "secret_file = 'none'"),
        (["run", "--mode", "stream", "train.py"], 2, "nobody says where"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, line: list[str], code: int, words: str) -> None:
    (tmp_path / "train.py").touch()
    box = Box(tmp_path, *line)
    assert box.finish()[0] == code
    assert words in box.said()
