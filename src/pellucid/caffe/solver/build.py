"""From a solver file to a training that is ready to begin."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from pellucid.caffe.data import Batches, Source, is_data, source
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.log import LOGGER
from pellucid.caffe.net import Net
from pellucid.caffe.proto import located, read_net, read_solver, upgrade_net
from pellucid.caffe.select import select
from pellucid.caffe.solver.check import check
from pellucid.caffe.solver.feed import Feed
from pellucid.caffe.solver.loop import Training, tests_before
from pellucid.caffe.solver.optimizers import Rule, make_optimizer
from pellucid.caffe.solver.policies import LearningRate, Schedule
from pellucid.caffe.solver.requests import Action, Requests
from pellucid.caffe.solver.snapshot import Snapshots, prefix_of
from pellucid.caffe.solver.testing import TestNet
from pellucid.caffe.weights import load_weights, save_weights

__all__ = [
    "EFFECTS",
    "BuiltNet",
    "NetFile",
    "Options",
    "State",
    "Way",
    "build",
    "build_net",
    "device_named",
]

EFFECTS: Final = {"none": Action.NONE, "snapshot": Action.SNAPSHOT, "stop": Action.STOP}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for beside the solver file; the names are those of Caffe's flags.

    Attributes:
        solver: the solver file.
        snapshot: a .solverstate to resume from.
        weights: .caffemodel files to begin with.
        level: of the training net.
        stage: stages of the training net.
        sigint_effect: a key of `EFFECTS`.
        sighup_effect: likewise.
        device: cpu or cuda; empty for what the solver file says and the box has.
        double: whether to compute in float64.
        skip_broken: whether to pass over records that cannot be read, and count them.
        loaders: processes that read ahead, for each data layer; negative for one on a GPU and none
            on a CPU, whose cores are all at work already.
    """

    solver: str
    snapshot: str = ""
    weights: tuple[str, ...] = ()
    level: int = 0
    stage: tuple[str, ...] = ()
    sigint_effect: str = "stop"
    sighup_effect: str = "snapshot"
    device: str = ""
    double: bool = False
    skip_broken: bool = False
    loaders: int = -1


@dataclass(frozen=True)
class State:
    """A net's phase, level and stages."""

    phase: str
    level: int = 0
    stages: tuple[str, ...] = ()

    def merged(self, state: Any) -> State:
        """With what a NetState adds."""
        level = state.level if state.HasField("level") else self.level
        return State(self.phase, level, (*self.stages, *state.stage))


@dataclass(frozen=True)
class NetFile:
    """A net, and where it stands.

    Attributes:
        param: the NetParameter.
        path: of the file that it stands in.
        origin: for the log.
    """

    param: Any
    path: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Way:
    """How nets are built.

    Attributes:
        seed: of fillers and data.
        device: where they compute.
        dtype: in what.
        skip_broken: pass over records that cannot be read.
        loaders: processes that read ahead, for each data layer.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    skip_broken: bool = False
    loaders: int = 0


@dataclass
class BuiltNet:
    """A net and the sources of its data layers."""

    net: Net
    sources: list[Source]
    loaders: int = 0

    def batches(self) -> list[Batches]:
        """The batches of each data layer, by number."""
        return [one.batches(self.loaders) for one in self.sources]


def build_net(file: NetFile, state: State, way: Way) -> BuiltNet:
    """A net on its device, with its data layers' sources.

    Raises:
        CaffeError: it cannot be built; names the file and the line of the layer.
    """
    with located(file.path):
        chosen = select(file.param, state.phase, state.level, state.stages)
        shapes: dict[str, tuple[int, ...]] = {}
        sources = []
        for layer in chosen.layer:
            if is_data(layer):
                sources.append(
                    source(layer, state.phase, seed=way.seed, skip_broken=way.skip_broken)
                )
                shapes |= sources[-1].shapes
        net = Net(
            file.param,
            state.phase,
            level=state.level,
            stages=state.stages,
            data_shapes=shapes,
            seed=way.seed,
        )
    return BuiltNet(net.to(device=way.device, dtype=way.dtype), sources, way.loaders)


def device_named(name: str, *, on_cpu: bool = False) -> torch.device:
    """Where to compute.

    Args:
        name: cpu or cuda; empty for the GPU if there is one.
        on_cpu: whether the files say so.
    """
    if name:
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() and not on_cpu else "cpu")


@dataclass(frozen=True)
class _NetWeights:
    net: Net

    def save(self, path: str) -> None:
        save_weights(self.net, path)

    def load(self, path: str) -> None:
        load_weights(self.net, path)


def build(options: Options) -> Training:
    """Build nets, data, optimizer; resume or take over weights.

    Raises:
        CaffeError: a file is missing or says what cannot be.
    """
    if options.snapshot and options.weights:
        msg = "both -snapshot and -weights are given: a snapshot names its weights itself. Drop one"
        raise CaffeError(msg)
    param = read_solver(options.solver)
    check(param, options.solver)
    device = device_named(options.device, on_cpu=param.solver_mode == type(param).CPU)
    dtype = torch.float64 if options.double else torch.float32
    seed = param.random_seed if param.random_seed >= 0 else torch.seed() % 2**31
    LOGGER.info("Computing on %s, random seed %d", device, seed)
    loaders = options.loaders if options.loaders >= 0 else int(device.type == "cuda")
    way = Way(
        seed=seed,
        device=device,
        dtype=dtype,
        skip_broken=options.skip_broken,
        loaders=loaders,
    )
    (file, state), *tested = _nets(param, options)
    built = build_net(file, state, way)
    _say_batch(built, param.iter_size)
    optimizer, snapshots = _optimizer(param, built.net, options)
    rate = LearningRate(Schedule.of(param), LOGGER.info)
    iteration = 0
    if options.snapshot:
        restored = snapshots.restore(options.snapshot)
        iteration, rate.progress = restored.iteration, restored.progress
    for path in options.weights or param.weights:
        LOGGER.info("Finetuning from %s", path)
        load_weights(built.net, path)
    tests = []
    for index, (test_file, test_state) in enumerate(tested):
        test = build_net(test_file, test_state, way)
        test.net.share_weights(built.net)
        feed = Feed(test.net, test.batches(), device, dtype)
        done = tests_before(param, iteration) * param.test_iter[index]
        tests.append(TestNet(index, feed, param.test_iter[index], done))
    effects = {
        signal.SIGINT: EFFECTS[options.sigint_effect],
        signal.SIGHUP: EFFECTS[options.sighup_effect],
    }
    return Training(
        param=param,
        feed=Feed(built.net, built.batches(), device, dtype),
        tests=tests,
        optimizer=optimizer,
        rate=rate,
        requests=Requests(effects),
        save=lambda training: snapshots.save(training.iteration, training.rate.progress),
        iteration=iteration,
        seed=seed,
    )


def _optimizer(param: Any, net: Net, options: Options) -> tuple[Any, Snapshots]:
    """The optimizer of a net and who keeps its snapshots."""
    blobs = [one for one in net.params if one.owner is None]
    groups: dict[tuple[float, float], list[Any]] = {}
    for blob in blobs:
        groups.setdefault((blob.lr_mult, blob.decay_mult), []).append(blob.parameter)
    optimizer = make_optimizer(
        param.type,
        [
            {"params": members, "lr_mult": lr_mult, "decay_mult": decay_mult}
            for (lr_mult, decay_mult), members in groups.items()
        ],
        param.base_lr,
        Rule.of(param),
        LOGGER.info,
    )
    hdf5 = param.snapshot_format == type(param).HDF5
    prefix = prefix_of(param, options.solver)
    return optimizer, Snapshots(prefix, _NetWeights(net), blobs, optimizer, hdf5=hdf5)


def _nets(param: Any, options: Options) -> list[tuple[NetFile, State]]:
    """The training net and the test nets with their states."""
    train = [
        *(_read(name, options) for name in (param.train_net, param.net) if name),
        *(
            NetFile(upgrade_net(getattr(param, name)), options.solver, name)
            for name in ("train_net_param", "net_param")
            if param.HasField(name)
        ),
    ]
    if len(train) != 1:
        msg = (
            f"{options.solver} names {len(train)} training nets. Give exactly one of net, "
            "net_param, train_net, train_net_param"
        )
        raise CaffeError(msg)
    LOGGER.info("Creating training net from %s", train[0].origin)
    asked = State("TRAIN", options.level, options.stage)
    state = asked.merged(train[0].param.state).merged(param.train_state)
    return [(train[0], state), *_test_nets(param, options)]


def _test_nets(param: Any, options: Options) -> Iterator[tuple[NetFile, State]]:
    nets = [
        *(NetFile(upgrade_net(n), options.solver, "test_net_param") for n in param.test_net_param),
        *(_read(name, options) for name in param.test_net),
    ]
    for _ in range(len(param.test_iter) - len(nets)):
        if param.net:
            nets.append(_read(param.net, options))
        elif param.HasField("net_param"):
            nets.append(NetFile(param.net_param, options.solver, "net_param"))
    if len(nets) != len(param.test_iter) or (
        param.test_state and len(param.test_state) != len(nets)
    ):
        msg = (
            f"{options.solver} has {len(nets)} test nets, {len(param.test_iter)} test_iter and "
            f"{len(param.test_state)} test_state. Give one test_iter a net, and one test_state a "
            "net or none"
        )
        raise CaffeError(msg)
    if nets and param.test_interval <= 0:
        msg = f"{options.solver} has test nets but no test_interval. Add one, or drop test_iter"
        raise CaffeError(msg)
    for index, file in enumerate(nets):
        LOGGER.info("Creating test net (#%d) specified by %s", index, file.origin)
        state = State("TEST").merged(file.param.state)
        yield file, state.merged(param.test_state[index]) if param.test_state else state


def _read(name: str, options: Options) -> NetFile:
    """A net file: its path is from where we are, as in Caffe, or from the solver's folder."""
    beside = Path(options.solver).parent / name
    path = name if Path(name).exists() or not beside.exists() else str(beside)
    return NetFile(read_net(path), path, f"net file: {name}")


def _say_batch(built: BuiltNet, iter_size: int) -> None:
    """What the batch size of the file means when many work on it."""
    sizes = sorted({one.batch_size for one in built.sources})
    batch = " and ".join(map(str, sizes))
    LOGGER.info(
        "An iteration is %s of %s records, whatever the number of workers. base_lr, max_iter and "
        "losses mean what they mean with one: change nothing in the solver.",
        *("a batch" if iter_size == 1 else f"{iter_size} batches", batch),
    )
