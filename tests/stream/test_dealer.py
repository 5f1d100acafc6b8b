"""Batches between boxes, as the scripts' loops ask for them."""

from __future__ import annotations

import socket

import pytest

from pellucid.errors import PellucidError, StoppedError
from pellucid.params.memory import create
from pellucid.sync.shared.dealer import Lease, PassKey, Role
from pellucid.sync.stream.dealer import BoxPasses, ClusterDealer
from pellucid.sync.stream.exchange import BoxExchange
from pellucid.sync.stream.relay import Caller, RelayedDealer, serve
from tests.stream.engines import Fleet

KEY = PassKey(0, 0)


def dealer_of(
    fleet: Fleet, box: int, worker: int = 0, shared: BoxPasses | None = None
) -> ClusterDealer:
    return ClusterDealer(fleet.engines[box], worker, shared or BoxPasses(), lambda: None)


def train(dealer: ClusterDealer, key: PassKey, most: int | None = None) -> list[int]:
    """Take and finish batches of a pass, as a script does that trains on them."""
    taken: list[int] = []
    while most is None or len(taken) < most:
        lease = dealer.take(key) or dealer.finish(key)
        if lease is None:
            break
        taken.append(lease.index)
        dealer.done(lease)
    return taken


def test_the_first_box_tries_a_pass_and_what_it_did_counts() -> None:
    fleet = Fleet()
    fleet.start(0)
    dealer = dealer_of(fleet, 0)
    opened = dealer.open(KEY, b"order", 5)
    assert (opened.role, opened.order) == (Role.TRY, b"order")
    first = dealer.take(KEY)
    assert first == Lease(KEY, 0)
    dealer.done(first)
    dealer.decide(KEY, trains=True)
    assert train(dealer, KEY) == [1, 2, 3, 4]
    dealer.close(KEY, [])
    assert dealer.open(PassKey(0, 1), b"other", 5).role is Role.TRAIN
    assert dealer.progress(PassKey(0, 1)) == 5


def test_an_evaluation_is_everybodys_own_and_leaves_no_trace() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    for box in (0, 1):
        dealer = dealer_of(fleet, box)
        assert dealer.open(KEY, b"order", 3).role is Role.TRY
        assert train(dealer, KEY) == [0, 1, 2]
        dealer.decide(KEY, trains=False)
        dealer.close(KEY, [])
        fleet.go_on(2.0)
        assert dealer.open(PassKey(0, 1), b"order", 3).role is Role.WHOLE


def test_two_boxes_share_a_pass_and_a_late_one_finds_it_spent() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    shared = BoxPasses()
    first, second = dealer_of(fleet, 0), dealer_of(fleet, 1, shared=shared)
    assert first.open(KEY, b"one", 20, trains=True).order == b"one"
    assert second.open(KEY, b"two", 20, trains=True).order == b"one"  # the first one's counts
    mine, theirs = train(first, KEY, 5), train(second, KEY, 5)
    mine += train(first, KEY)
    theirs += train(second, KEY)
    assert sorted(mine + theirs) == list(range(20))
    first.close(KEY, [])
    second.close(KEY, [])
    late = dealer_of(fleet, 1)
    fleet.go_on(1.0)
    assert late.open(KEY, b"three", 20).role is Role.SPENT
    assert late.open(PassKey(0, 1), b"four", 20).role is Role.TRAIN  # others have trained on it


def test_what_a_late_box_tries_is_not_taken_from_others() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    first, late = dealer_of(fleet, 0), dealer_of(fleet, 1)
    first.open(KEY, b"order", 12, trains=True)
    done = train(first, KEY, 4)
    assert late.open(KEY, b"order", 12).role is Role.TRY
    tried = late.take(KEY)
    assert tried == Lease(KEY, 0)
    late.done(tried)
    late.decide(KEY, trains=True)
    assert sorted(done + train(late, KEY) + train(first, KEY)) == list(range(12))


def test_batches_of_a_box_that_died_are_dealt_again() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    fleet.go_on(3.0)
    living, dying = dealer_of(fleet, 0), dealer_of(fleet, 1)
    for dealer in (living, dying):
        dealer.open(KEY, b"order", 10, trains=True)
    lost = dying.take(KEY)
    assert lost is not None
    fleet.crash(1)
    fleet.go_on(15.0)
    assert sorted(train(living, KEY)) == list(range(10))


def test_a_worker_that_died_gives_back_what_it_held() -> None:
    fleet = Fleet()
    fleet.start(0)
    shared = BoxPasses()
    first, other = (dealer_of(fleet, 0, worker, shared) for worker in (0, 1))
    for dealer in (first, other):
        dealer.open(KEY, b"order", 6, trains=True)
    held = other.take(KEY)
    assert held is not None
    other.abandon()
    assert shared.within[KEY] == {0}  # the node is in the pass as long as one worker is
    assert sorted(train(first, KEY)) == list(range(6))


def test_an_earlier_order_is_looked_up_without_entering_the_pass() -> None:
    fleet = Fleet()
    fleet.start(0)
    shared = BoxPasses()
    dealer = dealer_of(fleet, 0, shared=shared)
    dealer.open(KEY, b"order", 3, trains=True)
    dealer.close(KEY, [])
    assert dealer.open(KEY, b"", 3).order == b"order"
    assert shared.within[KEY] == set()


def test_another_worker_is_answered_through_the_first_one() -> None:
    fleet = Fleet()
    fleet.start(0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    exchange = BoxExchange(fleet.engines[0], create())
    served = serve(ours.detach(), dealer_of(fleet, 0, worker=1), exchange)
    caller = Caller(theirs.detach())
    asked: list[str] = []
    relayed = RelayedDealer(caller, lambda: asked.append("take"))
    assert relayed.open(KEY, b"order", 4, trains=True).order == b"order"
    first = relayed.take(KEY)
    assert first == Lease(KEY, 0)
    relayed.done(first)
    relayed.close(KEY, [])
    assert relayed.progress(KEY) >= 1
    assert asked == ["take"]
    fleet.stop = PellucidError("the run is over")
    with pytest.raises(PellucidError, match="the run is over"):
        relayed.open(PassKey(0, 1), b"order", 4, trains=True)
    caller.close()
    served.join(10)
    assert not served.is_alive()


def test_a_worker_whose_first_worker_has_ended_stops() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    caller = Caller(theirs.detach())
    with pytest.raises(StoppedError, match="first worker has ended"):
        caller.call("progress", KEY)
    caller.close()


def test_a_pass_of_unknown_length_ends_for_all_when_one_has_seen_its_end() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    dealers = [dealer_of(fleet, box) for box in (0, 1)]
    for dealer in dealers:
        dealer.open(KEY, b"order", None, trains=True)
    trained: list[int] = []
    ended = [False, False]
    while not all(ended):
        for number, dealer in enumerate(dealers):
            lease = None if ended[number] else dealer.take(KEY) or dealer.finish(KEY)
            if lease is None:
                ended[number] = True
            elif lease.index < 7:
                trained.append(lease.index)
                dealer.done(lease)
            else:
                dealer.ended(lease)
    assert sorted(trained) == list(range(7))
    for dealer in dealers:
        dealer.close(KEY, [])
    fleet.go_on(1.0)
    assert dealer_of(fleet, 1).open(KEY, b"order", None, trains=True).role is Role.SPENT


def test_a_new_loader_for_every_pass_fills_no_message() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    first, second = dealer_of(fleet, 0), dealer_of(fleet, 1)
    for loader in range(260):
        key = PassKey(loader, 0)
        taken = []
        for dealer in (first, second):
            if dealer.open(key, b"order", 3, trains=True).role is Role.TRAIN:
                taken += train(dealer, key)
            dealer.close(key, [])
        assert sorted(taken) == [0, 1, 2]
    fleet.go_on(15.0)
    for engine in fleet.engines.values():
        with engine.node() as node:
            assert node.view is not None
            assert len(node.view.members) == 2
