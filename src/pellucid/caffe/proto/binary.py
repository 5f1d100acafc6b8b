"""Binary messages: ``.caffemodel``, ``.solverstate``, ``.binaryproto``; blobs as arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.proto import messages

__all__ = ["array_to_blob", "blob_to_array", "decode", "read_binary", "write_binary"]


def read_binary(path: str | Path, kind: Any) -> Any:
    """Read a file of one message of this class.

    Raises:
        CaffeError: the file cannot be read, or is cut off or of another kind.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        msg = f"cannot read {path}: {error}"
        raise CaffeError(msg) from error
    return decode(data, kind, str(path))


def decode(data: bytes, kind: Any, name: str) -> Any:
    """A message of its bytes; ``name`` says in errors where they came from."""
    message = kind()
    try:
        message.ParseFromString(data)
        _check_names(message)
    except (DecodeError, UnicodeDecodeError) as error:
        msg = f"{name} ({len(data)} bytes) is cut off or no {kind.DESCRIPTOR.name}: {error}"
        raise CaffeError(msg) from error
    return message


def _check_names(message: Any) -> None:
    """Look at every string: protobuf lets bytes that are no text pass, and fails later."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None:
            if field.type == field.TYPE_STRING:
                value = getattr(message, field.name)
                values = value if hasattr(value, "append") else [value]
                if any(isinstance(text, bytes) for text in values):
                    msg = f"its {field.name} is no text"
                    raise DecodeError(msg)
        elif hasattr(inner := getattr(message, field.name), "DESCRIPTOR"):
            if message.HasField(field.name):
                _check_names(inner)
        else:
            for item in inner:
                _check_names(item)


def write_binary(path: str | Path, message: Any) -> None:
    """Write a message, at once or not at all."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(message.SerializeToString())
    partial.replace(path)


def blob_to_array(blob: Any, name: str = "blob") -> np.ndarray:
    """A blob's values in its shape; old blobs have four dimensions.

    Raises:
        CaffeError: the number of values does not fit the shape.
    """
    double = len(blob.double_data) > 0
    values = np.array(
        blob.double_data if double else blob.data, np.float64 if double else np.float32
    )
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    if min(shape, default=1) < 0 or math.prod(shape) != values.size:
        msg = f"{name} holds {values.size} values for the shape {shape}: the file is damaged"
        raise CaffeError(msg)
    return values.reshape(shape)


def array_to_blob(array: np.ndarray) -> Any:
    """A blob of an array's shape and values (float32, or float64 as doubles)."""
    blob = messages.BlobProto()
    blob.shape.dim.extend(array.shape)
    if array.dtype == np.float64:
        blob.double_data.extend(array.ravel().tolist())
    else:
        blob.data.extend(array.astype(np.float32, copy=False).ravel().tolist())
    return blob
