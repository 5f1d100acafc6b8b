# args: --steps 9 -v
import argparse
import sys

from . import data
from .model import Model
from .training.loop import fit


def main(argv=None):
    parser = argparse.ArgumentParser(prog="main_package")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args(argv)
    print(__name__, __package__, sys.argv[1:], args.verbose)
    loader = data.loader()
    fit(Model(), loader, args.steps)


if __name__ == "__main__":
    main()
