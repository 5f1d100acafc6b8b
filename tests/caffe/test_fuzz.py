"""Whatever a file holds, it is read or refused with a CaffeError: no other exception, no crash."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.caffe.data.records import datum_to_array
from pellucid.caffe.data.transform import read_mean
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.net import Net
from pellucid.caffe.proto import array_to_blob, decode, messages, text, upgrade_net, upgrade_solver
from pellucid.caffe.solver.snapshot import read_state
from pellucid.caffe.weights import read_weights
from tests.caffe import nets


def read_text(prototxt: str) -> None:
    upgrade_net(text.parse(prototxt, messages.NetParameter()))
    text.line_of_layer(prototxt, "conv1")


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(prototxt: str) -> None:
    with contextlib.suppress(CaffeError):
        read_text(prototxt)
    with contextlib.suppress(CaffeError):
        upgrade_solver(text.parse(prototxt, messages.SolverParameter()))


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_a_changed_net_is_read_or_refused(data: st.DataObject) -> None:
    prototxt = nets.lenet()
    at = data.draw(st.integers(0, len(prototxt)))
    cut = data.draw(st.integers(0, 8))
    with contextlib.suppress(CaffeError):
        read_text(prototxt[:at] + data.draw(st.text(max_size=6)) + prototxt[at + cut :])


def test_deep_text_is_refused() -> None:
    with pytest.raises(CaffeError):
        read_text("net_param { layer { " * 5000)
    text.line_of_layer("layer { " * 5000, "a")


NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 1000])
# of what no memory is taken for
LARGE = st.sampled_from([-1, 0, 1, 2, 3, 7, 1000, 2**31 - 1, 2**32 - 1])
_NUMBER = re.compile(r"(\w+): N")
_MEMORY = ("num_output", "input_dim", "dim", "tiles", "kernel_size", "kernel_h", "kernel_w")
LAYERS = [
    ("Convolution", "convolution_param { num_output: N kernel_size: N stride: N pad: N group: N }"),
    ("Convolution", "convolution_param { num_output: 2 kernel_size: N dilation: N axis: N }"),
    ("Deconvolution", "convolution_param { num_output: N kernel_size: N stride: N pad: N }"),
    ("Im2col", "convolution_param { kernel_size: N stride: N pad: N dilation: N }"),
    ("Pooling", "pooling_param { kernel_size: N stride: N pad: N }"),
    ("Pooling", "pooling_param { pool: AVE kernel_h: N kernel_w: N stride_h: N pad_w: N }"),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: N stride: N }"),
    ("LRN", "lrn_param { local_size: N norm_region: WITHIN_CHANNEL }"),
    ("LRN", "lrn_param { local_size: N }"),
    ("InnerProduct", "inner_product_param { num_output: N axis: N }"),
    ("Embed", "embed_param { num_output: N input_dim: N }"),
    ("Slice", "slice_param { axis: N slice_point: N }"),
    ("Concat", "concat_param { axis: N }"),
    ("Flatten", "flatten_param { axis: N end_axis: N }"),
    ("Reshape", "reshape_param { shape { dim: N dim: N } axis: N num_axes: N }"),
    ("Tile", "tile_param { axis: N tiles: N }"),
    ("Reduction", "reduction_param { axis: N }"),
    ("ArgMax", "argmax_param { axis: N top_k: N }"),
    ("SPP", "spp_param { pyramid_height: N }"),
    ("Scale", "scale_param { axis: N num_axes: N }"),
    ("Bias", "bias_param { axis: N num_axes: N }"),
    ("Softmax", "softmax_param { axis: N }"),
    ("Parameter", "parameter_param { shape { dim: N dim: N } }"),
    ("Exp", "exp_param { base: N }"),
    ("Log", "log_param { base: N }"),
    ("Dropout", "dropout_param { dropout_ratio: N }"),
    ("BatchNorm", ""),
    ("PReLU", ""),
    ("LSTM", "recurrent_param { num_output: N }"),
    ("Accuracy", "accuracy_param { top_k: N axis: N }"),
    ("Crop", "crop_param { axis: N offset: N }"),
    ("Filter", ""),
    ("BatchReindex", ""),
    ("HingeLoss", ""),
    ("MultinomialLogisticLoss", ""),
    ("ContrastiveLoss", ""),
    ("InfogainLoss", "infogain_loss_param { axis: N }"),
    ("SoftmaxWithLoss", "softmax_param { axis: N }"),
    ("LSTMUnit", ""),
]
SHAPES = st.lists(st.sampled_from([0, 1, 2, 5]), max_size=4).map(tuple)


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_any_numbers_build_a_layer_or_are_refused(data: st.DataObject) -> None:
    kind, param = data.draw(st.sampled_from(LAYERS))
    while match := _NUMBER.search(param):
        number = data.draw(NUMBERS if match[1] in _MEMORY else LARGE)
        param = param.replace(match[0], f"{match[1]}: {number}", 1)
    shapes = {f"b{k}": data.draw(SHAPES) for k in range(data.draw(st.integers(0, 3)))}
    tops = data.draw(st.sampled_from(["y", "", "y z"]))
    prototxt = nets.inputs(**shapes) + nets.layer("x", kind, " ".join(shapes), tops, param)
    with contextlib.suppress(CaffeError):
        Net(text.parse(prototxt, messages.NetParameter()), data_shapes=shapes, seed=1)


def _net() -> Any:
    net = messages.NetParameter(name="n")
    net.layer.add(name="a", type="Scale").blobs.add().CopyFrom(array_to_blob(np.ones((2, 3))))
    return net


def _v1() -> Any:
    net = messages.NetParameter(name="n", input=["x"], input_dim=[1, 2, 3, 4])
    layer = net.layers.add(name="a", type=4, bottom=["x"], top=["y"], blobs_lr=[1, 2])
    layer.blobs.add(num=1, channels=1, height=2, width=2, data=[1, 2, 3, 4])
    return net


def _v0() -> Any:
    net = messages.NetParameter(name="n")
    net.layers.add(bottom=["x"], top=["p"]).layer.MergeFrom(
        messages.V0LayerParameter(name="p", type="padding", pad=2)
    )
    old = messages.V0LayerParameter(name="c", type="conv", kernelsize=3, blobs_lr=[1])
    old.blobs.add(num=1, channels=1, height=1, width=2, data=[1, 2])
    net.layers.add(bottom=["p"], top=["c"]).layer.MergeFrom(old)
    return net


def _state() -> Any:
    state = messages.SolverState(iter=3, learned_net="n.caffemodel", current_step=1)
    state.history.add().CopyFrom(array_to_blob(np.ones((2, 3), np.float32)))
    return state


def _datum(path: Path) -> None:
    datum_to_array(decode(path.read_bytes(), messages.Datum, str(path)), str(path))


READERS: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "net": (_net(), read_weights),
    "v1": (_v1(), read_weights),
    "v0": (_v0(), read_weights),
    "state": (_state(), lambda path: read_state(str(path))),
    "mean": (array_to_blob(np.ones((1, 3, 2, 2), np.float32)), read_mean),
    "datum": (messages.Datum(channels=1, height=1, width=2, data=b"ab"), _datum),
    "encoded": (messages.Datum(encoded=True, data=b"\x89PNG\r\n\x1a\n"), _datum),
}


@pytest.mark.parametrize("kind", READERS)
@settings(deadline=None)  # the machine may be busy
@given(data=st.data())
def test_any_bytes_are_read_or_refused(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    message, read = READERS[kind]
    whole = message.SerializeToString()
    at = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(0, 4))
    changed = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + cut :]
    path = tmp_path_factory.getbasetemp() / f"fuzz-{kind}"
    path.write_bytes(data.draw(st.sampled_from([changed, whole[:at], changed[at:]])))
    with contextlib.suppress(CaffeError):
        read(path)


def test_text_of_another_message_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(torch.zeros(1000).numpy().tobytes() + b"\xff" * 100)
    with pytest.raises(CaffeError, match=r"x\.caffemodel"):
        read_weights(path)
