"""Boxes on one machine: network namespaces on a bridge, with links that are slow, cut and healed.

    with Namespaces(3, rate="100mbit") as boxes:
        boxes.start(0, ["python", "-m", "pellucid", "run", ...])
        boxes.cut(1, receives=False)      # what box 1 sends is lost, and what it is sent arrives
        boxes.heal(1)

Only traffic of these namespaces is touched. Names carry the process that made them, so that what a
killed process left behind is found and removed by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

__all__ = ["Namespaces", "Traffic", "why_not"]

PREFIX: Final = "pellucid"
NAME: Final = re.compile(rf"{PREFIX}-(\d+)-(\d+)-\w+")
NOBODY: Final = "02:00:00:00:00:ee"  # a hardware address that no box has
KILL_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Traffic:
    """Bytes on a box's wire, headers included, as ``ip -s link`` counts them."""

    sent: int
    received: int


def why_not() -> str | None:
    """Why there can be no boxes here; None if there can."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "ip and tc are not installed (apt-get install iproute2)"
    trial = f"{_own_prefix()}-trial"
    try:
        _ip("netns", "add", trial)
        _ip("-n", trial, "link", "add", "switch", "type", "bridge")
        _ip("-n", trial, *["link", "add", "port", "type", "veth", "peer", "name", "other"])
        _run("tc", "-n", trial, *f"qdisc add dev port root {_limit('1mbit')}".split())
    except OSError as error:
        return f"this system makes no boxes: {error}"
    finally:
        subprocess.run(["ip", "netns", "del", trial], capture_output=True, check=False)
    return None


class Namespaces:
    """Boxes numbered from 0, each with one network interface, and a switch between them.

    Args:
        count: how many.
        rate: of each direction of every link, as tc writes it; None does not limit it.
    """

    def __init__(self, count: int, *, rate: str | None = None) -> None:
        _remove_those_of_the_dead()
        self.count = count
        self._names = [f"{_own_prefix()}-{box}" for box in range(count)]
        self._switch = f"{_own_prefix()}-switch"
        self._processes: list[subprocess.Popen[Any]] = []
        try:
            self._make()
            for box in range(count):
                self.shape(box, rate)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _make(self) -> None:
        _ip("netns", "add", self._switch)
        _batch("ip", self._switch, ["link set lo up", "link add switch type bridge"])
        lines = ["link set switch up"]
        for box, name in enumerate(self._names):
            _ip("netns", "add", name)
            port = f"port{box}"
            _ip(
                "-n",
                self._switch,
                *f"link add {port} type veth peer name eth0 netns {name}".split(),
            )
            lines += [f"link set {port} master switch", f"link set {port} up"]
            own = [
                f"link set eth0 address {_hardware(box)}",
                f"addr add {self.address(box)}/24 dev eth0",
            ]
            _batch("ip", name, ["link set lo up", *own, "link set eth0 up"])
        _batch("ip", self._switch, lines)
        for box in range(self.count):
            self.heal(box)

    @staticmethod
    def address(box: int) -> str:
        """Of its interface."""
        return f"10.77.0.{box + 1}"

    def start(self, box: int, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Run a command on a box; whatever it starts is gone after `close`.

        Args:
            box: where.
            command: what.
            options: of ``subprocess.Popen``.
        """
        line = ["ip", "netns", "exec", self._names[box], *command]
        process: subprocess.Popen[Any] = subprocess.Popen(line, **options)
        self._processes.append(process)
        return process

    def processes(self, box: int) -> list[int]:
        """All that runs on a box."""
        return [int(pid) for pid in _ip("netns", "pids", self._names[box]).split()]

    def signal(self, box: int, number: signal.Signals) -> None:
        """Send a signal to all that runs on a box: SIGKILL is as if its power went."""
        for pid in self.processes(box):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def shape(self, box: int, rate: str | None) -> None:
        """Limit both directions of a box's link."""
        for name, device in ((self._names[box], "eth0"), (self._switch, f"port{box}")):
            if rate is None:
                command = ["tc", "-n", name, "qdisc", "del", "dev", device, "root"]
                subprocess.run(command, capture_output=True, check=False)  # there may be none
            else:
                line = f"qdisc replace dev {device} root {_limit(rate)}"
                _run("tc", "-n", name, *line.split())

    def cut(self, box: int, *, sends: bool = True, receives: bool = True) -> None:
        """Lose, without a word, what a box sends or what it is sent.

        What is lost goes to a hardware address that nobody has: neither side is told anything.
        """
        others = [other for other in range(self.count) if other != box]
        if sends:
            _batch("ip", self._names[box], [_neighbour(other, NOBODY) for other in others])
        if receives:
            for other in others:
                _batch("ip", self._names[other], [_neighbour(box, NOBODY)])

    def pull(self, box: int) -> None:
        """Pull its cable: the box sees that there is no carrier."""
        _ip("-n", self._switch, "link", "set", f"port{box}", "down")

    def heal(self, box: int) -> None:
        """Undo `cut` and `pull`."""
        _ip("-n", self._switch, "link", "set", f"port{box}", "up")
        others = [other for other in range(self.count) if other != box]
        _batch("ip", self._names[box], [_neighbour(o, _hardware(o)) for o in others])
        for other in others:
            _batch("ip", self._names[other], [_neighbour(box, _hardware(box))])

    def traffic(self, box: int) -> Traffic:
        """What has gone over its wire so far."""
        told = json.loads(_ip("-n", self._names[box], "-s", "-j", "link", "show", "eth0"))
        counted = told[0]["stats64"]
        return Traffic(counted["tx"]["bytes"], counted["rx"]["bytes"])

    def close(self) -> None:
        """End all that runs on the boxes, and remove them."""
        for name in (*self._names, self._switch):
            _remove(name)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILL_SECONDS)


def _limit(rate: str) -> str:
    # netem, which could delay and lose packets too, is not in every kernel
    return f"tbf rate {rate} burst 256k latency 50ms"


def _neighbour(box: int, hardware: str) -> str:
    # permanent: nobody asks who has an address, so that no answer is lost by a cut
    return f"neigh replace {Namespaces.address(box)} lladdr {hardware} dev eth0 nud permanent"


def _hardware(box: int) -> str:
    return f"02:00:00:00:01:{box:02x}"


def _own_prefix() -> str:
    return f"{PREFIX}-{os.getpid()}-{_birth(os.getpid())}"


def _birth(pid: int) -> int:
    """When a process began, by which it is known from a later one of the same number; 0: none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def _remove_those_of_the_dead() -> None:
    for line in _ip("netns", "list").splitlines():
        found = NAME.match(line)
        if found and _birth(int(found[1])) != int(found[2]):
            _remove(line.split()[0])


def _remove(name: str) -> None:
    until = time.monotonic() + KILL_SECONDS
    while time.monotonic() < until:
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, check=False)
        pids = [int(pid) for pid in listed.stdout.split()]
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> str:
    return _run("ip", *words)


def _batch(program: str, namespace: str, lines: Sequence[str]) -> None:
    _run(program, "-n", namespace, "-batch", "-", given="\n".join(lines) + "\n")


def _run(*words: str, given: str = "") -> str:
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(words)}: {done.stderr.strip()}"
        raise OSError(msg)
    return done.stdout
