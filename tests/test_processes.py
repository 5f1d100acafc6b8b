"""Commands of the script: the leader runs them, and every worker gets what they came to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.intercept.callers import is_of_script
from pellucid.intercept.leadership import Leadership
from pellucid.intercept.processes import Commands
from pellucid.intercept.trackers import Trackers
from pellucid.transport.board import Board
from tests.workers import alone, side_by_side

ONCE = """
    import os, subprocess, sys, threading
    from meeting import meet

    print(subprocess.run(["sh", "-c", "echo once >> early; wc -l < early"], capture_output=True))
    meet()
    for _ in range(2):
        done = subprocess.run("echo once >> out; wc -l < out", shell=True, capture_output=True)
        print(done.args, done.returncode, done.stdout)
    print(subprocess.check_output(["cat", "out"], text=True))
    print(subprocess.getoutput("echo x; echo once >> out"), os.system("echo once >> out; exit 3"))
    print(subprocess.call(["sh", "-c", "exit 2"]), subprocess.check_call("true"))
    print(os.popen("echo once >> out; cat out").read(), os.popen("exit 2").close())
    for act in (
        lambda: subprocess.run("exit 7", shell=True, check=True),
        lambda: subprocess.check_output(["there-is-no-such-command"]),
        lambda: subprocess.run(["sleep", "9"], timeout=0.01),
        lambda: subprocess.run(3),
    ):
        try:
            act()
        except Exception as error:
            print(type(error).__name__, vars(error).get("returncode"), str(error)[:30])
    with open("log", "w") as f:
        f.write("before\\n")
        f.flush()
        subprocess.run(["echo", "within"], stdout=f)
        f.seek(0, os.SEEK_END)
        f.write("after\\n")
    print(open("log").read())
    meet()
    os.system("mkdir made; echo made > made/x")
    print(os.listdir("made"), open("made/x").read())
    def work():
        print(subprocess.check_output(["echo", "in a thread"]))
    thread = threading.Thread(target=work, name="a/thread")
    thread.start()
    thread.join()
    with subprocess.Popen(["echo", "for each worker"], stdout=subprocess.PIPE) as process:
        print(process.stdout.read())
    if os.fork() == 0:
        print(subprocess.check_output(["echo", "in a child"]), flush=True)
        os._exit(0)
    sys.stdout.flush()
    os.wait()
"""

DIVERGES = """
    import subprocess
    from meeting import index, meet

    meet()
    subprocess.run(["echo", f"worker {index}"], stdout=subprocess.DEVNULL)
"""

DIES = """
    import subprocess
    from meeting import meet

    meet("die")
    print(subprocess.check_output("echo once >> out; wc -l < out", shell=True, text=True))
    meet()
    print(subprocess.check_output("echo once >> out; wc -l < out", shell=True, text=True))
"""


@pytest.mark.parametrize("order", ["leader", ""])
def test_commands_run_once(order: str, tmp_path: Path) -> None:
    expected = alone(ONCE, tmp_path / "plain" / "cwd")
    ran = side_by_side(ONCE, tmp_path / "both" / "cwd", order=order)
    assert (expected.err, ran.err, ran.follower_err) == ("", "", "")
    assert ran.out == expected.out
    assert ran.follower_out == expected.out
    assert ran.files == expected.files


def test_copies_that_run_different_commands_are_told_so(tmp_path: Path) -> None:
    ran = side_by_side(DIVERGES, tmp_path / "cwd", order="leader")
    assert ran.code == 0
    assert ran.follower_code == 1
    assert "DivergenceError" in ran.follower_err
    assert "'echo worker 1' where the leader's ran 'echo worker 0'" in ran.follower_err


@pytest.mark.parametrize("ahead", ["leader", "follower", ""])
def test_a_follower_runs_what_the_leader_did_not_come_to(ahead: str, tmp_path: Path) -> None:
    expected = alone(DIES, tmp_path / "plain" / "cwd")
    ran = side_by_side(DIES, tmp_path / "both" / "cwd", die="die", ahead=ahead)
    assert (ran.err, ran.follower_err) == ("", "")
    assert (ran.out, ran.files) == (expected.out, expected.files)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """The leader's commands, taken hold of in this very process."""
    leadership = Leadership(Board.create(1), 0, lambda: None)
    leadership.leads = True
    commands = Commands(str(tmp_path), leadership)
    commands.install()
    yield commands
    commands.undo()


def test_a_librarys_commands_are_its_own_business(commands: Commands, tmp_path: Path) -> None:
    assert commands
    source = tmp_path / "site-packages" / "library.py"
    exec(compile("import subprocess\nsubprocess.run(['true'])", str(source), "exec"), {})
    assert list((tmp_path / "commands").iterdir()) == []
    subprocess.run(["true"], check=True)
    assert [path.name for path in (tmp_path / "commands").iterdir()] == ["MainThread-1"]


def test_a_package_run_with_m_is_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile("frame = sys._getframe()", "/x/site-packages/train/loop.py", "exec")
    space = {"sys": sys, "__name__": "train.loop"}
    exec(code, space)
    monkeypatch.setattr(sys.modules["__main__"], "__package__", "other")
    assert not is_of_script(space["frame"])  # type: ignore[arg-type]
    monkeypatch.setattr(sys.modules["__main__"], "__package__", "train")
    assert is_of_script(space["frame"])  # type: ignore[arg-type]


def test_trackers_are_silent_in_followers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trackers = Trackers(str(tmp_path), 2)
    trackers.install()
    assert os.environ["WANDB_MODE"] == "disabled"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"file:{tmp_path}/mlflow-2"
    trackers.undo()
    assert os.environ["WANDB_MODE"] == "online"
    assert "MLFLOW_TRACKING_URI" not in os.environ
