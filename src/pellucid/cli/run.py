"""``pellucid run``: run a script with several workers."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any, get_args

import click

from pellucid.cli.option import USAGE, leave, option
from pellucid.errors import PellucidError, SettingsError
from pellucid.settings import Codec, Device, Mode, OnFailure, Split, Within, resolve

__all__ = ["run"]


# a first argument that is no option ends ours: all the rest is the script's, whatever it looks like
@click.command(context_settings={"allow_interspersed_args": False})
@option("workers", type=int, metavar="N")
@option("mode", type=click.Choice(get_args(Mode)))
@option("threads_per_worker", type=int, metavar="N")
@option("device", type=click.Choice(get_args(Device)))
@option("on_failure", type=click.Choice(get_args(OnFailure)))
@option("split", type=click.Choice(get_args(Split)))
@option("seed", type=int, metavar="N")
@option("log_dir", type=str, metavar="FOLDER")
@option("quiet", is_flag=True)
@option("profile", is_flag=True)
@option("dead_after", type=float, metavar="SECONDS")
@option("stall_after", type=float, metavar="SECONDS")
@option("listen", type=str, metavar="ADDR:PORT")
@option("boxes", type=int, metavar="N")
@option("secret_file", type=str, metavar="FILE")
@option("within", type=click.Choice(get_args(Within)))
@option("codec", type=click.Choice(get_args(Codec)))
@option("encrypt", is_flag=True)
@option("heartbeat", type=float, metavar="SECONDS")
@option("suspect_after", type=float, metavar="SECONDS")
@option("lost_after", type=float, metavar="SECONDS")
@option("nesterov", is_flag=True)
@option("scale_lr", is_flag=True)
@option("bundle_limit", type=int, metavar="MIB")
@click.option("-m", "is_module", is_flag=True, help="SCRIPT is the name of a module")
@click.argument("script")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[ITS OWN ARGUMENTS]...")
def run(script: str, argv: tuple[str, ...], *, is_module: bool, **flags: Any) -> None:
    """Run SCRIPT, an ordinary single-process PyTorch program, with several workers.

    It is run as python would run it, and what it prints, saves and returns is the same. SCRIPT
    is a file, a folder or archive with a __main__.py, or with -m a module.

    Each flag but -m may also stand in pellucid.toml or [tool.pellucid] of pyproject.toml, or in
    the environment (PELLUCID_WORKERS=2).
    """
    try:
        _check(script, is_module=is_module)
        code = _launch(script, argv, is_module=is_module, flags=flags)
    except PellucidError as error:
        click.echo(f"pellucid: {error}", err=True)
        sys.exit(USAGE if isinstance(error, SettingsError) else 1)
    except KeyboardInterrupt:
        code = -signal.SIGINT
    leave(code)


def _check(script: str, *, is_module: bool) -> None:
    if importlib.util.find_spec("torch") is None:
        msg = (
            f"torch is not installed where pellucid runs ({sys.executable}). Install pellucid into "
            "the environment in which the script runs, or torch into this one"
        )
        raise SettingsError(msg)
    if is_module:
        return  # to look for it is to import its package: the leader does, as python would
    if script == "-":
        msg = (
            "cannot run a script from stdin: each worker runs a copy of it. "
            "Save it to a file and name that"
        )
        raise SettingsError(msg)
    if not Path(script).exists():
        msg = f"cannot find the script {script!r} in {Path.cwd()}. For a module: -m {script}"
        raise SettingsError(msg)


def _launch(script: str, argv: tuple[str, ...], *, is_module: bool, flags: dict[str, Any]) -> int:
    from pellucid.cluster.inventory import Box
    from pellucid.launch.signals import blocked

    box = Box()
    settings = resolve(flags, os.environ, folder=Path.cwd(), box=box)
    with blocked():  # before numpy comes in and starts threads, see there
        from pellucid.launch.local import Program, launch

        program = Program(script, list(argv), is_module)
        if settings.mode == "stream":
            from pellucid.launch.first import begin

            return begin(settings, program, box)
        return launch(settings, program, box)
