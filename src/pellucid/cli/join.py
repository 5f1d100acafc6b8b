"""``pellucid join``: take part in a run that another box has begun."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, get_args

import click

from pellucid.cli.option import USAGE, leave, option
from pellucid.errors import PellucidError, SettingsError
from pellucid.settings import Address, Device, resolve_joiner

__all__ = ["join"]


@click.command()
@option("secret_file", type=str, metavar="FILE")
@option("workers", type=int, metavar="N")
@option("threads_per_worker", type=int, metavar="N")
@option("device", type=click.Choice(get_args(Device)))
@option("listen", type=str, metavar="ADDR:PORT")
@option("encrypt", is_flag=True)
@option("bundle_limit", type=int, metavar="MIB")
@option("log_dir", type=str, metavar="FOLDER")
@option("quiet", is_flag=True)
@option("profile", is_flag=True)
@option("dead_after", type=float, metavar="SECONDS")
@click.argument("address", metavar="ADDR:PORT")
def join(address: str, **flags: Any) -> None:
    """Join the run at ADDR:PORT, at any time; any box of the run will do.

    Script, arguments and files come from there. The secret is read from --secret-file, else asked
    for. By default this box listens on the address that the other one sees, at the same port and
    the next, if they are free; --listen says otherwise.
    """
    try:
        code = _join(Address.parse(address), flags)
    except PellucidError as error:
        click.echo(f"pellucid: {error}", err=True)
        sys.exit(USAGE if isinstance(error, SettingsError) else 1)
    except KeyboardInterrupt:
        code = -signal.SIGINT
    leave(code)


def _join(address: Address, flags: dict[str, Any]) -> int:
    from pellucid.cluster.inventory import Box
    from pellucid.launch.signals import blocked

    box = Box()
    settings = resolve_joiner(flags, os.environ, box=box)
    with blocked():  # before numpy comes in and starts threads, see there
        from pellucid.launch.joiner import join as take_part

        return take_part(settings, address, box)
