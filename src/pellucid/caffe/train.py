"""Train as a solver file says: ``python -m pellucid.caffe.train --solver=FILE``.

An ordinary PyTorch program of one process: a loader, a net, a loss, an optimizer. ``pellucid caffe
train`` runs it with several workers, as ``pellucid run`` would run any script.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.log import LOGGER, begin
from pellucid.caffe.solver.build import EFFECTS, Options, build
from pellucid.errors import SettingsError

__all__ = ["main"]


def _options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="train", description="Train as a Caffe solver says.")

    def flag(name: str, **kind: object) -> None:
        # gflags takes one dash or two
        parser.add_argument(f"--{name}", f"-{name}", **kind)  # type: ignore[arg-type]

    def listed(text: str) -> tuple[str, ...]:
        return tuple(part for part in text.split(",") if part)

    flag("solver", required=True, help="the solver file (prototxt)")
    flag("snapshot", default="", help="a .solverstate to resume from")
    flag("weights", default=(), type=listed, help=".caffemodel files, joined by commas")
    flag("level", default=0, type=int, help="level of the training net")
    flag("stage", default=(), type=listed, help="stages of the training net, joined by commas")
    flag("sigint_effect", default="stop", choices=list(EFFECTS), help="what Ctrl-C asks for")
    flag("sighup_effect", default="snapshot", choices=list(EFFECTS), help="what SIGHUP asks for")
    flag("device", default="", choices=["", "cpu", "cuda"], help="where to compute")
    flag("double", action="store_true", help="compute in float64")
    flag("skip_broken", action="store_true", help="pass over records that cannot be read")
    flag("loaders", default=-1, type=int, help="processes that read ahead, a data layer")
    return Options(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    options = _options(sys.argv[1:] if argv is None else argv)
    begin()
    try:
        training = build(options)
        with training.requests.heard():
            training.solve()
    except (CaffeError, SettingsError) as error:  # not what unwinds a worker
        LOGGER.critical(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
