"""A box that joins a run: it gets script, files and plan from another box, and takes part.

What its script prints goes into the records, and its files are its own copies in a private folder,
until this box becomes the leader: then they are the real ones, and the folder stays.
"""

from __future__ import annotations

import getpass
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pellucid.cluster.inventory import Box, torch_version
from pellucid.launch import signals
from pellucid.launch.bundle import summary
from pellucid.launch.channel import greeting
from pellucid.launch.company import Company
from pellucid.launch.crew import WORKER_COMMAND
from pellucid.launch.listening import Site, new_nonce, open_site
from pellucid.launch.local import Program, Run, Seeds
from pellucid.launch.rendezvous import Knock, Plan
from pellucid.launch.run_dir import RunDir
from pellucid.launch.visitor import Admission, Visitor
from pellucid.observe.console import Console, open_console
from pellucid.settings import Address, Settings
from pellucid.transport import memory
from pellucid.transport.identity import Identity, read_secret
from pellucid.wire.session import VISITOR

__all__ = ["join"]

LOOK_SECONDS: Final = 15.0  # the door gives a sign of life far more often
STDERR: Final = 2
MIB: Final = 1 << 20


def join(
    settings: Settings,
    address: Address,
    box: Box,
    *,
    command: Sequence[str] = WORKER_COMMAND,
    make_exchange: Callable[[int], int] = memory.create,
) -> int:
    """Take part in a run that another box has begun.

    Args:
        settings: what this box decides for itself.
        address: of any box of the run.
        box: this machine.
        command: the program of a worker.
        make_exchange: makes the memory for a number of workers.

    Returns:
        0 when the run has ended well, or the user has ended this box's part in it.

    Raises:
        PellucidError: this box was not let in; says why and what to do.
    """
    console = open_console(STDERR, quiet=settings.quiet, term=os.environ.get("TERM", ""))
    path = settings.secret_file
    secret = _ask_for_secret() if path is None else read_secret(path)
    with signals.blocked():
        run_dir = RunDir.make(settings.log_dir)
        home = Path(tempfile.mkdtemp(prefix="pellucid-script-"))
        company = None
        try:
            with signals.let_through():
                entry = _Entry(settings, box.name, console, secret, run_dir, home)
                admission, company = entry.enter(address)
            plan = admission.plan
            company.door.open()
            company.door.begin()
            os.chdir(home / "run" / plan.place.folder)
            run = Run(_followed(settings, plan), box, console, run_dir, company)
            program = Program(plan.place.target, plan.argv, plan.is_module)
            seeds = Seeds(plan.seed, plan.hash_seed, given=plan.seeded)
            return run.whole(program, seeds, command, make_exchange(settings.workers))
        except BaseException:
            run_dir.remove()
            raise
        finally:
            os.chdir("/")
            if company is not None and company.led:
                console.say(f"files that the script wrote while this box led are in {home / 'run'}")
            else:
                shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True)
class _Entry:
    """How this box comes in.

    Attributes:
        settings: what it decides for itself.
        name: its host name.
        console: whom to tell.
        secret: of the run.
        run_dir: where the records go.
        home: where script, files and working directory are to be.
    """

    settings: Settings
    name: str
    console: Console
    secret: str
    run_dir: RunDir
    home: Path

    def enter(self, address: Address) -> tuple[Admission, Company]:
        """Be let in, get what the first box sends, and wait until the scripts are to start."""
        settings = self.settings
        nonce = new_nonce()
        visitor = Visitor(
            Identity(self.secret, encrypted=settings.encrypt),
            greeting(VISITOR, nonce, ""),
            Knock(self.name, settings.workers),
            self.console.say,
        )
        admission = visitor.enter(
            address,
            packed=self.run_dir.path / "bundle",
            base=self.home / "run",
            limit=settings.bundle_limit * MIB,
        )
        try:
            self._tell(address, admission)
            site = _own_site(settings, admission, self.name, nonce)
            visitor.ready(site.peer)
            told = False
            while (peers := visitor.begun(LOOK_SECONDS)) is None:
                if not told:
                    self.console.say("waiting for the first box to begin")
                told = True
        except BaseException:
            visitor.leave()
            raise
        company = Company(
            site,
            peers,
            plan=admission.plan,
            bundle=admission.bundle,
            secret=self.secret,
            encrypted=settings.encrypt,
        )
        return admission, company

    def _tell(self, address: Address, admission: Admission) -> None:
        files = summary(admission.bundle)
        self.console.say(f"let in at {address} as box {admission.box}; got {files}")
        here, there = torch_version(), admission.plan.torch
        if here.partition("+")[0] != there.partition("+")[0]:
            self.console.say(
                f"this box has torch {here}, the first one {there}: results may differ where "
                "torch's do"
            )


def _ask_for_secret() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("pellucid: secret of the run: ", stream=sys.stderr).strip()
    return read_secret("/dev/stdin")


def _own_site(settings: Settings, admission: Admission, name: str, nonce: int) -> Site:
    """Where this box listens: as the user says, else where the other box sees it."""
    if settings.listen is not None:
        address = Address.parse(settings.listen)
        return open_site(admission.box, name, address, nonce)
    # the same port as on the other box, if it is free: one rule for all firewalls
    address = Address(admission.local, admission.door)
    return open_site(admission.box, name, address, nonce, strict=False)


def _followed(settings: Settings, plan: Plan) -> Settings:
    """This box's settings with what the first one decided for all."""
    decided = {
        name: getattr(plan, name)
        for name in (
            *("within", "codec", "heartbeat", "suspect_after", "lost_after"),
            *("nesterov", "scale_lr"),
        )
    }
    origins = settings.origins | dict.fromkeys(decided, "the first box")
    return msgspec.structs.replace(settings, **decided, on_failure=plan.on_failure, origins=origins)
