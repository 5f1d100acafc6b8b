"""Nets are built as Caffe would build them, and refused where it would refuse them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.net import Net
from pellucid.caffe.proto import messages, text, upgrade_net
from pellucid.caffe.weights import load_weights, save_weights
from tests.caffe import nets


def net_of(prototxt: str, phase: str = "TRAIN", **kinds: object) -> Net:
    param = upgrade_net(text.parse(prototxt, messages.NetParameter()))
    shapes = {
        top: tuple(shape.dim)
        for layer in param.layer
        if layer.type == "Input"
        for top, shape in zip(layer.top, layer.input_param.shape, strict=True)
    }
    return Net(param, phase, data_shapes=shapes, seed=1, **kinds)  # type: ignore[arg-type]


def data_of(net: Net) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    found = {}
    for layer in net.data_layers:
        for top in layer.top:
            shape = net.shapes[top]
            if len(shape) == 1:
                found[top] = torch.randint(0, 2, shape, generator=generator)
            else:
                found[top] = torch.rand(shape, generator=generator, dtype=torch.float32)
    return found


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (nets.lenet, 431_080),
        (nets.alexnet, 60_965_224),
        (nets.googlenet, 13_378_280),
        (nets.squeezenet, 1_248_424),
        (nets.siamese, 431_102),
        (nets.cifar10_quick, 145_578),
        (nets.cifar10_full, 89_578),
        (nets.autoencoder, 2_837_314),
    ],
)
def test_published_nets_have_their_published_number_of_parameters(
    make: Callable[[], str], count: int
) -> None:
    assert net_of(make()).parameter_count == count


@pytest.mark.parametrize(
    "make", [nets.lenet, nets.squeezenet, nets.siamese, nets.cifar10_quick, nets.cifar10_full]
)
def test_a_net_learns(make: Callable[[], str]) -> None:
    net = net_of(make())
    data = data_of(net)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.01)
    torch.manual_seed(0)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        outputs = net.run(data)
        outputs.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(outputs.loss.item())
    assert losses[-1] < losses[0]


def test_side_losses_count_by_their_weight() -> None:
    net = net_of(nets.googlenet(1), "TEST")
    outputs = net.run(data_of(net))
    losses = {name: blob for name, blob in outputs.blobs.items() if "loss" in name}
    assert len(losses) == 3
    expected = sum(blob.item() * outputs.weights[name] for name, blob in losses.items())
    assert outputs.loss.item() == pytest.approx(expected)
    assert sorted(outputs.weights.values()) == pytest.approx([0.3, 0.3, 1.0])


def test_shared_blobs_are_one(tmp_path: Path) -> None:
    net = net_of(nets.siamese())
    blobs = net.layer_blobs()
    assert blobs["conv1"][0] is blobs["conv1_p"][0]
    assert [p.owner is None for p in net.params] == [True] * 10 + [False] * 10
    for name in ("a.caffemodel", "a.caffemodel.h5"):
        save_weights(net, tmp_path / name)
        other = net_of(nets.siamese())
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        load_weights(other, tmp_path / name)
        assert all(
            torch.equal(a.parameter, b.parameter)
            for a, b in zip(net.params, other.params, strict=True)
        )


def test_a_test_net_uses_the_training_nets_weights() -> None:
    train, test = net_of(nets.lenet()), net_of(nets.lenet(), "TEST")
    test.share_weights(train)
    assert all(a.parameter is b.parameter for a, b in zip(train.params, test.params, strict=True))
    assert set(test.run(data_of(test)).blobs) == {"accuracy", "loss"}


def test_rates_of_zero_need_no_gradient() -> None:
    net = net_of(nets.lenet().replace("lr_mult: 1", "lr_mult: 0", 1))
    assert [p.parameter.requires_grad for p in net.params[:3]] == [False, True, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('bottom: "pool1"', 'bottom: "pol1"'), "Did you mean 'pool1'"),
        (('type: "Pooling"', 'type: "Poling"'), "Did you mean 'Pooling'"),
        (('name: "conv2"', 'name: "conv1"'), "two layers are called 'conv1'"),
        (("kernel_size: 5", "kernel_size: 50"), "it does not fit bottoms of shapes"),
        (('top: "pool1"', 'top: "data"'), "already the top of a layer"),
        (('type: "xavier"', 'type: "xavior"'), "unknown filler 'xavior'"),
        (("dim: 64", "dim: 63"), "need as many labels"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(change: tuple[str, str], said: str) -> None:
    with pytest.raises(CaffeError, match="layer") as caught:
        net_of(nets.lenet().replace(*change, 1))
    assert said in str(caught.value)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    net = net_of(nets.lenet())
    save_weights(net, tmp_path / "a.caffemodel")
    other = net_of(nets.lenet().replace("num_output: 10 ", "num_output: 11 "))
    with pytest.raises(CaffeError, match="give it another name"):
        load_weights(other, tmp_path / "a.caffemodel")


def test_a_renamed_layer_keeps_its_fresh_weights(tmp_path: Path) -> None:
    net = net_of(nets.lenet())
    save_weights(net, tmp_path / "a.caffemodel")
    other = net_of(
        nets.lenet().replace('"ip2"', '"ip2_new"').replace("num_output: 10 ", "num_output: 11 ")
    )
    assert load_weights(other, tmp_path / "a.caffemodel") == ["conv1", "conv2", "ip1"]
