"""``pellucid caffe``: Caffe's commands, with Caffe's flags.

gflags takes one dash or two, a space or ``=``: ``-solver x``, ``--solver=x``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from pellucid.cli.option import USAGE
from pellucid.cli.run import run
from pellucid.errors import PellucidError, SettingsError

__all__ = ["caffe"]

PROGRAM: Final = "pellucid.caffe.train"
EFFECTS: Final = ("snapshot", "stop", "none")


class _List(click.ParamType[Any]):
    """Names joined by commas."""

    name = "A,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        del param, ctx
        if isinstance(value, tuple):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())


LIST: Final = _List()


def _flag(name: str, argument: str = "", **kind: Any) -> Callable[[Any], Any]:
    return click.option(f"--{name}", f"-{name}", argument or name, **kind)


def _flags(*flags: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for flag in reversed(flags):
            command = flag(command)
        return command

    return decorate


_GPU: Final = _flag("gpu", default="", metavar="0,1|all", help="GPUs to use; default: see the docs")
_NET: Final = _flags(
    _flag("level", type=int, default=0, help="level of the net"),
    _flag("stage", type=LIST, default=(), help="stages of the net"),
)
_MODEL: Final = _flag("model", required=True, metavar="FILE", help="the net (prototxt)")
_WEIGHTS: Final = _flag("weights", type=LIST, default=(), help=".caffemodel files to begin with")
_ITERATIONS: Final = _flag("iterations", type=int, default=50, help="how many; default: 50")


_BACKENDS: Final = click.Choice(["LMDB", "LEVELDB"], case_sensitive=False)
_BACKEND: Final = _flag("backend", type=_BACKENDS, default="LMDB", help="default: LMDB")


@contextmanager
def _told() -> Iterator[None]:
    """One line instead of a traceback."""
    try:
        yield
    except PellucidError as error:
        click.echo(f"pellucid: {error}", err=True)
        sys.exit(USAGE if isinstance(error, SettingsError) else 1)
    except ImportError as error:
        click.echo(f"pellucid: {error}. For Caffe: pip install 'pellucid[caffe]'", err=True)
        sys.exit(1)


@click.group()
def caffe() -> None:
    """Train Caffe's nets as they stand, with Caffe's commands."""


@caffe.command()
@_flag("solver", required=True, metavar="FILE", help="the solver (prototxt)")
@_flag("snapshot", default="", metavar="FILE", help=".solverstate to resume from")
@_WEIGHTS
@_GPU
@_NET
@_flag("sigint_effect", type=click.Choice(EFFECTS), default="stop", help="what Ctrl-C asks for")
@_flag("sighup_effect", type=click.Choice(EFFECTS), default="snapshot", help="what SIGHUP asks for")
@_flag("double", is_flag=True, help="compute in float64")
@_flag("skip_broken", is_flag=True, help="pass over records that cannot be read, and count them")
@_flag("loaders", type=int, help="processes that read ahead, a data layer; default: 1 on a GPU")
@click.pass_context
def train(context: click.Context, /, **flags: Any) -> None:
    """Train as a solver says, with several workers; all flags of `pellucid run` apply."""
    ours = {option.name: flags.pop(option.name) for option in _RUN_OPTIONS if option.name}
    from pellucid.launch.signals import blocked

    with _told(), blocked():  # reading the solver brings in numpy and its threads, see there
        _choose_device(flags["solver"], flags.pop("gpu"), ours)
    argv = [f"--{name}" for name, value in flags.items() if value is True]
    argv += [
        f"--{name}={_text(value)}"
        for name, value in flags.items()
        if not isinstance(value, bool) and value not in (None, "", ())
    ]
    argv += [f"--device={ours['device']}"] * bool(ours["device"])
    context.invoke(run, script=PROGRAM, argv=tuple(argv), is_module=True, **ours)


# what `pellucid run` can be told, so can this
_RUN_OPTIONS: Final = [
    option
    for option in run.params
    if isinstance(option, click.Option) and option.name != "is_module"
]
train.params += _RUN_OPTIONS


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _choose_device(solver: str, gpu: str, ours: dict[str, Any]) -> None:
    """The GPUs that were asked for, one a worker; the CPU if the solver says so."""
    if gpu:
        _need_gpu(gpu)
        ours["device"] = ours["device"] or "cuda"
        ours["workers"] = ours["workers"] or _use_gpus(gpu)
    elif ours["device"] is None:
        from pellucid.caffe.proto import read_solver

        param = read_solver(solver)
        if param.solver_mode == type(param).CPU:
            ours["device"] = "cpu"


def _need_gpu(gpu: str) -> None:
    """Refuse a GPU that the installed torch cannot use; what asked for it is `-gpu`."""
    import torch

    if not torch.cuda.is_available():
        msg = (
            f"-gpu {gpu}: the installed torch finds no GPU on this box. Drop -gpu to compute on "
            "the CPU, or see `pellucid doctor` for what is missing"
        )
        raise SettingsError(msg)


def _use_gpus(gpu: str) -> int | None:
    """Show these GPUs only; return how many, None for all there are."""
    if gpu == "all":
        return None
    listed = [part.strip() for part in gpu.split(",")]
    if not all(part.isdecimal() for part in listed):
        msg = f"-gpu is {gpu!r}: give numbers joined by commas, as in -gpu 0,1, or -gpu all"
        raise SettingsError(msg)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(listed)
    return len(listed)


def _single(flags: dict[str, Any]) -> Any:
    from pellucid.caffe.log import begin
    from pellucid.caffe.single_net import SingleNet

    if gpu := flags.pop("gpu"):
        _need_gpu(gpu)
        _use_gpus(gpu)
        flags["device"] = "cuda"
    begin()
    return SingleNet(**flags)


@caffe.command()
@_MODEL
@_WEIGHTS
@_ITERATIONS
@_GPU
@_NET
def test(**flags: Any) -> None:
    """Show a net's outputs on its test data, and their means."""
    with _told():
        asked = _single(flags)
        from pellucid.caffe.evaluate import evaluate

        evaluate(asked)


@caffe.command("time")
@_MODEL
@_WEIGHTS
@_ITERATIONS
@_GPU
@_flag("phase", type=click.Choice(["TRAIN", "TEST"]), default="TRAIN", help="default: TRAIN")
@_NET
def time_(**flags: Any) -> None:
    """Time each layer of a net, forward and backward."""
    with _told():
        asked = _single(flags)
        from pellucid.caffe.timing import measure

        measure(asked)


@caffe.command("device_query")
@_GPU
def device_query(gpu: str) -> None:
    """Show the GPUs."""
    import torch

    with _told():
        if gpu:
            _use_gpus(gpu)
        if not torch.cuda.is_available():
            click.echo("no GPU that the installed torch can use; see `pellucid doctor`", err=True)
            sys.exit(1)
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            click.echo(f"Device id:                     {index}")
            click.echo(f"Major revision number:         {found.major}")
            click.echo(f"Minor revision number:         {found.minor}")
            click.echo(f"Name:                          {found.name}")
            click.echo(f"Total global memory:           {found.total_memory}")
            click.echo(f"Number of multiprocessors:     {found.multi_processor_count}")


@caffe.command("parse_log")
@click.argument("log")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--delimiter", default=",", help="between columns; default: a comma")
def parse_log(log: str, folder: str, delimiter: str) -> None:
    """Write the tables LOG.train and LOG.test of a training's log into FOLDER."""
    from pellucid.caffe.parse_log import write_tables

    with _told():
        for path in write_tables(log, folder, delimiter):
            click.echo(f"Wrote {path}")


@caffe.command()
@click.argument("logs", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="FILE", help="the picture: .png, .svg, .pdf")
def plot(logs: tuple[str, ...], output: str) -> None:
    """Draw the curves of one or more trainings' LOGS."""
    from pellucid.caffe.plot import plot

    with _told():
        plot(list(logs), output)


@caffe.command()
@_MODEL
@_WEIGHTS
@_flag("phase", type=click.Choice(["TRAIN", "TEST"]), default="TEST", help="default: TEST")
@_NET
@click.argument("out")
def export(out: str, **flags: Any) -> None:
    """Write a net as plain PyTorch: OUT.py, its source, and OUT.safetensors, its weights."""
    with _told():
        from pellucid.caffe.export import write_module

        for path in write_module(_on_cpu(flags), out):
            click.echo(f"Wrote {path}")


@caffe.command("import_weights")
@_MODEL
@_NET
@click.argument("weights")
@click.argument("out")
def import_weights(weights: str, out: str, **flags: Any) -> None:
    """Write the .caffemodel OUT of an exported module's WEIGHTS (.safetensors)."""
    with _told():
        from pellucid.caffe.export import from_state_dict, read_state_dict
        from pellucid.caffe.weights import save_weights

        net = _on_cpu({**flags, "weights": (), "phase": "TEST"})
        from_state_dict(net, read_state_dict(weights))
        save_weights(net, out)
        click.echo(f"Wrote {out}")


def _on_cpu(flags: dict[str, Any]) -> Any:
    from pellucid.caffe.single_net import SingleNet, open_net

    return open_net(SingleNet(**flags, device="cpu"))[0].net


@caffe.command("upgrade_net_proto_text")
@click.argument("source")
@click.argument("out")
def upgrade_net_proto_text(source: str, out: str) -> None:
    """Write the net SOURCE (prototxt of any format of Caffe's) in today's format to OUT."""
    with _told():
        from pellucid.caffe.proto import read_net, text

        text.write(out, read_net(source))
        click.echo(f"Wrote {out}")


@caffe.command("upgrade_net_proto_binary")
@click.argument("source")
@click.argument("out")
def upgrade_net_proto_binary(source: str, out: str) -> None:
    """Write the weights SOURCE (.caffemodel of any format of Caffe's) in today's format to OUT."""
    with _told():
        from pellucid.caffe.proto import messages, read_binary, upgrade_net, write_binary

        write_binary(out, upgrade_net(read_binary(source, messages.NetParameter), source))
        click.echo(f"Wrote {out}")


@caffe.command("upgrade_solver_proto_text")
@click.argument("source")
@click.argument("out")
def upgrade_solver_proto_text(source: str, out: str) -> None:
    """Write the solver SOURCE (prototxt of any format of Caffe's) in today's format to OUT."""
    with _told():
        from pellucid.caffe.proto import read_solver, text

        text.write(out, read_solver(source))
        click.echo(f"Wrote {out}")


@caffe.command("convert_mnist")
@click.argument("images")
@click.argument("labels")
@click.argument("out")
@_BACKEND
def convert_mnist(images: str, labels: str, out: str, backend: str) -> None:
    """Make the database OUT of two idx files, of MNIST or of its like."""
    with _told():
        from pellucid.caffe.tools.convert_mnist import convert_mnist

        click.echo(
            f"Wrote {convert_mnist(images, labels, out, backend=backend.upper())} records to {out}"
        )


@caffe.command("convert_imageset")
@click.argument("root")
@click.argument("listing")
@click.argument("out")
@_flag("gray", is_flag=True, help="read images as gray")
@_flag("shuffle", is_flag=True, help="shuffle the list")
@_flag("resize_height", "height", type=int, default=0, help="height of all images")
@_flag("resize_width", "width", type=int, default=0, help="width of all images")
@_flag("check_size", is_flag=True, help="refuse images of different sizes")
@_flag("encoded", is_flag=True, help="keep the files' bytes, to be decoded when read")
@_flag("seed", type=int, help="of the shuffling")
@_BACKEND
def convert_imageset(root: str, listing: str, out: str, **flags: Any) -> None:
    """Make the database OUT of images: LISTING has lines of ROOT's 'path label'."""
    with _told():
        from pellucid.caffe.tools.convert_imageset import convert_imageset

        flags["backend"] = flags["backend"].upper()
        click.echo(f"Wrote {convert_imageset(root, listing, out, **flags)} records to {out}")


@caffe.command("compute_image_mean")
@click.argument("database")
@click.argument("out", required=False)
@_BACKEND
def compute_image_mean(database: str, out: str | None, backend: str) -> None:
    """Write the mean image of DATABASE to the binaryproto file OUT; show each channel's mean."""
    with _told():
        from pellucid.caffe.tools.compute_image_mean import compute_image_mean

        for channel, values in enumerate(compute_image_mean(database, out, backend.upper())):
            click.echo(f"mean_value channel [{channel}]: {values.mean():g}")
