"""Nets of Caffe's oldest format (V0, 2013): ``layers { layer { ... } bottom ... top ... }``.

A layer's fields stood flat in one message for all types, its type was a word in small letters, and
padding was a layer of its own in front of a convolution or pooling.
"""

from __future__ import annotations

from typing import Any, Final

from pellucid.caffe.errors import CaffeError

__all__ = ["fold_padding", "from_v0"]

# word of V0 -> today's type, and the field that holds its parameters
_TYPES: Final = {
    "accuracy": ("Accuracy", "accuracy_param"),
    "bnll": ("BNLL", ""),
    "concat": ("Concat", "concat_param"),
    "conv": ("Convolution", "convolution_param"),
    "data": ("Data", "data_param"),
    "dropout": ("Dropout", "dropout_param"),
    "euclidean_loss": ("EuclideanLoss", ""),
    "flatten": ("Flatten", ""),
    "hdf5_data": ("HDF5Data", "hdf5_data_param"),
    "hdf5_output": ("HDF5Output", "hdf5_output_param"),
    "im2col": ("Im2col", "convolution_param"),
    "images": ("ImageData", "image_data_param"),
    "infogain_loss": ("InfogainLoss", "infogain_loss_param"),
    "innerproduct": ("InnerProduct", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MultinomialLogisticLoss", ""),
    "pool": ("Pooling", "pooling_param"),
    "relu": ("ReLU", ""),
    "sigmoid": ("Sigmoid", ""),
    "softmax": ("Softmax", ""),
    "softmax_loss": ("SoftmaxWithLoss", ""),
    "split": ("Split", ""),
    "tanh": ("TanH", ""),
    "window_data": ("WindowData", "window_data_param"),
}
# fields that are called otherwise today
_RENAMED: Final = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
    "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold",
    "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad",
    "det_crop_mode": "crop_mode",
}
_OF_TRANSFORMATION: Final = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
_OF_LAYER: Final = ("name", "type", "blobs", "blobs_lr", "weight_decay")


def from_v0(old: Any, new: Any) -> None:
    """Put a V0 layer's fields where they stand today.

    Args:
        old: a V0LayerParameter.
        new: the LayerParameter.

    Raises:
        CaffeError: the type is unknown, or a field does not belong to it.
    """
    if old.type not in _TYPES:
        msg = f"layer {old.name!r} has the type {old.type!r}, which no old net has"
        raise CaffeError(msg, layer=old.name)
    new.name = old.name
    new.type, where = _TYPES[old.type]
    for blob in old.blobs:
        new.blobs.add().CopyFrom(blob)
    for k in range(max(len(old.blobs_lr), len(old.weight_decay))):
        spec = new.param.add()
        if k < len(old.blobs_lr):
            spec.lr_mult = old.blobs_lr[k]
        if k < len(old.weight_decay):
            spec.decay_mult = old.weight_decay[k]
    for field, value in old.ListFields():
        if field.name not in _OF_LAYER:
            _move(field.name, value, new, where)


def _move(field: str, value: Any, new: Any, where: str) -> None:
    """Set one field of the layer's parameters or of its transformation."""
    if field == "hdf5_output_param":
        new.hdf5_output_param.CopyFrom(value)
        return
    target = getattr(new, where) if where else None
    today = _RENAMED.get(field, field)
    if field in _OF_TRANSFORMATION:
        target, today = new.transform_param, _OF_TRANSFORMATION[field]
    if target is None or today not in target.DESCRIPTOR.fields_by_name:
        msg = f"layer {new.name!r} ({new.type}) has the field {field!r}, which its type has not"
        raise CaffeError(msg, layer=new.name)
    described = target.DESCRIPTOR.fields_by_name[today]
    if described.message_type is not None:
        getattr(target, today).CopyFrom(value)
    elif hasattr(here := getattr(target, today), "append"):
        here.append(value)
    else:
        setattr(target, today, value)


def fold_padding(layers: Any) -> None:
    """Make padding layers the padding of the layer that reads them, in place.

    Args:
        layers: V1LayerParameters, some with a V0 layer in them.

    Raises:
        CaffeError: a padded blob goes to something that pads nothing.
    """
    padded = {}
    for outer in layers:
        if outer.HasField("layer") and outer.layer.type == "padding":
            if len(outer.top) != 1 or len(outer.bottom) != 1:
                msg = f"layer {outer.layer.name!r} (padding) must have one bottom and one top"
                raise CaffeError(msg, layer=outer.layer.name)
            padded[outer.top[0]] = outer
    if not padded:
        return
    kept = []
    for outer in layers:
        if outer.HasField("layer") and outer.layer.type == "padding":
            continue
        copy = type(outer)()
        copy.CopyFrom(outer)
        for k, bottom in enumerate(copy.bottom):
            if bottom in padded:
                if copy.layer.type not in ("conv", "pool"):
                    msg = f"layer {copy.layer.name!r} reads a padding and cannot pad"
                    raise CaffeError(msg, layer=copy.layer.name)
                copy.layer.pad = padded[bottom].layer.pad
                copy.bottom[k] = padded[bottom].bottom[0]
        kept.append(copy)
    del layers[:]
    layers.extend(kept)
