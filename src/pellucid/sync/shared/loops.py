"""Where in a script a loop stands: for a message that names its line."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable
from types import FrameType
from typing import NamedTuple

__all__ = ["Loop", "innermost_loop", "loop_around"]


class Loop(NamedTuple):
    """A loop of the script.

    Attributes:
        path: its file.
        line: of its first line.
        text: of its head, without what it does.
        shared: the head as it would be with `pellucid.share`; empty for a ``while``.
    """

    path: str
    line: int
    text: str
    shared: str


def innermost_loop(source: str, line: int, path: str = "") -> Loop | None:
    """The innermost loop around a line, within the same function; None if there is none.

    Args:
        source: of the whole file.
        line: whose loop is looked for, from 1.
        path: of the file.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    found: ast.For | ast.While | None = None
    for node in ast.walk(tree):  # outer before inner
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found = None
        elif isinstance(node, ast.For | ast.While) and node.lineno < line:
            found = node
    if found is None:
        return None
    if isinstance(found, ast.While):
        return Loop(path, found.lineno, f"while {_text(source, found.test)}:", "")
    over = _text(source, found.iter)
    head = f"for {_text(source, found.target)} in "
    return Loop(path, found.lineno, f"{head}{over}:", f"{head}pellucid.share({over}):")


def _text(source: str, part: ast.expr) -> str:
    """A part as the script has it, in one line."""
    return " ".join((ast.get_source_segment(source, part) or ast.unparse(part)).split())


def loop_around(frames: Iterable[FrameType]) -> Loop | None:
    """The loop that a call stands in: in the function that makes it, or in a caller's.

    Args:
        frames: of the script's functions, innermost first.
    """
    for frame in frames:
        path = frame.f_code.co_filename
        source = "".join(linecache.getlines(path, frame.f_globals))
        loop = innermost_loop(source, frame.f_lineno, path)
        if loop is not None:
            return loop
    return None
