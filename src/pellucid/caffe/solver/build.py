"""From a solver file to a training that is ready to begin."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from pellucid.caffe.data import source
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.log import LOGGER
from pellucid.caffe.net import DATA_TYPES, Net
from pellucid.caffe.proto import read_net, read_solver
from pellucid.caffe.select import select
from pellucid.caffe.solver.feed import Feed
from pellucid.caffe.solver.loop import Training, tests_before
from pellucid.caffe.solver.optimizers import Rule, make_optimizer
from pellucid.caffe.solver.policies import LearningRate, Schedule
from pellucid.caffe.solver.requests import Action, Requests
from pellucid.caffe.solver.snapshot import Snapshots, prefix_of
from pellucid.caffe.solver.testing import TestNet
from pellucid.caffe.weights import load_weights, save_weights

__all__ = ["EFFECTS", "BuiltNet", "Options", "build", "build_net", "device_named"]

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


@dataclass
class BuiltNet:
    """A net and the sources of its data layers."""

    net: Net
    sources: list[Any]

    def batches(self, start: int) -> list[Iterator[dict[str, torch.Tensor]]]:
        """Endless batches of each data layer, after those that were consumed."""
        return [iter(one.loader(start=start)) for one in self.sources]


def build_net(
    param: Any, state: State, seed: int, device: torch.device, dtype: torch.dtype
) -> BuiltNet:
    """A net of a NetParameter, on its device, with its data layers' sources."""
    chosen = select(param, state.phase, state.level, state.stages)
    shapes: dict[str, tuple[int, ...]] = {}
    sources = []
    for layer in chosen.layer:
        if layer.type in DATA_TYPES:
            sources.append(source(layer, state.phase, seed=seed))
            shapes |= sources[-1].shapes
    net = Net(
        param,
        state.phase,
        level=state.level,
        stages=state.stages,
        data_shapes=shapes,
        seed=seed,
    )
    return BuiltNet(net.to(device=device, dtype=dtype), sources)


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
        SettingsError: so does the solver.
    """
    if options.snapshot and options.weights:
        msg = "both -snapshot and -weights are given: a snapshot names its weights itself. Drop one"
        raise CaffeError(msg)
    param = read_solver(options.solver)
    device = device_named(options.device, on_cpu=param.solver_mode == type(param).CPU)
    dtype = torch.float64 if options.double else torch.float32
    seed = param.random_seed if param.random_seed >= 0 else torch.seed() % 2**31
    LOGGER.info("Computing on %s, random seed %d", device, seed)
    (net_param, state), *tested = _nets(param, options)
    built = build_net(net_param, state, seed, device, dtype)
    _say_batch(built)
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
    for index, (test_param, test_state) in enumerate(tested):
        test = build_net(test_param, test_state, seed, device, dtype)
        test.net.share_weights(built.net)
        batches = test.batches(tests_before(param, iteration) * param.test_iter[index])
        feed = Feed(test.net, batches, device, dtype)
        tests.append(TestNet(index, feed, param.test_iter[index]))
    effects = {
        signal.SIGINT: EFFECTS[options.sigint_effect],
        signal.SIGHUP: EFFECTS[options.sighup_effect],
    }
    return Training(
        param=param,
        feed=Feed(built.net, built.batches(iteration * param.iter_size), device, dtype),
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


def _nets(param: Any, options: Options) -> list[tuple[Any, State]]:
    """The training net and the test nets with their states."""
    folder = Path(options.solver).parent
    train = [
        *((f"net file: {name}", _read(name, folder)) for name in (param.train_net,) if name),
        *((f"net file: {name}", _read(name, folder)) for name in (param.net,) if name),
        *(("train_net_param", param.train_net_param) for _ in _given(param, "train_net_param")),
        *(("net_param", param.net_param) for _ in _given(param, "net_param")),
    ]
    if len(train) != 1:
        msg = (
            f"{options.solver} names {len(train)} training nets. Give exactly one of net, "
            "net_param, train_net, train_net_param"
        )
        raise CaffeError(msg)
    LOGGER.info("Creating training net from %s", train[0][0])
    asked = State("TRAIN", options.level, options.stage)
    state = asked.merged(train[0][1].state).merged(param.train_state)
    return [(train[0][1], state), *_test_nets(param, options, folder)]


def _given(param: Any, name: str) -> list[str]:
    return [name] if param.HasField(name) else []


def _test_nets(param: Any, options: Options, folder: Path) -> Iterator[tuple[Any, State]]:
    nets = [
        *(("test_net_param", one) for one in param.test_net_param),
        *((f"net file: {name}", _read(name, folder)) for name in param.test_net),
    ]
    for _ in range(len(param.test_iter) - len(nets)):
        if param.net:
            nets.append((f"net file: {param.net}", _read(param.net, folder)))
        elif param.HasField("net_param"):
            nets.append(("net_param", param.net_param))
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
    for index, (origin, net) in enumerate(nets):
        LOGGER.info("Creating test net (#%d) specified by %s", index, origin)
        state = State("TEST").merged(net.state)
        yield net, state.merged(param.test_state[index]) if param.test_state else state


def _read(name: str, folder: Path) -> Any:
    """A net file: its path is from where we are, as in Caffe, or from the solver's folder."""
    beside = folder / name
    return read_net(beside if not os.path.exists(name) and beside.exists() else name)  # noqa: PTH110


def _say_batch(built: BuiltNet) -> None:
    """What the batch size of the file means when many work on it."""
    for one in built.sources:
        top, shape = next(iter(one.shapes.items()))
        LOGGER.info(
            "Batches of %d (%s): whole ones, shared out among the workers if there are several. "
            "Iterations and rates count whole batches, whatever the number of workers.",
            *(shape[0], top),
        )
