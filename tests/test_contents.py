"""What stands in a tensor: every way of changing it is seen, and undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pellucid.sync.exact.contents import Contents

Change = Callable[[nn.Parameter], None]


def in_place(weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(2)


def through_data(weight: nn.Parameter) -> None:
    weight.data[0] = 7.0


def other_memory(weight: nn.Parameter) -> None:
    weight.data = weight.data * 2


def other_memory_of_same_values(weight: nn.Parameter) -> None:
    weight.data = weight.data.clone()


def to_no_number(weight: nn.Parameter) -> None:
    weight.data[1] = float("nan")


CHANGES = [in_place, through_data, other_memory, other_memory_of_same_values, to_no_number]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_seen_and_undone(change: Change) -> None:
    weight = nn.Parameter(torch.arange(4.0))
    others = weight.detach()  # a view that the script has taken
    contents = Contents(weight)
    assert not contents.is_changed()
    change(weight)
    assert contents.is_changed()
    contents.put_back()
    assert not contents.is_changed()
    assert weight.tolist() == [0.0, 1.0, 2.0, 3.0]
    others.add_(1)
    assert weight.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("change", [through_data, other_memory], ids=lambda change: change.__name__)
def test_of_what_is_too_large_to_be_copied_a_change_is_seen(change: Change) -> None:
    weight = nn.Parameter(torch.arange(4.0))
    contents = Contents(weight, copied=False)
    assert not contents.is_kept()
    assert not contents.is_changed()
    change(weight)
    assert contents.is_changed()


def test_what_is_no_number_is_no_change() -> None:
    values = torch.tensor([1.0, float("nan")])
    assert not Contents(values).is_changed()
    assert not Contents(values, copied=False).is_changed()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.empty(3, device="meta"),
        torch.tensor([1 + 2j]),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
    ],
    ids=["sparse", "meta", "complex", "bool", "empty"],
)
def test_any_tensor_can_be_looked_after(tensor: torch.Tensor) -> None:
    for copied in (True, False):
        contents = Contents(tensor, copied=copied)
        assert not contents.is_changed()
        contents.put_back()


def test_tensors_of_inference_mode_have_no_versions() -> None:
    with torch.inference_mode():
        values = torch.arange(3.0)
        contents = Contents(values)
        assert not contents.is_changed()
        values.add_(1)
        assert contents.is_changed()
        contents.put_back()
        assert values.tolist() == [0.0, 1.0, 2.0]
