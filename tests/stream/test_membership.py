"""Membership: one box's opinion, with an injected clock."""

from __future__ import annotations

import msgspec

from pellucid.cluster.membership import Membership, State, Timing
from pellucid.wire.messages import BlockInfo, Heartbeat, Member, Offer, View, view_id

OFFER = Offer("layout", 100, 10)


def beat(
    box: int, hears: tuple[int, ...], boot: int = 0, blocks: int = 0, offers: tuple[Offer, ...] = ()
) -> Heartbeat:
    return Heartbeat(box, boot or box + 100, "", 0, blocks, offers, False, hears, 1.0, 0)


def group(box: int, size: int, now: float = 0.0) -> Membership:
    """A member of a view of so many, who has just heard all of them."""
    membership = Membership(box, box + 100, Timing())
    members = tuple(Member(n, n + 100, "", 1) for n in range(size))
    membership.receive(View(view_id(1, 0), 0, members), now)
    for other in range(size):
        if other != box:
            membership.heard(beat(other, tuple(range(size))), now)
    return membership


def test_a_silent_box_is_suspected_and_then_dead() -> None:
    membership = group(0, 3)
    assert membership.state(1, 5.9) is State.ALIVE
    assert membership.state(1, 6.0) is State.SUSPECTED
    assert membership.state(1, 10.0) is State.DEAD


def test_the_steward_takes_out_who_is_dead() -> None:
    membership = group(0, 3)
    membership.heard(beat(1, (0, 1, 2)), 9.0)
    assert membership.propose(beat(0, ()), 9.9) is None
    view = membership.propose(beat(0, ()), 10.0)
    assert view is not None
    assert [member.box for member in view.members] == [0, 1]
    assert view.previous == view_id(1, 0)


def test_a_process_that_ended_is_out_soon() -> None:
    membership = group(0, 2)
    membership.closed(1, 1.0)
    assert membership.propose(beat(0, ()), 2.9) is None
    assert membership.propose(beat(0, ()), 3.0) is not None


def test_a_connection_that_comes_back_in_time_changes_nothing() -> None:
    membership = group(0, 2)
    membership.closed(1, 1.0)
    membership.opened(1)
    assert membership.propose(beat(0, ()), 5.0) is None


def test_without_the_majority_nobody_proposes_and_all_wait() -> None:
    membership = group(0, 3)
    assert not membership.waiting(5.9)
    assert membership.waiting(6.0)
    assert membership.propose(beat(0, ()), 20.0) is None


def test_of_two_halves_the_one_with_the_senior_goes_on() -> None:
    senior, junior = group(0, 2), group(1, 2)
    assert not senior.waiting(20.0)
    assert junior.waiting(20.0)
    assert senior.propose(beat(0, ()), 20.0) is not None
    assert junior.propose(beat(1, ()), 20.0) is None


def test_of_two_boxes_the_junior_goes_on_when_the_seniors_process_has_ended() -> None:
    junior = group(1, 2)
    junior.closed(0, 1.0)
    view = junior.propose(beat(1, ()), 3.0)
    assert view is not None
    assert [member.box for member in view.members] == [1]


def test_who_does_not_hear_us_is_not_present() -> None:
    membership = group(0, 3)
    for now in range(2, 14, 2):
        membership.heard(beat(1, (0, 2)), now)
        membership.heard(beat(2, (1,)), now)  # hears box 1, not us
    view = membership.propose(beat(0, ()), 12.0)
    assert view is not None
    assert [member.box for member in view.members] == [0, 1]


def test_the_stewardship_passes_only_when_the_majority_is_deaf_to_the_senior() -> None:
    others_hear, others_deaf = group(1, 3), group(1, 3)
    for now in range(2, 14, 2):
        others_hear.heard(beat(2, (0, 1)), now)
        others_deaf.heard(beat(2, (1,)), now)
    assert others_hear.propose(beat(1, ()), 12.0) is None
    view = others_deaf.propose(beat(1, ()), 12.0)
    assert view is not None
    assert [member.box for member in view.members] == [1, 2]


def test_a_newcomer_is_admitted_last_and_blocks_are_listed() -> None:
    membership = group(1, 2)
    membership.closed(0, 0.0)
    membership.heard(beat(0, (1,), boot=7, blocks=1, offers=(OFFER,)), 3.0)
    view = membership.propose(beat(1, ()), 3.0)
    assert view is not None
    assert [(m.box, m.boot, m.since == view.id) for m in view.members] == [
        (1, 101, False),
        (0, 7, True),
    ]
    assert view.members[1].blocks == 1
    assert view.blocks[0].seeder == 0


def test_another_layout_is_not_counted() -> None:
    membership = group(0, 2)
    mine = beat(0, (), blocks=1, offers=(OFFER,))
    other = Offer("other", 100, 10)
    membership.heard(beat(1, (0,), blocks=1, offers=(other,)), 1.0)
    view = membership.propose(mine, 1.0)
    assert view is not None
    assert [member.blocks for member in view.members] == [1, 0]


def test_a_process_that_was_replaced_is_not_heard_again() -> None:
    membership = group(0, 2)
    assert membership.heard(beat(1, (0,), boot=7), 1.0)
    assert not membership.heard(beat(1, (0,)), 1.5)
    view = membership.propose(beat(0, ()), 2.0)
    assert view is not None
    assert view.members[1].boot == 7


def test_of_two_views_the_one_of_the_lower_box_counts() -> None:
    membership = group(2, 3)
    first, second = (
        View(view_id(2, box), view_id(1, 0), (Member(box, box + 100), Member(2, 102)))
        for box in (1, 0)
    )
    assert membership.receive(first, 1.0)
    assert membership.receive(second, 1.0)
    assert not membership.receive(first, 1.0)
    assert membership.steward == 0


def test_who_says_goodbye_is_gone_at_once() -> None:
    membership = group(0, 3)
    membership.goodbye(1, 5)  # of another process
    assert membership.propose(beat(0, ()), 1.0) is None
    membership.goodbye(1, 101)
    assert membership.propose(beat(0, ()), 1.0) is not None
    assert not membership.heard(beat(1, (0,)), 2.0)


def outsider(box: int, ready: int = 1) -> tuple[Membership, Heartbeat]:
    """A box outside of a view whose only member, box 0, has ended, and what it tells of itself."""
    membership = Membership(box, box + 100, Timing())
    block = BlockInfo("layout", 100, 10, 0, seeded=True)
    membership.receive(View(view_id(3, 0), 0, (Member(0, 100, "", 1, 1),), (block,)), 0.0)
    membership.closed(0, 0.0)
    own = Heartbeat(box, box + 100, "", 0, 1, (), False, (), 1.0, 0, (), ready)
    return membership, own


def test_when_nobody_is_left_inside_the_lowest_outside_begins_anew() -> None:
    (one, mine), (two, theirs) = outsider(1), outsider(2)
    one.heard(msgspec.structs.replace(theirs, hears=(1,)), 3.0)
    two.heard(msgspec.structs.replace(mine, hears=(2,)), 3.0)
    assert one.propose(mine, 1.0) is None  # box 0 may come back
    assert two.propose(theirs, 3.0) is None
    view = one.propose(mine, 3.0)
    assert view is not None
    assert [member.box for member in view.members] == [1, 2]
    assert two.receive(view, 3.0)


def test_who_has_no_weights_does_not_begin_anew() -> None:
    membership, own = outsider(1, ready=0)
    assert membership.propose(own, 3.0) is None


def test_weights_that_somebody_has_are_not_seeded_again() -> None:
    membership = group(0, 2)
    mine = beat(0, (), blocks=1, offers=(OFFER,))
    first = membership.propose(mine, 0.0)
    assert first is not None
    assert first.blocks[0].seeder == 0
    membership.heard(msgspec.structs.replace(beat(1, (0,), blocks=1), ready=1), 1.0)
    second = membership.propose(mine, 1.0)
    assert second is not None
    assert second.blocks[0].seeded


def only_box_0_is_ready() -> Membership:
    """Of box 1, of three that know of a block whose weights only box 0 has."""
    membership = group(1, 3)
    block = BlockInfo("layout", 100, 10, 0, seeded=True)
    members = tuple(Member(n, n + 100, "", 1, 1) for n in range(3))
    membership.receive(View(view_id(2, 0), 0, members, (block,)), 0.0)
    for other, ready in ((0, 1), (2, 0)):
        said = msgspec.structs.replace(beat(other, (1,), blocks=1), ready=ready)
        membership.heard(said, 0.0)
    return membership


def test_weights_that_died_with_their_only_box_are_seeded_again() -> None:
    membership = only_box_0_is_ready()
    membership.closed(0, 0.0)
    membership.heard(msgspec.structs.replace(beat(2, (1,), blocks=1)), 2.0)
    view = membership.propose(msgspec.structs.replace(beat(1, ()), blocks=1), 2.0)
    assert view is not None
    assert (view.blocks[0].seeder, view.blocks[0].seeded) == (1, False)


def test_weights_of_a_silent_box_are_waited_for_but_not_for_ever() -> None:
    membership = only_box_0_is_ready()
    mine = msgspec.structs.replace(beat(1, ()), blocks=1)
    seeders = {}
    for now in range(2, 70, 2):
        membership.heard(msgspec.structs.replace(beat(2, (1,), blocks=1)), now)
        membership.propose(mine, now)
        assert membership.view is not None
        seeders[now] = membership.view.blocks[0].seeder
    assert seeders[58] == 0
    assert seeders[60] == 1


def test_who_can_be_let_in_by_nobody_is_forsaken() -> None:
    membership, own = outsider(1, ready=0)
    assert not membership.forsaken(own, 9.9)
    assert membership.forsaken(own, 10.0)
    assert not outsider(1)[0].forsaken(outsider(1)[1], 10.0)  # it has the weights: it begins anew
    membership.heard(msgspec.structs.replace(own, box=2, boot=102), 5.0)
    assert not membership.forsaken(own, 10.0)  # box 2 may have them
