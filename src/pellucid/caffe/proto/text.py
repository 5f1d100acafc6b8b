"""Prototxt: read with errors that name file, line and column; write."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from pellucid.caffe.errors import CaffeError

__all__ = ["line_of_layer", "located", "parse", "read", "write"]

_UNKNOWN_FIELD = re.compile(r'Message type "caffe\.(\w+)" has no field named "(\w+)"')
_UNKNOWN_VALUE = re.compile(r'Enum type "caffe\.([\w.]+)" has no value named (\w+)')


def read(path: str | Path, message: Any) -> Any:
    """Read a prototxt file into a message and return it.

    Raises:
        CaffeError: the file cannot be read or is no text of this message; names file, line, column.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read {path}: {error}"
        raise CaffeError(msg) from error
    return parse(text, message, str(path))


def parse(text: str, message: Any, name: str = "<text>") -> Any:
    """Parse prototxt into a message and return it; ``name`` stands for the file in errors."""
    try:
        with warnings.catch_warnings():  # of Python, about backslashes that mean nothing
            warnings.simplefilter("ignore", DeprecationWarning)
            return text_format.Parse(text, message)
    except text_format.ParseError as error:
        place = ":".join(str(n) for n in (name, error.GetLine(), error.GetColumn()) if n)
        said = re.sub(r"^\d+:\d+ : ", "", str(error))
        msg = f"{place}: {said}{_nearest(said, message)}"
    except (UnicodeError, RecursionError, OverflowError, ValueError) as error:
        msg = f"{name}: this is not prototxt: {error}"
    raise CaffeError(msg)


def write(path: str | Path, message: Any) -> None:
    """Write a message as prototxt."""
    Path(path).write_text(text_format.MessageToString(message), encoding="utf-8")


@contextmanager
def located(path: str | Path) -> Iterator[None]:
    """Errors about a layer that are raised inside name the file and the line it begins on."""
    try:
        yield
    except CaffeError as error:
        if error.layer is None:
            raise
        line = line_of_layer(Path(path).read_text(encoding="utf-8"), error.layer)
        msg = f"{path}:{line}: {error}" if line else f"{path}: {error}"
        raise CaffeError(msg) from error


def line_of_layer(text: str, name: str) -> int | None:
    """The line on which the last block ``layer {`` (or ``layers {``) of this name begins.

    The last: where two have the same name, it is the second that is wrong.
    """
    found = None
    blocks: list[tuple[str, int]] = []  # what the open braces belong to
    previous = "", 0
    for token, line in _tokens(text):
        if token == "{":
            blocks.append(previous)
        elif token == "}":
            blocks = blocks[:-1]
        elif token == ":":
            continue
        elif previous[0] == "name" and token[1:-1] == name and blocks[-1:]:
            word, at = blocks[-1]
            found = at if word in _LAYERS else found
        previous = token, line
    return found


_LAYERS = ("layer", "layers")
_TOKEN = re.compile(r"""#[^\n]*|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\w+|[{}:])|(\n)""")


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """Words, strings, braces and colons with their lines; comments left out."""
    line = 1
    for match in _TOKEN.finditer(text):
        if match[2]:
            line += 1
        elif match[1]:
            yield match[1], line


def _nearest(said: str, message: Any) -> str:
    """The known name nearest to an unknown one, if there is one."""
    known: list[str] = []
    if match := _UNKNOWN_FIELD.search(said):
        known = [f.name for f in _find(message.DESCRIPTOR, match[1]).fields]
    elif match := _UNKNOWN_VALUE.search(said):
        owner, _, enum = match[1].rpartition(".")
        scope = _find(message.DESCRIPTOR, owner) if owner else message.DESCRIPTOR.file
        known = [value.name for value in scope.enum_types_by_name[enum].values]
    near = difflib.get_close_matches(match[2], known, n=1, cutoff=0.5) if match else []
    return f" Did you mean {near[0]!r}?" if near else ""


def _find(descriptor: Any, name: str) -> Any:
    return descriptor.file.message_types_by_name[name]
