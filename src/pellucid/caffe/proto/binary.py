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
    values = _values(blob, "double_data" if double else "data")
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
    name = "double_data" if array.dtype == np.float64 else "data"
    content = array.astype(_KINDS[name], order="C", copy=False).tobytes()
    if content:  # as they go over the wire: a list of millions of numbers takes seconds
        number = blob.DESCRIPTOR.fields_by_name[name].number
        blob.MergeFromString(bytes([number << 3 | _PACKED]) + _varint(len(content)) + content)
    return blob


_PACKED = 2  # wire type of a field that has a length
_KINDS = {"data": "<f4", "double_data": "<f8"}


def _values(blob: Any, name: str) -> np.ndarray:
    """A repeated field's values, without making a number of Python of each."""
    only = messages.BlobProto()
    getattr(only, name).MergeFrom(getattr(blob, name))
    content = only.SerializeToString()
    values = np.frombuffer(content, _KINDS[name], offset=_start(content))
    return values.astype(values.dtype.newbyteorder("="))


def _start(content: bytes) -> int:
    """Where the values begin: behind the field's number and length."""
    if not content:
        return 0
    return 2 + next(k for k, byte in enumerate(content[1:]) if byte < 0x80)


def _varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the low ones first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
