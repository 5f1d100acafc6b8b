"""Weights of a net in Caffe's files: ``.caffemodel`` (binary) and ``.caffemodel.h5``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.net import Net
from pellucid.caffe.proto import (
    array_to_blob,
    blob_to_array,
    messages,
    read_binary,
    upgrade_net,
    write_binary,
)

__all__ = ["load_weights", "net_to_proto", "read_weights", "save_weights"]


def load_weights(net: Net, path: str | Path) -> list[str]:
    """Give a net the weights of a file, layer by layer by name.

    Layers that the file does not have keep theirs.

    Returns:
        Names of layers that were given weights.

    Raises:
        CaffeError: the file cannot be read, or a blob's shape differs.
    """
    owned = {(p.layer, p.index) for p in net.params if p.owner is None}
    found = read_weights(path)
    given = []
    for name, blobs in net.layer_blobs().items():
        if name not in found:
            continue
        # HDF5 files hold shared blobs once, with the layer that owns them
        wanted = {k for k in range(len(blobs)) if (name, k) in owned or k in found[name]}
        if set(found[name]) != wanted:
            msg = (
                f"{path}: layer {name!r} has {len(found[name])} blobs there and {len(blobs)} in "
                f"the net. To train that layer anew, give it another name"
            )
            raise CaffeError(msg)
        for index, values in found[name].items():
            blob = blobs[index]
            if not _same(values.shape, tuple(blob.shape)):
                msg = (
                    f"{path}: blob {index} of layer {name!r} has shape {values.shape} there and "
                    f"{tuple(blob.shape)} in the net. To train it anew, give it another name"
                )
                raise CaffeError(msg)
            with torch.no_grad():
                blob.copy_(torch.from_numpy(values.reshape(blob.shape)))
        given.append(name)
    return given


def read_weights(path: str | Path) -> dict[str, dict[int, np.ndarray]]:
    """The blobs of each layer that has some in a file, by the layer's name and their number.

    Raises:
        CaffeError: the file cannot be read.
    """
    return _read_hdf5(path) if str(path).endswith(".h5") else _read_binary(path)


def save_weights(net: Net, path: str | Path) -> None:
    """Write a net's weights, as HDF5 if the name ends with ``.h5``."""
    if str(path).endswith(".h5"):
        _write_hdf5(net, path)
    else:
        write_binary(path, net_to_proto(net))


def net_to_proto(net: Net) -> Any:
    """The net with its weights as blobs of its layers."""
    proto = messages.NetParameter()
    proto.CopyFrom(net.param)
    blobs = net.layer_blobs()
    for layer in proto.layer:
        del layer.blobs[:]
        layer.phase = messages.Phase[net.phase]
        for blob in blobs.get(layer.name, []):
            layer.blobs.add().CopyFrom(array_to_blob(blob.detach().cpu().numpy()))
    return proto


def _same(there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Old files write every shape with four dimensions: (1, 1, n, m) is (n, m)."""
    if there == here:
        return True
    old = 4
    padded = (1,) * (old - len(here)) + here
    return len(there) == old and there == padded and math.prod(there) == math.prod(here)


def _read_binary(path: str | Path) -> dict[str, dict[int, np.ndarray]]:
    proto = upgrade_net(read_binary(path, messages.NetParameter), str(path))
    return {
        layer.name: {
            k: blob_to_array(blob, f"{path}: blob {k} of layer {layer.name!r}")
            for k, blob in enumerate(layer.blobs)
        }
        for layer in proto.layer
        if layer.blobs
    }


def _read_hdf5(path: str | Path) -> dict[str, dict[int, np.ndarray]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            data = file["data"]
            return {
                name: {int(k): np.asarray(values) for k, values in layer.items()}
                for name, layer in data.items()
                if len(layer)
            }
    except (OSError, KeyError) as error:
        msg = f"cannot read weights from {path}: {error}"
        raise CaffeError(msg) from error


def _write_hdf5(net: Net, path: str | Path) -> None:
    import h5py

    owned = {(p.layer, p.index) for p in net.params if p.owner is None}
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
        data = file.create_group("data")
        for name, blobs in net.layer_blobs().items():
            group = data.create_group(name)
            for k, blob in enumerate(blobs):
                if (name, k) in owned:
                    group.create_dataset(str(k), data=blob.detach().cpu().numpy())
    partial.replace(path)
