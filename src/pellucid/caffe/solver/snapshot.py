"""Snapshots: a training's weights and state in Caffe's files, and back.

    PREFIX_iter_N.caffemodel   PREFIX_iter_N.solverstate      BINARYPROTO
    PREFIX_iter_N.caffemodel.h5  PREFIX_iter_N.solverstate.h5  HDF5

The state holds the iteration, the name of the weights' file, the steps of the rate, and the
histories of the update rule: the first one of every learnable blob, then, for AdaDelta and Adam,
the second one of every blob. Caffe stores neither the position in the data nor random state: here
both follow from the iteration number, so that a resumed training is the uninterrupted one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.log import LOGGER
from pellucid.caffe.proto import array_to_blob, blob_to_array, messages, read_binary, write_binary
from pellucid.caffe.solver.optimizers import CaffeOptimizer
from pellucid.caffe.solver.policies import Progress

__all__ = ["Snapshots", "State", "prefix_of", "read_state", "write_state"]

HDF5_SUFFIX: Final = ".h5"


class Blob(Protocol):
    """A learnable blob of a net: a parameter, or a buffer such as a running mean."""

    @property
    def name(self) -> str: ...

    @property
    def parameter(self) -> torch.Tensor: ...


class Weights(Protocol):
    """Reads and writes a net's weights; the suffix ``.h5`` asks for HDF5."""

    def save(self, path: str) -> None:
        """Write a .caffemodel."""

    def load(self, path: str) -> None:
        """Read one, by names of layers."""


@dataclass
class State:
    """What a .solverstate holds.

    Attributes:
        iteration: updates done.
        learned_net: file of the weights.
        history: in Caffe's order.
        progress: of the rate.
    """

    iteration: int
    learned_net: str
    history: list[npt.NDArray[Any]]
    progress: Progress = field(default_factory=Progress)


def prefix_of(param: Any, solver_file: str) -> str:
    """Where snapshots go: without a prefix, or with a folder as one, the solver's name counts.

    Raises:
        CaffeError: the folder is not there or not to be written to.
    """
    prefix: str = param.snapshot_prefix
    stem = Path(solver_file).with_suffix("")
    if not prefix:
        prefix = str(stem)
    elif Path(prefix).is_dir():
        prefix = str(Path(prefix) / stem.name)
    folder = Path(prefix).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        msg = (
            f"{solver_file}: cannot write snapshots to {prefix}_iter_*: the folder {folder} is "
            "not there or not writable. Make it, or change snapshot_prefix"
        )
        raise CaffeError(msg)
    return prefix


class Snapshots:
    """Writes and reads a training's snapshots.

    Args:
        prefix: how the files' names begin.
        weights: of the net.
        blobs: learnable blobs of the net, in Caffe's order.
        optimizer: which keeps their histories.
        hdf5: whether to write HDF5.
    """

    def __init__(
        self,
        prefix: str,
        weights: Weights,
        blobs: Sequence[Blob],
        optimizer: CaffeOptimizer,
        *,
        hdf5: bool = False,
    ) -> None:
        self._prefix = prefix
        self._weights = weights
        self._blobs = blobs
        self._optimizer = optimizer
        self._suffix = HDF5_SUFFIX if hdf5 else ""
        self._kind = "HDF5" if hdf5 else "binary proto"

    def save(self, iteration: int, progress: Progress) -> str:
        """Write both files; return the name of the state's."""
        stem = f"{self._prefix}_iter_{iteration}"
        model = f"{stem}.caffemodel{self._suffix}"
        LOGGER.info("Snapshotting to %s file %s", self._kind, model)
        self._weights.save(model)
        path = f"{stem}.solverstate{self._suffix}"
        LOGGER.info("Snapshotting solver state to %s file %s", self._kind, path)
        history = [
            self._optimizer.history_of(blob.parameter)[number].detach().cpu().numpy()
            for number in range(self._optimizer.histories)
            for blob in self._blobs
        ]
        write_state(path, State(iteration, model, history, progress))
        return path

    def restore(self, path: str) -> State:
        """Read both files into the net and its optimizer.

        Raises:
            CaffeError: the state is of another net or solver type.
        """
        LOGGER.info("Resuming from %s", path)
        state = read_state(path)
        wanted = self._optimizer.histories * len(self._blobs)
        if len(state.history) != wanted:
            kind = type(self._optimizer).__name__
            msg = (
                f"{path} holds {len(state.history)} history blobs, solver type {kind} of this net "
                f"has {wanted}. It is the state of another net or another solver type"
            )
            raise CaffeError(msg)
        if state.learned_net:
            self._weights.load(_find(state.learned_net, path))
        stored = iter(state.history)
        for number in range(self._optimizer.histories):
            for blob in self._blobs:
                self._put(next(stored), blob, number, path)
        for group in self._optimizer.param_groups:
            group["updates"] = state.iteration
        return state

    def _put(self, stored: npt.NDArray[Any], blob: Blob, number: int, path: str) -> None:
        history = self._optimizer.history_of(blob.parameter)[number]
        if stored.size != history.numel():
            msg = (
                f"{path}: the history of {blob.name} has shape {stored.shape}, the net's blob has "
                f"{tuple(history.shape)}. It is the state of another net"
            )
            raise CaffeError(msg)
        history.copy_(torch.from_numpy(stored.reshape(tuple(history.shape))))


def _find(model: str, state: str) -> str:
    """The weights' file: where it was, or beside the state if both were moved."""
    beside = Path(state).parent / Path(model).name
    return str(beside) if not Path(model).exists() and beside.exists() else model


def write_state(path: str, state: State) -> None:
    """Write a .solverstate, HDF5 if its name ends so."""
    if path.endswith(HDF5_SUFFIX):
        _write_hdf5(path, state)
    else:
        write_binary(path, _to_message(state))


def read_state(path: str) -> State:
    """Read what `write_state` or Caffe wrote.

    Raises:
        CaffeError: the file is missing or damaged.
    """
    if path.endswith(HDF5_SUFFIX):
        return _read_hdf5(path)
    message = read_binary(path, messages.SolverState)
    progress = Progress(message.current_step)
    if message.HasField("minimum_loss"):
        progress.minimum_loss = message.minimum_loss
        progress.iter_last_event = message.iter_last_event
    history = [
        blob_to_array(blob, f"{path}: history {index}")
        for index, blob in enumerate(message.history)
    ]
    return State(message.iter, message.learned_net, history, progress)


def _to_message(state: State) -> Any:
    message = messages.SolverState()
    message.iter = state.iteration
    message.learned_net = state.learned_net
    message.current_step = state.progress.current_step
    if np.isfinite(state.progress.minimum_loss):
        message.minimum_loss = state.progress.minimum_loss
        message.iter_last_event = state.progress.iter_last_event
    for array in state.history:
        message.history.append(array_to_blob(array))
    return message


def _write_hdf5(path: str, state: State) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["iter"] = np.array([state.iteration], np.int32)
        file["current_step"] = np.array([state.progress.current_step], np.int32)
        name = state.learned_net.encode()
        file["learned_net"] = np.array(name, f"S{len(name) + 1}")  # Caffe reads up to a zero
        if np.isfinite(state.progress.minimum_loss):
            file["minimum_loss"] = np.array([state.progress.minimum_loss], np.float32)
            file["iter_last_event"] = np.array([state.progress.iter_last_event], np.int32)
        history = file.create_group("history")
        for index, array in enumerate(state.history):
            history[str(index)] = array


def _read_hdf5(path: str) -> State:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            progress = Progress(int(file["current_step"][0]))
            if "minimum_loss" in file:
                progress.minimum_loss = float(file["minimum_loss"][0])
                progress.iter_last_event = int(file["iter_last_event"][0])
            history = [file["history"][str(k)][()] for k in range(len(file["history"]))]
            name = bytes(file["learned_net"][()]) if "learned_net" in file else b""
            return State(int(file["iter"][0]), name.rstrip(b"\0").decode(), history, progress)
    except (OSError, KeyError, ValueError) as error:
        msg = f"{path} is no solver state in HDF5, or a damaged one: {error}"
        raise CaffeError(msg) from error
