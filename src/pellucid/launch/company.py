"""The other boxes of a run, as the launcher of one of them deals with them.

[Note: company]
The launcher lets boxes in (see [Note: rendezvous]); its worker 0 trains with them. What worker 0
knows of them it writes into the event pipe:

    boxes    ``living``: numbers of the boxes that are not given up, ``leader``: whose prints and
             files are real, ``apart``: whether this box is cut off from most of the others
    status   ``rates``: samples a second of each box, by number; ``sent`` and ``received``: bytes
             a second of this box; ``staleness``: versions that its weights are behind, on average
    ended    ``code``: the exit code that the script came to its end with on this box
    over     ``code``: the exit code that the script came to its end with, ``box``: where

In the other direction the board's flag ``LEAVE`` asks worker 0 to hand over what this box holds,
and to end with exit code 0.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pellucid.launch.bundle import Bundle
from pellucid.launch.channel import greeting
from pellucid.launch.door import Door
from pellucid.launch.listening import Site
from pellucid.launch.register import Register, View
from pellucid.launch.rendezvous import Over, Plan
from pellucid.launch.supervisor import Part
from pellucid.observe.events import Event
from pellucid.settings import Address, Cluster, Peer
from pellucid.transport.identity import Identity

__all__ = ["Company"]

TAIL_BYTES: Final = 4000  # of what a script said last


class Company:
    """The other boxes.

    Args:
        site: where this box listens; it is the company's from now on.
        peers: the boxes that were there before.
        plan: what the first box decided.
        bundle: script and files, for boxes that come later.
        secret: of the run.
        encrypted: whether what travels is encrypted.
    """

    def __init__(
        self,
        site: Site,
        peers: Sequence[Peer],
        *,
        plan: Plan,
        bundle: Bundle,
        secret: str,
        encrypted: bool,
    ) -> None:
        here = site.peer
        self._cluster = Cluster(
            run=plan.run,
            here=here,
            peers=list(peers),
            data_fd=site.data.detach(),
            secret_fd=_hidden_file(secret),
            within=plan.within,
            codec=plan.codec,
            encrypt=encrypted,
            heartbeat=plan.heartbeat,
            suspect_after=plan.suspect_after,
            lost_after=plan.lost_after,
            nesterov=plan.nesterov,
            scale_lr=plan.scale_lr,
        )
        self.door = Door(
            site.door,
            Identity(secret, encrypted=encrypted),
            greeting(here.box, here.nonce, plan.run),
            register=Register(here, peers),
            plan=plan,
            bundle=bundle,
        )
        self._status: Event = {}
        self._handed_over = False
        self._told: threading.Thread | None = None  # tells the others that the run has ended
        self.part: Part = "joined" if here.box else "first"
        self.led = not here.box  # whether this box's files were ever real

    def cluster(self, index: int) -> Cluster:
        """What a worker is told; only worker 0 talks to the others."""
        if index == 0:
            return self._cluster
        return msgspec.structs.replace(self._cluster, data_fd=-1, secret_fd=-1)

    def hand_over(self) -> None:
        """The workers have started: what worker 0 got is only its own from now on."""
        if not self._handed_over:
            self._handed_over = True
            for fd in (self._cluster.data_fd, self._cluster.secret_fd):
                os.close(fd)

    def hear(self, event: Event) -> None:
        """A worker has said something."""
        match event:
            case {"event": "boxes", "living": list(living), "leader": int(leader)}:
                view = View(frozenset(living), leader, bool(event.get("apart")))
                with self.door.lock:
                    self.door.register.see(view)
                self.led |= leader == self._cluster.here.box
            case {"event": "status"}:
                self._status = event
            case {"event": "ended", "code": int(code)}:
                self.conclude(code)
            case {"event": "over", "code": int(code)}:
                with self.door.lock:
                    self.door.register.over = Over(int(event.get("box", 0)), code)

    def news(self) -> list[Event]:
        """What has happened at the door since the last call."""
        said = []
        while not self.door.sayings.empty():
            saying = self.door.sayings.get()
            said.append({"event": "door", "text": saying.text, "box": saying.box})
        return said

    @property
    def address(self) -> Address:
        """Of this box's door."""
        return self._cluster.here.door

    @property
    def over(self) -> Over | None:
        """The run's end, if it came on another box."""
        over = self.door.register.over
        return None if over is None or over.box == self._cluster.here.box else over

    def parts(self) -> list[str]:
        """The status in words."""
        with self.door.lock:
            living = self.door.register.living
            known = len({*self.door.register.peers, *living})
        return [
            f"box {self._cluster.here.box}",
            f"{len(living)} of {known} boxes",
            *_flows(self._status),
        ]

    def conclude(self, code: int) -> None:
        """The script has come to its end here: if this box leads, that is the run's.

        Args:
            code: exit code of the script.
        """
        if self._told is not None:
            return
        with self.door.lock:
            register = self.door.register
            leads = register.leader == register.here.box and register.over is None
            over = Over(register.here.box, code)
            if leads:
                register.over = over
        if leads:
            # from a thread: one of the others may be gone, and take its time not to answer
            self._told = threading.Thread(target=self.door.call_all, args=(over,))
            self._told.start()

    def close(self) -> None:
        """This box's part has ended."""
        if self._told is not None:
            self._told.join()
        self.door.close()
        self.hand_over()

    def failed(self, run_dir: Path, code: int) -> str:
        """The script has failed on this box: what it said last, for it was not shown.

        Args:
            run_dir: where the workers' records are.
            code: the script's exit code.
        """
        try:
            said = (run_dir / "worker-0.err").read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
        except OSError:
            said = ""
        if not said.strip():
            return (
                f"the script ended with exit code {code} on this box, which leaves the run; the "
                f"others go on. It said nothing of an error; what it printed is in "
                f"{run_dir}/worker-0.out"
            )
        return (
            "the script failed on this box, which leaves the run; the others go on. Files that it "
            "reads and that are not beside it must be on every box. It said:\n" + said.rstrip()
        )


def _flows(status: Event) -> list[str]:
    """Speeds and staleness, as far as worker 0 has told them."""
    parts: list[str] = []
    rates: Any = status.get("rates")
    if isinstance(rates, dict) and rates:
        each = " + ".join(f"{rate:,.0f}" for rate in _numbers(list(rates.values())))
        parts.append(f"{sum(_numbers(list(rates.values()))):,.0f} samples/s of all ({each})")
    flows = _numbers([status.get("sent"), status.get("received")])
    if len(flows) == 2:
        parts.append(f"{flows[0] / 1e6:,.1f} MB/s out, {flows[1] / 1e6:,.1f} in")
    behind = _numbers([status.get("staleness")])
    return parts + [f"{staleness:.1f} versions behind" for staleness in behind]


def _numbers(values: Sequence[object]) -> list[float]:
    return [float(value) for value in values if isinstance(value, (int, float))]


def _hidden_file(text: str) -> int:
    """An anonymous file with a text in it, to be inherited and read once from its beginning."""
    fd = os.memfd_create("pellucid", os.MFD_CLOEXEC)
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
