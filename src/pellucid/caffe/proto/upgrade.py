"""Nets of older formats, made today's.

V1 nets have ``layers`` with an enum for the type and rates in lists; nets older still (V0) have one
flat parameter per layer, and padding as a layer of its own. Inputs were fields of the net; data
layers had their transformation among their own fields; the solver's type was an enum.
"""

from __future__ import annotations

from typing import Any

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import messages
from pellucid.caffe.proto.upgrade_v0 import fold_padding, from_v0

__all__ = ["upgrade_net", "upgrade_solver"]

# where joining the words of the enum's name is not enough
_NAMES = {
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
    "NONE": "",
}
_SOLVERS = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
_DATA = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}


def upgrade_net(net: Any, name: str = "net") -> Any:
    """Make a net of any format today's, in place, and return it.

    Raises:
        CaffeError: it mixes formats, or uses what no format after V0 has.
    """
    if net.layers:
        if net.layer:
            msg = f"{name} has both 'layer' and 'layers': use 'layer' for all"
            raise CaffeError(msg)
        fold_padding(net.layers)
        for old in net.layers:
            _from_v1(old, net.layer.add())
        del net.layers[:]
    for layer in net.layer:
        _move_transformation(layer)
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    if net.input:
        _inputs_as_layer(net, name)
    return net


def upgrade_solver(solver: Any, name: str = "solver") -> Any:
    """Make a solver of any format today's, in place, and return it."""
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            msg = f"{name} has both 'type' and the older 'solver_type': keep 'type'"
            raise CaffeError(msg)
        solver.type = _SOLVERS[solver.solver_type]
        solver.ClearField("solver_type")
    return solver


def _from_v1(old: Any, new: Any) -> None:
    for end in ("bottom", "top"):
        getattr(new, end).extend(getattr(old, end))
    for rules in ("include", "exclude"):
        for item in getattr(old, rules):
            getattr(new, rules).add().CopyFrom(item)
    if old.HasField("layer"):
        from_v0(old.layer, new)
        return
    label = type(old).DESCRIPTOR.enum_types_by_name["LayerType"].values_by_number[old.type].name
    new.type = _NAMES.get(label) or "".join(word.capitalize() for word in label.split("_"))
    new.name = old.name
    new.loss_weight.extend(old.loss_weight)
    for blob in old.blobs:
        new.blobs.add().CopyFrom(blob)
    for field, _ in old.ListFields():
        if field.name.endswith("_param"):
            getattr(new, field.name).CopyFrom(getattr(old, field.name))
    _param_specs(old, new)


def _param_specs(old: Any, new: Any) -> None:
    """Names and rates of the blobs, which were lists of the layer."""
    for k in range(max(len(old.param), len(old.blobs_lr), len(old.weight_decay))):
        spec = new.param.add()
        if k < len(old.param) and old.param[k]:
            spec.name = old.param[k]
        if k < len(old.blob_share_mode):
            spec.share_mode = old.blob_share_mode[k]
        if k < len(old.blobs_lr):
            spec.lr_mult = old.blobs_lr[k]
        if k < len(old.weight_decay):
            spec.decay_mult = old.weight_decay[k]


def _move_transformation(layer: Any) -> None:
    """Scale, mean, crop and mirror were fields of the data layers."""
    if layer.type not in _DATA:
        return
    param = getattr(layer, _DATA[layer.type])
    for name in ("scale", "mean_file", "crop_size", "mirror"):
        if param.HasField(name):
            setattr(layer.transform_param, name, getattr(param, name))
            param.ClearField(name)


def _inputs_as_layer(net: Any, name: str) -> None:
    """Input fields of the net become a layer of type Input in front."""
    four = 4  # dimensions of each input, in the oldest way to say it
    if len(net.input_shape) not in (0, len(net.input)) or (
        not net.input_shape and len(net.input_dim) != four * len(net.input)
    ):
        msg = f"{name}: {len(net.input)} inputs need as many input_shape, or 4 input_dim each"
        raise CaffeError(msg)
    layer = messages.LayerParameter(name="input", type="Input", top=net.input)
    for k in range(len(net.input)):
        shape = layer.input_param.shape.add()
        if net.input_shape:
            shape.CopyFrom(net.input_shape[k])
        else:
            shape.dim.extend(net.input_dim[four * k : four * (k + 1)])
    rest = [type(item).FromString(item.SerializeToString()) for item in net.layer]
    del net.layer[:], net.input[:], net.input_shape[:], net.input_dim[:]
    net.layer.extend([layer, *rest])
