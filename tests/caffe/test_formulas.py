"""Layers that the other implementation lacks, against their formulas written once more."""

from __future__ import annotations

from collections.abc import Callable
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
