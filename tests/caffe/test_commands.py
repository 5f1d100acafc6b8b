"""Caffe's commands as a user of Caffe types them, and what they say when a file is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pellucid.caffe import log
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.solver.build import Options, build
from pellucid.caffe.weights import read_weights
from pellucid.cli import main as cli
from tests.caffe.test_parallel import digits

EXAMPLE = Path(__file__).parents[2] / "examples" / "caffe"
SOLVER = """net: "net.prototxt"
test_iter: 2
test_interval: 4
base_lr: 0.01
momentum: 0.9
lr_policy: "fixed"
display: 2
max_iter: 6
solver_mode: CPU
random_seed: 4
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A solver, a net and two databases; the program runs beside them."""
    digits(tmp_path / "mnist_train_lmdb", 70, 1)
    digits(tmp_path / "mnist_test_lmdb", 30, 2)
    net = (EXAMPLE / "lenet_train_test.prototxt").read_text()
    net = net.replace("batch_size: 64", "batch_size: 16").replace("size: 100", "size: 10")
    (tmp_path / "net.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    try:
        return CliRunner().invoke(cli, ["caffe", *arguments])
    finally:
        log.LOGGER.handlers = []


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def train(**options: Any) -> None:
    build(Options(solver="solver.prototxt", **options)).solve()


@pytest.mark.parametrize("format_", ["BINARYPROTO", "HDF5"])
def test_a_resumed_net_is_the_uninterrupted_one(folder: Path, format_: str) -> None:
    """From a database, over the end of a pass, with tests between: bit for bit."""
    more = f"snapshot: 3 snapshot_format: {format_}\n"
    (folder / "solver.prototxt").write_text(SOLVER + more)
    suffix = ".h5" if format_ == "HDF5" else ""
    train()
    wanted = read_weights(folder / f"solver_iter_6.caffemodel{suffix}")
    (folder / f"solver_iter_6.caffemodel{suffix}").unlink()
    train(snapshot=f"solver_iter_3.solverstate{suffix}")
    found = read_weights(folder / f"solver_iter_6.caffemodel{suffix}")
    early = read_weights(folder / f"solver_iter_3.caffemodel{suffix}")
    for layer, blobs in wanted.items():
        for k, values in blobs.items():
            assert (found[layer][k] == values).all()
            assert not (early[layer][k] == values).all()


def test_fine_tuning_begins_with_the_weights(folder: Path) -> None:
    train()
    wanted = read_weights(folder / "solver_iter_6.caffemodel")
    change(folder / "solver.prototxt", "base_lr: 0.01", "base_lr: 0")
    train(weights=("solver_iter_6.caffemodel",))
    found = read_weights(folder / "solver_iter_6.caffemodel")
    assert all((found[n][k] == v).all() for n, blobs in wanted.items() for k, v in blobs.items())


def test_test_and_time_and_export(folder: Path) -> None:
    train()
    weights = "-weights=solver_iter_6.caffemodel"
    tested = run("test", "-model", "net.prototxt", weights, "-iterations", "3")
    assert tested.exit_code == 0
    assert tested.output.count("Batch ") == 6
    assert re.search(r"\] accuracy = [\d.]+\n.*\] loss = [\d.]+ \(\* 1 = ", tested.output)
    timed = run("time", "--model=net.prototxt", "--iterations=1")
    assert timed.exit_code == 0
    assert re.search(r"conv1\tbackward: [\d.e-]+ ms", timed.output)
    written = run("export", "-model", "net.prototxt", weights, "lenet")
    assert written.output == "Wrote lenet.py\nWrote lenet.safetensors\n"
    back = run("import_weights", "-model", "net.prototxt", "lenet.safetensors", "back.caffemodel")
    assert back.exit_code == 0
    mine, other = read_weights(folder / "solver_iter_6.caffemodel"), read_weights("back.caffemodel")
    assert all((other[n][k] == v).all() for n, blobs in mine.items() for k, v in blobs.items())


def test_a_net_with_inputs_is_timed(folder: Path) -> None:
    (folder / "deploy").write_text(
        'input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 3\n'
        'layers { name: "r" type: RELU bottom: "x" top: "x" }'
    )
    assert run("time", "-model", "deploy", "-iterations", "1").exit_code == 0
    upgraded = run("upgrade_net_proto_text", "deploy", "new")
    assert upgraded.exit_code == 0
    assert 'type: "ReLU"' in (folder / "new").read_text()
    (folder / "old_solver").write_text("solver_type: ADAM")
    assert run("upgrade_solver_proto_text", "old_solver", "new_solver").exit_code == 0
    assert (folder / "new_solver").read_text() == 'type: "Adam"\n'


def test_weights_of_old_formats_are_upgraded(folder: Path) -> None:
    from pellucid.caffe.proto import messages, write_binary

    net = messages.NetParameter()
    blob = net.layers.add(name="a", type=14).blobs.add(num=1, channels=1, height=1, width=2)
    blob.data.extend([1, 2])
    write_binary(folder / "old.caffemodel", net)
    assert run("upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel").exit_code == 0
    assert read_weights(folder / "new.caffemodel")["a"][0].tolist() == [[[[1, 2]]]]


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("solver", "max_iter: 6", "max_iter: 0", r"solver\.prototxt:8: max_iter is 0, and must"),
        ("solver", "base_lr: 0.01", "", r"solver\.prototxt: base_lr is missing"),
        ("solver", "test_iter: 2", "test_iter: -1", r"solver\.prototxt:2: test_iter is \[-1\]"),
        ("solver", '"fixed"', '"fixt"', r"solver\.prototxt:6: unknown lr_policy 'fixt'"),
        ("solver", '"fixed"', '"step"', r"solver\.prototxt:6: lr_policy 'step' needs a stepsize"),
        ("solver", "display", 'type: "Adan" display', r"prototxt:7: unknown solver type 'Adan'"),
        ("solver", "display", 'type: "AdaGrad" display', r"5: solver type 'AdaGrad' has no mom"),
        ("solver", "net.prototxt", "nett.prototxt", r"cannot read nett\.prototxt"),
        ("solver", "test_interval: 4", "", "has test nets but no test_interval"),
        ("net", 'bottom: "pool1"', 'bottom: "pol1"', r"net\.prototxt:24: layer 'conv2' .*'pool1'"),
        ("net", 'type: "Pooling"', 'type: "Poling"', r"net\.prototxt:20: .*mean 'Pooling'"),
        ("net", "kernel_size: 5", "kernel_size: 50", r"net\.prototxt:15: .*padded image is \[28"),
        ("net", "kernel_size: 5", "kernel_sizes: 5", r"net\.prototxt:18:\d+: .*'kernel_size'"),
        ("net", "mnist_train_lmdb", "train_lmdb", r"net\.prototxt:3: .*no database train_lmdb"),
        ("net", "scale: 0", 'mean_file: "m" scale: 0', r"net\.prototxt:3: .*cannot read m"),
    ],
)
def test_what_is_wrong_is_said_once_with_its_place(
    folder: Path, file: str, before: str, after: str, said: str
) -> None:
    change(folder / f"{file}.prototxt", before, after)
    with pytest.raises(CaffeError, match=said):
        train()


@pytest.mark.usefixtures("folder")
def test_a_gpu_that_is_not_there() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    for command in (["train", "-solver=solver.prototxt"], ["test", "-model=net.prototxt"]):
        refused = run(*command, "-gpu", "0")
        assert refused.exit_code == 2
        assert "pellucid: -gpu 0: the installed torch finds no GPU" in refused.output
