"""The command line: one file a command; parse, call, print, nothing else."""

from __future__ import annotations

import click

from pellucid import __version__
from pellucid.cli.caffe import caffe
from pellucid.cli.doctor import doctor
from pellucid.cli.join import join
from pellucid.cli.run import run

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pellucid")
def main() -> None:
    """Train neural networks in parallel, without changing the program."""


main.add_command(run)
main.add_command(join)
main.add_command(doctor)
main.add_command(caffe)
