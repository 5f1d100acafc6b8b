"""Snapshots: a resumed training is the uninterrupted one, bit for bit; the files are Caffe's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import messages, read_binary
from pellucid.caffe.solver.loop import Training
from pellucid.caffe.solver.optimizers import RULES
from pellucid.caffe.solver.policies import Progress
from pellucid.caffe.solver.snapshot import State, prefix_of, read_state, write_state
from tests.caffe.tiny import solver, training

FORMATS = ("BINARYPROTO", "HDF5")


def weights(one: Training) -> list[torch.Tensor]:
    return [p.detach().clone() for p in one.feed.net.parameters()]


def suffix(file_format: str) -> str:
    return ".h5" if file_format == "HDF5" else ""


def formatted(file_format: str, **fields: Any) -> Any:
    param = solver(**fields)
    param.snapshot_format = type(param).SnapshotFormat.Value(file_format)
    return param


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("kind", RULES)
def test_a_resumed_training_is_the_uninterrupted_one(
    kind: str, file_format: str, tmp_path: Path
) -> None:
    fields = {
        "type": kind,
        "momentum": 0.9 if RULES[kind].momentum_allowed else 0.0,
        "lr_policy": "multistep",
        "gamma": 0.5,
        "stepvalue": [2, 5],
        "iter_size": 2,
        "weight_decay": 0.01,
        "test_iter": [2],
        "test_interval": 2,
    }
    whole = training(formatted(file_format, max_iter=7, **fields), str(tmp_path))
    whole.solve()
    first = training(formatted(file_format, max_iter=3, **fields), str(tmp_path))
    first.solve()
    state = f"{tmp_path}/tiny_iter_3.solverstate{suffix(file_format)}"
    again = training(formatted(file_format, max_iter=7, **fields), str(tmp_path), resume=state)
    assert again.iteration == 3
    again.solve()
    for one, other, early in zip(weights(again), weights(whole), weights(first), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, early)


def test_a_binary_state_has_caffes_fields_in_caffes_order(tmp_path: Path) -> None:
    param = solver(type="Adam", momentum=0.9, max_iter=2)
    one = training(param, str(tmp_path))
    one.solve()
    message = read_binary(tmp_path / "tiny_iter_2.solverstate", messages.SolverState)
    assert message.iter == 2
    assert message.learned_net == f"{tmp_path}/tiny_iter_2.caffemodel"
    shapes = [tuple(blob.shape.dim) for blob in message.history]
    assert shapes == [tuple(p.shape) for p in one.feed.net.parameters()] * 2
    # all means come before all squares, which are never negative
    assert min(message.history[0].data) < 0
    assert min(value for blob in message.history[4:] for value in blob.data) >= 0


def test_an_hdf5_state_is_laid_out_as_caffe_reads_it(tmp_path: Path) -> None:
    path = str(tmp_path / "x.solverstate.h5")
    write_state(path, State(5, "x.caffemodel.h5", [np.ones((2, 3), np.float32)], Progress(1)))
    with h5py.File(path) as file:
        assert file["iter"].shape == (1,)
        assert file["iter"][0] == 5
        assert file["current_step"][0] == 1
        assert file["learned_net"].dtype == "S16"  # one more than the name, for C's zero
        assert file["history/0"].shape == (2, 3)


@pytest.mark.parametrize("name", ["x.solverstate", "x.solverstate.h5"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_state_is_read_as_it_was_written(name: str, kind: Any, tmp_path: Path) -> None:
    history = [np.random.default_rng(0).normal(size=(2, 3)).astype(kind), np.zeros(3, kind)]
    progress = Progress(2, minimum_loss=0.5, iter_last_event=40)
    write_state(str(tmp_path / name), State(41, "net.caffemodel", history, progress))
    state = read_state(str(tmp_path / name))
    assert (state.iteration, state.learned_net, state.progress) == (41, "net.caffemodel", progress)
    for wanted, got in zip(history, state.history, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def test_files_that_were_moved_together_are_found(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    training(solver(max_iter=2), str(before)).solve()
    before.rename(after)
    training(solver(), str(tmp_path), resume=str(after / "tiny_iter_2.solverstate"))


def test_the_state_of_another_solver_type_is_refused(tmp_path: Path) -> None:
    training(solver(type="Adam", momentum=0.9, max_iter=2), str(tmp_path)).solve()
    state = str(tmp_path / "tiny_iter_2.solverstate")
    with pytest.raises(CaffeError, match="8 history blobs, solver type SGD of this net has 4"):
        training(solver(), str(tmp_path), resume=state)


def test_the_state_of_another_net_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "x.solverstate")
    write_state(path, State(1, "", [np.zeros(7, np.float32)] * 4))
    with pytest.raises(CaffeError, match=r"history of one\.weight has shape \(7,\)"):
        training(solver(), str(tmp_path), resume=path)


@pytest.mark.parametrize("name", ["x.solverstate", "x.solverstate.h5"])
def test_a_damaged_state_is_one_clear_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_state(str(path), State(1, "", [np.ones(700, np.float32)]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CaffeError, match=name):
        read_state(str(path))


def test_where_snapshots_go(tmp_path: Path) -> None:
    file = str(tmp_path / "my_solver.prototxt")
    assert prefix_of(solver(), file) == str(tmp_path / "my_solver")
    assert prefix_of(solver(snapshot_prefix=str(tmp_path)), file) == str(tmp_path / "my_solver")
    named = str(tmp_path / "lenet")
    assert prefix_of(solver(snapshot_prefix=named), file) == named
    with pytest.raises(CaffeError, match="is not there or not writable"):
        prefix_of(solver(snapshot_prefix=str(tmp_path / "missing" / "lenet")), file)
