"""A dataset of tensors, taken by the column: no sample is made, nothing has to be exchanged.

What torch's loader does with a `TensorDataset` (cut out every sample, then stack them) is a plain
selection of rows. So each worker selects its rows of large tensors, and all rows of small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset, default_collate

__all__ = ["Columns", "base_of"]


def base_of(dataset: Any) -> Any:
    """The dataset that a subset, or a subset of a subset, is of; itself if it is none."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return dataset


class Columns:
    """The tensors of a dataset.

    Args:
        dataset: a `TensorDataset`, or subsets of one.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    @classmethod
    def of(cls, dataset: Any, collate: Any) -> Columns | None:
        """Those of a loader's dataset; None if it is none of this kind."""
        columns = cls(dataset)
        if collate is not default_collate or type(base_of(dataset)) is not TensorDataset:
            return None
        ordinary = (
            type(column) is torch.Tensor
            and column.layout is torch.strided
            and not column.requires_grad
            and not column.is_quantized
            and column.ndim > 0
            for column in columns.tensors
        )
        return columns if all(ordinary) else None

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The whole columns, as they are now."""
        tensors: tuple[torch.Tensor, ...] = base_of(self._dataset).tensors
        return tensors

    def rows(self, indices: Sequence[Any]) -> list[int] | None:
        """The rows that the samples at these indices are; None unless that is plain to see."""
        rows = list(indices)
        dataset = self._dataset
        while type(dataset) is Subset:
            if not _within(rows, len(dataset.indices)):
                return None
            rows = [dataset.indices[i] for i in rows]
            dataset = dataset.dataset
        return rows if _within(rows, len(dataset)) else None

    @staticmethod
    def select(column: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Rows of a column, as `default_collate` would stack them."""
        return column.index_select(0, torch.tensor(rows, device=column.device))


def _within(rows: list[Any], size: int) -> bool:
    return all(type(row) is int and 0 <= row < size for row in rows)
