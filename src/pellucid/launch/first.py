"""The first box of a run over several: it decides for all, and lets the others in."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pellucid.cluster.inventory import Box, torch_version
from pellucid.launch import signals
from pellucid.launch.bundle import Bundle, pack, summary
from pellucid.launch.company import Company
from pellucid.launch.crew import WORKER_COMMAND
from pellucid.launch.listening import new_nonce, open_site
from pellucid.launch.local import Program, Run, Seeds
from pellucid.launch.rendezvous import Plan
from pellucid.launch.run_dir import RunDir
from pellucid.launch.sources import find_place, find_sources
from pellucid.observe.console import Console, open_console
from pellucid.settings import Address, Settings
from pellucid.transport import memory
from pellucid.transport.identity import generate_secret, read_secret

__all__ = ["begin"]

LOOK_SECONDS: Final = 0.1
STDERR: Final = 2
MIB: Final = 1 << 20


def begin(
    settings: Settings,
    program: Program,
    box: Box,
    *,
    command: Sequence[str] = WORKER_COMMAND,
    make_exchange: Callable[[int], int] = memory.create,
) -> int:
    """Run a program on this box, and on all that join.

    Args:
        settings: what was decided.
        program: what to run.
        box: this machine.
        command: the program of a worker.
        make_exchange: makes the memory for a number of workers.

    Returns:
        The exit code of the run; negative when a signal ended it.

    Raises:
        PellucidError: it could not begin; says why and what to do.
    """
    console = open_console(STDERR, quiet=settings.quiet, term=os.environ.get("TERM", ""))
    path = settings.secret_file
    secret = generate_secret() if path is None else read_secret(path)
    with signals.blocked():
        run_dir = RunDir.make(settings.log_dir)
        company = None
        try:
            seeds = Seeds.draw(settings.seed)
            plan, bundle, left_out = _plan(settings, program, seeds, run_dir)
            address = Address.parse(settings.listen or "")
            company = Company(
                open_site(0, box.name, address, new_nonce()),
                (),
                plan=plan,
                bundle=bundle,
                secret=secret,
                encrypted=settings.encrypt,
            )
            company.door.open()
            console.say(f"sent to boxes that join: {summary(bundle, left_out)}")
            console.say(_invitation(company.address, settings, secret))
            ended = _wait_for_boxes(company, settings.boxes, console)
        except BaseException:
            if company is not None:
                company.close()
            run_dir.remove()
            raise
        if ended:
            company.close()
            run_dir.remove()
            return -ended
        company.door.begin()
        run = Run(settings, box, console, run_dir, company)
        return run.whole(program, seeds, command, make_exchange(settings.workers))


def _plan(
    settings: Settings, program: Program, seeds: Seeds, run_dir: RunDir
) -> tuple[Plan, Bundle, Sequence[str]]:
    """What all boxes do, the script and its files, and what of them is not sent."""
    cwd = Path.cwd()
    target, is_module = program.target, program.is_module
    ours = [Path(name) for name in (settings.secret_file, settings.log_dir) if name is not None]
    sources = find_sources(target, is_module=is_module, cwd=cwd, without=ours)
    bundle = pack(sources, run_dir.path / "bundle", limit=settings.bundle_limit * MIB)
    plan = Plan(
        run=secrets.token_hex(8),
        is_module=is_module,
        argv=program.argv,
        place=find_place(sources, target, is_module=is_module, cwd=cwd),
        digest=bundle.digest,
        bundle_bytes=bundle.size,
        seed=seeds.seed,
        seeded=seeds.given,
        hash_seed=seeds.hash_seed,
        torch=torch_version(),
        within=settings.within,
        codec=settings.codec,
        heartbeat=settings.heartbeat,
        suspect_after=settings.suspect_after,
        lost_after=settings.lost_after,
        nesterov=settings.nesterov,
        scale_lr=settings.scale_lr,
        on_failure=settings.on_failure,
    )
    return plan, bundle, sources.left_out


def _invitation(address: Address, settings: Settings, secret: str) -> str:
    """What to type on the other boxes; the secret only if nobody else could know it."""
    flags = "" if settings.encrypt else " --no-encrypt"
    if settings.secret_file is not None:
        return f"to join, on another box: pellucid join {address} --secret-file FILE{flags}"
    return f"to join, on another box: pellucid join {address}{flags}\n  secret: {secret}"


def _wait_for_boxes(company: Company, boxes: int, console: Console) -> signal.Signals | None:
    """Wait until so many boxes are there; returns the signal by which the user gave it up."""
    told = 0
    while True:
        for event in company.news():
            console.say(event["text"])
        here = len(company.door.register.peers)
        if here >= boxes:
            return None
        if here != told:
            told = here
            console.say(f"waiting for boxes: {here} of {boxes} are here")
        for came in signals.pending():
            if came.number == signal.SIGTSTP:
                signals.suspend()
            else:
                return came.number
        time.sleep(LOOK_SECONDS)
