"""What this box has: cores, memory, GPUs, limits. Only reads; nothing is changed or started.

The launcher asks before any worker exists and must not wait for torch: so torch's build is read
from its files, and GPUs are counted by the driver's own library. Only `probe_torch`, which the
doctor calls, imports torch, in a process of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "Box",
    "Facts",
    "Gpu",
    "TorchBuild",
    "Way",
    "cpu_quota",
    "memory_limit",
    "oom_kills",
    "physical_cores",
    "probe_torch",
    "probe_way",
    "read_facts",
    "torch_version",
]

ROOT: Final = Path("/")
CONNECT_SECONDS: Final = 3.0
TORCH_SECONDS: Final = 120  # a cold import of torch from a slow disk takes half a minute


class Box:
    """The machine as far as defaults depend on it, each fact read once, when first asked for."""

    @cached_property
    def name(self) -> str:
        """Host name, for messages."""
        return socket.gethostname()

    @cached_property
    def cores(self) -> int:
        """Physical cores this process may use: affinity and the container's quota count."""
        cores = physical_cores(os.sched_getaffinity(0))
        quota = cpu_quota()
        return cores if quota is None else max(1, min(cores, int(quota)))

    @cached_property
    def gpus(self) -> int:
        """GPUs that the installed torch can use."""
        return _count_gpus() if torch_cuda() else 0


def physical_cores(cpus: set[int], root: Path = ROOT) -> int:
    """How many physical cores these logical processors lie on.

    Args:
        cpus: numbers of logical processors.
        root: where the file system starts; tests have their own.
    """
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    siblings = {_read(root / topology.format(cpu)) or f"alone {cpu}" for cpu in cpus}
    return max(1, len(siblings))


def cpu_quota(root: Path = ROOT) -> float | None:
    """How many processors' worth of time the container grants, or None without a limit."""
    quotas = []
    for folder in _cgroups("cpu", root):
        maximum = (_read(folder / "cpu.max") or "").split()  # version 2: "200000 100000"
        if not maximum:
            quota, period = (_read(folder / f"cpu.cfs_{x}_us") for x in ("quota", "period"))
            maximum = [quota or "max", period or "0"]
        if maximum[0] not in ("max", "-1") and int(maximum[1]):
            quotas.append(int(maximum[0]) / int(maximum[1]))
    return min(quotas, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes of memory the container grants, or None without a limit."""
    limits = []
    for folder in _cgroups("memory", root):
        text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or "max"
        if text != "max" and int(text) < 1 << 60:  # version 1 says a huge number for no limit
            limits.append(int(text))
    return min(limits, default=None)


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of this process's control groups, innermost first: each of them may limit it."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = mount / path.strip("/")
        # within a container the path may be the one outside of it: then only the mount exists
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def oom_kills(root: Path = ROOT) -> int:
    """How many processes the kernel has killed for lack of memory since it started."""
    found = re.search(r"^oom_kill (\d+)$", _read(root / "proc/vmstat") or "", re.MULTILINE)
    return int(found[1]) if found else 0


def shared_memory_bytes(root: Path = ROOT) -> int | None:
    """Free bytes of /dev/shm, through which a script's loader workers hand over batches."""
    try:
        facts = os.statvfs(root / "dev/shm")
    except OSError:
        return None
    return facts.f_bavail * facts.f_frsize


def capabilities(root: Path = ROOT) -> int:
    """The privileges of this process, one bit a capability."""
    found = re.search(r"^CapEff:\s+(\w+)$", _read(root / "proc/self/status") or "", re.MULTILINE)
    return int(found[1], 16) if found else 0


def torch_cuda() -> str | None:
    """The CUDA version torch was built for, or None; without importing torch."""
    text = _torch_version_file()
    found = re.search(r"""^cuda\b.*=\s*['"](.+?)['"]""", text, re.MULTILINE)
    return found[1] if found else None


def torch_version() -> str:
    """The version of the installed torch, or nothing; without importing torch."""
    found = re.search(
        r"""^__version__\b.*?=\s*['"](.+?)['"]""", _torch_version_file(), re.MULTILINE
    )
    return found[1] if found else ""


def _torch_version_file() -> str:
    for folder in sys.path:
        if text := _read(Path(folder) / "torch" / "version.py"):
            return text
    return ""


def _count_gpus() -> int:
    """GPUs the driver shows to this process; CUDA_VISIBLE_DEVICES is honoured by the driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


class Gpu(msgspec.Struct, frozen=True):
    """One GPU as torch sees it."""

    name: str
    memory: int
    peers: list[int]  # GPUs whose memory it can read directly


class TorchBuild(msgspec.Struct, frozen=True, kw_only=True):
    """What the installed torch can do; `error` is empty when it could be asked."""

    version: str = ""
    cuda: str | None = None
    gloo: bool = False
    nccl: bool = False
    gpus: list[Gpu] = []
    error: str = ""


PROBE: Final = """
import json, torch
from torch import cuda, distributed
groups = distributed.is_available()
gpus = range(cuda.device_count())
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "gloo": groups and distributed.is_gloo_available(),
    "nccl": groups and distributed.is_nccl_available(),
    "gpus": [{
        "name": cuda.get_device_name(gpu),
        "memory": cuda.get_device_properties(gpu).total_memory,
        "peers": [g for g in gpus if g != gpu and cuda.can_device_access_peer(gpu, g)],
    } for gpu in gpus],
}))
"""


def probe_torch() -> TorchBuild:
    """Ask torch, in a process of its own: importing it here would cost this one its memory."""
    command = [sys.executable, "-P", "-c", PROBE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TORCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return TorchBuild(error=f"`import torch` took more than {TORCH_SECONDS} seconds")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return TorchBuild(error=reason)
    return msgspec.convert(json.loads(done.stdout.splitlines()[-1]), TorchBuild)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """The way from this box to another one.

    Attributes:
        to: where to, as it was given.
        local: address of this box by which it goes; empty if there is none.
        interface: name of the network interface that has this address.
        speed: bits a second of that interface, as it says; 0 if it does not.
        seconds: until a connection stood.
        error: why none did; empty if one did.
    """

    to: str
    local: str = ""
    interface: str = ""
    speed: float = 0.0
    seconds: float = 0.0
    error: str = ""


def probe_way(host: str, port: int) -> Way:
    """Look for the way to another box, and try whether somebody listens at its end."""
    to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as compass:
            compass.connect(where)  # of datagrams: asks the routes only, and sends nothing
            local = str(compass.getsockname()[0])
    except OSError as error:
        return Way(to=to, error=error.strerror or str(error))
    interface, speed = _interface(local)
    began, failed = time.perf_counter(), ""
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        failed = error.strerror or str(error)
    seconds = time.perf_counter() - began
    return Way(to=to, local=local, interface=interface, speed=speed, seconds=seconds, error=failed)


def _interface(local: str) -> tuple[str, float]:
    """The interface that has an address, and its speed in bits a second."""
    import psutil  # type: ignore[import-untyped]

    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address.partition("%")[0] == local for address in addresses):
            return name, max(0, psutil.net_if_stats()[name].speed) * 1e6
    return "", 0.0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the doctor looks at.

    Attributes:
        torch: the installed torch.
        cpus: logical processors this process may use.
        cores: physical cores of them, no more than the quota.
        quota: processors' worth of time the container grants.
        memory: bytes available now.
        memory_limit: bytes the container grants.
        memfd: whether anonymous shared memory can be made.
        shared_memory: free bytes of /dev/shm.
        files: how many files a process may hold open; negative without a limit.
        locked_memory: bytes it may lock in memory.
        pidfd: whether the kernel can tell of the end of a process.
        ptrace_scope: Yama's restriction of debuggers, 0 (none) to 3.
        capabilities: this process's privileges, one bit a capability.
        network_namespaces: whether it can make one.
        gpu_driver: whether a driver for GPUs is there.
        cryptography: version of that package; empty without it.
        way: to the box that was asked for.
    """

    torch: TorchBuild
    cpus: int
    cores: int
    memory: int
    memfd: bool
    quota: float | None = None
    memory_limit: int | None = None
    shared_memory: int | None = None
    files: int = -1
    locked_memory: int | None = None
    pidfd: bool = True
    ptrace_scope: int | None = None
    capabilities: int = 0
    network_namespaces: bool = False
    gpu_driver: bool = False
    cryptography: str = ""
    way: Way | None = None


def read_facts(peer: tuple[str, int] | None = None) -> Facts:
    """Look at everything; takes as long as an import of torch.

    Args:
        peer: host and port of another box.
    """
    import psutil

    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    scope = _read(ROOT / "proc/sys/kernel/yama/ptrace_scope")
    return Facts(
        torch=probe_torch(),
        cpus=len(os.sched_getaffinity(0)),
        cores=Box().cores,
        quota=cpu_quota(),
        memory=psutil.virtual_memory().available,
        memory_limit=memory_limit(),
        memfd=_works(lambda: os.memfd_create("pellucid-doctor")),
        shared_memory=shared_memory_bytes(),
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        locked_memory=None if locked == resource.RLIM_INFINITY else locked,
        pidfd=_works(lambda: os.pidfd_open(os.getpid())),
        ptrace_scope=None if scope is None else int(scope),
        capabilities=capabilities(),
        network_namespaces=_can_make_network_namespace(),
        gpu_driver=(ROOT / "proc/driver/nvidia/version").exists(),
        cryptography=_package_version("cryptography"),
        way=None if peer is None else probe_way(*peer),
    )


def _package_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _works(make_file: Callable[[], int]) -> bool:
    try:
        os.close(make_file())
    except (AttributeError, OSError):
        return False
    return True


def _can_make_network_namespace() -> bool:
    """Try it, in a process that is gone afterwards: too many settings decide to read them all."""
    new_user, new_network = 0x10000000, 0x40000000  # from <sched.h>
    trial = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({new_user | new_network}))"
    done = subprocess.run([sys.executable, "-P", "-c", trial], capture_output=True, check=False)
    return done.returncode == 0
