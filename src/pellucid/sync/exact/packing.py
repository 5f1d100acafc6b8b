"""Packed sequences within a split call, as long as the longest of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils import rnn

from pellucid.sync.exact.region import current

__all__ = ["SEAMS"]


def _pad_packed(
    original: Callable[..., Any],
    sequence: Any,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> Any:
    region = current()
    if region is not None and total_length is None:
        longest = torch.tensor([sequence.batch_sizes.shape[0]])
        taken = region.group.swap("longest sequence", [longest])
        total_length = max(int(parts[0].view(torch.int64)) for parts in taken.values())
    return original(sequence, batch_first, padding_value, total_length)


SEAMS: list[tuple[Any, str, Callable[..., Any]]] = [(rnn, "pad_packed_sequence", _pad_packed)]
