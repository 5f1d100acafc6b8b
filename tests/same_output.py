"""Compare what two runs of one program left behind: text, tensors, files.

Numbers in text are compared as numbers, so that rounding of the last bits does not count;
everything else must be the same. Each function returns sentences, none when nothing differs.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

__all__ = ["Sameness", "different_folders", "different_text", "different_values"]

NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")
DIGITS_THAT_ROUND = 8  # printed with so many decimals, rounding noise may flip the last one
SHOWN = 5  # differences told per file
LINE = 300  # characters of a line that are shown


@dataclass(frozen=True)
class Sameness:
    """What counts as the same."""

    tolerance: float = 1e-9
    ignore: tuple[str, ...] = field(default=())

    def close(self, a: float, b: float, slack: float = 0.0) -> bool:
        """Whether two numbers are equal up to the order of summation."""
        if a == b or (math.isnan(a) and math.isnan(b)):
            return True
        return abs(a - b) <= self.tolerance * max(1.0, abs(a), abs(b)) + slack

    def clean(self, text: str) -> str:
        """The text without what may differ."""
        for pattern in self.ignore:
            text = re.sub(pattern, "<ignored>", text, flags=re.MULTILINE)
        return text

    def lines(self, a: str, b: str) -> bool:
        """Whether two lines of text say the same."""
        if a == b:
            return True
        if NUMBER.split(a) != NUMBER.split(b):
            return False
        pairs = zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
        return all(x == y or self._numbers(x, y) for x, y in pairs)

    def _numbers(self, a: str, b: str) -> bool:
        if not re.search(r"[.eE]", a + b):
            return False  # counts must be the same
        mantissas = (re.split("[eE]", text)[0] for text in (a, b))
        decimals = min(len(text.partition(".")[2]) for text in mantissas)
        last = 10.0**-decimals * 1.0001 if decimals >= DIGITS_THAT_ROUND else 0.0
        scale = 10.0 ** int(re.split("[eE]", a)[1]) if re.search("[eE]", a) else 1.0
        return self.close(float(a), float(b), last * scale)


def different_text(same: Sameness, name: str, plain: str, ours: str) -> list[str]:
    """The first lines that differ."""
    left, right = same.clean(plain).splitlines(), same.clean(ours).splitlines()
    found = []
    for number, (a, b) in enumerate(zip_longest(left, right), 1):
        if a is None or b is None or not same.lines(a, b):
            found.append(f"{name} line {number}: python {_show(a)}, pellucid {_show(b)}")
            if len(left) != len(right):
                found[-1] += f" ({len(left)} lines, {len(right)} lines)"
            if a is None or b is None or len(found) == SHOWN:
                break
    return found


def _show(line: str | None) -> str:
    return "(nothing)" if line is None else repr(line[:LINE])


def different_folders(same: Sameness, plain: Path, ours: Path) -> list[str]:
    """Files and folders that are in one only, and files whose content differs."""
    left, right = _tree(plain), _tree(ours)
    found = [f"only python left {name}" for name in sorted(left.keys() - right.keys())]
    found += [f"only pellucid left {name}" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        found += _different_file(same, name, left[name], right[name])
    return found


def _tree(folder: Path) -> dict[str, Path]:
    tree = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        # the name of an event file holds the time, the host and the process
        name = re.sub(r"(events\.out\.tfevents)\..*", r"\1", name)
        tree[name + "/" if path.is_dir() else name] = path
    return {name: path for name, path in tree.items() if "__pycache__" not in name}


def _different_file(same: Sameness, name: str, plain: Path, ours: Path) -> list[str]:
    if plain.is_dir() or ours.is_dir():
        return []  # a folder is told from a file by its name, see _tree
    a, b = plain.read_bytes(), ours.read_bytes()
    if a == b:
        return []
    for matches, load in LOADERS:
        if matches(name, a):
            return different_values(same, name, load(a), load(b))
    try:
        texts = (
            data.decode().replace(str(path.parents[name.count("/")]), "<cwd>")
            for data, path in ((a, plain), (b, ours))
        )
        return different_text(same, name, *texts)
    except UnicodeDecodeError:
        return [f"{name}: bytes differ ({len(a)} and {len(b)})"]


def different_values(same: Sameness, name: str, plain: Any, ours: Any) -> list[str]:
    """The first places where two loaded values differ, with the largest difference of a tensor."""
    found = []
    for sentence in _walk(same, name, plain, ours):
        found.append(sentence)
        if len(found) == SHOWN:
            break
    return found


def _walk(same: Sameness, at: str, a: Any, b: Any) -> Iterator[str]:
    if _kind(a) != _kind(b):
        yield f"{at}: python has a {_kind(a)}, pellucid a {_kind(b)}"
        return
    left, right = _parts(a), _parts(b)
    if left is None or right is None:
        yield from _different_leaves(same, at, a, b)
        return
    if list(left) != list(right):
        yield f"{at}: keys {list(left)!r:.{LINE}} and {list(right)!r:.{LINE}}"
    for key in left:
        if key in right:
            yield from _walk(same, at + key, left[key], right[key])


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _parts(value: Any) -> dict[str, Any] | None:
    """What a container holds, by how one gets at it; None when it is no container."""
    if isinstance(value, torch.Tensor | np.ndarray | type):
        return None
    if isinstance(value, Mapping):
        return {f"[{key!r}]": item for key, item in value.items()}
    if isinstance(value, list | tuple):
        return {f"[{index}]": item for index, item in enumerate(value)}
    if hasattr(value, "__dict__"):
        return {f".{name}": item for name, item in vars(value).items()}
    return None


def _different_leaves(same: Sameness, at: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, torch.Tensor):
        yield from _different_tensors(same, at, a, b)
    elif isinstance(a, np.ndarray):
        yield from _different_arrays(same, at, a, b)
    elif isinstance(a, float):
        if not same.close(a, b):
            yield f"{at}: {a!r} and {b!r}"
    elif (a.__qualname__ != b.__qualname__) if isinstance(a, type) else (a != b):
        yield f"{at}: {a!r:.{LINE}} and {b!r:.{LINE}}"


def _different_tensors(same: Sameness, at: str, a: torch.Tensor, b: torch.Tensor) -> Iterator[str]:
    for what in ("shape", "dtype", "layout", "requires_grad", "device"):
        left, right = getattr(a, what), getattr(b, what)
        if left != right:
            yield f"{at}: {what} {left} and {right}"
            return
    if a.layout == torch.strided:
        # a weight that is a view of a larger array would drag all of it into the file
        left, right = a.untyped_storage().nbytes(), b.untyped_storage().nbytes()
        if left != right:
            yield f"{at}: storage of {left} and {right} bytes"
        if a.stride() != b.stride():
            yield f"{at}: stride {a.stride()} and {b.stride()}"
    dense = (x.detach().to_dense() if x.layout != torch.strided else x.detach() for x in (a, b))
    arrays = (x.to(torch.float64) if x.dtype == torch.bfloat16 else x for x in dense)
    yield from _different_arrays(same, at, *(x.numpy() for x in arrays))


def _different_arrays(same: Sameness, at: str, a: Any, b: Any) -> Iterator[str]:
    if a.shape != b.shape or a.dtype != b.dtype:
        yield f"{at}: {a.dtype}{a.shape} and {b.dtype}{b.shape}"
    elif a.dtype.kind not in "fc":
        if not np.array_equal(a, b):
            yield f"{at}: {np.count_nonzero(a != b)} of {a.size} values differ"
    elif not np.allclose(a, b, rtol=same.tolerance, atol=same.tolerance, equal_nan=True):
        yield f"{at}: {a.dtype}{a.shape} differs by up to {np.nanmax(np.abs(a - b)):.3g}"


class _Stub:
    """Stands for an object whose class only the script has."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state if isinstance(state, dict) else {"state": state})


class _TolerantUnpickler(pickle.Unpickler):
    """Reads pickles of classes that live in the script's own modules."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (_Stub,), {})


def _load_pickle(data: bytes) -> Any:
    return _TolerantUnpickler(io.BytesIO(data)).load()


def _load_torch(data: bytes) -> Any:
    reader = SimpleNamespace(Unpickler=_TolerantUnpickler, __name__="tolerant")
    return torch.load(io.BytesIO(data), weights_only=False, pickle_module=reader)


def _load_numpy(data: bytes) -> Any:
    loaded = np.load(io.BytesIO(data), allow_pickle=True)
    return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded


def _load_events(data: bytes) -> list[tuple[int, list[Any]]]:
    """Steps and values of a TensorBoard file, without its clock."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

    events = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        values = [
            (value.tag, value.simple_value)
            if value.HasField("simple_value")
            else (value.tag, value.WhichOneof("value"))
            for value in event.summary.value
        ]
        events.append((event.step, values))
        data = data[16 + length :]
    return events


# the first that fits a file's name and its first bytes; what none fits is text, or else bytes
LOADERS: list[tuple[Callable[[str, bytes], bool], Callable[[bytes], Any]]] = [
    (lambda name, _: "events.out.tfevents" in name, _load_events),
    (lambda name, _: name.endswith((".npy", ".npz")), _load_numpy),
    (lambda name, _: name.endswith((".pkl", ".pickle")), _load_pickle),
    (lambda _, data: data.startswith(b"PK"), _load_torch),
]
