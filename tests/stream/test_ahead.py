"""Nobody is more than a pass ahead of the leader: see [Note: ahead]."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pellucid.errors import StoppedError
from pellucid.sync.shared.dealer import PassKey, Role
from pellucid.sync.stream.dealer import BoxPasses, ClusterDealer
from tests.stream.engines import Fleet

BATCHES = 4


class Script:
    """One worker's script, cut down to its passes.

    Attributes:
        waited: seconds for which it waited for the leader, each time.
    """

    def __init__(
        self, fleet: Fleet, box: int, worker: int = 0, shared: BoxPasses | None = None
    ) -> None:
        self.waited: list[float] = []
        self.dealer = ClusterDealer(
            fleet.engines[box],
            worker,
            shared or BoxPasses(),
            lambda: None,
            waited=self.waited.append,
        )
        self._numbers: dict[int, int] = {}
        self._key = PassKey(0, 0)

    def open(self, loader: int = 0, *, trains: bool = True) -> Role:
        number = self._numbers[loader] = self._numbers.get(loader, -1) + 1
        self._key = PassKey(loader, number)
        return self.dealer.open(self._key, b"order", BATCHES, trains=trains).role

    def leave(self) -> None:
        while (lease := self.dealer.take(self._key) or self.dealer.finish(self._key)) is not None:
            self.dealer.done(lease)
        self.dealer.close(self._key, [])

    def train(self, passes: int = 1) -> None:
        for _ in range(passes):
            self.open()
            self.leave()

    def evaluate(self) -> None:
        """A loop that leaves no trace, with gradients enabled."""
        if self.open(1, trains=False) is Role.WHOLE:
            return
        while (lease := self.dealer.take(self._key)) is not None:
            self.dealer.done(lease)
        self.dealer.decide(self._key, trains=False)
        self.dealer.close(self._key, [])


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet()
    made.start(0)
    made.start(1)
    made.go_on(3.0)
    return made


def both_train(fleet: Fleet) -> tuple[Script, Script]:
    """Two boxes in their first pass, which the joined one leaves."""
    leader, joined = Script(fleet, 0), Script(fleet, 1)
    leader.open()
    joined.open()
    joined.leave()
    return leader, joined


def test_nobody_opens_a_pass_before_the_leader_has_left_the_one_before(fleet: Fleet) -> None:
    leader, joined = both_train(fleet)
    left = fleet.meanwhile(1, leader.leave)
    assert joined.open() is Role.TRAIN
    assert left
    assert joined.waited == [pytest.approx(1.0, abs=0.2)]  # no longer than it has to


def test_a_box_may_train_in_the_next_pass_while_the_leader_evaluates(fleet: Fleet) -> None:
    leader, joined = both_train(fleet)
    leader.leave()
    fleet.go_on(0.1)
    joined.evaluate()
    joined.train()  # all of it
    assert joined.waited == []
    leader.evaluate()
    fleet.go_on(0.1)
    joined.evaluate()

    def catch_up() -> None:
        assert leader.open() is Role.SPENT
        leader.leave()

    caught_up = fleet.meanwhile(1, catch_up)
    assert joined.open() is Role.TRAIN
    assert caught_up


def test_a_pass_that_was_broken_off_is_left_too(fleet: Fleet) -> None:
    leader, joined = Script(fleet, 0), Script(fleet, 1)
    for script in (leader, joined):
        script.open()
    joined.dealer.close(PassKey(0, 0), [])
    left = fleet.meanwhile(1, lambda: leader.dealer.close(PassKey(0, 0), []))
    joined.open()
    assert left


def test_evaluations_are_waited_for_by_nobody(fleet: Fleet) -> None:
    leader, joined = Script(fleet, 0), Script(fleet, 1)
    for _ in range(3):
        for script in (leader, joined):
            script.train()
            fleet.go_on(0.1)
        joined.evaluate()  # before the leader does
        leader.evaluate()
    assert joined.waited == []


def test_copies_that_stopped_early_in_different_epochs_go_on_together(fleet: Fleet) -> None:
    leader, joined = Script(fleet, 0), Script(fleet, 1)
    leader.train(2)
    leader.open(2)  # of the next fold
    joined.train(5)
    assert joined.waited == []
    joined.open(2)
    joined.leave()
    left = fleet.meanwhile(1, leader.leave)
    joined.open(2)
    assert left


def test_a_late_box_runs_through_what_is_over(fleet: Fleet) -> None:
    Script(fleet, 0).train(5)
    late = Script(fleet, 1)
    late.train(4)
    assert late.waited == []


def test_a_box_that_waits_goes_on_when_the_leader_dies(fleet: Fleet) -> None:
    _, joined = both_train(fleet)
    died = fleet.meanwhile(1, lambda: fleet.crash(0))
    assert joined.open() is Role.TRAIN
    assert died
    joined.leave()
    joined.train(3)  # it leads: it is ahead of nobody


def test_a_box_that_waits_goes_on_when_the_leader_has_ended(fleet: Fleet) -> None:
    _, joined = both_train(fleet)

    def end() -> None:
        with fleet.engines[0].node() as node:
            node.leave()

    ended = fleet.meanwhile(1, end)
    assert joined.open() is Role.TRAIN
    assert ended


def test_of_a_new_leader_its_own_place_counts(fleet: Fleet) -> None:
    fleet.start(2)
    fleet.go_on(3.0)
    old, new, other = (Script(fleet, box) for box in range(3))
    for script in (old, new, other):
        script.open()
    other.leave()
    began = fleet.medium.now
    left: list[float] = []

    def pause() -> None:
        fleet.go_on()
        if fleet.medium.now > began + 1 and 0 in fleet.engines:
            fleet.crash(0)
        if fleet.medium.now > began + 15 and not left:
            assert fleet.engines[2].leader == 1
            left.append(fleet.medium.now)
            new.leave()

    fleet.engines[2].on_pause = pause
    other.open()
    assert left


@pytest.mark.parametrize("end", [StoppedError("the run is being stopped"), SystemExit(0)])
def test_who_waits_looks_whether_the_run_is_to_end(fleet: Fleet, end: BaseException) -> None:
    _, joined = both_train(fleet)
    fleet.meanwhile(1, lambda: setattr(fleet, "stop", end))
    with pytest.raises(type(end)):
        joined.open()


def test_a_box_that_is_cut_off_waits_until_it_hears_the_others_again(fleet: Fleet) -> None:
    leader, joined = both_train(fleet)
    fleet.medium.cut(0, 1)
    leader.leave()
    healed = fleet.meanwhile(1, fleet.medium.heal, after=30.0)
    joined.open()
    assert healed


def test_the_other_workers_of_a_box_wait_for_the_leader_too(fleet: Fleet) -> None:
    shared = BoxPasses()
    first, second = (Script(fleet, 0, worker, shared) for worker in (0, 1))
    first.open()
    second.open()
    second.leave()
    left = fleet.meanwhile(0, first.leave)
    second.open()
    assert left


def test_a_box_whose_script_has_ended_stays_until_the_leader_has_left_the_last_pass(
    fleet: Fleet,
) -> None:
    leader, joined = both_train(fleet)
    left = fleet.meanwhile(1, leader.leave, after=30.0)
    joined.dealer.stay()
    assert left


def the_leader_ends(fleet: Fleet) -> None:
    with fleet.engines[0].node() as node:
        node.leave()


@pytest.mark.parametrize(
    "end",
    [
        lambda fleet: fleet.crash(0),
        the_leader_ends,
        lambda fleet: setattr(fleet, "stop", StoppedError("the run is being stopped")),
        lambda fleet: setattr(fleet.engines[1], "_failed", RuntimeError("no network")),
    ],
    ids=["it dies", "it ends", "the run is stopped", "the engine has failed"],
)
def test_a_box_does_not_stay_for_nobody(fleet: Fleet, end: Callable[[Fleet], None]) -> None:
    _, joined = both_train(fleet)
    ended = fleet.meanwhile(1, lambda: end(fleet))
    joined.dealer.stay()
    assert ended


def test_the_leader_and_who_is_not_ahead_do_not_stay(fleet: Fleet) -> None:
    leader, joined = both_train(fleet)
    leader.leave()
    fleet.go_on(0.1)
    before = fleet.medium.now
    for script in (leader, joined):
        script.dealer.stay()
    assert fleet.medium.now == before
