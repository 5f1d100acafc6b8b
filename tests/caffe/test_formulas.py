"""Layers that the other implementation lacks, against their formulas written once more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pellucid.caffe.net import Net
from pellucid.caffe.proto import messages, text, upgrade_net
from tests.caffe import nets


def run(kind: str, param: str, data: dict[str, Tensor]) -> tuple[Tensor, Net]:
    shapes = {name: tuple(blob.shape) for name, blob in data.items()}
    prototxt = nets.inputs(**shapes) + nets.layer("y", kind, " ".join(shapes), "y", param)
    net = Net(
        upgrade_net(text.parse(prototxt, messages.NetParameter())),
        "TRAIN",
        data_shapes=shapes,
        seed=1,
        dtype=torch.float64,
    )
    return net.run(data).blobs["y"], net


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


X = random(3, 4, 5, 6)
P = random(4, 3).softmax(1)
LABELS = torch.tensor([0, 2, 1, 1])

CASES: list[tuple[str, str, dict[str, Tensor], Callable[..., Any]]] = [
    ("Swish", "swish_param { beta: 2 }", {"x": X}, lambda x: x / (1 + (-2 * x).exp())),
    ("Clip", "clip_param { min: -0.5 max: 1 }", {"x": X}, lambda x: x.clip(-0.5, 1)),
    ("Exp", "exp_param { base: 2 scale: 3 shift: 1 }", {"x": X}, lambda x: 2 ** (1 + 3 * x)),
    ("Exp", "", {"x": X}, lambda x: x.exp()),
    ("Log", "log_param { base: 10 }", {"x": X.abs()}, lambda x: x.log10()),
    ("Threshold", "threshold_param { threshold: 0.25 }", {"x": X}, lambda x: (x > 0.25).double()),
    ("Tile", "tile_param { axis: 2 tiles: 3 }", {"x": X}, lambda x: torch.cat([x, x, x], 2)),
    (
        "Reduction",
        "reduction_param { operation: SUMSQ axis: 2 coeff: 2 }",
        {"x": X},
        lambda x: 2 * (x * x).sum((2, 3)),
    ),
    (
        "Reduction",
        "reduction_param { operation: ASUM axis: 1 }",
        {"x": X},
        lambda x: x.abs().sum((1, 2, 3)),
    ),
    (
        "Reduction",
        "reduction_param { operation: MEAN axis: 1 }",
        {"x": X},
        lambda x: x.mean((1, 2, 3)),
    ),
    ("ArgMax", "argmax_param { axis: 1 }", {"x": X}, lambda x: x.argmax(1, keepdim=True).double()),
    (
        "ArgMax",
        "argmax_param { top_k: 2 out_max_val: true }",
        {"x": X},
        lambda x: torch.stack([t.double() for t in x.flatten(1).topk(2, 1)][::-1], 1),
    ),
    (
        "Crop",
        "crop_param { axis: 2 offset: 1 offset: 2 }",
        {"x": X, "like": random(3, 4, 2, 3)},
        lambda x, _: x[:, :, 1:3, 2:5],
    ),
    ("BatchReindex", "", {"x": X, "rows": torch.tensor([2, 0, 0])}, lambda x, r: x[r]),
    ("Eltwise", "eltwise_param { operation: PROD }", {"a": X, "b": X + 1}, lambda a, b: a * b),
    ("Eltwise", "eltwise_param { operation: MAX }", {"a": X, "b": -X}, torch.maximum),
    (
        "Eltwise",
        "eltwise_param { coeff: 2 coeff: -1 }",
        {"a": X, "b": X + 1},
        lambda a, b: 2 * a - b,
    ),
    ("Concat", "concat_param { axis: -1 }", {"a": X, "b": X}, lambda a, b: torch.cat([a, b], 3)),
    (
        "Bias",
        "bias_param { axis: 0 }",
        {"x": X, "b": random(3, 4)},
        lambda x, b: x + b[:, :, None, None],
    ),
    (
        "Im2col",
        "convolution_param { kernel_size: 3 pad: 1 stride: 2 }",
        {"x": X},
        lambda x: torch.nn.functional.unfold(x, 3, padding=1, stride=2).view(3, 36, 3, 3),
    ),
    (
        "MultinomialLogisticLoss",
        "",
        {"p": P, "l": LABELS},
        lambda p, n: -p[torch.arange(4), n].log().mean(),
    ),
    (
        "InfogainLoss",
        "",
        {"s": P, "l": LABELS, "h": torch.eye(3, dtype=torch.float64) * 2},
        lambda s, n, _: -2 * s.log_softmax(1)[torch.arange(4), n].mean(),
    ),
]


@pytest.mark.parametrize(("kind", "param", "data", "formula"), CASES)
def test_a_layer_is_its_formula(
    kind: str, param: str, data: dict[str, Tensor], formula: Callable[..., Tensor]
) -> None:
    torch.testing.assert_close(run(kind, param, data)[0], formula(*data.values()))


def test_embedding() -> None:
    numbers = torch.tensor([[0, 2], [1, 1]])
    param = 'embed_param { input_dim: 3 num_output: 2 weight_filler { type: "uniform" } }'
    y, net = run("Embed", param, {"n": numbers})
    weight, bias = net.layer_blobs()["y"]
    torch.testing.assert_close(y, weight[numbers] + bias)


def test_a_recurrent_net_step_by_step() -> None:
    x, cont = random(4, 2, 3), torch.tensor([[0, 0], [1, 1], [0, 1], [1, 1]])
    fillers = 'weight_filler { type: "uniform" min: -1 } bias_filler { type: "uniform" }'
    y, net = run("RNN", f"recurrent_param {{ num_output: 5 {fillers} }}", {"x": x, "cont": cont})
    w_x, b, w_h, w_o, b_o = net.layer_blobs()["y"]
    hidden = torch.zeros(2, 5, dtype=torch.float64)
    for t in range(4):
        hidden = torch.tanh(w_x @ x[t].T + b[:, None] + w_h @ (hidden * cont[t][:, None]).T).T
        torch.testing.assert_close(y[t], torch.tanh(hidden @ w_o.T + b_o))


UNIFORM = 'weight_filler { type: "uniform" min: -1 } bias_filler { type: "uniform" }'


def named(kind: str, param: str, data: dict[str, Tensor], tops: str) -> tuple[list[Tensor], Net]:
    """A layer with several tops, or none at all."""
    shapes = {name: tuple(blob.shape) for name, blob in data.items()}
    prototxt = nets.inputs(**shapes) + nets.layer("y", kind, " ".join(shapes), tops, param)
    param = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    net = Net(param, "TRAIN", data_shapes=shapes, seed=1, dtype=torch.float64)
    found = net.run(data).blobs
    return [found[top] for top in tops.split()], net


@pytest.mark.parametrize(("kind", "states"), [("RNN", 1), ("LSTM", 2)])
@pytest.mark.parametrize("static", [False, True])
def test_a_sequence_cut_in_two_is_the_whole(kind: str, states: int, static: bool) -> None:
    """With expose_hidden, the states behind one part are those before the next."""
    param = f"recurrent_param {{ num_output: 5 expose_hidden: true {UNIFORM} }}"
    whole = {"x": random(6, 2, 3), "cont": torch.ones(6, 2)}
    extra = {"static": random(2, 4)} if static else {}
    first = {f"s{k}": random(1, 2, 5) for k in range(states)}
    tops = " ".join(["y", *(f"last{k}" for k in range(states))])
    (y, *_), _ = named(kind, param, {**whole, **extra, **first}, tops)
    found, given = [], first
    for part in (slice(0, 2), slice(2, 6)):
        cut = {name: blob[part] for name, blob in whole.items()}
        (out, *last), _ = named(kind, param, {**cut, **extra, **given}, tops)
        found.append(out)
        given = {f"s{k}": state for k, state in enumerate(last)}
    torch.testing.assert_close(torch.cat(found), y)


def test_one_step_of_an_lstm_is_the_units() -> None:
    cell, gates, cont = random(1, 2, 3), random(1, 2, 12), torch.tensor([[1.0, 0.0]])
    (c, h), _ = named("LSTMUnit", "", {"c": cell, "g": gates, "k": cont}, "c1 h1")
    i, f, o, g = gates.chunk(4, -1)
    kept = cont[..., None] * f.sigmoid() * cell
    torch.testing.assert_close(c, kept + i.sigmoid() * g.tanh())
    torch.testing.assert_close(h, o.sigmoid() * c.tanh())


def test_a_parameter_is_handed_out_and_learned() -> None:
    (top,), net = named("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }", {}, "y")
    assert torch.equal(top, torch.zeros(2, 3))
    top.sum().backward()  # type: ignore[no-untyped-call]
    assert [p.grad.tolist() for p in net.parameters() if p.grad is not None] == [[[1.0] * 3] * 2]


def test_silence_takes_blobs_out_of_the_outputs() -> None:
    prototxt = nets.inputs(x=(2, 3)) + nets.layer("a", "AbsVal", "x", "a")
    prototxt += nets.layer("b", "AbsVal", "x", "b") + nets.layer("s", "Silence", "b", "")
    param = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    net = Net(param, "TEST", data_shapes={"x": (2, 3)}, seed=1)
    assert set(net.run({"x": torch.ones(2, 3)}).blobs) == {"a"}


def test_slices_and_copies() -> None:
    found, _ = named(
        "Slice", "slice_param { axis: 1 slice_point: 1 slice_point: 3 }", {"x": X}, "a b c"
    )
    for mine, wanted in zip(found, torch.split(X, [1, 2, 1], 1), strict=True):
        torch.testing.assert_close(mine, wanted)
    for copy in named("Split", "", {"x": X}, "a b")[0]:
        torch.testing.assert_close(copy, X)


def test_no_gradient_goes_down_where_the_net_says_so() -> None:
    prototxt = nets.inputs(x=(2, 3), y=(2, 3)) + nets.full("a", "x", 3) + nets.full("b", "a", 3)
    prototxt += nets.layer("l", "EuclideanLoss", "b y", "l")
    cut = prototxt.replace('bottom: "a"', 'bottom: "a" propagate_down: false')
    for one, wanted in ((prototxt, [True] * 4), (cut, [False, False, True, True])):
        param = upgrade_net(text.parse(one, messages.NetParameter()))
        shapes: dict[str, tuple[int, ...]] = {"x": (2, 3), "y": (2, 3)}
        net = Net(param, "TRAIN", data_shapes=shapes, seed=1)
        loss = net.run({name: torch.ones(2, 3) for name in shapes}).loss
        loss.backward()  # type: ignore[no-untyped-call]
        assert [p.grad is not None for p in net.parameters()] == wanted


def test_blobs_are_written_to_a_file_batch_behind_batch(tmp_path: Path) -> None:
    h5py: Any = pytest.importorskip("h5py")
    file = tmp_path / "out.h5"
    prototxt = nets.inputs(x=(2, 3), n=(2,))
    prototxt += nets.layer(
        "w", "HDF5Output", "x n", "", f'hdf5_output_param {{ file_name: "{file}" }}'
    )
    param = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    for _ in range(2):  # another net begins the file anew
        net = Net(param, "TEST", data_shapes={"x": (2, 3), "n": (2,)}, seed=1)
        for k in range(3):
            net.run({"x": torch.full((2, 3), float(k)), "n": torch.tensor([k, k + 10])})
    with h5py.File(file) as found:
        assert found["data"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
        assert found["data"].shape == (6, 3)
        assert found["label"][()].tolist() == [0, 10, 1, 11, 2, 12]


def test_a_pyramid_has_the_largest_of_each_part() -> None:
    y, _ = run("SPP", "spp_param { pyramid_height: 2 }", {"x": X[:, :, :4, :6]})
    x = X[:, :, :4, :6]
    quarters = [x[:, :, a : a + 2, b : b + 3].amax((2, 3)) for a in (0, 2) for b in (0, 3)]
    expected = torch.cat([x.amax((2, 3)), torch.stack(quarters, 2).flatten(1)], 1)
    torch.testing.assert_close(y, expected)


def test_rows_are_filtered() -> None:
    keep = torch.tensor([1, 0, 1])
    torch.testing.assert_close(run("Filter", "", {"x": X, "k": keep})[0], X[[0, 2]])


def test_stochastic_pooling_draws_values_of_the_window_and_tests_with_their_mean() -> None:
    x = X[:, :, :4, :6].abs()
    param = "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }"
    torch.manual_seed(0)
    y, _ = run("Pooling", param, {"x": x})
    windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert bool((windows == y[..., None]).any(-1).all())


SCORES, TARGETS = random(4, 3), torch.tensor([0.0, 1, 1, 0]).double()
SMOOTH: list[tuple[str, str, dict[str, Tensor]]] = [
    *((kind, param, data) for kind, param, data, _ in CASES if kind not in ("Threshold", "ArgMax")),
    ("SoftmaxWithLoss", "loss_weight: 2", {"s": SCORES, "l": LABELS}),
    ("SoftmaxWithLoss", "loss_param { ignore_label: 2 }", {"s": SCORES, "l": LABELS}),
    ("SoftmaxWithLoss", "softmax_param { axis: 1 }", {"s": random(2, 3, 2), "l": LABELS % 3}),
    ("SigmoidCrossEntropyLoss", "", {"s": SCORES[:, 0], "t": TARGETS}),
    ("EuclideanLoss", "", {"a": SCORES, "b": random(4, 3) + 1}),
    ("HingeLoss", "", {"s": SCORES, "l": LABELS}),
    ("HingeLoss", "hinge_loss_param { norm: L2 }", {"s": SCORES, "l": LABELS}),
    ("ContrastiveLoss", "", {"a": SCORES, "b": SCORES.flip(0) / 2, "s": TARGETS}),
    ("BatchNorm", "", {"x": X}),
    (
        "Bias",
        f"bias_param {{ axis: 1 {UNIFORM.split(' bias', 1)[0].replace('weight_', '')} }}",
        {"x": X},
    ),
    ("SPP", "spp_param { pyramid_height: 2 }", {"x": X[:, :, :4, :6]}),
    ("Embed", f"embed_param {{ input_dim: 3 num_output: 2 {UNIFORM} }}", {"n": LABELS % 3}),
    (
        "LSTM",
        f"recurrent_param {{ num_output: 3 {UNIFORM} }}",
        {"x": random(3, 2, 2), "c": torch.ones(3, 2)},
    ),
    (
        "RNN",
        f"recurrent_param {{ num_output: 3 {UNIFORM} }}",
        {"x": random(3, 2, 2), "c": torch.ones(3, 2)},
    ),
    ("Filter", "", {"x": X, "k": torch.tensor([1, 0, 1])}),
]


@pytest.mark.parametrize(("kind", "param", "data"), SMOOTH)
def test_gradients_are_those_of_finite_differences(
    kind: str, param: str, data: dict[str, Tensor]
) -> None:
    _, net = run(kind, param, data)
    names = [name for name, blob in data.items() if blob.dtype == torch.float64]
    learned = [p for p in net.parameters() if p.requires_grad]

    def loss(*blobs: Tensor) -> Tensor:
        given = dict(zip(names, blobs, strict=False))
        outputs = net.run({**data, **given})
        return outputs.loss if outputs.weights["y"] else outputs.blobs["y"]

    inputs = [data[name].clone().requires_grad_() for name in names]
    assert inputs or learned
    # changed in place by the check, what the net learns needs not be passed on
    assert torch.autograd.gradcheck(loss, (*inputs, *learned), fast_mode=True)
