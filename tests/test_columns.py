"""Datasets of tensors, taken by the column."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from pellucid.sync.exact.columns import Columns

IMAGES = torch.arange(60.0).view(10, 3, 2)
LABELS = torch.arange(10)
DATA = TensorDataset(IMAGES, LABELS)


class _Own(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        return tuple(2 * tensor[index] for tensor in self.tensors)


@pytest.mark.parametrize(
    ("dataset", "indices"),
    [
        (DATA, [3, 1, 1]),
        (Subset(DATA, [9, 8, 7, 6]), [0, 3]),
        (Subset(Subset(DATA, range(2, 9)), [5, 0, 1]), [2, 0, 1]),
        (TensorDataset(IMAGES.transpose(1, 2), LABELS.double()), [0, 9]),
    ],
)
def test_selected_rows_are_what_collating_samples_gives(
    dataset: Dataset[Any], indices: list[int]
) -> None:
    columns = Columns.of(dataset, default_collate)
    assert columns is not None
    rows = columns.rows(indices)
    assert rows is not None
    expected = default_collate([dataset[i] for i in indices])
    for column, value in zip(columns.tensors, expected, strict=True):
        selected = columns.select(column, rows)
        assert torch.equal(selected, value)
        assert selected.stride() == value.stride()


@pytest.mark.parametrize(
    ("dataset", "collate"),
    [
        (DATA, list),
        (_Own(IMAGES, LABELS), default_collate),
        (TensorDataset(IMAGES.clone().requires_grad_(), LABELS), default_collate),
        (TensorDataset(LABELS.to_sparse()), default_collate),
        (torch.utils.data.ConcatDataset([DATA]), default_collate),
    ],
)
def test_anything_else_is_left_to_the_loader(dataset: Any, collate: Any) -> None:
    assert Columns.of(dataset, collate) is None


@pytest.mark.parametrize("indices", [[-1], [10], [torch.tensor(1)], [slice(2)], [True]])
def test_indices_that_are_not_plain_are_left_to_the_dataset(indices: list[Any]) -> None:
    columns = Columns.of(DATA, default_collate)
    assert columns is not None
    assert columns.rows(indices) is None
