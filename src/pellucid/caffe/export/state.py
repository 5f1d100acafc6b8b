"""A net's weights as a state dict of plain names, and back."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.export.pieces import Piece, piece
from pellucid.caffe.layers import Layer
from pellucid.caffe.net import Net

__all__ = ["Named", "from_state_dict", "named_pieces", "read_state_dict", "to_state_dict"]


@dataclass(frozen=True)
class Named:
    """A layer of the trunk as code.

    Attributes:
        layer: it.
        piece: its code.
        name: of its module, unique; that of the owner if it shares all of its blobs.
        owns: whether the module is its own.
    """

    layer: Layer
    piece: Piece
    name: str
    owns: bool


def identifier(name: str, taken: set[str]) -> str:
    """A name of Caffe's as one of Python's that is not taken yet; it is then."""
    found = re.sub(r"\W", "_", name).strip("_") or "layer"
    if found[0].isdigit() or keyword.iskeyword(found):
        found = f"_{found}"
    base, number = found, 2
    while found in taken:
        found, number = f"{base}_{number}", number + 1
    taken.add(found)
    return found


def named_pieces(net: Net) -> list[Named]:
    """All layers of a net's trunk as code, in order.

    Raises:
        CaffeError: a layer cannot be exported.
    """
    owners = {(p.layer, p.index): p for p in net.params}
    taken = {*dir(torch.nn.Module()), "F", "nn", "torch", "self"}
    names: dict[str, str] = {}
    found = []
    for layer, bottoms, tops in net.trunk_shapes():
        made = piece(layer, bottoms, tops)
        mine = [owners[layer.param.name, k] for k in range(len(layer.blobs()))]
        shared = {net.params[p.owner].layer for p in mine if p.owner is not None}
        owns = not shared
        if shared and (len(shared) > 1 or any(p.owner is None for p in mine)):
            layer.refuse("it shares some of its blobs only, which cannot be exported")
        name = identifier(layer.param.name, taken) if owns else names[shared.pop()]
        names[layer.param.name] = name
        found.append(Named(layer, made, name, owns))
    return found


def to_state_dict(net: Net) -> dict[str, Tensor]:
    """The net's weights by the names that its exported module has for them."""
    return {
        f"{one.name}.{name}": make(one.layer.blobs()).detach().cpu().clone().contiguous()
        for one in named_pieces(net)
        if one.owns
        for name, make in one.piece.weights.items()
    }


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file.

    Raises:
        CaffeError: it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        msg = f"cannot read {path}: {error}"
        raise CaffeError(msg) from error


@torch.no_grad()
def from_state_dict(net: Net, state: Mapping[str, Tensor]) -> None:
    """Give a net the weights of such a state dict, as its module's `state_dict` returns it.

    Raises:
        CaffeError: a tensor is missing, has another shape, or belongs to no layer.
    """
    left = set(state)
    for one in named_pieces(net):
        if not one.owns or not one.piece.weights:
            continue
        mine = {}
        for name in one.piece.weights:
            full = f"{one.name}.{name}"
            if full not in state:
                one.layer.refuse(f"the state dict has no tensor {full!r}")
            mine[name] = state[full]
            left.discard(full)
        for blob, values in zip(one.layer.blobs(), one.piece.blobs(mine), strict=True):
            if blob.shape != values.shape:
                one.layer.refuse(
                    f"a tensor of {one.name} makes a blob of shape {tuple(values.shape)}, "
                    f"the net's has {tuple(blob.shape)}"
                )
            blob.copy_(values)
    if left:
        msg = f"the state dict has tensors that belong to no layer of the net: {sorted(left)}"
        raise CaffeError(msg)
