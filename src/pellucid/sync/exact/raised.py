"""An error that one worker's rows raise in a module is the call's, and all workers raise it.

A single process would have raised it for the whole batch, and its script may catch it: to skip a
batch with a number that is none, or an index that is out of range.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from typing import Final

import torch
from torch import nn

from pellucid.errors import DisputeError, DivergenceError
from pellucid.sync.shared import generators
from pellucid.sync.shared.parts import buffers_of
from pellucid.transport.shared_memory import Group

__all__ = ["agree_on_error"]

KIND: Final = "a call that raised an error"
MOST_BYTES: Final = 1 << 16
MOST_CHARACTERS: Final = 1 << 13


def agree_on_error(group: Group, module: nn.Module, error: Exception) -> Exception:
    """The error that this worker is to raise. A collective operation.

    Buffers and generators are then what they were where the error was raised first: there, the call
    went as far as in a single process.

    Args:
        group: the workers.
        module: what was called.
        error: what this worker met; a `DivergenceError` where it only found out about another's.
    """
    if isinstance(error, DisputeError):
        return error  # all have met it
    mine = b"" if isinstance(error, DivergenceError) else _packed(error)
    part = torch.frombuffer(bytearray(mine or b"\0"), dtype=torch.uint8)
    taken = _told(group, part) or _told(group, part)  # others see only now that it has failed
    if taken is None:
        return error  # they are elsewhere
    said = {worker: parts[0].numpy().tobytes() for worker, parts in taken.items()}
    raised = [worker for worker, text in said.items() if len(text) > 1]
    if len(raised) in (0, len(said)):
        return error
    first = raised[0]
    values = [group.broadcast("buffers after an error", b, first) for b in buffers_of(module)]
    states = group.swap("generators after an error", [generators.encode_states()])
    if mine:
        return error
    generators.decode_states(states[first][0])
    for buffer, value in zip(buffers_of(module), values, strict=True):
        buffer.detach().copy_(value)
    return _unpacked(said[first], first)


def _told(group: Group, part: torch.Tensor) -> dict[int, list[torch.Tensor]] | None:
    """What all tell of the error; None where others are at another exchange."""
    try:
        return group.swap(KIND, [part])
    except DivergenceError:
        return None


def _packed(error: Exception) -> bytes:
    lines = "".join(traceback.format_exception(error))[-MOST_CHARACTERS:]
    with contextlib.suppress(Exception):  # it may hold anything, or not be made again
        packed = pickle.dumps((error, lines))
        pickle.loads(packed)
        if len(packed) <= MOST_BYTES:
            return packed
    return pickle.dumps((RuntimeError(str(error)[:MOST_CHARACTERS]), lines))


def _unpacked(packed: bytes, worker: int) -> Exception:
    error: Exception
    error, lines = pickle.loads(packed)
    error.add_note(f"raised by the rows of worker {worker}:\n{lines}")
    return error
