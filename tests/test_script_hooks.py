"""Hooks of the script, as torch's tables hold them: what is copied or saved is the script's own."""

from __future__ import annotations

import copy
import pickle
import pickletools
from typing import Any

import torch
from torch import nn

from pellucid.sync.exact.region import Region
from pellucid.sync.exact.script_hooks import BackwardHook, ForwardHook, ScriptHook, is_torchs


def doubled(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 2


class Keeper:
    def __init__(self) -> None:
        self.seen: list[float] = []

    def keep(self, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        self.seen.append(float(output.sum().detach()))


def nothing_split() -> Region | None:
    return None


def test_outside_of_split_calls_it_is_called_as_it_is() -> None:
    layer = nn.Linear(2, 1)
    before = layer(torch.ones(1, 2))
    layer.register_forward_hook(ForwardHook(doubled, keeps=True))
    assert torch.equal(layer(torch.ones(1, 2)), before * 2)


def test_it_is_called_like_the_hook() -> None:
    hook = ForwardHook(doubled, keeps=True)
    assert hook.__name__ == "doubled"  # type: ignore[attr-defined] # of what it wraps
    assert not is_torchs(hook)


def test_a_pickled_hook_knows_nothing_of_us() -> None:
    for hook in (ForwardHook(doubled, keeps=True), BackwardHook(doubled, nothing_split)):
        data = pickle.dumps(hook)
        assert pickle.loads(data) is doubled
        assert not [text for _, text, _ in pickletools.genops(data) if "pellucid" in str(text)]


def test_a_copied_method_is_one_of_the_copy() -> None:
    keeper = Keeper()
    held = {"keeper": keeper, "hook": ForwardHook(keeper.keep, keeps=True)}
    copied = copy.deepcopy(held)
    assert not isinstance(copied["hook"], ScriptHook)
    copied["hook"](nn.Identity(), (), torch.ones(2))  # type: ignore[operator]
    assert copied["keeper"].seen == [2.0]  # type: ignore[attr-defined]
    assert keeper.seen == []
