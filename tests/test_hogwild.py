"""Hogwild's table and weights: several workers' sides of them, in one process, in any order."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import torch
from torch import nn

from pellucid.errors import LayoutError
from pellucid.params import memory
from pellucid.params.flat import FlatParameters, named_tensors
from pellucid.sync.hogwild.dealer import BoxDealer
from pellucid.sync.hogwild.table import CELLS, Table
from pellucid.sync.hogwild.weights import BoxWeights
from pellucid.sync.shared.dealer import Block, Lease, PassKey, Role
from pellucid.transport.board import Board, Field, State

KEY = PassKey(0, 0)


class Waits(Exception):  # noqa: N818 - no error: what a worker that waits does here
    pass


def wait() -> None:
    raise Waits


class Box:
    """Workers of a box, each with its dealer."""

    def __init__(self, workers: int, pause: Callable[[], None] = wait) -> None:
        self.board = Board.create(workers)
        self.fd = Table.create(workers)
        self.dealers = [
            BoxDealer(Table(self.fd, workers), self.board, w, pause) for w in range(workers)
        ]

    def kill(self, worker: int) -> None:
        self.board.fields[worker][Field.STATE] = State.DEAD

    def train(self, key: PassKey, batches: int | None = 10) -> None:
        """Everybody opens a pass that is known to train."""
        for dealer in self.dealers:
            assert dealer.open(key, b"order", batches, trains=True).role is Role.TRAIN

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.board.fd)


@contextmanager
def box(workers: int = 3) -> Iterator[Box]:
    with closing(Box(workers)) as made:
        yield made


def test_the_first_to_open_tries_and_the_others_wait() -> None:
    with box() as b:
        opened = b.dealers[1].open(KEY, b"mine", 4)
        assert (opened.role, opened.order) == (Role.TRY, b"mine")
        with pytest.raises(Waits):
            b.dealers[0].open(KEY, b"other", 4)
        lease = b.dealers[1].take(KEY)
        assert lease == Lease(KEY, 0)
        b.dealers[1].decide(KEY, trains=True)
        opened = b.dealers[0].open(KEY, b"other", 4)
        assert (opened.role, opened.order) == (Role.TRAIN, b"mine")
        assert b.dealers[0].take(KEY) == Lease(KEY, 1)
        assert b.dealers[2].open(PassKey(0, 1), b"next", 4).role is Role.TRAIN  # no second trial


def test_a_pass_without_a_change_is_everybodys_own() -> None:
    with box() as b:
        b.dealers[0].open(KEY, b"", 4)
        b.dealers[0].decide(KEY, trains=False)
        assert b.dealers[1].open(KEY, b"", 4).role is Role.WHOLE
        assert b.dealers[1].open(PassKey(0, 1), b"", 4).role is Role.WHOLE
        b.dealers[1].decide(PassKey(0, 1), trains=True)  # it erred: from the next pass on
        assert b.dealers[0].open(PassKey(0, 1), b"", 4).role is Role.WHOLE
        assert b.dealers[0].open(PassKey(0, 2), b"", 4).role is Role.TRAIN


def test_a_peek_leaves_the_question_open() -> None:
    with box() as b:
        b.dealers[0].open(KEY, b"", 4)
        b.dealers[0].take(KEY)
        b.dealers[0].undecided(KEY)
        assert b.dealers[1].open(KEY, b"", 4).role is Role.WHOLE
        assert b.dealers[1].open(PassKey(0, 1), b"", 4).role is Role.TRY


def test_when_the_one_that_tries_dies_another_does() -> None:
    with box() as b:
        b.dealers[0].open(KEY, b"order", 2)
        lease = b.dealers[0].take(KEY)
        b.kill(0)
        assert b.dealers[1].open(KEY, b"", 2).role is Role.TRY
        assert [b.dealers[1].take(KEY) for _ in range(3)] == [Lease(KEY, 1), lease, None]


@pytest.mark.parametrize("seed", range(20))
def test_every_batch_is_done_once_whoever_dies(seed: int) -> None:
    chance = random.Random(seed)
    with box(4) as b:
        b.train(KEY, 40)
        hands: list[list[Lease]] = [[] for _ in b.dealers]
        done: list[int] = []
        dead: set[int] = set()
        over: set[int] = set()
        while len(over | dead) < 4:
            worker = chance.choice([w for w in range(4) if w not in over | dead])
            dealer, hand = b.dealers[worker], hands[worker]
            if worker and chance.random() < 0.01:
                b.kill(worker)
                dead.add(worker)
            elif hand and chance.random() < 0.5:
                done.append(hand[0].index)
                dealer.done(hand.pop(0))
            elif (lease := dealer.take(KEY)) is not None:
                hand.append(lease)
            elif not hand:
                try:
                    late = dealer.finish(KEY)
                except Waits:
                    continue
                if late is None:
                    over.add(worker)
                else:
                    hand.append(late)
        assert sorted(done) == list(range(40))


def test_nobody_leaves_a_pass_before_its_last_batch_is_done() -> None:
    with box(2) as b:
        b.train(KEY, 1)
        lease = b.dealers[1].take(KEY)
        assert lease is not None
        assert b.dealers[0].take(KEY) is None
        with pytest.raises(Waits):
            b.dealers[0].finish(KEY)
        b.dealers[1].done(lease)
        assert b.dealers[0].finish(KEY) is None
        assert b.dealers[1].open(KEY, b"", 1).role is Role.SPENT


@pytest.mark.parametrize("in_time", [True, False])
def test_nobody_goes_ahead_before_the_leader_has_left_the_pass(in_time: bool) -> None:
    with box(2) as b:
        for row in b.board.fields:
            row[Field.STATE] = State.RUNNING
        for dealer in b.dealers if in_time else b.dealers[1:]:
            assert dealer.open(KEY, b"order", 1, trains=True).role is Role.TRAIN
        lease = b.dealers[1].take(KEY)
        assert lease is not None
        b.dealers[1].done(lease)
        assert b.dealers[1].finish(KEY) is None
        b.dealers[1].close(KEY, [])
        with pytest.raises(Waits):
            b.dealers[1].open(PassKey(0, 1), b"", 1)
        if in_time:
            assert b.dealers[0].finish(KEY) is None
        else:  # all was done before it came
            assert b.dealers[0].open(KEY, b"", 1).role is Role.SPENT
        b.dealers[0].close(KEY, [])
        assert b.dealers[1].open(PassKey(0, 1), b"", 1).role is Role.TRAIN


def test_a_leader_that_has_ended_is_not_waited_for() -> None:
    with box(2) as b:
        assert b.dealers[1].open(KEY, b"order", 0, trains=True).role is Role.SPENT
        assert b.dealers[1].finish(KEY) is None
        b.dealers[1].close(KEY, [])
        b.board.fields[0][Field.STATE] = State.FINISHED
        assert b.dealers[1].open(PassKey(0, 1), b"", 1, trains=True).role is Role.TRAIN


def test_patience_with_a_living_worker_has_an_end() -> None:
    clock = iter(range(100))
    with box(2) as b:
        table = Table(b.fd, 2)
        patient = BoxDealer(table, b.board, 0, lambda: None, patience=5, now=lambda: next(clock))
        assert b.dealers[1].open(KEY, b"order", 1).role is Role.TRY
        assert patient.open(KEY, b"", 1).role is Role.TRY
        patient.decide(KEY, trains=True)
        lease = b.dealers[1].take(KEY)
        assert lease is not None
        assert patient.finish(KEY) == lease
        patient.done(lease)
        b.dealers[1].done(lease)  # it wakes up after all
        assert patient.finish(KEY) is None


def test_what_is_given_back_is_dealt_again() -> None:
    with box(2) as b:
        b.train(KEY, 2)
        leases = [b.dealers[0].take(KEY) for _ in range(2)]
        assert leases[0] is not None
        assert leases[1] is not None
        b.dealers[0].done(leases[0])
        b.dealers[0].close(KEY, [leases[1]])
        assert b.dealers[1].take(KEY) == leases[1]
        assert b.dealers[1].take(KEY) is None


def test_progress_counts_all_workers_and_passes() -> None:
    with box(2) as b:
        b.train(KEY, 3)
        for dealer in (*b.dealers, b.dealers[0]):
            lease = dealer.take(KEY)
            assert lease is not None
            dealer.done(lease)
        b.train(PassKey(0, 1), None)
        b.dealers[1].take(PassKey(0, 1))
        assert b.dealers[0].progress(PassKey(0, 1)) == 4


def test_an_order_that_nobody_needs_takes_no_memory() -> None:
    with box(1) as b:
        before = os.fstat(b.fd).st_blocks
        for number in range(20):
            key = PassKey(0, number)
            b.dealers[0].open(key, bytes(100_000), 1, trains=True)
            lease = b.dealers[0].take(key)
            assert lease is not None
            b.dealers[0].done(lease)
            assert b.dealers[0].finish(key) is None
        assert (os.fstat(b.fd).st_blocks - before) * 512 < 200_000
        assert b.dealers[0].open(PassKey(0, 3), b"", 1).role is Role.SPENT


def test_a_worker_that_holds_too_much_is_told_so() -> None:
    with box(1) as b:
        b.train(KEY, None)
        for _ in range(CELLS):
            b.dealers[0].take(KEY)
        with pytest.raises(Exception, match="prefetch fewer"):
            b.dealers[0].take(KEY)


# weights


class Side:
    """One worker's model and weights."""

    def __init__(self, fd: int, value: float, *, leads: bool = False, width: int = 3) -> None:
        self.net = nn.Sequential(nn.Linear(width, 2), nn.BatchNorm1d(2))
        with torch.no_grad():
            for p in self.net.parameters():
                p.fill_(value)
        self.weights = BoxWeights(fd, 0 if leads else 1, lambda: leads)
        self.weights.enter(keep=leads)

    def register(self, name: str = "net") -> None:
        self.weights.register(Block(name, FlatParameters(named_tensors(self.net)), "Net"))

    def fill(self, value: float) -> None:
        with torch.no_grad():
            for p in self.net.parameters():
                p.fill_(value)

    @property
    def value(self) -> float:
        (value,) = {float(v) for p in self.net.parameters() for v in p.detach().flatten()}
        return value


@contextmanager
def sides(*values: float) -> Iterator[list[Side]]:
    fd = memory.create()
    yield [Side(fd, value, leads=w == 0) for w, value in enumerate(values)]
    os.close(fd)


def test_the_first_values_win_and_all_write_the_same_array() -> None:
    with sides(1, 2, 3) as (a, b, c):
        b.register()
        a.register()
        assert (a.value, b.value, c.value) == (2, 2, 3)
        a.fill(5)
        assert b.value == 5
        c.register()
        assert c.value == 5


def test_weights_stand_still_between_passes() -> None:
    with sides(1, 2) as (a, b):
        a.register()
        b.register()
        a.weights.leave()
        b.fill(7)
        assert (a.value, b.value) == (1, 7)
        a.weights.enter(keep=True)
        assert a.value == 7


def test_what_the_leader_loads_between_passes_counts_and_what_a_follower_loads_does_not() -> None:
    with sides(1, 2) as (a, b):
        a.register()
        b.register()
        for side in (a, b):
            side.weights.leave()
        a.fill(0.1)
        b.fill(9)
        b.weights.enter(keep=False)
        assert b.value == 1
        a.weights.enter(keep=True)
        assert a.value == float(torch.tensor(0.1))  # the very value where nobody wrote meanwhile
        assert b.value == a.value


def test_what_others_did_meanwhile_is_kept() -> None:
    with sides(1, 2) as (a, b):
        a.register()
        b.register()
        a.weights.leave()
        a.fill(3)
        b.fill(1.5)
        a.weights.enter(keep=True)
        assert b.value == 3.5


def test_integer_buffers_are_shared_too() -> None:
    with sides(1, 2) as (a, b):
        a.register()
        b.register()
        for side in (a, b, b):
            side.net(torch.randn(4, 3))
        assert int(a.net.state_dict()["1.num_batches_tracked"]) == 3


def test_models_that_nobody_holds_take_no_memory() -> None:
    with sides(1, 2) as (a, b):
        fd = a.weights._fd
        for side in (a, b):
            side.net = nn.Linear(1000, 1000)  # type: ignore[assignment]
            side.register("large")
        assert os.fstat(fd).st_blocks * 512 > 4_000_000
        for side in (a, b):
            del side.net
            side.weights.enter(keep=False)
        assert os.fstat(fd).st_blocks * 512 < 200_000


def test_another_model_of_the_same_name_is_refused() -> None:
    with sides(1) as (a,):
        a.register()
        other = Side(a.weights._fd, 1, width=4)
        with pytest.raises(LayoutError, match="Net has other tensors in this worker"):
            other.register()
        assert other.value == 1
        other.register("another")
        assert (a.value, other.value) == (1, 1)
