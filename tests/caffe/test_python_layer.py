"""Layers that users wrote in Python for Caffe run as they stand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from pellucid.caffe.data import source
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.net import Net
from pellucid.caffe.proto import messages, text
from tests.caffe import nets

# the first is in the style of Caffe's own example of a loss in Python
LAYERS = """
import caffe
import numpy as np

class EuclideanLoss(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float64)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            sign = 1 if i == 0 else -1
            bottom[i].diff[...] = sign * self.diff / bottom[i].num * top[0].diff[0]

class Times(caffe.Layer):
    "y = w x, with w learned."
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] = (top[0].diff * bottom[0].data).sum()
        bottom[0].diff[...] = self.blobs[0].data * top[0].diff

class Count(caffe.Layer):
    "Data: two rows of the number of the batch."
    def setup(self, bottom, top):
        self.number = 0

    def reshape(self, bottom, top):
        top[0].reshape(2, 3)
        top[1].reshape(2)

    def forward(self, bottom, top):
        top[0].data[...] = self.number
        top[1].data[...] = self.phase == caffe.TEST
        self.number += 1
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_layers.py").write_text(LAYERS)
    monkeypatch.setattr(sys, "path", [*sys.path])  # layers put the folder they run in there
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_layers", None)
    sys.modules.pop("caffe", None)


def python(name: str, bottoms: str, tops: str, layer: str, more: str = "", extra: str = "") -> str:
    param = f'python_param {{ module: "my_layers" layer: "{layer}" {more} }} {extra}'
    return nets.layer(name, "Python", bottoms, tops, param)


def build(prototxt: str, **shapes: tuple[int, ...]) -> Net:
    param = text.parse(nets.inputs(**shapes) + prototxt, messages.NetParameter())
    return Net(param, "TRAIN", data_shapes=shapes, seed=1, dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_loss_in_python_is_the_built_in_one() -> None:
    shapes = {"x": (4, 3), "y": (4, 5)}
    gradients = []
    for loss in (
        python("l", "ip y", "l", "EuclideanLoss", extra="loss_weight: 2"),
        nets.layer("l", "EuclideanLoss", "ip y", "l", "loss_weight: 2"),
    ):
        net = build(nets.full("ip", "x", 5) + loss, **shapes)
        outputs = net.run({"x": random(4, 3), "y": random(4, 5, seed=1)})
        outputs.loss.backward()  # type: ignore[no-untyped-call]
        gradients.append([outputs.loss.detach(), *(p.grad for p in net.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert other is not None
        torch.testing.assert_close(one, other)


def test_a_layer_in_python_learns_its_blobs() -> None:
    net = build(python("t", "x", "y", "Times", 'param_str: "1.5"'), x=(4, 3))
    (weight,) = net.layer_blobs()["t"]
    assert weight.tolist() == [1.5]
    x = random(4, 3).requires_grad_()
    top = net.run({"x": x}).blobs["y"]
    torch.testing.assert_close(top, 1.5 * x)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(net, {"layers.t.blob0": w}, ({"x": x},))["y"],
        (x, torch.tensor([1.5], dtype=torch.float64, requires_grad=True)),
    )


def test_a_gradient_is_that_of_its_own_pass() -> None:
    """The class keeps what it needs of the latest pass, which need not be the one asked about."""
    net = build(python("l", "x y", "l", "EuclideanLoss", extra="loss_weight: 1"), x=(2,), y=(2,))
    first, second = random(2).requires_grad_(), random(2, seed=1).requires_grad_()
    zero = torch.zeros(2, dtype=torch.float64)
    losses = [net.run({"x": x, "y": zero}).loss for x in (first, second)]
    sum(losses[1:], losses[0]).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(first.grad, first.detach() / 2)
    torch.testing.assert_close(second.grad, second.detach() / 2)


def test_data_in_python() -> None:
    layer = text.parse(python("d", "", "x y", "Count"), messages.NetParameter()).layer[0]
    made = source(layer, "TEST", seed=0)
    assert made.shapes == {"x": (2, 3), "y": (2,)}
    found = [(b["x"][0, 0].item(), b["y"].tolist()) for b in islice(made.loader(), 3)]
    assert found == [(0, [1, 1]), (1, [1, 1]), (2, [1, 1])]


@pytest.mark.parametrize(
    ("prototxt", "said"),
    [
        (python("l", "x", "l", "EuclideanLoss"), "Exception: Need two inputs to compute distance"),
        (python("l", "x", "l", "EuclidLoss"), "has no class 'EuclidLoss'"),
        (python("l", "x", "l", "X").replace("my_layers", "mine"), "Is its folder in PYTHONPATH"),
    ],
)
def test_what_cannot_be_set_up_is_one_error(prototxt: str, said: str) -> None:
    with pytest.raises(CaffeError, match=r"layer 'l' \(Python\): .*" + said):
        build(prototxt, x=(4, 3))


def test_the_stand_in_says_what_it_has() -> None:
    build(python("t", "x", "y", "Times", 'param_str: "1"'), x=(4, 3))
    with pytest.raises(AttributeError, match="not 'Net'"):
        sys.modules["caffe"].Net  # noqa: B018
