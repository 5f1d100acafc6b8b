"""The epoch queue: every batch once; at least once where boxes die."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pellucid.cluster.leases import EpochQueue, Lease
from pellucid.cluster.ranges import Ranges
from pellucid.wire.messages import PassRecord, PassReport

KEY, NEXT = (0, 0), (0, 1)


def test_the_first_opener_decides_the_order() -> None:
    queue = EpochQueue()
    assert queue.open(KEY, b"first", 3) == (b"first", 3)
    assert queue.open(KEY, b"second", 3) == (b"first", 3)


def test_batches_are_dealt_once_in_order() -> None:
    queue = EpochQueue()
    queue.open(KEY, b"", 5)
    assert queue.take(0, KEY, 2).leases == (Lease(KEY, 0), Lease(KEY, 1))
    granted = queue.take(1, KEY, 8)
    assert [lease.index for lease in granted.leases] == [2]  # near the end nobody gets much
    assert not granted.used_up
    rest = [queue.take(1, KEY, 8) for _ in range(2)]
    assert [lease.index for one in rest for lease in one.leases] == [3, 4]
    assert rest[-1].used_up
    assert queue.take(0, KEY, 8) == ((), True)
    assert queue.progress(0).begun == 5


def test_a_late_box_finds_old_passes_used_up() -> None:
    queue = EpochQueue()
    for number in range(5):
        queue.open((0, number), b"order", 1)
        (lease,) = queue.take(0, (0, number), 1).leases
        queue.report(PassReport(lease.key, 0, ((0, 1),)))
    assert queue.open((0, 0), b"late", 1) == (b"", 1)
    assert queue.take(1, (0, 0), 4) == ((), True)
    assert queue.used_up((0, 4))


def test_what_a_dead_box_left_is_dealt_again_and_in_the_next_pass_if_it_must() -> None:
    queue = EpochQueue()
    queue.open(KEY, b"order", 4)
    queue.take(0, KEY, 2, boxes=1)
    queue.take(1, KEY, 2)
    while not queue.take(1, KEY, 2).used_up:
        pass
    queue.report(PassReport(KEY, 0, ((0, 1), (2, 4))))
    assert queue.bury({1}) == 1
    assert not queue.used_up(KEY)
    queue.open(NEXT, b"next", 2)
    assert queue.take(1, NEXT, 1).leases == (Lease(KEY, 1),)
    assert queue.open(KEY, b"", None) == (b"order", 4)  # to know which batch that is
    assert queue.take(1, NEXT, 1).leases == (Lease(NEXT, 0),)


def test_what_a_box_left_in_a_pass_long_over_can_still_be_drawn() -> None:
    queue = EpochQueue()
    queue.open(KEY, b"order", 2)
    queue.take(0, KEY, 1)
    queue.take(1, KEY, 1)
    queue.report(PassReport(KEY, 0, ((1, 2),)))
    for number in range(1, 8):  # the silence of box 0 lasts longer than a few short passes
        queue.open((0, number), b"later", 1)
        queue.take(1, (0, number), 1)
        queue.report(PassReport((0, number), 0, ((0, 1),)))
    assert queue.bury({1}) == 1
    queue.open((0, 8), b"latest", 1)
    assert queue.take(1, (0, 8), 1).leases == (Lease(KEY, 0),)
    assert queue.open(KEY, b"", None) == (b"order", 2)


def test_what_is_given_back_stays_in_its_pass() -> None:
    queue = EpochQueue()
    queue.open(KEY, b"", 2)
    leases = queue.take(0, KEY, 1).leases
    queue.give_back(1, leases)  # not its own
    queue.give_back(0, leases)
    assert queue.progress(0).begun == 0
    queue.open(NEXT, b"", 1)
    assert queue.take(1, NEXT, 1).leases == (Lease(NEXT, 0),)
    assert queue.take(1, KEY, 1).leases == leases


def test_a_pass_of_unknown_length_ends_when_somebody_comes_to_its_end() -> None:
    queue = EpochQueue()
    queue.open(KEY, b"", None)
    assert len(queue.take(0, KEY, 4).leases) == 4
    assert len(queue.take(1, KEY, 4).leases) == 4
    queue.end(KEY, 5)
    assert queue.take(0, KEY, 1) == ((), True)
    assert queue.bury({0}) == 1  # batch 4; 5 to 7 never were any


class Dealing(RuleBasedStateMachine):
    """Boxes take, do, die and give back; the steward dies too, and another makes new books."""

    @initialize(batches=st.integers(1, 30), boxes=st.integers(1, 4))
    def begin(self, batches: int, boxes: int) -> None:
        self.queue = EpochQueue()
        self.batches = batches
        self.queue.open(KEY, b"order", batches)
        self.held: dict[int, set[int]] = {box: set() for box in range(boxes)}
        self.done: dict[int, Ranges] = {box: Ranges() for box in range(boxes)}
        self.heard: dict[int, PassReport] = {}
        self.trained: Counter[int] = Counter()
        self.deaths = 0

    def _box(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.held)))

    @rule(data=st.data(), want=st.integers(0, 8))
    def take(self, data: st.DataObject, want: int) -> None:
        box = self._box(data)
        leases = self.queue.take(box, KEY, want, boxes=len(self.held)).leases
        for lease in leases:
            assert lease.key == KEY
            assert not any(lease.index in held for held in self.held.values())
            self.held[box].add(lease.index)

    @rule(data=st.data(), tell=st.booleans())
    def finish(self, data: st.DataObject, tell: bool) -> None:
        box = self._box(data)
        if not self.held[box]:
            return
        index = data.draw(st.sampled_from(sorted(self.held[box])))
        self.held[box].discard(index)
        self.done[box].add(index, index + 1)
        self.trained[index] += 1
        if tell:
            self.heard[box] = PassReport(KEY, 0, self.done[box].from_(0))
            self.queue.report(self.heard[box])

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        box = self._box(data)
        self.queue.give_back(box, [Lease(KEY, index) for index in self.held[box]])
        self.held[box].clear()

    @precondition(lambda self: len(self.held) > 1)
    @rule(data=st.data(), steward=st.booleans())
    def die(self, data: st.DataObject, steward: bool) -> None:
        box = self._box(data)
        del self.held[box], self.done[box]
        self.deaths += 1
        if steward:
            records = {
                other: [
                    PassRecord(
                        KEY, b"order", self.batches, tuple(sorted(held)),
                        PassReport(KEY, 0, self.done[other].from_(0)),
                    )
                ]
                for other, held in self.held.items()
            }  # fmt: skip
            self.queue = EpochQueue.restore(records, self.heard.values(), {0: 0})
        else:
            self.queue.bury(self.held)

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        for box, held in self.held.items():
            for index in held:
                self.trained[index] += 1
            self.queue.give_back(box, [])
        box = min(self.held)
        for other, held in self.held.items():
            self.done[other].add(0, 0)
            for index in held:
                self.done[other].add(index, index + 1)
            self.queue.report(PassReport(KEY, 0, self.done[other].from_(0)))
        for _ in range(200):
            granted = self.queue.take(box, KEY, 8)
            self.trained.update(lease.index for lease in granted.leases)
            if granted.used_up:
                break
        assert set(self.trained) == set(range(self.batches)), "a batch was never trained on"
        if not self.deaths:
            assert set(self.trained.values()) == {1}, "a batch was trained on twice"


TestDealing = Dealing.TestCase
TestDealing.settings = settings(
    max_examples=60, stateful_step_count=30, derandomize=True, database=None, deadline=None
)
