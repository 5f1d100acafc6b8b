"""Buckets of gradients: when they leave, and what is kept from call to call."""

# torch does not annotate all of its functions
# mypy: allow-untyped-calls

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from pellucid.sync.exact import gradients
from pellucid.sync.exact.aliases import aliased
from pellucid.sync.exact.gradients import Reducer
from pellucid.transport.shared_memory import Bucket, Group
from tests.group_of_threads import Crowd


@pytest.fixture
def group() -> Group:
    return Crowd(1).groups[0]


def three_layers() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)))


def test_a_bucket_leaves_while_backward_goes_on(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "BUCKET_BYTES", 1)
    events: list[str] = []
    post = group.post

    def noted(values: Sequence[torch.Tensor], *, empty: bool = False) -> Bucket:
        events.append("post")
        return post(values, empty=empty)

    monkeypatch.setattr(group, "post", noted)
    model, reducer = three_layers(), Reducer(group)

    def backward(number: int) -> Any:
        return lambda _: events.append(f"backward of {number}")

    for _ in range(2):  # with new aliases, and with kept ones
        events.clear()
        x = torch.ones(2, 4)
        with aliased(model, reducer):
            for number, layer in enumerate(model):
                x = layer(x)
                x.register_hook(backward(number))
        x.sum().backward()
        assert events == [
            *("backward of 2", "post", "backward of 1", "post", "backward of 0", "post")
        ]


def enter(model: nn.Module, reducer: Reducer) -> list[torch.Tensor]:
    with aliased(model, reducer):
        return list(model.parameters())


def test_aliases_are_kept_while_they_are_of_the_same_memory(group: Group) -> None:
    model, reducer = three_layers(), Reducer(group)
    middle: nn.Linear = model.get_submodule("1")  # type: ignore[assignment]
    weight = middle.weight

    def are_kept() -> bool:
        now = enter(model, reducer)
        before[:], same = now, all(a is b for a, b in zip(now, before, strict=True))
        assert all(a.is_set_to(p) for a, p in zip(now, model.parameters(), strict=True))
        return same

    before = enter(model, reducer)
    assert are_kept()
    with torch.no_grad():
        weight.add_(1.0)
    assert are_kept()
    weight.data = weight.data.clone()
    assert not are_kept()
    weight.data = weight.data.t()
    assert not are_kept()
    model.double()
    assert not are_kept()
    middle.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.float64))
    assert not are_kept()
    assert are_kept()


def test_a_frozen_parameter_has_no_alias(group: Group) -> None:
    model, reducer = three_layers(), Reducer(group)
    enter(model, reducer)
    frozen, other, _ = model.parameters()
    frozen.requires_grad_(False)
    inside = enter(model, reducer)
    assert inside[0] is frozen
    assert inside[1] is not other


def test_what_is_kept_goes_with_the_module(group: Group) -> None:
    model, reducer = three_layers(), Reducer(group)
    enter(model, reducer)
    weight = weakref.ref(next(model.parameters()))
    del model
    gc.collect()
    assert weight() is None


def test_aliases_of_large_models_are_not_kept(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "KEPT_BYTES", 10)
    model, reducer = three_layers(), Reducer(group)
    first, second = enter(model, reducer), enter(model, reducer)
    assert all(a is not b for a, b in zip(first, second, strict=True))
