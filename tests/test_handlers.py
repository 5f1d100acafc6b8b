"""Handlers of Pyro are told nothing in trials; who would tell them something is found out."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from pellucid.sync.exact import handlers
from pellucid.sync.exact.proof import UntriedError


class Handler:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def _process_message(self, message: Any) -> None:
        self.told.append(message)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    runtime: Any = ModuleType("pyro.poutine.runtime")
    runtime._PYRO_STACK = []
    monkeypatch.setitem(sys.modules, "pyro.poutine.runtime", runtime)
    found: list[Any] = runtime._PYRO_STACK
    return found


def test_without_pyro_nobody_looks_on() -> None:
    assert not handlers.are_looking_on()
    with handlers.left_out():
        pass


def test_in_a_trial_they_are_told_nothing_and_are_there_again_after_it(stack: list[Any]) -> None:
    outer, inner = Handler(), Handler()
    stack += [outer, inner]
    assert handlers.are_looking_on()
    with handlers.left_out():
        (ours,) = stack
        with pytest.raises(UntriedError, match="handlers of Pyro"):
            ours._process_message({"name": "latent"})
    assert stack == [outer, inner]
    assert outer.told == inner.told == []


def test_where_nobody_looks_on_a_trial_may_sample(stack: list[Any]) -> None:
    with handlers.left_out():
        assert not handlers.are_looking_on()
    assert stack == []
