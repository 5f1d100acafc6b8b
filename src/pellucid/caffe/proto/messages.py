"""Message classes made of the schema: ``messages.NetParameter()`` and so on."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from pellucid.caffe.proto.schema import SCHEMA

__all__ = ["PACKAGE", "Phase"]

PACKAGE = "caffe"

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
_FIELD = re.compile(r"(\w+)=(\d+) (\w+)(\*{0,2})(?:=(\S+))?$")


def _file() -> descriptor_pb2.FileDescriptorProto:
    """The schema as protobuf wants it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="pellucid/caffe.proto", package=PACKAGE, syntax="proto2"
    )
    message: Any = file
    enums = {"Phase"}
    for line in SCHEMA.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "message":
            message = file.message_type.add(name=rest)
            enums = {"Phase"}
        elif kind == "enum":
            name, *values = rest.split()
            enums.add(name)
            enum = message.enum_type.add(name=name)
            for value in values:
                label, _, number = value.partition("=")
                enum.value.add(name=label, number=int(number))
        elif kind:
            for text in line.strip().split(", "):
                _add_field(message, text, enums)
    return file


def _add_field(message: Any, text: str, enums: set[str]) -> None:
    match = _FIELD.match(text)
    assert match, text
    name, number, kind, stars, default = match.groups()
    field = message.field.add(name=name, number=int(number))
    field.label = _Field.LABEL_REPEATED if stars else _Field.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind in enums:
        field.type = _Field.TYPE_ENUM
        scope = PACKAGE if kind == "Phase" else f"{PACKAGE}.{message.name}"
        field.type_name = f".{scope}.{kind}"
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    if stars == "**":
        field.options.packed = True
    if default is not None:
        field.default_value = default


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


# the phases by name, as numbers
Phase = {"TRAIN": 0, "TEST": 1}


def __getattr__(name: str) -> Any:
    """The class of a message."""
    try:
        descriptor = _pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
    except KeyError:
        raise AttributeError(name) from None
    return message_factory.GetMessageClass(descriptor)
