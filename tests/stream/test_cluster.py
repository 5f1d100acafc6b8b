"""Clusters under faults: no delta is lost or counted twice, and all come to agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pellucid.errors import LinkError
from pellucid.sync.stream.node import NodeSettings
from pellucid.sync.stream.rehearsal import Rehearsal
from pellucid.transport.loopback import Link
from pellucid.wire.messages import NEVER
from tests.stream.ledger import Ledger, Values

SIZE, CHUNK = 44, 8


class Cluster:
    """Boxes that train on noise, and what the test knows of them."""

    def __init__(self, ledger: Ledger, codec: str = "fp32", seed: int = 0) -> None:
        self.ledger = ledger
        self.world = Rehearsal(
            NodeSettings(codec=codec, resend=2.0, cycle=0.1, idle=0.2), Link(), seed, step=0.1
        )
        self.rng = np.random.default_rng(seed)
        self.th: dict[int, Values] = {}
        self.boots: dict[int, int] = {}
        self.seed: Values | None = None
        self.expelled: set[int] = set()  # boots that were out at some time
        self._since: dict[int, int] = {}

    def start(self, number: int) -> None:
        box = self.world.start(number)
        th = self.rng.normal(size=SIZE).astype(np.float32)
        if self.seed is None:
            self.seed = th.copy()
        self.th[number] = th
        box.node.add_block(0, "noise", th, CHUNK)
        self.boots[number] = box.node._desk.boot

    def crash(self, number: int) -> None:
        self.world.crash(number)
        del self.th[number]

    def train(self, number: int) -> None:
        """A step of the training thread, which may come between any two calls of the node."""
        node = self.world.boxes[number].node
        if node.ready(0):
            self.th[number] += self.rng.normal(scale=0.1, size=SIZE).astype(np.float32)
            node.trained(8)
            node.correct(0)

    def run(self, seconds: float) -> None:
        self.world.run(seconds)
        for box in self.world.boxes.values():
            me = box.node._desk.me
            boot = box.node._desk.boot
            if me is not None:
                if self._since.setdefault(boot, me.since) != me.since:
                    self.expelled.add(boot)
            elif boot in self._since:
                self.expelled.add(boot)

    def members(self) -> set[int]:
        """Boxes that are alive, and members by their own view."""
        return {n for n, box in self.world.boxes.items() if box.node._desk.me is not None}

    def agreed(self) -> bool:
        """Whether all living boxes are in one view, without anybody else, and take part."""
        nodes = [box.node for box in self.world.boxes.values()]
        views = {node.view for node in nodes}
        view = nodes[0].view
        return (
            len(views) == 1
            and view is not None
            and {m.box for m in view.members} == set(self.world.boxes)
            and all(m.blocks for m in view.members)
            and all(node.ready(0) and not node.busy for node in nodes)
            and not any(node.status(self.world.now).waiting for node in nodes)
        )

    def heal(self) -> None:
        """All faults end, and everybody comes to rest."""
        self.world.medium.heal()
        for a in self.world.boxes:
            for b in self.world.boxes:
                self.world.medium.set(a, b, loss=0.0, duplicate=0.0, jitter=0.0, ordered=True)
        for box in self.world.boxes.values():
            box.frozen = False
        self.run(0.2)
        assert self.world.run(120, self.agreed), "the boxes do not agree"
        self.run(0.1)
        assert self.world.settle(120), "the boxes do not settle"

    def check(self, tolerance: float = 2e-5) -> None:
        """After `heal`: what design.md section 7 promises."""
        nodes = {number: box.node for number, box in self.world.boxes.items()}
        weights = [node.weights(0) for node in nodes.values()]
        for number, node in nodes.items():
            np.testing.assert_allclose(weights[0], node.weights(0), atol=tolerance)
            np.testing.assert_allclose(self.th[number], weights[0], atol=tolerance)
        for at in range(-(-SIZE // CHUNK)):
            self._check_chunk(at, weights[0][at * CHUNK : (at + 1) * CHUNK], tolerance)

    def _check_chunk(self, at: int, weights: Values, tolerance: float) -> None:
        blocks = [box.node._blocks[0] for box in self.world.boxes.values()]
        owners = [block.owned[at] for block in blocks if at in block.owned]
        assert len(owners) == 1, "a chunk has not exactly one owner"
        entries, start = self.ledger.lineage(at, owners[0].version)
        assert self.seed is not None
        np.testing.assert_array_equal(start, self.seed[at * CHUNK : (at + 1) * CHUNK])
        total = start + sum((entry.step for entry in entries), np.zeros_like(start))
        np.testing.assert_allclose(owners[0].values, total, atol=tolerance)
        np.testing.assert_allclose(owners[0].values, weights, atol=tolerance)
        counted = [(entry.boot, entry.seq) for entry in entries]
        assert len(set(counted)) == len(counted), "a delta was counted twice"
        for block in blocks:
            mine = block.chunks[at]
            assert mine.pending is None
            if mine.boot not in self.expelled:
                missing = set(range(1, mine.sent + 1)) - {s for b, s in counted if b == mine.boot}
                assert not missing, f"deltas were lost: {missing}"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    return Ledger(monkeypatch)


@pytest.mark.parametrize("codec", ["fp32", "int8", "bf16"])
@pytest.mark.parametrize("boxes", [1, 2, 3, 5])
def test_boxes_come_to_agree(ledger: Ledger, codec: str, boxes: int) -> None:
    cluster = Cluster(ledger, codec)
    for number in range(boxes):
        cluster.start(number)
        cluster.run(1)
    for _ in range(30):
        for number in range(boxes):
            cluster.train(number)
        cluster.run(0.1)
    cluster.heal()
    cluster.check(2e-5 if codec == "fp32" else 2e-3)
    assert cluster.seed is not None
    assert np.abs(cluster.th[0] - cluster.seed).max() > 0.1


def test_a_joiner_takes_over_the_weights_and_never_gives_its_own(ledger: Ledger) -> None:
    cluster = Cluster(ledger)
    cluster.start(0)
    for _ in range(10):
        cluster.train(0)
        cluster.run(0.1)
    before = cluster.th[0].copy()
    cluster.start(1)
    assert cluster.world.run(10, cluster.agreed)
    np.testing.assert_allclose(cluster.th[1], before, atol=1e-6)
    cluster.heal()
    cluster.check()
    np.testing.assert_allclose(cluster.th[0], before, atol=1e-6)


def test_the_founder_dies_and_another_box_leads(ledger: Ledger) -> None:
    cluster = Cluster(ledger)
    for number in range(3):
        cluster.start(number)
    assert cluster.world.run(10, cluster.agreed)
    for _ in range(20):
        for number in range(3):
            cluster.train(number)
        cluster.run(0.1)
    cluster.crash(0)
    died = cluster.world.now
    assert cluster.world.run(20, cluster.agreed)
    assert cluster.world.now - died < 4  # its process ended, which says more than silence
    assert cluster.world.boxes[1].node.status(cluster.world.now).leader == 1
    assert any(note.event == "leads" and note.box == 1 for note in cluster.world.boxes[2].notes)
    for _ in range(10):
        for number in (1, 2):
            cluster.train(number)
        cluster.run(0.1)
    cluster.heal()
    cluster.check()


@pytest.mark.parametrize("moment", range(4, 12))
@pytest.mark.parametrize("others", [1, 2])
def test_the_founder_dies_before_anybody_has_its_weights(
    ledger: Ledger, others: int, moment: int
) -> None:
    cluster = Cluster(ledger)
    cluster.start(0)
    cluster.run(1.0)
    cluster.train(0)
    for number in range(1, others + 1):
        cluster.start(number)
    cluster.run(0.1 * moment)
    assert cluster.members() == set(range(others + 1))
    cluster.crash(0)
    assert cluster.world.run(30, cluster.agreed), "those that are left wait for ever"
    cluster.start(9)
    assert cluster.world.run(30, cluster.agreed)
    assert cluster.world.settle(60)
    for box in cluster.world.boxes.values():
        np.testing.assert_array_equal(box.node.weights(0), cluster.world.boxes[1].node.weights(0))


def test_who_was_not_admitted_when_the_founder_died_ends_with_an_error(ledger: Ledger) -> None:
    cluster = Cluster(ledger)
    cluster.start(0)
    cluster.start(1)
    cluster.run(0.2)
    assert cluster.members() == {0}
    cluster.crash(0)
    with pytest.raises(LinkError, match="box 0 has ended before this box was admitted"):
        cluster.run(30)


@pytest.mark.parametrize("minority", [{0}, {2}, {0, 1}])
def test_the_majority_of_a_split_goes_on_and_the_rest_waits(
    ledger: Ledger, minority: set[int]
) -> None:
    cluster = Cluster(ledger)
    boxes = set(range(2 * len(minority) + 1))
    for number in boxes:
        cluster.start(number)
    assert cluster.world.run(10, cluster.agreed)
    cluster.world.split(minority, boxes - minority)
    for _ in range(200):
        for number in boxes:
            cluster.train(number)
        cluster.run(0.1)
    for number in boxes:
        status = cluster.world.boxes[number].node.status(cluster.world.now)
        assert bool(status.waiting) == (number in minority)
    view = cluster.world.boxes[max(boxes - minority)].node.view
    assert view is not None
    assert {member.box for member in view.members} == boxes - minority
    cluster.run(0.1)
    cluster.heal()
    cluster.check()


@pytest.mark.parametrize("one_way", [None, (0, 1), (1, 0)])
def test_of_two_boxes_the_senior_goes_on(ledger: Ledger, one_way: tuple[int, int] | None) -> None:
    cluster = Cluster(ledger)
    for number in range(2):
        cluster.start(number)
    assert cluster.world.run(10, cluster.agreed)
    cluster.world.medium.cut(*(one_way or (0, 1)), both=one_way is None)
    cluster.run(20)
    waiting = [cluster.world.boxes[n].node.status(cluster.world.now).waiting for n in range(2)]
    assert not waiting[0]
    assert waiting[1]
    cluster.heal()
    cluster.check()


def test_a_frozen_box_is_brought_up_before_its_deltas_count(ledger: Ledger) -> None:
    cluster = Cluster(ledger)
    for number in range(3):
        cluster.start(number)
    assert cluster.world.run(10, cluster.agreed)
    cluster.train(2)
    cluster.world.boxes[2].frozen = True
    for _ in range(300):
        for number in range(2):
            cluster.train(number)
        cluster.run(0.1)
    before = cluster.world.boxes[0].node.weights(0)
    cluster.world.boxes[2].frozen = False
    cluster.run(5)
    moved = np.abs(cluster.world.boxes[0].node.weights(0) - before).max()
    assert moved < 0.5  # its delta was one small step; what it had missed is much more
    cluster.heal()
    cluster.check()


def test_who_leaves_hands_over_and_loses_nothing(ledger: Ledger) -> None:
    cluster = Cluster(ledger)
    for number in range(3):
        cluster.start(number)
    assert cluster.world.run(10, cluster.agreed)
    for _ in range(10):
        for number in range(3):
            cluster.train(number)
        cluster.run(0.1)
    leaving = cluster.world.boxes[0].node
    boot, sent = leaving._desk.boot, None
    leaving.leave()
    assert cluster.world.run(30, lambda: leaving.left)
    sent = [chunk.sent for chunk in leaving._blocks[0].chunks]
    cluster.run(0.1)
    cluster.crash(0)
    cluster.heal()
    cluster.check()
    for at, count in enumerate(sent):
        for box in cluster.world.boxes.values():
            if at in box.node._blocks[0].owned:
                assert box.node._blocks[0].owned[at].table.get(boot, 0) == count


class Faults(RuleBasedStateMachine):
    """Anything may happen, in any order."""

    ledger: Ledger
    seen: dict[tuple[int, int], tuple[int, int]]

    @initialize(boxes=st.integers(2, 4), seed=st.integers(0, 1000))
    def begin(self, boxes: int, seed: int) -> None:
        self.ledger.clear()
        self.cluster = Cluster(self.ledger, seed=seed)
        self.numbers = iter(range(100))
        self.seen = {}
        for _ in range(boxes):
            self.cluster.start(next(self.numbers))
        assert self.cluster.world.run(20, self.cluster.agreed)

    def _pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.cluster.world.boxes)))

    @rule(data=st.data(), steps=st.integers(1, 5))
    def train(self, data: st.DataObject, steps: int) -> None:
        for _ in range(steps):
            self.cluster.train(self._pick(data))
            self.cluster.run(0.1)

    @rule(seconds=st.sampled_from([0.1, 0.5, 3, 12]))
    def wait(self, seconds: float) -> None:
        for _ in range(3):
            for number in self.cluster.world.boxes:
                self.cluster.train(number)
            self.cluster.run(seconds / 3)

    @rule(data=st.data(), loss=st.sampled_from([0.0, 0.3]), duplicate=st.sampled_from([0.0, 0.5]))
    def disturb(self, data: st.DataObject, loss: float, duplicate: float) -> None:
        for number in self.cluster.world.boxes:
            self.cluster.world.medium.set(
                self._pick(data), number, loss=loss, duplicate=duplicate, jitter=0.4, ordered=False
            )

    @rule(data=st.data(), both=st.booleans())
    def cut(self, data: st.DataObject, both: bool) -> None:
        one, other = self._pick(data), self._pick(data)
        if one != other:
            self.cluster.world.medium.cut(one, other, both=both)

    @rule()
    def mend(self) -> None:
        self.cluster.world.medium.heal()

    @rule(data=st.data())
    def freeze_or_thaw(self, data: st.DataObject) -> None:
        box = self.cluster.world.boxes[self._pick(data)]
        box.frozen = not box.frozen

    @precondition(lambda self: len(self.cluster.world.boxes) < 5)
    @rule()
    def join(self) -> None:
        self.cluster.start(next(self.numbers))

    @precondition(lambda self: len(self.cluster.members()) > 1)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        # one that took part has to stay, or there is nobody to agree with
        stays = [n for n in self.cluster.members() if self._took_part(n)]
        number = self._pick(data)
        if set(stays) - {number}:
            self.cluster.crash(number)

    def _took_part(self, number: int) -> bool:
        block = self.cluster.world.boxes[number].node._blocks[0]
        return all(chunk.version != NEVER for chunk in block.chunks)

    @precondition(lambda self: hasattr(self, "cluster"))
    @invariant()
    def versions_only_grow(self) -> None:
        for number, box in self.cluster.world.boxes.items():
            for at, chunk in enumerate(box.node._blocks[0].chunks):
                key = (self.cluster.boots[number], at)
                assert chunk.version >= self.seen.get(key, NEVER)
                self.seen[key] = chunk.version

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.heal()
            self.cluster.check()


@pytest.fixture
def faults(ledger: Ledger) -> Iterator[type[Faults]]:
    Faults.ledger = ledger
    yield Faults
    del Faults.ledger


def test_whatever_happens(faults: type[Faults]) -> None:
    run_state_machine_as_test(
        faults,
        settings=settings(
            max_examples=25,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
