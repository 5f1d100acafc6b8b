"""What the facts about a box mean for a run on it, and what can be done: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pellucid.cluster.inventory import Facts

__all__ = ["Finding", "Level", "diagnose"]

CAP_NET_RAW: Final = 1 << 13
ENOUGH_FILES: Final = 1024
ENOUGH_SHARED: Final = 1 << 30
GIB: Final = 1 << 30


class Level(Enum):
    """How a finding bears on ``pellucid run``."""

    OK = "ok"
    WARN = "warn"  # it works, but slower, or not everything
    FAIL = "fail"  # it cannot work


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        level: how it bears on a run.
        name: what was looked at.
        value: what was found.
        remedy: what to do about it; empty when nothing is to be done.
    """

    level: Level
    name: str
    value: str
    remedy: str = ""


def diagnose(facts: Facts) -> list[Finding]:
    """Judge all facts about a box."""
    box = (_torch, _exchange, _cores, _memory, _gpus, _groups, _limits, _watching, _privileges)
    checks = (*box, _boxes, _way)
    return [finding for check in checks for finding in check(facts)]


def _judge(good: bool, name: str, value: str, remedy: str, bad: Level = Level.WARN) -> Finding:
    return Finding(Level.OK, name, value) if good else Finding(bad, name, value, remedy)


def _torch(facts: Facts) -> Iterator[Finding]:
    torch = facts.torch
    yield _judge(
        not torch.error,
        "torch",
        torch.error or f"{torch.version}, " + (f"CUDA {torch.cuda}" if torch.cuda else "CPU only"),
        "install torch into the environment of this python",
        Level.FAIL,
    )


def _exchange(facts: Facts) -> Iterator[Finding]:
    yield _judge(
        facts.memfd,
        "memory for exchange",
        "memfd_create works" if facts.memfd else "memfd_create fails",
        "a Linux kernel of 3.17 or later, and a container that allows memfd_create",
        Level.FAIL,
    )


def _cores(facts: Facts) -> Iterator[Finding]:
    value = f"{facts.cores} physical, {facts.cpus} logical that we may use"
    if facts.quota is not None:
        value += f", quota of {facts.quota:g}"
    yield _judge(
        facts.cores > 1 or bool(facts.torch.gpus),
        "cores",
        value,
        "with one core several workers gain nothing; grant more (taskset, docker --cpus)",
    )


def _memory(facts: Facts) -> Iterator[Finding]:
    available = min(facts.memory, facts.memory_limit or facts.memory)
    each = available / max(1, facts.cores)
    yield _judge(
        each >= GIB,
        "memory",
        f"{available / GIB:.1f} GiB, {each / GIB:.1f} GiB a core",
        "each worker holds torch, the data and the model: use fewer --workers for large scripts",
    )


def _gpus(facts: Facts) -> Iterator[Finding]:
    gpus = facts.torch.gpus
    if not gpus:
        built = facts.torch.cuda is not None
        yield _judge(
            not facts.gpu_driver or bool(facts.torch.error),
            "GPUs",
            "none" if not facts.gpu_driver else "there is a driver, but torch uses no GPU",
            "check nvidia-smi and CUDA_VISIBLE_DEVICES"
            if built
            else "install a CUDA build of torch",
        )
        return
    names = sorted({gpu.name for gpu in gpus})
    yield Finding(Level.OK, "GPUs", f"{len(gpus)}: {', '.join(names)}")
    if len(gpus) > 1:
        pairs = sum(len(gpu.peers) for gpu in gpus)
        every = len(gpus) * (len(gpus) - 1)
        yield _judge(
            pairs == every,
            "GPU peer access",
            f"{pairs} of {every} pairs",
            "the other pairs exchange through the processor's memory, which is slower",
        )


def _groups(facts: Facts) -> Iterator[Finding]:
    torch = facts.torch
    if torch.error:
        return
    yield _judge(
        torch.gloo,
        "Gloo",
        "available" if torch.gloo else "missing",
        "workers that share a GPU need it: install a build of torch with distributed support",
    )
    if torch.gpus:
        yield _judge(
            torch.nccl,
            "NCCL",
            "available" if torch.nccl else "missing",
            "several GPUs need it: install a build of torch with NCCL",
        )


def _limits(facts: Facts) -> Iterator[Finding]:
    shared = facts.shared_memory
    yield _judge(
        shared is not None and shared >= ENOUGH_SHARED,
        "/dev/shm",
        "missing" if shared is None else f"{shared / GIB:.1f} GiB free",
        "a script's DataLoader workers need it: docker run --shm-size=2g, or mount a tmpfs there",
    )
    files = facts.files
    yield _judge(
        files < 0 or files >= ENOUGH_FILES,
        "open files",
        "no limit" if files < 0 else f"{files} a process",
        f"DataLoader workers may run out of them: ulimit -n {ENOUGH_FILES * 64}",
    )
    locked = facts.locked_memory
    yield Finding(
        Level.OK,
        "locked memory",
        "no limit" if locked is None else f"{locked / 2**20:.0f} MiB (only RDMA would want more)",
    )


def _watching(facts: Facts) -> Iterator[Finding]:
    yield _judge(
        facts.pidfd,
        "pidfd",
        "available" if facts.pidfd else "missing",
        "the launcher polls more often instead; Linux 5.3 or later has it",
    )
    allowed = facts.ptrace_scope is None or facts.ptrace_scope < 2  # see man ptrace
    yield _judge(
        allowed,
        "ptrace",
        "allowed" if allowed else f"restricted (ptrace_scope {facts.ptrace_scope})",
        "py-spy and gdb cannot look into a hanging worker: sysctl kernel.yama.ptrace_scope=1",
    )


def _boxes(facts: Facts) -> Iterator[Finding]:
    yield _judge(
        bool(facts.cryptography),
        "cryptography",
        facts.cryptography or "not installed",
        "not needed on one box; between boxes, encryption needs it: pip install 'pellucid[boxes]'",
    )


def _way(facts: Facts) -> Iterator[Finding]:
    way = facts.way
    if way is None:
        return
    speed = f" ({way.speed / 1e6:,.0f} Mbit/s)" if way.speed else ""
    yield _judge(
        bool(way.local),
        f"way to {way.to}",
        f"from {way.local} of {way.interface or 'no interface'}{speed}" if way.local else way.error,
        "check the name, this box's network, and its routes (ip route get ADDRESS)",
        Level.FAIL,
    )
    if way.local:
        yield _judge(
            not way.error,
            f"port of {way.to}",
            way.error or f"answers after {way.seconds * 1e3:.1f} ms",
            "nobody listens there (yet), or a firewall in between does not let it through: a box "
            "uses the port of --listen and the next one",
            Level.FAIL,
        )


def _privileges(facts: Facts) -> Iterator[Finding]:
    raw = bool(facts.capabilities & CAP_NET_RAW)
    yield _judge(
        raw,
        "CAP_NET_RAW",
        "granted" if raw else "not granted",
        "not needed on one box; later, raw Ethernet between boxes will want it",
    )
    yield _judge(
        facts.network_namespaces,
        "network namespaces",
        "can be made" if facts.network_namespaces else "cannot be made",
        "not needed to train; tests that play several boxes on this one want them",
    )
