"""Layers against another implementation of Caffe's format, and against finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.caffe.layers import REGISTRY
from pellucid.caffe.net import Net
from pellucid.caffe.proto import messages, text, upgrade_net
from pellucid.caffe.weights import save_weights
from tests.caffe import nets

cv2 = pytest.importorskip("cv2", reason="OpenCV below 5 is the other implementation")

FILL = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'
SCALE = 'filler { type: "gaussian" std: 0.5 mean: 1 }'

# type -> parameters to be tried; input (2, 4, 9, 11)
LAYERS = {
    "Convolution": [
        f"convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 stride: 2 {FILL} }}",
        "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 group: 2 "
        f"{FILL} }}",
        f"convolution_param {{ num_output: 2 kernel_size: 3 dilation: 2 bias_term: false {FILL} }}",
    ],
    "Deconvolution": [
        f"convolution_param {{ num_output: 6 kernel_size: 4 stride: 2 pad: 1 {FILL} }}",
    ],
    "InnerProduct": [f"inner_product_param {{ num_output: 7 {FILL} }}"],
    "Pooling": [
        "pooling_param { kernel_size: 2 stride: 2 }",
        "pooling_param { kernel_size: 3 stride: 2 pad: 1 }",
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }",
        "pooling_param { pool: AVE kernel_size: 2 stride: 2 }",
        "pooling_param { pool: AVE global_pooling: true }",
    ],
    "LRN": [
        "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 }",
        "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 norm_region: WITHIN_CHANNEL }",
    ],
    "ReLU": ["", "relu_param { negative_slope: 0.1 }"],
    "PReLU": ["prelu_param { filler { type: 'uniform' } }"],
    "ELU": ["elu_param { alpha: 0.7 }"],
    "Sigmoid": [""],
    "TanH": [""],
    "AbsVal": [""],
    "BNLL": [""],
    "Power": ["power_param { power: 2 scale: 0.5 shift: 1 }"],
    "Softmax": ["", "softmax_param { axis: 2 }"],
    "Flatten": ["", "flatten_param { axis: 2 }"],
    "Reshape": ["reshape_param { shape { dim: 0 dim: -1 dim: 11 } }"],
    "Scale": [f"scale_param {{ {SCALE} bias_term: true bias_filler {{ value: 0.5 }} }}"],
    "MVN": ["", "mvn_param { across_channels: true }", "mvn_param { normalize_variance: false }"],
    "Dropout": [""],
    "Exp": ["exp_param { base: 2 scale: 0.5 shift: 0.25 }", ""],
    "Swish": [""],
}
CASES = [(kind, param) for kind, params in LAYERS.items() for param in params]


def net_and_input(kind: str, param: str) -> tuple[str, Tensor]:
    shape = (2, 4, 9, 11)
    prototxt = nets.inputs(data=shape) + nets.layer("x", kind, "data", "x", param)
    generator = torch.Generator().manual_seed(3)
    return prototxt, torch.randn(shape, generator=generator)


def build(prototxt: str, shape: tuple[int, ...]) -> Net:
    param = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    return Net(param, "TEST", data_shapes={"data": shape}, seed=1)


def opencv(prototxt: str, net: Net, data: Tensor, folder: Path) -> np.ndarray:
    (folder / "net.prototxt").write_text(prototxt)
    save_weights(net, folder / "net.caffemodel")
    other = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    other.setInput(data.numpy())
    return np.asarray(other.forward())


@pytest.mark.parametrize(("kind", "param"), CASES)
def test_a_layer_gives_what_opencv_gives(kind: str, param: str, tmp_path: Path) -> None:
    prototxt, data = net_and_input(kind, param)
    net = build(prototxt, tuple(data.shape))
    with torch.no_grad():
        ours = net.run({"data": data}).blobs["x"].numpy()
    theirs = opencv(prototxt, net, data, tmp_path)
    assert theirs.size == ours.size
    np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=1e-4, atol=1e-5)


SIZE = (2, 4, 9, 11)
SEVERAL = [
    ("Concat", "concat_param { axis: 1 }", SIZE),
    ("Concat", "concat_param { axis: 2 }", SIZE),
    ("Eltwise", "", SIZE),
    ("Eltwise", "eltwise_param { operation: PROD }", SIZE),
    ("Eltwise", "eltwise_param { operation: MAX }", SIZE),
    ("Eltwise", "eltwise_param { coeff: 2 coeff: -1 }", SIZE),
    ("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", (2, 4, 5, 6)),
    ("Scale", "scale_param { axis: 0 }", (2, 4)),
]


@pytest.mark.parametrize(("kind", "param", "size"), SEVERAL)
def test_a_layer_of_two_bottoms_gives_what_opencv_gives(
    kind: str, param: str, size: tuple[int, ...], tmp_path: Path
) -> None:
    shapes = {"data": SIZE, "other": size}
    compare_with_opencv(shapes, nets.layer("x", kind, "data other", "x", param), tmp_path)


@pytest.mark.parametrize(
    ("kind", "param"), [("Slice", "slice_param { axis: 1 slice_point: 1 }"), ("Split", "")]
)
@pytest.mark.parametrize("top", ["one", "two"])
def test_a_layer_of_two_tops_gives_what_opencv_gives(
    kind: str, param: str, top: str, tmp_path: Path
) -> None:
    other = {"one": "two", "two": "one"}[top]
    prototxt = nets.layer("cut", kind, "data", "one two", param)
    prototxt += nets.layer("rest", "AbsVal", other, "rest") + nets.layer("x", "TanH", top, "x")
    compare_with_opencv({"data": SIZE}, prototxt, tmp_path)


def compare_with_opencv(shapes: dict[str, tuple[int, ...]], prototxt: str, folder: Path) -> None:
    """The blob x of a net, here and there."""
    prototxt = nets.inputs(**shapes) + prototxt
    param = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    net = Net(param, "TEST", data_shapes=shapes, seed=1)
    generator = torch.Generator().manual_seed(3)
    data = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    with torch.no_grad():
        ours = net.run(data).blobs["x"].numpy()
    (folder / "net.prototxt").write_text(prototxt)
    save_weights(net, folder / "net.caffemodel")
    other = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    for name, blob in data.items():
        other.setInput(blob.numpy(), name)
    theirs = np.asarray(other.forward("x"))
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_batch_normalisation_gives_what_opencv_gives(tmp_path: Path) -> None:
    prototxt, data = net_and_input("BatchNorm", "batch_norm_param { eps: 0.01 }")
    net = build(prototxt, tuple(data.shape))
    mean, variance, count = net.layer_blobs()["x"]
    mean.copy_(torch.tensor([1.0, -2, 3, 0.5]))
    variance.copy_(torch.tensor([1.0, 2, 3, 4]))
    count.fill_(2.5)
    ours = net.run({"data": data}).blobs["x"].numpy()
    np.testing.assert_allclose(ours, opencv(prototxt, net, data, tmp_path), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "param"), CASES)
def test_gradients_are_those_of_finite_differences(kind: str, param: str) -> None:
    prototxt, _ = net_and_input(kind, param)
    if kind == "Dropout":
        pytest.skip("random in training; the identity in testing")
    small = prototxt.replace("dim: 9", "dim: 5").replace("dim: 11 }", "dim: 6 }", 1)
    small = small.replace("dim: -1 dim: 11", "dim: -1 dim: 6")
    net = build(small, (2, 4, 5, 6)).double()
    generator = torch.Generator().manual_seed(4)
    data = torch.randn((2, 4, 5, 6), generator=generator, dtype=torch.float64, requires_grad=True)
    parameters = tuple(net.parameters())

    def run(data: Tensor, *_: Tensor) -> Tensor:
        top: Tensor = net({"data": data})["x"]
        return top

    assert torch.autograd.gradcheck(run, (data, *parameters))


def one_layer(
    kind: str, shapes: dict[str, tuple[int, ...]], param: str = "", tops: str = "y"
) -> Net:
    prototxt = nets.inputs(**shapes) + nets.layer("y", kind, " ".join(shapes), tops, param)
    net = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    return Net(net, "TRAIN", data_shapes=shapes, seed=1, dtype=torch.float64)


def run(net: Net, **data: Tensor) -> Tensor:
    return net.run(data).blobs["y"]


T = torch.tensor


@pytest.mark.parametrize(
    ("kind", "param", "expected"),
    [
        ("EuclideanLoss", "", ((1 + 4) + (9 + 0)) / 4),
        ("SigmoidCrossEntropyLoss", "", None),
    ],
)
def test_losses_of_pairs(kind: str, param: str, expected: float | None) -> None:
    a, b = T([[1.0, 2.0], [3.0, 1.0]]).double(), T([[0.0, 0.0], [0.0, 1.0]]).double()
    if expected is None:
        p = torch.sigmoid(a)
        expected = (-(b * p.log() + (1 - b) * (1 - p).log()).sum() / 2).item()
    net = one_layer(kind, {"a": (2, 2), "b": (2, 2)}, param)
    assert run(net, a=a, b=b).item() == pytest.approx(expected, abs=1e-12)


SCORES = T([[1.0, 2.0, 0.5], [0.1, -1.0, 3.0], [2.0, 2.0, 2.0], [0.0, 5.0, 1.0]]).double()
LABELS = T([1, 0, 2, 1])


@pytest.mark.parametrize(
    ("param", "divisor", "counted"),
    [
        ("", 4, [0, 1, 2, 3]),
        ("loss_param { ignore_label: 1 }", 2, [1, 2]),
        ("loss_param { ignore_label: 1 normalization: FULL }", 4, [1, 2]),
        ("loss_param { normalize: false }", 4, [0, 1, 2, 3]),
        ("loss_param { normalization: NONE }", 1, [0, 1, 2, 3]),
    ],
)
def test_softmax_loss_and_its_normalisations(param: str, divisor: int, counted: list[int]) -> None:
    net = one_layer("SoftmaxWithLoss", {"s": (4, 3), "l": (4,)}, param)
    logs = torch.log_softmax(SCORES, 1)
    expected = -sum(logs[k, LABELS[k]].item() for k in counted) / divisor
    assert run(net, s=SCORES, l=LABELS).item() == pytest.approx(expected, abs=1e-12)


def test_a_hopeless_row_still_learns() -> None:
    net = one_layer("SoftmaxWithLoss", {"s": (1, 2), "l": (1,)})
    scores = T([[0.0, 500.0]]).double().requires_grad_()
    loss = net.run({"s": scores, "l": T([0])}).loss
    assert loss.item() == pytest.approx(500)
    loss.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("", 2 / 4),  # equal scores are not right
        ("accuracy_param { top_k: 2 }", 3 / 4 - 1 / 4 + 1 / 4),
        ("accuracy_param { ignore_label: 2 }", 2 / 3),
    ],
)
def test_accuracy(param: str, expected: float) -> None:
    net = one_layer("Accuracy", {"s": (4, 3), "l": (4,)}, param)
    assert run(net, s=SCORES, l=LABELS).item() == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge_loss(norm: str) -> None:
    net = one_layer("HingeLoss", {"s": (4, 3), "l": (4,)}, f"hinge_loss_param {{ norm: {norm} }}")
    power = int(norm[1])
    expected = sum(
        max(0.0, 1 + (-1 if k == LABELS[n] else 1) * SCORES[n, k].item()) ** power
        for n in range(4)
        for k in range(3)
    )
    assert run(net, s=SCORES, l=LABELS).item() == pytest.approx(expected / 4)


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive_loss(legacy: bool) -> None:
    a, b = T([[0.0, 0.0], [1.0, 0.0]]).double(), T([[0.5, 0.0], [1.0, 0.5]]).double()
    param = f"contrastive_loss_param {{ margin: 1 legacy_version: {str(legacy).lower()} }}"
    net = one_layer("ContrastiveLoss", {"a": (2, 2), "b": (2, 2), "s": (2,)}, param)
    apart = 1 - 0.25 if legacy else (1 - 0.5) ** 2
    expected = (0.25 + apart) / 4
    assert run(net, a=a, b=b, s=T([1, 0])).item() == pytest.approx(expected, abs=1e-9)


def test_an_lstm_is_torchs_with_its_gates_in_another_order() -> None:
    shapes = {"x": (5, 3, 4), "cont": (5, 3)}
    param = f"recurrent_param {{ num_output: 6 {FILL} }}"
    net = one_layer("LSTM", shapes, param)
    inputs, bias, hidden = net.layer_blobs()["y"]
    order = torch.cat([torch.arange(6) + 6 * k for k in (0, 1, 3, 2)])  # i f o g -> i f g o
    other: Any = torch.nn.LSTM(4, 6, dtype=torch.float64)
    with torch.no_grad():
        other.weight_ih_l0.copy_(inputs[order])
        other.weight_hh_l0.copy_(hidden[order])
        other.bias_ih_l0.copy_(bias[order])
        other.bias_hh_l0.zero_()
    x = torch.randn(shapes["x"], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cont = torch.ones(5, 3)
    cont[0] = 0
    torch.testing.assert_close(run(net, x=x, cont=cont), other(x)[0])
    cont[3] = 0  # a new sequence begins
    again = torch.cat([other(x[:3])[0], other(x[3:])[0]])
    torch.testing.assert_close(run(net, x=x, cont=cont), again)


def test_batch_norm_keeps_caffes_running_sums() -> None:
    net = one_layer(
        "BatchNorm", {"x": (4, 2, 3, 3)}, "batch_norm_param { moving_average_fraction: 0.9 }"
    )
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, variance, count = net.layer_blobs()["y"]
    for step in range(2):
        y = run(net, x=x + step)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(2, dtype=torch.float64))
    means = x.mean((0, 2, 3))
    torch.testing.assert_close(mean, 0.9 * means + means + 1)
    torch.testing.assert_close(variance, 1.9 * x.transpose(0, 1).flatten(1).var(1))
    assert count.item() == pytest.approx(1.9)


def test_every_type_has_a_row_in_the_docs() -> None:
    docs = Path(__file__).parents[2] / "docs" / "caffe-layers.md"
    rows = {
        line.split("|")[1].strip(" `")
        for line in docs.read_text().splitlines()
        if line[:3] == "| `"
    }
    assert rows >= set(REGISTRY) - {"SoftmaxLoss"}
