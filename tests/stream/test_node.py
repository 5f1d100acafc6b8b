"""One node, and what it does with messages that do not fit; batches over a cluster."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from pellucid.errors import MismatchError
from pellucid.sync.stream.blocks import ChunkKind
from pellucid.sync.stream.node import WAIT, Identity, Lease, Node, NodeSettings
from pellucid.sync.stream.rehearsal import Rehearsal
from pellucid.transport.loopback import Link
from pellucid.wire.messages import (
    CODECS,
    FP32,
    NEVER,
    BlockInfo,
    Body,
    Claim,
    Grant,
    Heartbeat,
    Inquiry,
    Member,
    Message,
    PassReport,
    Push,
    Refusal,
    Reply,
    Take,
    View,
    view_id,
)

CHUNK, CHUNKS = 4, 8
MINE, OTHER = 10, 20  # boots
KEY = (0, 0)


class Pair:
    """A real box 0 and what the test says in the name of box 1."""

    def __init__(self) -> None:
        self.th = np.arange(CHUNK * CHUNKS, dtype=np.float32)
        self.node = Node(
            Identity(0, MINE, founder=True), NodeSettings(codec="fp32"), random.Random(0)
        )
        self.node.add_block(0, "layout", self.th, CHUNK)
        self.node.tick(0.0)
        self.node.tick(0.0)
        assert self.node.view is not None
        assert self.node.view.blocks == (
            BlockInfo("layout", CHUNK * CHUNKS, CHUNK, 0, seeded=True),
        )
        self.node.connected(1, 0.0)
        self.first = self.node.view
        self.beat()
        self.view = self.admit(self.first.id)
        self.sent: list[Body] = []
        self.drain()

    def beat(self, now: float = 0.0) -> None:
        beat = Heartbeat(1, OTHER, "", 0, 1, (), False, (0,), 5.0, 0)
        self.node.receive(1, Message(beat), now)

    def admit(self, previous: int, number: int = 9) -> View:
        """Box 1 proposes a view with both."""
        new = view_id(number, 1)
        member = msgspec.structs.replace(self.first.members[0], blocks=1)
        view = View(new, previous, (member, Member(1, OTHER, "", new, 1)), self.first.blocks)
        self.node.receive(1, Message(view), 0.0)
        return view

    def drain(self) -> list[Body]:
        self.sent = [message.body for _, message in self.node.outgoing()]
        return self.sent

    def mine(self) -> int:
        return min(self.node._blocks[0].owned)

    def push(self, **changes: object) -> None:
        body = Push(self.view.id, 0, self.mine(), CHUNK, OTHER, self.view.id, 1, NEVER, 0.0, FP32)
        body = msgspec.structs.replace(body, **changes)
        payload = CODECS[FP32].encode(np.ones(CHUNK, np.float32)) if body.seq else b""
        self.node.receive(1, Message(body, payload), 0.0)
        self.drain()

    def unchanged(self) -> bool:
        return all(np.array_equal(self.node.weights(0), self.th) for _ in [0])


def test_what_is_ours_in_successive_views_stays_ours() -> None:
    pair = Pair()
    assert 0 < len(pair.node._blocks[0].owned) < CHUNKS
    assert not pair.node.busy


def test_after_a_view_was_missed_others_are_asked_first() -> None:
    pair = Pair()
    kept = set(pair.node._blocks[0].owned)
    pair.admit(previous=view_id(11, 1), number=12)
    assert pair.node.busy
    assert not pair.node._blocks[0].owned
    pair.node.tick(1.0)
    (inquiry,) = [body for body in pair.drain() if isinstance(body, Inquiry)]
    assert set(inquiry.chunks) == kept
    versions = tuple((chunk, NEVER) for chunk in inquiry.chunks)
    pair.node.receive(1, Message(Claim(inquiry.view, 0, versions)), 1.0)
    pair.node.tick(1.0)
    assert set(pair.node._blocks[0].owned) == kept
    assert pair.unchanged()


def test_a_delta_is_averaged_and_answered() -> None:
    pair = Pair()
    pair.push()
    (reply,) = [body for body in pair.sent if isinstance(body, Reply)]
    assert reply.table == ((OTHER, 1),)
    at = pair.mine() * CHUNK
    np.testing.assert_allclose(pair.node.weights(0)[at : at + CHUNK], pair.th[at : at + CHUNK] + 1)
    pair.push()  # the same again
    np.testing.assert_allclose(pair.node.weights(0)[at : at + CHUNK], pair.th[at : at + CHUNK] + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"view": 3},
        {"boot": 21},
        {"chunk": 1000},
        {"block": 7},
        {"elements": CHUNK - 1, "seq": 0},
        {"have": (2**60, 0)},
    ],
)
def test_a_push_that_does_not_fit_is_refused_with_a_reason(changes: dict[str, object]) -> None:
    pair = Pair()
    pair.push(**changes)
    (refusal,) = [body for body in pair.sent if isinstance(body, Refusal)]
    assert refusal.reason
    assert pair.unchanged()


def test_who_comes_back_gets_weights_before_its_deltas_count() -> None:
    pair = Pair()
    pair.push(since=5)
    assert any(isinstance(body, Reply) for body in pair.sent)
    assert pair.unchanged()


def test_a_delta_that_is_not_finite_is_left_out() -> None:
    pair = Pair()
    body = Push(pair.view.id, 0, pair.mine(), CHUNK, OTHER, pair.view.id, 1, NEVER, 0.0, FP32)
    payload = np.full(CHUNK, np.nan, np.float32).tobytes()
    pair.node.receive(1, Message(body, payload), 0.0)
    assert any(isinstance(b, Refusal) and not b.later for b in pair.drain())
    assert pair.unchanged()
    assert [note.box for note in pair.node.notes() if note.event == "refused"] == [1]


def test_replies_of_another_view_or_of_others_than_the_owner_change_nothing() -> None:
    pair = Pair()
    theirs = next(c for c in range(CHUNKS) if c not in pair.node._blocks[0].owned)
    payload = CODECS[FP32].encode(np.zeros(CHUNK, np.float32))

    def reply(view: int, chunk: int) -> None:
        body = Reply(view, 0, chunk, CHUNK, MINE, (view, 5), NEVER, (), view, FP32)
        pair.node.receive(1, Message(body, payload), 0.0)
        pair.node.correct()

    before = pair.th.copy()
    reply(pair.view.id - 1, theirs)
    reply(pair.view.id + (1 << 20), theirs)
    reply(pair.view.id, pair.mine())
    np.testing.assert_array_equal(pair.th, before)
    reply(pair.view.id, theirs)
    assert not pair.th[theirs * CHUNK : (theirs + 1) * CHUNK].any()


def test_corrections_wait_for_the_training_thread() -> None:
    pair = Pair()
    theirs = next(c for c in range(CHUNKS) if c not in pair.node._blocks[0].owned)
    part = slice(theirs * CHUNK, (theirs + 1) * CHUNK)
    payload = CODECS[FP32].encode(pair.th[part] + 2)
    body = Reply(
        pair.view.id, 0, theirs, CHUNK, MINE, (pair.view.id, 5), NEVER, (), pair.view.id, FP32
    )
    before = pair.th.copy()
    pair.node.receive(1, Message(body, payload), 0.0)
    np.testing.assert_array_equal(pair.th, before)
    pair.th[part] += 10  # a step in between
    pair.node.correct()
    np.testing.assert_allclose(pair.th[part], before[part] + 12)


def test_another_layout_is_an_error_that_says_where() -> None:
    world = Rehearsal(step=0.1)
    world.start(0).node.add_block(0, "one", np.zeros(8, np.float32), 4)
    late = world.start(1).node
    late.add_block(0, "two", np.zeros(8, np.float32), 4)
    world.run(1)
    with pytest.raises(MismatchError, match="box 0"):
        late.ready(0)


def test_blocks_are_checked() -> None:
    node = Node(Identity(0, 1, founder=True), NodeSettings(), random.Random(0))
    with pytest.raises(ValueError, match="number"):
        node.add_block(1, "x", np.zeros(8, np.float32), 4)
    with pytest.raises(ValueError, match="float32"):
        node.add_block(0, "x", np.zeros(8, np.float64), 4)


def test_averaged_chunks_are_never_amplified() -> None:
    node = Node(Identity(0, 1, founder=True), NodeSettings(gain=0.5), random.Random(0))
    node.add_block(0, "x", np.zeros(8, np.float32), 4, [ChunkKind.TRAINED, ChunkKind.AVERAGED])
    assert [node._blocks[0].gain_of(chunk) for chunk in range(2)] == [0.5, 0.0]


def test_weights_are_shares_of_the_samples_and_strides_count_boxes() -> None:
    world = Rehearsal(NodeSettings(codec="fp32"), step=0.1)
    nodes = [world.start(number).node for number in range(3)]
    for _ in range(100):
        world.run(0.1)
        for node, samples in zip(nodes, (20, 20, 40), strict=True):
            node.trained(samples)
    weights = [nodes[0]._desk.weight(number, 0.0) for number in range(3)]
    np.testing.assert_allclose(weights, [0.25, 0.25, 0.5], rtol=0.05)
    assert nodes[0].stride() == pytest.approx(80**2 / (20**2 + 20**2 + 40**2), rel=0.05)
    assert nodes[0].stride(0.0) == 1.0
    assert nodes[0]._desk.weight(2, 0.5) == pytest.approx(0.5 * 3**0.5, rel=0.05)
    assert nodes[0]._desk.weight(2, 1.0) == 1.0


def test_an_exchange_that_costs_too_much_is_made_less_often() -> None:
    world = Rehearsal(NodeSettings(codec="fp32", cycle=0.1, share=0.03), step=0.05)
    weights = []
    for number in range(2):
        th = np.zeros(64, np.float32)
        weights.append(th)
        world.start(number).node.add_block(0, "x", th, 8)

    def train(seconds: int, cost: float) -> float:
        """What drivers do if an exchange of a chunk costs so many seconds; the share it takes."""
        nodes = [box.node for box in world.boxes.values()]
        spent = 0.0
        for second in range(seconds):
            before = [node.status(world.now).bytes_out for node in nodes]
            for _ in range(10):
                for th, node in zip(weights, nodes, strict=True):
                    np.add(th, 0.001, out=th)
                    node.correct()
                world.run(0.1)
            for node, was in zip(nodes, before, strict=True):
                chunks = (node.status(world.now).bytes_out - was) / 32
                node.pace(chunks * cost, 1.0)
                spent += chunks * cost * (second >= seconds // 2)
        return spent / len(nodes) / (seconds - seconds // 2)

    assert train(5, cost=0.0) == 0
    assert world.boxes[0].node.status(world.now).cycle < 0.3
    assert 0.01 < train(120, cost=0.01) < 0.06
    assert world.boxes[0].node.status(world.now).cycle > 0.5
    train(60, cost=0.0)
    assert world.boxes[0].node.status(world.now).cycle < 0.3


# --- batches


class Epoch:
    """Boxes that do nothing but take batches."""

    def __init__(self, boxes: int, batches: int, link: Link | None = None, **more: int) -> None:
        self.world = Rehearsal(NodeSettings(retry=0.5, most=32), link, step=0.1)
        self.batches = batches
        self.trained: Counter[tuple[tuple[int, int], int]] = Counter()
        self.by: Counter[int] = Counter()
        self.key: dict[int, tuple[int, int]] = {}
        self.speed = [more.get(f"speed{n}", 1) for n in range(boxes)]
        self.in_hand: dict[int, list[Lease]] = {}
        for number in range(boxes):
            self.world.start(number)
        self.world.run(1)

    def turn(self, box: int, passes: int = 1) -> bool:
        """Take and train as much as a box does in one step of time; whether it goes on."""
        node, now = self.world.boxes[box].node, self.world.now
        key = self.key.setdefault(box, KEY)
        if key[1] >= passes:
            return False
        if node.open_pass(key, b"order of %d" % box, self.batches) is WAIT:
            return True
        hand = self.in_hand.setdefault(box, [])
        for lease in hand:
            node.done(lease)
            self.trained[lease.key, lease.index] += 1
            self.by[box] += 1
        hand.clear()
        for _ in range(self.speed[box]):
            taken = node.take(key, now)
            if taken is None:
                if not hand:
                    node.close(key)
                    self.key[box] = (0, key[1] + 1)
                break
            if isinstance(taken, Lease):
                hand.append(taken)
        return True

    def finish(self, passes: int = 1, at: Callable[[], None] | None = None) -> None:
        for step in range(2000):
            if step == 15 and at is not None:
                at()
            goes_on = [
                self.turn(box, passes) for box, b in self.world.boxes.items() if not b.frozen
            ]
            if not any(goes_on):
                return
            self.world.run(0.1)
        pytest.fail("the epoch has no end")

    def expect(self, passes: int = 1, *, once: bool = True) -> None:
        everything = {((0, n), i) for n in range(passes) for i in range(self.batches)}
        assert set(self.trained) == everything
        if once:
            assert set(self.trained.values()) == {1}


@pytest.mark.parametrize("link", [Link(), Link(loss=0.2, duplicate=0.2, jitter=0.5, ordered=False)])
@pytest.mark.parametrize("boxes", [1, 2, 4])
def test_every_batch_is_trained_on_once(boxes: int, link: Link) -> None:
    epoch = Epoch(boxes, 60, link)
    epoch.finish(passes=2)
    epoch.expect(passes=2)
    assert len(epoch.by) == boxes


def test_a_fast_box_does_more() -> None:
    epoch = Epoch(2, 200, speed1=4)
    epoch.finish()
    epoch.expect()
    assert epoch.by[1] > 2 * epoch.by[0]


@pytest.mark.parametrize("dies", [0, 1, 2])
def test_a_dead_box_leaves_nothing_undone(dies: int) -> None:
    epoch = Epoch(3, 80)

    def die() -> None:
        epoch.world.crash(dies)
        epoch.in_hand.pop(dies, None)

    epoch.finish(passes=2, at=die)
    epoch.expect(passes=2, once=False)
    # of what was known to be done nothing is done again: that is what was in its hands, and what
    # the steward had not heard yet
    assert sum(epoch.trained.values()) <= 2 * 80 + 30


def test_a_frozen_box_gives_its_batches_to_others() -> None:
    epoch = Epoch(3, 80)
    epoch.finish(passes=4, at=lambda: setattr(epoch.world.boxes[1], "frozen", True))
    epoch.expect(passes=4, once=False)


def test_a_late_box_runs_through_used_up_passes() -> None:
    epoch = Epoch(2, 20)
    epoch.finish(passes=3)
    epoch.world.start(2)
    epoch.speed.append(1)
    epoch.world.run(1)
    epoch.finish(passes=3)
    epoch.expect(passes=3)
    assert epoch.by[2] == 0


def test_all_draw_as_the_first_opener_did() -> None:
    epoch = Epoch(3, 6)
    epoch.finish()
    orders = {box.node.order(KEY) for box in epoch.world.boxes.values()}
    assert len(orders) == 1


def test_who_breaks_off_leaves_the_rest_to_others() -> None:
    epoch = Epoch(2, 40)
    for _ in range(20):
        epoch.turn(0)
        epoch.turn(1)
        epoch.world.run(0.1)
    node = epoch.world.boxes[0].node
    for lease in epoch.in_hand.pop(0):
        node.done(lease)
        epoch.trained[lease.key, lease.index] += 1
    node.close(KEY)
    epoch.key[0] = (0, 1)
    epoch.finish()
    epoch.expect()
    assert epoch.world.boxes[1].node.progress(KEY) == 40


def test_an_answer_about_a_pass_long_over_does_no_harm() -> None:
    epoch = Epoch(1, 4)
    epoch.finish()
    node = epoch.world.boxes[0].node
    node._passes._request = Take(7, 99, KEY, 1, (), None, PassReport(KEY, 0))
    del node._passes._own[KEY]
    assert node.view is not None
    grant = Grant(node.view.id, 99, KEY, ((KEY, 3),), True, 4, 4)
    node.receive(0, Message(grant), epoch.world.now)
    assert node.open_pass((0, 5), b"", 2) is not None


def test_on_the_wrong_side_of_a_split_nobody_gets_batches() -> None:
    epoch = Epoch(3, 100)
    epoch.world.split({0}, {1, 2})
    epoch.world.run(15)
    node = epoch.world.boxes[0].node
    assert node.open_pass(KEY, b"", 100) is WAIT
    epoch.world.run(1)
    assert node.open_pass(KEY, b"", 100) is WAIT
    epoch.turn(1)
    epoch.world.run(1)
    epoch.turn(1)
    assert epoch.in_hand[1]
