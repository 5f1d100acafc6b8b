"""Caffe's files: prototxt, caffemodel, solverstate, binaryproto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.caffe.proto import messages, text
from pellucid.caffe.proto.binary import (
    array_to_blob,
    blob_to_array,
    decode,
    read_binary,
    write_binary,
)
from pellucid.caffe.proto.text import located
from pellucid.caffe.proto.upgrade import upgrade_net, upgrade_solver

__all__ = [
    "array_to_blob",
    "blob_to_array",
    "decode",
    "located",
    "messages",
    "read_binary",
    "read_net",
    "read_solver",
    "upgrade_net",
    "upgrade_solver",
    "write_binary",
]


def read_net(path: str | Path) -> Any:
    """A net from a prototxt file of any of Caffe's formats.

    Raises:
        CaffeError: the file cannot be read; names file, line and column.
    """
    net = text.read(path, messages.NetParameter())
    with located(path):
        return upgrade_net(net, str(path))


def read_solver(path: str | Path) -> Any:
    """A solver from a prototxt file.

    Raises:
        CaffeError: the file cannot be read; names file, line and column.
    """
    return upgrade_solver(text.read(path, messages.SolverParameter()), str(path))
