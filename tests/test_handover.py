"""Handing a batch round: all get the same, however large it is and whatever it consists of."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from pellucid.errors import DivergenceError
from pellucid.sync.exact import handover
from pellucid.sync.exact.handover import LostError, TravelError, hand_round
from pellucid.sync.exact.tree import leaves_of
from pellucid.sync.exact.view import BatchView
from pellucid.transport.shared_memory import Group
from tests.group_of_threads import Crowd, DiedError

WORKERS = 3


class Pair(NamedTuple):
    x: Any
    y: Any


def batch() -> Pair:
    """Images with channels last, small and large tensors, and what is no tensor."""
    torch.manual_seed(0)
    images = torch.randn(20, 30, 30, 3).permute(0, 3, 1, 2)
    labels = {"class": torch.arange(20), "names": ["a", "b"], "none": None, "empty": torch.empty(0)}
    return Pair([images, images, torch.randn(7, 4000)], (labels, torch.rand(20, 5000)))


def handed_round(source: int, total: int | None) -> dict[int, tuple[Any, list[torch.Tensor]]]:
    """What each worker got, and the tensors in it made whole."""

    def work(group: Group) -> tuple[Any, list[torch.Tensor]]:
        mine = batch() if group.index == source else "nothing"
        got = hand_round(group, 1, total, source, mine)
        tensors = [leaf for leaf in leaves_of(got) if isinstance(leaf, torch.Tensor)]
        return got, [t.make_whole() if isinstance(t, BatchView) else t for t in tensors]

    return Crowd(WORKERS).run(work)


@pytest.mark.parametrize("room", [handover.ROOM, 300_000, 3_000])
@pytest.mark.parametrize("total", [20, None, 5])
def test_all_get_the_same(room: int, total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "ROOM", room)
    had = [leaf for leaf in leaves_of(batch()) if isinstance(leaf, torch.Tensor)]
    for got, wholes in handed_round(1, total).values():
        assert isinstance(got, Pair)
        assert got.x[0] is got.x[1]
        assert isinstance(got.x[0], BatchView) == isinstance(got.y[1], BatchView) == (total != 5)
        assert not isinstance(got.x[2], BatchView)
        assert not isinstance(got.y[0]["class"], BatchView)
        assert got.y[0]["names"] == ["a", "b"]
        assert len(wholes) == len(had)
        for a, b in zip(wholes, had, strict=True):
            assert torch.equal(a, b)
            assert a.stride() == b.stride()


def test_what_shares_memory_goes_on_sharing_it() -> None:
    def work(group: Group) -> float:
        rows = torch.arange(12.0).reshape(3, 4)
        x, y = hand_round(group, 1, 3, 0, (rows[:, :-1], rows[:, 1:]))
        y[0, 0] = 99
        return float(x[0, 1])

    assert set(Crowd(WORKERS).run(work).values()) == {99.0}


def test_what_cannot_be_pickled_is_handed_to_nobody() -> None:
    def work(group: Group) -> str:
        with pytest.raises(TravelError):
            hand_round(group, 1, None, 2, lambda: None)
        return str(hand_round(group, 1, None, 2, "goes on"))

    assert set(Crowd(WORKERS).run(work).values()) == {"goes on"}


@pytest.mark.parametrize("pieces", [0, 2])
def test_a_batch_dies_with_its_worker(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything of it has come, or in the middle of it."""
    monkeypatch.setattr(handover, "ROOM", 3_000)
    crowd = Crowd(WORKERS)

    def work(group: Group) -> list[int]:
        if group.index == 1 and not pieces:
            raise DiedError
        if group.index == 1:
            swap, left = group.swap, [pieces]

            def dying(*args: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise DiedError
                return swap(*args)

            monkeypatch.setattr(group, "swap", dying)
        with pytest.raises(LostError):
            hand_round(group, 1, 20, 1, batch())
        group.swap("afterwards", [])
        return group.living

    assert crowd.run(work) == {0: [0, 2], 2: [0, 2]}


def test_workers_that_drew_different_batches_are_told() -> None:
    def work(group: Group) -> bool:
        with pytest.raises(DivergenceError, match="drew different batches"):
            hand_round(group, group.index, None, 0, "x")
        return True

    assert all(Crowd(WORKERS).run(work).values())
