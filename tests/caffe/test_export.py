"""A net exported as plain PyTorch gives what the net gives, and its weights come back."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.export import from_state_dict, to_state_dict, write_module
from pellucid.caffe.net import Net
from pellucid.caffe.proto import messages, text, upgrade_net
from tests.caffe import nets
from tests.caffe.test_layers import CASES
from tests.caffe.test_net import data_of, net_of


def exported(net: Net, folder: Path) -> Any:
    """The module of the source that was written, with its weights."""
    code, weights = write_module(net, folder / "net")
    assert "pellucid" not in code.read_text().split('"""', 2)[2]  # but for the docstring
    spec = importlib.util.spec_from_file_location("exported_net", code)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(str(weights))


def compare(net: Net, data: dict[str, Tensor], folder: Path) -> Any:
    module = exported(net, folder).eval()
    with torch.no_grad():
        wanted = net(net.inputs(data))
        given = module(*[data[name] for name in net.trunk_inputs])
    given = given if isinstance(given, tuple) else (given,)
    for one, name in zip(given, net.hand_over, strict=True):
        torch.testing.assert_close(one, wanted[name], rtol=1e-5, atol=1e-6)
    return module


def perturb(net: Net) -> None:
    """Weights of which no two are alike, so that none can be taken for another."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for info in net.params:
            noise = torch.rand(info.parameter.shape, generator=generator)
            info.parameter.add_(noise * 0.1)


@pytest.mark.parametrize(
    "make",
    [
        nets.lenet,
        nets.cifar10_quick,
        nets.cifar10_full,
        nets.autoencoder,
        nets.siamese,
        nets.squeezenet,
        nets.googlenet,
    ],
)
def test_a_published_net_and_its_weights(make: Callable[[], str], tmp_path: Path) -> None:
    net = net_of(make(), "TEST")
    perturb(net)
    module = compare(net, data_of(net), tmp_path)
    again = net_of(make(), "TEST")
    from_state_dict(again, module.state_dict())
    for one, other in zip(again.params, net.params, strict=True):
        torch.testing.assert_close(one.parameter, other.parameter)


MORE = [
    ("Log", "log_param { base: 10 scale: 0 shift: 2 }"),
    ("Clip", "clip_param { min: -0.5 max: 1 }"),
    ("Threshold", "threshold_param { threshold: 0.25 }"),
    ("Tile", "tile_param { axis: 2 tiles: 3 }"),
    ("Reduction", "reduction_param { operation: ASUM axis: 1 coeff: 2 }"),
    ("BatchNorm", "batch_norm_param { eps: 0.01 }"),
    ("Bias", 'bias_param { filler { type: "uniform" } }'),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 2 }"),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 2 }"),
    ("InnerProduct", "inner_product_param { num_output: 3 transpose: true axis: 2 }"),
]
KINDS = [case for case in CASES if case[0] != "MVN"] + MORE


@pytest.mark.parametrize(("kind", "param"), KINDS)
def test_a_layer_and_its_weights(kind: str, param: str, tmp_path: Path) -> None:
    shape = (2, 4, 9, 11)
    prototxt = nets.inputs(data=shape) + nets.layer("a/b", kind, "data", "x", param)
    param_ = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    net = Net(param_, "TEST", data_shapes={"data": shape}, seed=1)
    perturb(net)
    data = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    module = compare(net, {"data": data}, tmp_path)
    again = Net(param_, "TEST", data_shapes={"data": shape}, seed=2)
    from_state_dict(again, module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            again({"data": data})["x"], net({"data": data})["x"], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    "tops",
    [
        ("Eltwise", "a b", "y", "eltwise_param { coeff: 2 coeff: -1 }"),
        ("Eltwise", "a b", "y", "eltwise_param { operation: PROD }"),
        ("Eltwise", "a b", "y", "eltwise_param { operation: MAX }"),
        ("Concat", "a b", "y", "concat_param { axis: 1 }"),
        ("Crop", "a c", "y", "crop_param { axis: 2 offset: 1 }"),
        ("Scale", "a d", "y", "scale_param { axis: 0 }"),
        ("Bias", "a d", "y", "bias_param { axis: 0 }"),
        ("Slice", "a", "y z", ""),
        ("Split", "a", "y z", ""),
    ],
)
def test_several_bottoms_or_tops(tops: tuple[str, str, str, str], tmp_path: Path) -> None:
    kind, bottoms, names, param = tops
    shapes = {"a": (2, 4, 5, 6), "b": (2, 4, 5, 6), "c": (2, 4, 3, 3), "d": (2, 4)}
    shapes = {name: shapes[name] for name in bottoms.split()}
    prototxt = nets.inputs(**shapes) + nets.layer("l", kind, bottoms, names, param)
    net = Net(text.parse(prototxt, messages.NetParameter()), "TEST", data_shapes=shapes)
    generator = torch.Generator().manual_seed(3)
    compare(net, {n: torch.randn(s, generator=generator) for n, s in shapes.items()}, tmp_path)


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    shapes = {"x": (3, 2, 4), "cont": (3, 2)}
    prototxt = nets.inputs(**shapes)
    prototxt += nets.layer("l", "LSTM", "x cont", "y", "recurrent_param { num_output: 3 }")
    net = Net(text.parse(prototxt, messages.NetParameter()), "TEST", data_shapes=shapes)
    with pytest.raises(CaffeError, match=r"layer 'l' \(LSTM\): this type cannot be exported"):
        write_module(net, tmp_path / "net")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("ip2.bias"), "no tensor 'ip2.bias'"),
        (lambda s: s.update(other=torch.zeros(1)), r"belong to no layer of the net: \['other'\]"),
        (lambda s: s.update({"ip2.bias": torch.zeros(3)}), r"makes a blob of shape \(3,\)"),
    ],
)
def test_a_state_dict_that_does_not_fit(change: Callable[[Any], object], said: str) -> None:
    net = net_of(nets.lenet())
    state = to_state_dict(net)
    change(state)
    with pytest.raises(CaffeError, match=said):
        from_state_dict(net, state)
