"""``pellucid doctor``: what this box can do, and what to do about what is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from pellucid.launch.diagnosis import Finding

__all__ = ["doctor"]

COLORS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
def doctor() -> None:
    """Say what this box can do, and what to do about what is missing.

    Ends with exit code 0 unless `pellucid run` cannot work here.
    """
    from pellucid.cluster.inventory import read_facts
    from pellucid.launch.diagnosis import Level, diagnose

    findings = diagnose(read_facts())
    for finding in findings:
        click.echo(_line(finding))
    sys.exit(any(finding.level is Level.FAIL for finding in findings))


def _line(finding: Finding) -> str:
    level = finding.level.value
    line = click.style(f"{level:5}", fg=COLORS[level]) + f"{finding.name:21}{finding.value}"
    return line + (f"\n{'':26}{finding.remedy}" if finding.remedy else "")
