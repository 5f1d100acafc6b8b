"""Workers of a box that walk in step: one asks, all know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pellucid.errors import NetworkError, StoppedError, UnsupportedError
from pellucid.sync.stream import agreement
from pellucid.sync.stream.agreement import Agreement
from pellucid.transport.shared_memory import Group
from tests.group_of_threads import Crowd, DiedError

WORKERS = 3


@pytest.fixture(autouse=True)
def _any_thread_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "in_script_thread", lambda: True)


def agree(
    group: Group,
    leads: Callable[[], bool] = lambda: True,
    look_up: Callable[[], None] = lambda: None,
) -> Agreement:
    return Agreement(group, lambda: None, leads, look_up)


def only_first() -> Any:
    """What the others must not call."""
    msg = "a worker that cannot ask was asked"
    raise AssertionError(msg)


def test_one_asks_and_all_get_the_answer() -> None:
    def work(group: Group) -> tuple[Any, bool]:
        one = agree(group)
        answer = one.ask("batch", lambda: [7, "x", None]) if one.is_first else None
        return (answer if one.is_first else one.ask("batch", only_first)), one.leads

    assert Crowd(WORKERS).run(work) == dict.fromkeys(range(WORKERS), ([7, "x", None], True))


def test_while_the_first_waits_the_others_are_told_so() -> None:
    def work(group: Group) -> int:
        one = agree(group)

        def slow() -> int:
            for _ in range(5):
                one.wait()
            return 3

        one.wait()  # nobody has asked anything: nothing to say
        return int(one.ask("batch", slow if one.is_first else only_first))

    assert Crowd(WORKERS).run(work) == dict.fromkeys(range(WORKERS), 3)


def test_an_error_of_the_first_ends_all_and_is_told_once() -> None:
    def fail() -> Any:
        msg = "box 2 is dead"
        raise NetworkError(msg)

    def work(group: Group) -> tuple[str, str, bool]:
        one = agree(group)
        with pytest.raises((NetworkError, StoppedError)) as caught:
            one.ask("batch", fail if one.is_first else only_first)
        with pytest.raises(StoppedError, match="do not go on together"):
            one.ask("batch", only_first)
        return type(caught.value).__name__, str(caught.value), one.over

    told = Crowd(WORKERS).run(work)
    assert told[0] == ("NetworkError", "box 2 is dead", True)
    assert {told[w] for w in (1, 2)} == {("StoppedError", "box 2 is dead", True)}


def test_all_leave_at_the_same_question() -> None:
    def leave() -> None:
        raise SystemExit(0)

    def work(group: Group) -> bool:
        one = agree(group, look_up=leave)
        with pytest.raises(SystemExit):
            one.ask("batch", only_first)
        return one.over

    assert Crowd(WORKERS).run(work) == dict.fromkeys(range(WORKERS), True)


def test_values_of_the_first_are_spread() -> None:
    def work(group: Group) -> list[float]:
        mine = torch.full((4,), float(group.index + 1))
        agree(group).spread("weights", [mine])
        return mine.tolist()

    assert Crowd(WORKERS).run(work) == dict.fromkeys(range(WORKERS), [1.0] * 4)


def test_when_the_first_is_dead_the_others_end() -> None:
    crowd = Crowd(2)

    def die(group: Group) -> None:
        group.swap("alive", [])
        if group.index == 0:
            raise DiedError

    crowd.run(die)

    def work(group: Group) -> str:
        with pytest.raises(StoppedError) as caught:
            agree(group).ask("batch", only_first)
        return str(caught.value)

    assert "first worker has ended" in crowd.run(work)[1]


def test_who_is_alone_has_nobody_to_tell() -> None:
    def work(group: Group) -> tuple[int, bool]:
        one = agree(group)
        one.spread("weights", [torch.zeros(1)])
        return one.ask("batch", lambda: 5), one.alone

    assert Crowd(1).run(work) == {0: (5, True)}


def test_questions_from_another_thread_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "in_script_thread", lambda: False)
    (told,) = (
        Crowd(1)
        .raised(lambda group: agree(group).ask("batch", only_first), UnsupportedError)
        .values()
    )
    assert "main thread" in told
