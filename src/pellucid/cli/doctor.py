"""``pellucid doctor``: what this box can do, and what to do about what is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from pellucid.cli.option import USAGE
from pellucid.errors import SettingsError
from pellucid.settings import Address

if TYPE_CHECKING:
    from pellucid.launch.diagnosis import Finding

__all__ = ["doctor"]

COLORS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.argument("address", metavar="[ADDR:PORT]", required=False)
def doctor(address: str | None) -> None:
    """Say what this box can do, and what to do about what is missing.

    With ADDR:PORT of another box, also whether it can be reached. Ends with exit code 0 unless
    `pellucid run` cannot work here, or that box cannot be reached.
    """
    from pellucid.cluster.inventory import read_facts
    from pellucid.launch.diagnosis import Level, diagnose

    try:
        peer = None if address is None else Address.parse(address)
    except SettingsError as error:
        click.echo(f"pellucid: {error}", err=True)
        sys.exit(USAGE)
    findings = diagnose(read_facts(None if peer is None else (peer.host, peer.port)))
    for finding in findings:
        click.echo(_line(finding))
    sys.exit(any(finding.level is Level.FAIL for finding in findings))


def _line(finding: Finding) -> str:
    level = finding.level.value
    line = click.style(f"{level:5}", fg=COLORS[level]) + f"{finding.name:21}{finding.value}"
    return line + (f"\n{'':26}{finding.remedy}" if finding.remedy else "")
