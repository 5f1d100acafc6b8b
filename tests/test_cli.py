"""The command line: whose argument is whose, how it ends, and what the doctor says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pellucid import __version__
from pellucid.cli import main
from pellucid.cluster import inventory
from pellucid.cluster.inventory import Facts, Gpu, TorchBuild, Way
from pellucid.errors import LaunchError
from pellucid.launch import local
from pellucid.launch.diagnosis import Finding, Level, diagnose
from pellucid.launch.local import Program
from pellucid.settings import Settings

ROOT = Path(__file__).parent.parent


class Launches:
    """Stands in for `launch` and remembers what it was asked for."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.program: Program | None = None
        self.code = 0
        self.error: Exception | None = None

    def __call__(self, settings: Settings, program: Program, box: Any) -> int:
        assert box.cores >= 1
        self.settings, self.program = settings, program
        if self.error is not None:
            raise self.error
        return self.code


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launches:
    """Run in an empty folder with a script; nothing is started."""
    for variable in [v for v in os.environ if v.startswith("PELLUCID_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    launches = Launches()
    monkeypatch.setattr(local, "launch", launches)
    return launches


def pellucid(*args: str) -> Any:
    return CliRunner().invoke(main, args, prog_name="pellucid")


@pytest.mark.parametrize(
    "line",
    [
        "train.py",
        "train.py --epochs 3 -x data",
        "train.py --workers 7 --quiet -m --help -h --version",
        "train.py -- --mode=fast -- -",
        "train.py -m module --no-quiet",
        "-m package.train --workers 7 -m",
        "-m train.py run",
        "-- train.py --seed x",
    ],
)
@pytest.mark.parametrize("ours", ["", "--workers 2 --quiet", "--seed=5 --workers=2 --no-quiet"])
def test_what_follows_the_script_is_the_scripts(launches: Launches, ours: str, line: str) -> None:
    result = pellucid("run", *ours.split(), *line.split())
    assert result.exit_code == 0, result.output
    words = line.split()
    is_module = words[0] == "-m"
    target, *argv = words[1:] if words[0] in ("-m", "--") else words
    assert launches.program == Program(target, argv, is_module)
    assert launches.settings is not None
    assert launches.settings.workers == (2 if ours else launches.settings.workers)
    assert launches.settings.quiet is ("--quiet" in ours)


def test_empty_and_strange_arguments_pass_unchanged(launches: Launches) -> None:
    argv = ["", " ", "a b", "*", "$HOME", "é", "\udcff", "--x=1 2", "@file"]
    assert pellucid("run", "train.py", *argv).exit_code == 0
    assert launches.program == Program("train.py", argv)


def test_every_flag_reaches_the_settings(launches: Launches) -> None:
    flags = {
        "--workers": "3",
        "--mode": "exact",
        "--threads-per-worker": "2",
        "--device": "cpu",
        "--on-failure": "stop",
        "--split": "always",
        "--seed": "11",
        "--log-dir": "logs",
        "--dead-after": "2.5",
        "--stall-after": "0",
    }
    given = [word for pair in flags.items() for word in pair]
    assert pellucid("run", *given, "--quiet", "--profile", "train.py").exit_code == 0
    found = launches.settings
    assert found is not None
    for flag, value in flags.items():
        name = flag.removeprefix("--").replace("-", "_")
        assert str(getattr(found, name)).removesuffix(".0") == value
        assert found.origin(name) == f"flag {flag}"
    assert found.quiet
    assert found.profile


def test_there_are_no_other_flags() -> None:
    command = main.commands["run"]
    flags = {param.name for param in command.params if isinstance(param, click.Option)}
    assert flags == {*Settings.__struct_fields__, "is_module"} - {"origins"}


def test_a_file_and_the_environment_count(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pellucid.toml").write_text("workers = 3\nseed = 3\n")
    monkeypatch.setenv("PELLUCID_SEED", "4")
    assert pellucid("run", "train.py").exit_code == 0
    assert launches.settings is not None
    assert (launches.settings.workers, launches.settings.seed) == (3, 4)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "Missing argument 'SCRIPT'"),
        ("--wrokers 2 train.py", "No such option '--wrokers'"),
        ("--workers two train.py", "'two' is not a valid integer"),
        ("--workers 0 train.py", "workers = 0 (flag --workers) cannot be"),
        ("--mode fast train.py", "'fast' is not one of"),
        ("nothing.py --workers", "cannot find the script 'nothing.py' in"),
        ("- x", "cannot run a script from stdin"),
    ],
)
def test_a_command_line_that_cannot_be(launches: Launches, line: str, words: str) -> None:
    result = pellucid("run", *line.split())
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""
    assert launches.program is None


def test_workers_that_cannot_be_started(launches: Launches) -> None:
    launches.error = LaunchError("cannot start worker 0")
    result = pellucid("run", "train.py")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "pellucid: cannot start worker 0\n"


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (3, 3), (255, 255), (-9, 137), (-11, 139)])
def test_the_exit_code_is_what_a_shell_would_see(launches: Launches, code: int, seen: int) -> None:
    launches.code = code
    assert pellucid("run", "train.py").exit_code == seen


def test_version_and_help() -> None:
    assert pellucid("--version").output == f"pellucid, version {__version__}\n"
    assert "doctor" in pellucid("--help").output
    assert "PELLUCID_WORKERS" in pellucid("run", "--help").output


def test_the_command_is_there_before_torch_and_numpy() -> None:
    program = (
        "import sys, pellucid.cli as c; print(sorted({'torch', 'numpy', 'rich'} & {*sys.modules}))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert done.stdout == b"[]\n"


# the doctor

GPU = Gpu(name="H200", memory=1 << 37, peers=[])
TORCH = TorchBuild(version="2.13.0", cuda=None, gloo=True, nccl=False)
HEALTHY = Facts(
    torch=TORCH,
    cpus=8,
    cores=4,
    memory=16 << 30,
    memfd=True,
    shared_memory=8 << 30,
    files=4096,
    capabilities=1 << 13,
    network_namespaces=True,
    cryptography="50",
)


def with_facts(**changes: Any) -> Facts:
    return Facts(**{name: getattr(HEALTHY, name) for name in HEALTHY.__struct_fields__} | changes)


def troubles(facts: Facts) -> list[Finding]:
    return [finding for finding in diagnose(facts) if finding.level is not Level.OK]


def test_a_healthy_box_has_no_troubles() -> None:
    assert troubles(HEALTHY) == []
    cuda = TorchBuild(version="2.13.0", cuda="13.0", gloo=True, nccl=True, gpus=[GPU])
    assert troubles(with_facts(torch=cuda, gpu_driver=True)) == []


@pytest.mark.parametrize(
    ("name", "level", "changes"),
    [
        ("torch", Level.FAIL, {"torch": TorchBuild(error="No module named 'torch'")}),
        ("memory for exchange", Level.FAIL, {"memfd": False}),
        ("cores", Level.WARN, {"cores": 1}),
        ("memory", Level.WARN, {"memory": 2 << 30}),
        ("memory", Level.WARN, {"memory_limit": 1 << 30}),
        ("GPUs", Level.WARN, {"gpu_driver": True}),
        ("Gloo", Level.WARN, {"torch": TorchBuild(version="2.13.0")}),
        ("NCCL", Level.WARN, {"torch": TorchBuild(version="2.13.0", gloo=True, gpus=[GPU])}),
        (
            "GPU peer access",
            Level.WARN,
            {"torch": TorchBuild(version="2", gloo=True, nccl=True, gpus=[GPU, GPU])},
        ),
        ("/dev/shm", Level.WARN, {"shared_memory": 64 << 20}),
        ("/dev/shm", Level.WARN, {"shared_memory": None}),
        ("open files", Level.WARN, {"files": 256}),
        ("pidfd", Level.WARN, {"pidfd": False}),
        ("ptrace", Level.WARN, {"ptrace_scope": 3}),
        ("CAP_NET_RAW", Level.WARN, {"capabilities": 0}),
        ("network namespaces", Level.WARN, {"network_namespaces": False}),
        ("cryptography", Level.WARN, {"cryptography": ""}),
        ("way to lab-2:7070", Level.FAIL, {"way": Way(to="lab-2:7070", error="unknown name")}),
        (
            "port of lab-2:7070",
            Level.FAIL,
            {"way": Way(to="lab-2:7070", local="10.0.0.1", error="timed out")},
        ),
    ],
)
def test_what_is_missing_is_named_with_a_remedy(
    name: str, level: Level, changes: dict[str, Any]
) -> None:
    (trouble,) = troubles(with_facts(**changes))
    assert (trouble.name, trouble.level) == (name, level)
    assert trouble.remedy


@pytest.mark.parametrize(("memfd", "code"), [(True, 0), (False, 1)])
def test_the_doctor_fails_only_when_a_run_cannot_work(
    monkeypatch: pytest.MonkeyPatch, *, memfd: bool, code: int
) -> None:
    facts = with_facts(memfd=memfd, capabilities=0)
    monkeypatch.setattr(inventory, "read_facts", lambda _: facts)
    result = pellucid("doctor")
    assert result.exit_code == code
    assert "warn CAP_NET_RAW" in result.stdout
    assert ("fail memory for exchange" in result.stdout) is not memfd


def test_the_doctor_looks_at_this_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "probe_torch", lambda: TORCH)
    facts = inventory.read_facts()
    assert facts.cpus >= facts.cores >= 1
    assert facts.memory > 0


def test_the_doctor_looks_for_the_way_to_another_box() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        way = inventory.probe_way("127.0.0.1", port)
        assert (way.local, way.interface, way.error) == ("127.0.0.1", "lo", "")
    assert inventory.probe_way("127.0.0.1", port).error == "Connection refused"
    assert not inventory.probe_way("no such box.invalid", 1).local
    assert pellucid("doctor", "nowhere").exit_code == 2


def test_torch_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "PROBE", "raise SystemExit('no torch here')")
    assert inventory.probe_torch() == TorchBuild(error="no torch here")
    monkeypatch.setattr(inventory, "PROBE", """print('{"version": "9", "gloo": true}')""")
    assert inventory.probe_torch() == TorchBuild(version="9", gloo=True)
