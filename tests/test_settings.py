"""What a run is asked to do: default < file < environment < flag; and what the box has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pellucid.cluster.inventory import cpu_quota, memory_limit, oom_kills, physical_cores
from pellucid.errors import SettingsError
from pellucid.settings import (
    STREAM_ONLY,
    Address,
    Cluster,
    Peer,
    Settings,
    WorkerSpec,
    describe,
    resolve,
    resolve_joiner,
)


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
        ("MODE", "fast"),
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


STREAM: Mapping[str, Any] = {"mode": "stream", "listen": "10.0.0.1:7070"}


def test_stream_takes_what_it_needs(tmp_path: Path) -> None:
    found = settings(tmp_path, STREAM)
    assert (found.boxes, found.within, found.codec, found.encrypt) == (1, "hogwild", "int8", True)
    assert (found.heartbeat, found.suspect_after, found.lost_after) == (2, 6, 10)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"mode": "stream"}, r"nobody says where\. Add --listen ADDR:PORT"),
        ({"listen": "10.0.0.1:7070"}, r"flag --listen means something between boxes only"),
        ({"boxes": 2}, r"flag --boxes means .* mode is 'exact' \(default\)\. Add --mode stream"),
        ({"codec": "fp32"}, "flag --codec"),
        ({**STREAM, "listen": "7070"}, r"listen \(flag --listen\): '7070' is no address"),
        ({**STREAM, "listen": "10.0.0.1:70700"}, "is no address"),
        ({**STREAM, "heartbeat": 6.0}, r"heartbeat = 6 \(flag --heartbeat\), suspect-after = 6"),
        ({**STREAM, "lost_after": 5.0}, r"lost-after = 5 \(flag --lost-after\) cannot be"),
        ({**STREAM, "quiet": True}, r"quiet \(flag --quiet\) would hide the secret"),
        ({**STREAM, "codec": "int4"}, "codec = 'int4'"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings(tmp_path, flags)


def test_what_a_file_says_of_other_modes_waits_for_them(tmp_path: Path) -> None:
    (tmp_path / "pellucid.toml").write_text("listen = '10.0.0.1:7070'\nsecret-file = 's'\n")
    assert settings(tmp_path).mode == "exact"
    assert settings(tmp_path, {"mode": "stream"}).listen == "10.0.0.1:7070"


def test_all_that_is_streams_alone_is_refused_elsewhere(tmp_path: Path) -> None:
    values: dict[str, Any] = dict.fromkeys(STREAM_ONLY, 7)
    values |= {"listen": "a:1", "secret_file": "f", "within": "exact", "codec": "bf16"}
    values |= {"encrypt": False, "nesterov": True, "scale_lr": False}
    for name, value in values.items():
        with pytest.raises(SettingsError, match="between boxes only"):
            settings(tmp_path, {name: value})


def test_a_box_that_joins_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pellucid.toml").write_text("workers = 5\nnonsense = 1\n")
    found = resolve_joiner({"workers": None}, {"PELLUCID_QUIET": "1"}, box=MadeUpBox())
    assert (found.mode, found.workers, found.quiet, found.listen) == ("stream", 8, True, None)
    with pytest.raises(SettingsError, match="is no address"):
        resolve_joiner({"listen": "here"}, {}, box=MadeUpBox())


@pytest.mark.parametrize("text", ["10.0.0.1:7070", "lab-3:0", "[fd00::1]:65535", "0.0.0.0:80"])
def test_addresses_are_written_as_they_are_read(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "lab", ":7070", "lab:", "lab:x", "lab:-1", "lab:٣", "[]:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SettingsError, match="is no address"):
        Address.parse(text)


def test_who_leads_among_boxes() -> None:
    def spec(index: int, cluster: Cluster | None) -> WorkerSpec:
        return msgspec.structs.replace(SPEC, index=index, cluster=cluster)

    def place(box: int) -> Cluster:
        at = Address("10.0.0.1", 7070)
        return Cluster(run="r", here=Peer(box=box, nonce=1, name="lab", data=at, door=at))

    assert [spec(index, None).leads for index in (0, 1)] == [True, False]
    assert [spec(index, place(0)).leads for index in (0, 1)] == [True, False]
    assert not spec(0, place(1)).leads
    told = spec(0, place(3))
    assert WorkerSpec.load(told.dump()) == told


SPEC = WorkerSpec(
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


def test_what_a_worker_is_told_survives_the_journey() -> None:
    assert SPEC.dump().isascii()
    assert WorkerSpec.load(SPEC.dump()) == SPEC


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
