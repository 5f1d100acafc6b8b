"""Who is here: one box's opinion, and how all come to share one.

[Note: membership]
The boxes agree on a *view* (see [Note: messages]). Its first member that is not dead, the
*steward*, proposes the next one when something has changed: a box came, died, or has a new block of
weights. Others take over a view when its id is larger than that of theirs.

A member is *present* if it was heard within ``dead`` seconds, and said within that time that it
hears us: a cable that works one way only connects nobody. It is gone at once if its process said
goodbye, or soon after if its process closed the connection.

Who proposes needs a *quorum*: more than half of the members of the last view, not counting those
known to be gone, or exactly half if the most senior of them is among it. So of the sides of a split
network at most one goes on. All others *wait*, from ``suspected`` seconds on, which is before the
others go on without them.

If all members of the last view are known to be gone, boxes outside that have the cluster's weights
begin anew, the one with the lowest number first: nobody else can admit them.

A member takes over the stewardship only when everyone senior to it is dead by its own ears and by
those of the majority of whom it hears.

The weights of a block are first the seeder's. If every box that had all of them is gone, or silent
for long, before another had, a new seeder gives its own: the run is young then, or was one box's.

Seniority is the order of admission. A box that comes back is admitted anew, at the end, and has to
take over the weights of the others before its own deltas count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from pellucid.wire.messages import BlockInfo, Heartbeat, Member, View, view_id, view_number

__all__ = ["Membership", "State", "Timing"]


FORGOTTEN: Final = 6  # times as long silent as the dead: nobody waits for its weights any more


@dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        heartbeat: between two signs of life.
        suspected: of silence, after which a box counts for no quorum.
        dead: of silence, after which it is taken out of the view.
        closed: after its process closed the connection.
    """

    heartbeat: float = 2.0
    suspected: float = 6.0
    dead: float = 10.0
    closed: float = 2.0


class State(Enum):
    """What we think of a box."""

    ALIVE = "alive"
    SUSPECTED = "suspected"
    DEAD = "dead"
    OUTSIDE = "outside"  # it talks to us, and is in no view


@dataclass
class _Peer:
    """What we know of another box at first hand."""

    boot: int
    heard: float
    hears_us: float
    beat: Heartbeat | None = None
    closed: float | None = None
    gone: bool = False


class Membership:
    """See [Note: membership].

    Args:
        box: our number.
        boot: our process.
        timing: when silence means what.
        address: where we listen.
    """

    def __init__(self, box: int, boot: int, timing: Timing, address: str = "") -> None:
        self.box = box
        self.boot = boot
        self.timing = timing
        self.address = address
        self.view: View | None = None
        self._peers: dict[int, _Peer] = {}
        self._retired: set[int] = set()  # boots that were replaced by another of the same box

    # --- what we see

    def found(self) -> View:
        """Begin a cluster, alone."""
        first = view_id(1, self.box)
        me = Member(self.box, self.boot, self.address, first)
        self.view = View(first, 0, (me,))
        return self.view

    def heard(self, beat: Heartbeat, now: float) -> bool:
        """A sign of life. Returns whether it counts: it may come from a process replaced since."""
        if beat.boot in self._retired or beat.box == self.box:
            return False
        peer = self._peers.get(beat.box)
        if peer is None or peer.boot != beat.boot:
            if peer is not None:
                self._retired.add(peer.boot)
            peer = self._peers[beat.box] = _Peer(beat.boot, now, now)
        if peer.gone:
            return False
        peer.heard, peer.beat = now, beat
        if self.box in beat.hears:
            peer.hears_us = now
        return True

    def opened(self, box: int) -> None:
        """There is a connection to a box."""
        if box in self._peers:
            self._peers[box].closed = None

    def closed(self, box: int, now: float) -> None:
        """Its process, or its kernel, closed the connection."""
        if box in self._peers:
            self._peers[box].closed = now

    def goodbye(self, box: int, boot: int) -> None:
        """It goes for good."""
        peer = self._peers.get(box)
        if peer is not None and peer.boot == boot:
            peer.gone = True

    def said_goodbye(self, box: int) -> bool:
        """Whether a box went for good, and said so."""
        peer = self._peers.get(box)
        return peer is not None and peer.gone

    def receive(self, view: View, now: float) -> bool:
        """Somebody's view. Returns whether it is ours from now on."""
        if self.view is not None and view.id <= self.view.id:
            return False
        self.view = view
        for member in view.members:
            known = self._peers.get(member.box)
            # whom we never heard gets the usual time to be heard
            if member.box != self.box and member.boot not in self._retired:
                if known is None:
                    self._peers[member.box] = _Peer(member.boot, now, now)
                elif known.boot != member.boot and known.beat is None:
                    known.boot = member.boot
        return True

    # --- what we think

    @property
    def me(self) -> Member | None:
        """This process as a member of the view, if it is one."""
        member = None if self.view is None else self.view.member(self.box)
        return member if member is not None and member.boot == self.boot else None

    @property
    def steward(self) -> int | None:
        """The box whom members ask for leases."""
        return None if self.view is None else self.view.members[0].box

    @property
    def leader(self) -> int | None:
        """The box whose prints and files the user sees: the steward."""
        return self.steward

    def hears(self, now: float) -> tuple[int, ...]:
        """Boxes heard of late, whose processes have not ended since."""
        return tuple(
            sorted(
                box
                for box, peer in self._peers.items()
                if now - peer.heard < self.timing.suspected and not self._left(peer, now)
            )
        )

    def beat(self, box: int) -> Heartbeat | None:
        """The latest sign of life of a box."""
        peer = self._peers.get(box)
        return None if peer is None else peer.beat

    def present(self, member: Member, now: float, within: float | None = None) -> bool:
        """Whether a member is here and hears us."""
        if member.box == self.box:
            return member.boot == self.boot
        peer = self._peers.get(member.box)
        limit = self.timing.dead if within is None else within
        return (
            peer is not None
            and peer.boot == member.boot
            and not self._left(peer, now)
            and now - peer.heard < limit
            and now - peer.hears_us < limit
        )

    def quorum(self, now: float, within: float | None = None) -> bool:
        """Whether enough members of the view are present to decide for all."""
        if self.view is None or self.me is None:
            return False
        counted = [m for m in self.view.members if not self._is_gone(m, now)]
        here = [m for m in counted if self.present(m, now, within)]
        return 2 * len(here) > len(counted) or (
            2 * len(here) == len(counted) and here[0] is counted[0]
        )

    def waiting(self, now: float) -> bool:
        """Whether this box must not take part: it is outside, or on the wrong side of a split."""
        return not self.quorum(now, self.timing.suspected)

    def state(self, box: int, now: float) -> State:
        """What we think of another box."""
        peer = self._peers.get(box)
        if peer is None or self._left(peer, now) or now - peer.heard >= self.timing.dead:
            return State.DEAD
        if now - peer.heard >= self.timing.suspected or peer.closed is not None:
            return State.SUSPECTED
        member = None if self.view is None else self.view.member(box)
        return State.ALIVE if member is not None and member.boot == peer.boot else State.OUTSIDE

    def behind(self, box: int) -> bool:
        """Whether a box has an older view than we have."""
        beat = self.beat(box)
        return self.view is not None and beat is not None and beat.view < self.view.id

    # --- what we propose

    def propose(self, own: Heartbeat, now: float) -> View | None:
        """The next view, if it is ours to propose and anything has changed; it is ours at once.

        Args:
            own: what we would tell of ourselves.
            now: seconds.
        """
        view = self.view
        if view is None:
            return None
        if self.me is None:
            return self._begin_anew(view, own, now)
        if not self._leads(now) or not self.quorum(now):
            return None
        number = view_id(view_number(view.id) + 1, self.box)
        blocks = list(view.blocks)
        members = [
            self._updated(member, own if member.box == self.box else self.beat(member.box), blocks)
            for member in view.members
            if self.present(member, now)
        ]
        members += [self._admitted(beat, number, blocks) for beat in self._newcomers(members, now)]
        ready = self._ready(own, members, now)
        if ready is not None:
            blocks = [_seeded(at, block, members, ready) for at, block in enumerate(blocks)]
        if tuple(members) == view.members and tuple(blocks) == view.blocks:
            return None
        self.view = View(number, view.id, tuple(members), tuple(blocks))
        return self.view

    def _begin_anew(self, view: View, own: Heartbeat, now: float) -> View | None:
        """The next view of boxes outside, when nobody is left inside."""
        if not self._all_gone(view, now):
            return None
        others = [beat for beat in self._newcomers([], now) if beat.ready]
        if not own.ready or any(beat.box < self.box for beat in others):
            return None
        number = view_id(view_number(view.id) + 1, self.box)
        blocks = list(view.blocks)
        members = tuple(self._admitted(beat, number, blocks) for beat in [own, *others])
        self.view = View(number, view.id, members, tuple(blocks))
        return self.view

    def forsaken(self, own: Heartbeat, now: float) -> bool:
        """Whether this box is outside and nobody is left who could let it in, or might come back.

        Args:
            own: what we would tell of ourselves.
            now: seconds.
        """
        view = self.view
        return (
            view is not None
            and self.me is None
            and not own.ready
            and self._all_gone(view, now)
            and all(now - peer.heard >= self.timing.dead for peer in self._peers.values())
        )

    def _all_gone(self, view: View, now: float) -> bool:
        return all(self._is_gone(member, now) or member.box == self.box for member in view.members)

    def _ready(self, own: Heartbeat, members: list[Member], now: float) -> int | None:
        """How many blocks there are whose weights somebody has who may still be alive.

        None as long as a member has not said yet what it has.
        """
        told = [own.ready]
        for member in members:
            if member.box != self.box and self.beat(member.box) is None:
                return None
        for peer in self._peers.values():
            silent = now - peer.heard >= FORGOTTEN * self.timing.dead
            if peer.beat is not None and not silent and not self._left(peer, now):
                told.append(peer.beat.ready)
        return max(told)

    def _left(self, peer: _Peer, now: float) -> bool:
        return peer.gone or (peer.closed is not None and now - peer.closed >= self.timing.closed)

    def _is_gone(self, member: Member, now: float) -> bool:
        """Whether that process cannot be on the other side of a split: it is no more."""
        if member.box == self.box:
            return False
        peer = self._peers.get(member.box)
        return peer is not None and (peer.boot != member.boot or self._left(peer, now))

    def _leads(self, now: float) -> bool:
        """Whether everyone senior to us is dead, by the majority of those we hear."""
        assert self.view is not None
        here = [member for member in self.view.members if self.present(member, now)]
        for senior in self.view.members:
            if senior.box == self.box:
                return True
            if self.present(senior, now):
                return False
            deaf = 1 + sum(
                1
                for member in here
                if member.box != self.box
                and ((beat := self.beat(member.box)) is None or senior.box not in beat.hears)
            )
            if 2 * deaf <= len(here):
                return False
        return False

    def _newcomers(self, members: list[Member], now: float) -> list[Heartbeat]:
        """Boxes that talk to us, hear us, and are not in."""
        inside = {member.box for member in members}
        return [
            peer.beat
            for box, peer in sorted(self._peers.items())
            if box not in inside
            and peer.beat is not None
            and not peer.beat.leaving
            and not self._left(peer, now)
            and peer.closed is None
            and now - peer.heard < self.timing.suspected
            and self.box in peer.beat.hears
        ]

    @staticmethod
    def _admitted(beat: Heartbeat, number: int, blocks: list[BlockInfo]) -> Member:
        count = _matching(beat, blocks)
        return Member(beat.box, beat.boot, beat.address, number, count, beat.leaving)

    @staticmethod
    def _updated(member: Member, beat: Heartbeat | None, blocks: list[BlockInfo]) -> Member:
        if beat is None or beat.boot != member.boot:
            return member
        return msgspec.structs.replace(
            member,
            address=beat.address,
            blocks=max(member.blocks, _matching(beat, blocks)),
            leaving=member.leaving or beat.leaving,
        )


def _matching(beat: Heartbeat, blocks: list[BlockInfo]) -> int:
    """How many of a box's blocks are those of the view; new ones are added to the list."""
    first = beat.blocks - len(beat.offers)
    for at, offer in enumerate(beat.offers, first):
        facts = (offer.fingerprint, offer.elements, offer.chunk)
        if at > len(blocks):
            return len(blocks)
        if at == len(blocks):
            blocks.append(BlockInfo(*facts, seeder=beat.box))
        elif facts != (blocks[at].fingerprint, blocks[at].elements, blocks[at].chunk):
            return at
    return min(beat.blocks, len(blocks))


def _seeded(at: int, block: BlockInfo, members: list[Member], ready: int) -> BlockInfo:
    """If all have gone who had the weights, another box's first ones take their place."""
    able = [member.box for member in members if member.blocks > at]
    seeder = block.seeder if ready > at or block.seeder in able or not able else able[0]
    if (block.seeder, block.seeded) == (seeder, ready > at):
        return block
    return msgspec.structs.replace(block, seeder=seeder, seeded=ready > at)
