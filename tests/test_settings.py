"""What a run is asked to do: default < file < environment < flag; and what the box has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pellucid.cluster.inventory import cpu_quota, memory_limit, oom_kills, physical_cores
from pellucid.errors import SettingsError
from pellucid.settings import Settings, WorkerSpec, describe, resolve


@dataclass(frozen=True)
class MadeUpBox:
    cores: int = 8
    gpus: int = 0


def settings(
    folder: Path,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    box: MadeUpBox | None = None,
) -> Settings:
    return resolve(flags or {}, environ or {}, folder=folder, box=box or MadeUpBox())


def test_defaults_follow_the_box(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert (found.workers, found.threads_per_worker, found.device) == (8, 1, "cpu")
    assert (found.mode, found.on_failure, found.seed, found.log_dir) == (
        "exact",
        "continue",
        None,
        None,
    )
    assert found.reason() == "8 workers (one a physical core), 1 thread each (8 cores / 8 workers)"


def test_gpus_come_first(tmp_path: Path) -> None:
    found = settings(tmp_path, box=MadeUpBox(cores=8, gpus=2))
    assert (found.workers, found.threads_per_worker, found.device) == (2, 4, "cuda")
    assert found.reason().startswith("2 workers (one a GPU), 4 threads each")
    on_cpu = settings(tmp_path, {"device": "cpu"}, box=MadeUpBox(cores=8, gpus=2))
    assert (on_cpu.workers, on_cpu.device) == (8, "cpu")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"flag --device.*pellucid doctor"):
        settings(tmp_path, {"device": "cuda"})


def test_hogwild_works_on_processors(tmp_path: Path) -> None:
    box = MadeUpBox(cores=8, gpus=2)
    found = settings(tmp_path, {"mode": "hogwild"}, box=box)
    assert (found.workers, found.device) == (8, "cpu")
    with pytest.raises(SettingsError, match=r"'cuda' \(flag --device\) cannot be with mode"):
        settings(tmp_path, {"mode": "hogwild", "device": "cuda"}, box=box)


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(8, 2, 4), (8, 3, 2), (2, 3, 1), (1, 1, 1)]
)
def test_threads_share_the_cores(tmp_path: Path, cores: int, workers: int, threads: int) -> None:
    found = settings(tmp_path, {"workers": workers}, box=MadeUpBox(cores))
    assert found.threads_per_worker == threads


def test_threads_of_the_user_count(tmp_path: Path) -> None:
    environ = {"OMP_NUM_THREADS": "3"}
    assert settings(tmp_path, environ=environ).threads_per_worker == 3
    assert settings(tmp_path, {"threads_per_worker": 5}, environ).threads_per_worker == 5
    assert settings(tmp_path, environ={"OMP_NUM_THREADS": "4,2"}).threads_per_worker == 1


def test_a_later_place_wins(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pellucid]\nworkers = 3\nseed = 3\non-failure = 'stop'\n"
    )
    environ = {"PELLUCID_WORKERS": "4", "PELLUCID_SEED": "4", "PELLUCID_STALL_AFTER": ""}
    found = settings(tmp_path, {"workers": 5, "seed": None}, environ)
    assert (found.workers, found.seed, found.on_failure, found.stall_after) == (5, 4, "stop", 300)
    assert found.origin("workers") == "flag --workers"
    assert found.origin("seed") == "environment PELLUCID_SEED"
    assert found.origin("on_failure") == "pyproject.toml [tool.pellucid]"
    assert found.origin("mode") == "default"


def test_a_file_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "pellucid.toml").write_text("quiet = true\nlog_dir = 'logs'\ndead-after = 3\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    found = settings(tmp_path)
    assert (found.quiet, found.log_dir, found.dead_after) == (True, "logs", 3.0)


def test_two_files_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "pellucid.toml").write_text("quiet = true\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pellucid]\nquiet = false\n")
    with pytest.raises(SettingsError, match=r"both pellucid\.toml and pyproject\.toml"):
        settings(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "pellucid.toml").write_text("workers 2")
    with pytest.raises(SettingsError, match=r"cannot read the settings file .*pellucid\.toml"):
        settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "nearest"), [("wrokers = 2", "workers"), ("on-fail = 'stop'", "on-failure")]
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    tmp_path: Path, text: str, nearest: str
) -> None:
    (tmp_path / "pellucid.toml").write_text(text)
    with pytest.raises(SettingsError, match=rf"unknown setting .*'{nearest}'$"):
        settings(tmp_path)


def test_an_unknown_variable_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'PELLUCID_WRKERS' .*'PELLUCID_WORKERS'$"):
        settings(tmp_path, environ={"PELLUCID_WRKERS": "2"})


def test_the_variable_of_a_worker_is_no_setting(tmp_path: Path) -> None:
    assert settings(tmp_path, environ={"PELLUCID_WORKER": "{}"}).workers == 8


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "two"),
        ("MODE", "hogwidl"),
        ("DEVICE", "tpu"),
        ("SEED", "-1"),
        ("QUIET", "perhaps"),
        ("DEAD_AFTER", "0"),
        ("STALL_AFTER", "-1"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_origin(
    tmp_path: Path, variable: str, value: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, environ={f"PELLUCID_{variable}": value})
    assert f"{value!r} (environment PELLUCID_{variable})" in str(caught.value)
    assert describe(variable.lower()) in str(caught.value)


def test_text_is_no_number_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "pellucid.toml").write_text("workers = '2'")
    with pytest.raises(SettingsError, match=r"workers = '2' \(pellucid\.toml\)"):
        settings(tmp_path)


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        settings(tmp_path).workers = 3  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    for name in Settings.__struct_fields__:
        assert name == "origins" or describe(name)


def test_what_a_worker_is_told_survives_the_journey() -> None:
    spec = WorkerSpec(
        index=0,
        workers=1,
        board_fd=3,
        exchange_fd=4,
        events_fd=5,
        target="caf\udce9.py",  # a name that is no valid UTF-8
        is_module=False,
        argv=["", "a b", "\n", "\udcff"],
        threads=1,
        device="cpu",
        seed=0,
        seeded=True,
        run_dir="/runs/1",
        on_failure="stop",
        profile=True,
        stall_after=0.5,
    )
    assert spec.dump().isascii()
    assert WorkerSpec.load(spec.dump()) == spec


# what the box has, read from made-up files


def put(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def test_two_threads_of_a_core_are_one(tmp_path: Path) -> None:
    siblings = {0: "0,4", 4: "0,4", 1: "1,5", 5: "1,5", 2: "2,6"}
    place = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    put(tmp_path, {place.format(cpu): text for cpu, text in siblings.items()})
    assert physical_cores({0, 4, 1}, tmp_path) == 2
    assert physical_cores({0, 1, 2, 4, 5}, tmp_path) == 3
    assert physical_cores({0, 7, 8}, tmp_path) == 3  # of which nothing is known


def test_the_tightest_quota_of_all_groups_counts(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/outer/inner",
            "sys/fs/cgroup/outer/inner/cpu.max": "max 100000",
            "sys/fs/cgroup/outer/cpu.max": "150000 100000",
            "sys/fs/cgroup/outer/inner/memory.max": "1000",
            "sys/fs/cgroup/outer/memory.max": "max",
        },
    )
    assert cpu_quota(tmp_path) == 1.5
    assert memory_limit(tmp_path) == 1000


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/1\n2:memory:/docker/1\n1:name=systemd:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
        },
    )
    assert cpu_quota(tmp_path) == 4
    assert memory_limit(tmp_path) is None


def test_a_box_that_says_nothing_has_no_limits(tmp_path: Path) -> None:
    assert (cpu_quota(tmp_path), memory_limit(tmp_path), oom_kills(tmp_path)) == (None, None, 0)


def test_kills_for_lack_of_memory_are_counted(tmp_path: Path) -> None:
    put(tmp_path, {"proc/vmstat": "pgfault 1\noom_kill 3"})
    assert oom_kills(tmp_path) == 3
