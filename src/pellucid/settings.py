"""What a run is asked to do, and what each worker is told of it.

[Note: settings]
A setting may be given in four places; a later one wins over an earlier one:

    default  <  file (pellucid.toml, or [tool.pellucid] in pyproject.toml)
             <  environment (PELLUCID_WORKERS, PELLUCID_ON_FAILURE, ...)
             <  flag (--workers, --on-failure, ...)

`resolve` looks at them once and returns one frozen `Settings` in which nothing is left open.
Nobody reads the raw values again. Each value's *origin* is kept, so that an error can say where
the value came from and the start line can say why it was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, get_args

import msgspec
from msgspec import Meta

from pellucid.errors import SettingsError

__all__ = [
    "ALLOCATOR",
    "PREFIX",
    "WORKER_VARIABLE",
    "Address",
    "Box",
    "Cluster",
    "Peer",
    "Settings",
    "WorkerSpec",
    "describe",
    "resolve",
    "resolve_joiner",
]

_COUNTS: Final = ("workers", "threads_per_worker")
PREFIX: Final = "PELLUCID_"
WORKER_VARIABLE: Final = "PELLUCID_WORKER"

# A training step allocates the same tensors again and again. By default, freed memory goes back to
# the kernel at the end of each step, and is faulted in anew, zeroed page by page: up to a tenth of
# the time of a step. glibc reads these when a process starts; the worker then removes them.
ALLOCATOR: Final = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # of 2 MiB, where the kernel has been told so
}
# read elsewhere: no settings of a run
OTHER_VARIABLES: Final = frozenset({WORKER_VARIABLE, "PELLUCID_TRACEBACK"})

Count = Annotated[int, Meta(ge=1)]
Mode = Literal["exact", "hogwild", "stream"]
Device = Literal["cpu", "cuda"]
OnFailure = Literal["continue", "stop"]
Split = Literal["auto", "always"]
Within = Literal["hogwild", "exact"]
Codec = Literal["int8", "bf16", "fp32"]
Seconds = Annotated[float, Meta(gt=0)]

# modes whose workers share weights in the memory of processors
SHARING: Final = ("hogwild", "stream")
# of stream mode: elsewhere they would be asked for in vain
STREAM_ONLY: Final = (
    "listen",
    "boxes",
    "secret_file",
    "within",
    "codec",
    "encrypt",
    "heartbeat",
    "suspect_after",
    "lost_after",
    "nesterov",
    "scale_lr",
    "bundle_limit",
)


class Address(msgspec.Struct, frozen=True):
    """Where something listens.

    Attributes:
        host: a name or a number.
        port: 0 before the system has picked one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``ADDR:PORT``; a number with colons stands in brackets.

        Raises:
            SettingsError: it is none.
        """
        host, colon, port = text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 1 << 16):
            msg = (
                f"{text!r} is no address. It is: name or number of this box's network interface, "
                "colon, port (0 to 65535), such as 10.0.0.1:7070 or [fd00::1]:7070"
            )
            raise SettingsError(msg)
        return cls(host, int(port))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was decided about a run; see [Note: settings]. The fields are the flags."""

    workers: Annotated[
        Count, Meta(description="how many workers, 1 or more; default: one a GPU, else a core")
    ]
    mode: Annotated[
        Mode, Meta(description="how the workers work together: " + " or ".join(get_args(Mode)))
    ] = "exact"
    threads_per_worker: Annotated[
        Count, Meta(description="threads of each worker, 1 or more; default: cores / workers")
    ]
    device: Annotated[
        Device, Meta(description="what to compute on, cpu or cuda; default: cuda if there is a GPU")
    ]
    on_failure: Annotated[
        OnFailure,
        Meta(description="when a worker dies, continue without it or stop; default: continue"),
    ] = "continue"
    split: Annotated[
        Split,
        Meta(description="auto runs whole what is too small to gain, always splits it too"),
    ] = "auto"
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
        Meta(description="seed of a script that sets none itself, 0 to 2**63 - 1; default: random"),
    ] = None
    log_dir: Annotated[
        str | None,
        Meta(description="folder for the records of the run; default: removed after success"),
    ] = None
    quiet: Annotated[bool, Meta(description="whether to say nothing but errors")] = False
    profile: Annotated[
        bool, Meta(description="whether to say at the end where each worker's time went")
    ] = False
    dead_after: Annotated[
        Annotated[float, Meta(gt=0)],
        Meta(description="seconds after which a halted worker counts as dead; default: 8"),
    ] = 8.0
    stall_after: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(
            description="seconds to wait for a worker before it is an error, 0 is for ever; "
            "default: 300"
        ),
    ] = 300.0
    listen: Annotated[
        str | None,
        Meta(description="ADDR:PORT where stream mode takes other boxes in; needed for that mode"),
    ] = None
    boxes: Annotated[
        Count, Meta(description="boxes to wait for before the script starts; default: 1")
    ] = 1
    secret_file: Annotated[
        str | None,
        Meta(description="file with the secret of the run; default: one is made and shown once"),
    ] = None
    within: Annotated[
        Within,
        Meta(
            description="how the workers of one box work together in stream mode: hogwild, on "
            "batches of their own; exact, each batch divided among them"
        ),
    ] = "hogwild"
    codec: Annotated[
        Codec,
        Meta(description="what weights travel as: int8 (scaled by block), bf16 or fp32"),
    ] = "int8"
    encrypt: Annotated[
        bool, Meta(description="whether what travels between boxes is encrypted; default: yes")
    ] = True
    heartbeat: Annotated[
        Seconds, Meta(description="seconds between two signs of life of a box; default: 2")
    ] = 2.0
    suspect_after: Annotated[
        Seconds, Meta(description="seconds of silence that make a box suspect; default: 6")
    ] = 6.0
    lost_after: Annotated[
        Seconds,
        Meta(description="seconds of silence after which the others go on without; default: 10"),
    ] = 10.0
    nesterov: Annotated[
        bool, Meta(description="whether owners of weights add delayed Nesterov momentum")
    ] = False
    scale_lr: Annotated[
        bool,
        Meta(
            description="whether learning rates are multiplied by the number of boxes; default: yes"
        ),
    ] = True
    bundle_limit: Annotated[
        Count,
        Meta(description="MiB that script and files beside it may take to be sent; default: 100"),
    ] = 100
    origins: dict[str, str] = {}

    def origin(self, name: str) -> str:
        """Where the value of a setting came from."""
        return self.origins.get(name, "default")

    @property
    def lockstep(self) -> bool:
        """Whether the workers of this box wait for each other at every step."""
        exact = self.within == "exact" and self.workers > 1
        return self.mode == "exact" or (self.mode == "stream" and exact)

    def reason(self) -> str:
        """How many workers and threads, and why so many; part of the start line."""
        workers, threads = _counted(self.workers, "worker"), self.threads_per_worker
        why = [self.origin(name).removeprefix("default: ") for name in _COUNTS]
        return f"{workers} ({why[0]}), {_counted(threads, 'thread')} each ({why[1]})"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A box of the cluster.

    Attributes:
        box: its number; boxes are numbered as they join, the first is 0, no number comes again.
        nonce: drawn when it joined: another process that calls itself the same box has another.
        name: its host name, for messages.
        data: where its worker 0 listens for the other boxes' workers.
        door: where its launcher takes boxes in, and hears from other launchers.
    """

    box: int
    nonce: int
    name: str
    data: Address
    door: Address


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A box's place among others, in stream mode; told to all of its workers.

    Attributes:
        run: names the run; drawn by the first box.
        here: this box.
        peers: the other boxes there were when this one started; later ones call.
        data_fd: a listening socket bound to ``here.data``, inherited by worker 0; -1 in others.
        secret_fd: an anonymous file with the secret of the run, inherited by worker 0 (-1 in
            others), who reads it from position 0 to the end and closes it before anything else.
        within: how the workers of this box work together.
        codec: what weights travel as.
        encrypt: whether what travels is encrypted.
        heartbeat: seconds between two signs of life.
        suspect_after: seconds of silence that make a box suspect.
        lost_after: seconds of silence after which the others go on without it.
        nesterov: whether owners add delayed Nesterov momentum.
        scale_lr: whether steps are as many times as long as there are boxes.
    """

    run: str
    here: Peer
    peers: list[Peer] = []
    data_fd: int = -1
    secret_fd: int = -1
    within: Within = "hogwild"
    codec: Codec = "int8"
    encrypt: bool = True
    heartbeat: float = 2.0
    suspect_after: float = 6.0
    lost_after: float = 10.0
    nesterov: bool = False
    scale_lr: bool = True


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the launcher tells one worker, as JSON in the variable ``PELLUCID_WORKER``.

    Attributes:
        index: which worker it is; 0 starts as the leader.
        workers: how many there are.
        board_fd: the `Board`, inherited.
        exchange_fd: the memory the workers exchange values through, inherited.
        events_fd: the writing end of the event pipe, inherited.
        target: the script's file or folder, or the module's name.
        is_module: whether the target is the name of a module.
        argv: the script's own arguments.
        threads: threads to compute with.
        device: what to compute on.
        own_gpu: whether each worker has a GPU of its own.
        seed: equal for all workers, drawn by the launcher unless the user gave it.
        seeded: whether the user gave the seed.
        run_dir: folder of this run's records.
        on_failure: what happens after a death.
        split: whether to split also what is too small to gain by it.
        profile: whether to measure our own overhead.
        stall_after: seconds to wait for another worker before giving up; 0 for ever.
        mode: how the workers work together.
        weights_fd: memory for weights that all write, inherited; -1 in exact mode.
        passes_fd: the table of passes, inherited; -1 in exact mode.
        cpus: processors to compute on; empty for all.
        stdin_fd: the run's real stdin, inherited; for a follower that becomes the leader.
        stdout_fd: likewise stdout.
        stderr_fd: likewise stderr.
        reason: why so many workers and threads, for the start line.
        cluster: this box's place among others, in stream mode.
        lines: in stream mode, inherited sockets between the first worker, which has one for each
            of the others, and those.
    """

    index: int
    workers: int
    board_fd: int
    exchange_fd: int
    events_fd: int
    target: str
    is_module: bool
    argv: list[str]
    threads: int
    device: Device
    seed: int
    seeded: bool
    run_dir: str
    on_failure: OnFailure
    profile: bool
    stall_after: float
    mode: Mode = "exact"
    weights_fd: int = -1
    passes_fd: int = -1
    cpus: list[int] = []
    split: Split = "auto"
    own_gpu: bool = False
    stdin_fd: int = 0
    stdout_fd: int = 1
    stderr_fd: int = 2
    reason: str = ""
    cluster: Cluster | None = None
    lines: list[int] = []

    @property
    def leads(self) -> bool:
        """Whether it starts as the leader: what it prints and saves is real."""
        return self.index == 0 and (self.cluster is None or self.cluster.here.box == 0)

    @property
    def lockstep(self) -> bool:
        """Whether the workers of this box wait for each other at every step."""
        within = "" if self.cluster is None else self.cluster.within
        return self.mode == "exact" or (within == "exact" and self.workers > 1)

    def dump(self) -> str:
        """The text for ``PELLUCID_WORKER``."""
        # json of the standard library carries arguments that are no valid UTF-8, msgspec does not
        return json.dumps(msgspec.to_builtins(self))

    @classmethod
    def load(cls, text: str) -> WorkerSpec:
        """Read what `dump` wrote."""
        return msgspec.convert(json.loads(text), cls)


class Box(Protocol):
    """What `resolve` has to know of the machine; asked only when a default depends on it."""

    @property
    def cores(self) -> int:
        """Physical cores this process may use."""

    @property
    def gpus(self) -> int:
        """GPUs that the installed torch can use."""


class _Given(msgspec.Struct, frozen=True):
    """A value as it was given, and where."""

    value: Any
    origin: str
    is_text: bool = False


_TYPES: Final = {
    field.name: field.type for field in msgspec.structs.fields(Settings) if field.name != "origins"
}


def describe(name: str) -> str:
    """What a setting is and what it takes, in one phrase."""
    description: str = _TYPES[name].__metadata__[-1].description
    return description


def resolve(
    flags: Mapping[str, Any], environ: Mapping[str, str], *, folder: Path, box: Box
) -> Settings:
    """Decide everything about a run; see [Note: settings].

    Args:
        flags: values of the flags that were given, by name of setting; None is not given.
        environ: the environment.
        folder: where to look for the settings files.
        box: the machine.

    Raises:
        SettingsError: a value cannot be, or a key is unknown.
    """
    asked = _from_environment(environ) | _from_flags(flags)
    settings = _settled(_from_files(folder) | asked, environ, box)
    _check_stream(settings, asked)
    return settings


def resolve_joiner(flags: Mapping[str, Any], environ: Mapping[str, str], *, box: Box) -> Settings:
    """Decide what a box that joins a run decides for itself; the rest is the first box's plan.

    No settings file is read: the folder one joins from has nothing to do with the run.

    Args:
        flags: values of the flags that were given, by name of setting; None is not given.
        environ: the environment.
        box: the machine.

    Raises:
        SettingsError: a value cannot be, or a key is unknown.
    """
    given = _from_environment(environ) | _from_flags({**flags, "mode": "stream"})
    settings = _settled(given, environ, box)
    _check_address(settings)
    return settings


def _settled(given: Mapping[str, _Given], environ: Mapping[str, str], box: Box) -> Settings:
    values = {name: _convert(name, one) for name, one in given.items()}
    origins = {name: one.origin for name, one in given.items()}
    _decide_by_box(values, origins, environ, box)
    return Settings(**values, origins=origins)


def _check_stream(settings: Settings, asked: Iterable[str]) -> None:
    """Refuse what does not fit together."""
    if settings.mode != "stream":
        # what a file says may be meant for another day
        vain = next((name for name in STREAM_ONLY if name in asked), None)
        if vain is not None:
            msg = (
                f"{settings.origin(vain)} means something between boxes only, and the mode is "
                f"{settings.mode!r} ({settings.origin('mode')}). Add --mode stream, or leave it out"
            )
            raise SettingsError(msg)
        return
    if settings.listen is None:
        msg = (
            f"mode = 'stream' ({settings.origin('mode')}) takes other boxes in, but nobody says "
            "where. Add --listen ADDR:PORT with this box's address, such as 10.0.0.1:7070"
        )
        raise SettingsError(msg)
    _check_address(settings)
    if settings.quiet and settings.secret_file is None:
        msg = (
            f"quiet ({settings.origin('quiet')}) would hide the secret that is made for this run. "
            "Name one with --secret-file, or leave quiet out"
        )
        raise SettingsError(msg)
    if not settings.heartbeat < settings.suspect_after < settings.lost_after:
        msg = (
            f"heartbeat = {settings.heartbeat:g} ({settings.origin('heartbeat')}), suspect-after = "
            f"{settings.suspect_after:g} ({settings.origin('suspect_after')}) and lost-after = "
            f"{settings.lost_after:g} ({settings.origin('lost_after')}) cannot be: each must be "
            "longer than the one before, or living boxes would be given up"
        )
        raise SettingsError(msg)


def _check_address(settings: Settings) -> None:
    if settings.listen is not None:
        try:
            Address.parse(settings.listen)
        except SettingsError as error:
            msg = f"listen ({settings.origin('listen')}): {error}"
            raise SettingsError(msg) from None


def _decide_by_box(
    values: dict[str, Any], origins: dict[str, str], environ: Mapping[str, str], box: Box
) -> None:
    """Fill in what was left open and depends on what the machine has."""

    def default(name: str, value: Any, reason: str) -> None:
        values[name] = value
        origins[name] = f"default: {reason}"

    if "device" not in values:
        default("device", *_device(values.get("mode"), box))
    elif values["device"] == "cuda":
        _check_cuda(values.get("mode"), origins, box)
    if "workers" not in values:
        if values["device"] == "cuda":
            default("workers", box.gpus, "one a GPU")
        else:
            default("workers", box.cores, "one a physical core")
    if "threads_per_worker" not in values:
        asked = environ.get("OMP_NUM_THREADS", "")
        if asked.isdecimal() and int(asked) > 0:
            default("threads_per_worker", int(asked), "OMP_NUM_THREADS")
        else:
            shared = _counted(box.cores, "core") + " / " + _counted(values["workers"], "worker")
            default("threads_per_worker", max(1, box.cores // values["workers"]), shared)


def _device(mode: Mode | None, box: Box) -> tuple[Device, str]:
    """What to compute on where nothing was said, and why."""
    if mode in SHARING:
        return "cpu", f"{mode} works on processors"
    if box.gpus:
        return "cuda", "this box has " + _counted(box.gpus, "GPU")
    return "cpu", "no GPU that torch can use"


def _check_cuda(mode: Mode | None, origins: Mapping[str, str], box: Box) -> None:
    asked = f"device = 'cuda' ({origins['device']})"
    if mode in SHARING:
        msg = (
            f"{asked} cannot be with mode = {mode!r} ({origins['mode']}): it shares weights in "
            "the memory of processors. Take --device cpu, or --mode exact"
        )
        raise SettingsError(msg)
    if not box.gpus:
        msg = (
            f"{asked}: the installed torch finds no GPU on this box. "
            "Take --device cpu, or see `pellucid doctor` for what is missing"
        )
        raise SettingsError(msg)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _from_files(folder: Path) -> dict[str, _Given]:
    tables = dict(_tables(folder))
    if len(tables) > 1:
        msg = (
            f"settings in both {' and '.join(tables)} of {folder}: it would not be clear which of "
            "them counts. Keep one"
        )
        raise SettingsError(msg)
    given = {}
    for origin, table in tables.items():
        for key, value in table.items():
            name = key.replace("-", "_")
            if name not in _TYPES:
                raise SettingsError(_unknown(key, origin, name))
            given[name] = _Given(value, origin)
    return given


def _tables(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings tables found in the folder, with a name for each."""
    own, project = folder / "pellucid.toml", folder / "pyproject.toml"
    if own.is_file():
        yield own.name, _read_toml(own)
    if project.is_file():
        tool = _read_toml(project).get("tool", {})
        if "pellucid" in tool:
            yield f"{project.name} [tool.pellucid]", tool["pellucid"]


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # seldom needed, and the command is to start at once

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"cannot read the settings file {path}: {error}. Mend it or move it away"
        raise SettingsError(msg) from error


def _from_flags(flags: Mapping[str, Any]) -> dict[str, _Given]:
    return {
        name: _Given(value, f"flag {_flag(name)}")
        for name, value in flags.items()
        if value is not None
    }


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES or not value:
            continue  # an empty variable is one that was taken back
        name = variable.removeprefix(PREFIX).lower()
        if name not in _TYPES:
            raise SettingsError(_unknown(variable, "environment", name))
        given[name] = _Given(value, f"environment {variable}", is_text=True)
    return given


def _convert(name: str, given: _Given) -> Any:
    try:
        # the environment knows only text: "2" is a number there, and nowhere else
        return msgspec.convert(given.value, _TYPES[name], strict=not given.is_text)
    except msgspec.ValidationError:
        key = name.replace("_", "-")
        msg = f"{key} = {given.value!r} ({given.origin}) cannot be. It is: {describe(name)}"
        raise SettingsError(msg) from None


def _unknown(key: str, origin: str, name: str) -> str:
    from difflib import get_close_matches

    nearest = get_close_matches(name, _TYPES, n=1, cutoff=0.0)[0]
    spelled = PREFIX + nearest.upper() if key.startswith(PREFIX) else nearest.replace("_", "-")
    return f"unknown setting {key!r} ({origin}). The nearest known one is {spelled!r}"
