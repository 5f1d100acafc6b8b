"""Batches: what this box asks the steward for, and the steward's books while it is this box.

All of a box's requests are one at a time and numbered; the steward answers a number that comes
again with what it answered before. So a request or an answer may get lost, and no batch does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import msgspec

from pellucid.cluster.leases import EpochQueue, Lease, PassKey
from pellucid.cluster.ranges import Ranges
from pellucid.sync.stream.desk import Desk
from pellucid.wire.messages import (
    Ask,
    Grant,
    Member,
    Open,
    Opened,
    PassRecord,
    PassReport,
    Record,
    Take,
    View,
)

__all__ = ["WAIT", "Passes", "Steward", "Wait"]


class Wait(Enum):
    """The type of `WAIT`."""

    WAIT = "wait"


WAIT: Final = Wait.WAIT
REPORTED: int = 2  # passes of a loader of which boxes tell
KEPT: Final = 200  # passes that are over, of all loaders: a message has room for 256


@dataclass
class _Own:
    """A pass as this box knows it.

    Attributes:
        order: how its batches are drawn, once known.
        batches: how many there are, once known.
        answered: whether the steward has opened it for us.
        asked: when we asked for that last.
        pool: leases not begun yet.
        begun: batches begun and not done, of this pass.
        done: batches done.
        below: every batch before this one is done, by whomever.
        used_up: whether there will be no more.
        closed: whether our script has ended it.
    """

    order: bytes
    batches: int | None
    answered: bool = False
    asked: float = float("-inf")
    pool: deque[Lease] = field(default_factory=deque)
    begun: set[int] = field(default_factory=set)
    done: Ranges = field(default_factory=Ranges)
    below: int = 0
    used_up: bool = False
    closed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether our script has nothing more to do with it."""
        return self.closed and not self.begun and not self.pool


class Passes:
    """What this box knows of passes, and its requests."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._own: dict[PassKey, _Own] = {}
        self._number = 0
        self._request: Take | None = None
        self._sent = float("-inf")
        self._returned: list[Lease] = []
        self._ended: dict[PassKey, int] = {}
        self._wanted: PassKey | None = None
        self._size = desk.settings.least  # of a request
        self._dry = False  # whether the script had to wait since the latest one
        self._since = 0
        self.begun: dict[int, int] = {}  # by loader: batches dealt to anybody

    # --- the script

    def open(self, key: PassKey, order: bytes, batches: int | None) -> bytes | Wait:
        """The order all agree on; ask again after `WAIT`."""
        one = self._own.get(key)
        if one is None:
            one = self._own[key] = _Own(order, batches)
            self._retire(key)
        one.closed = False  # another worker of the box may have left it
        return one.order if one.answered else WAIT

    def take(self, key: PassKey) -> Lease | Wait | None:
        """The next batch to train on, None when the pass is used up; ask again after `WAIT`."""
        one = self._own[key]
        if one.pool:
            lease = one.pool.popleft()
            self._at(lease.key).begun.add(lease.index)
            self._want(key)
            return lease
        if one.used_up and self._request is None:
            return None
        self._want(key)
        self._dry = True
        return WAIT

    def done(self, lease: Lease) -> None:
        """The script has trained on a batch."""
        one = self._at(lease.key)
        one.begun.discard(lease.index)
        one.done.add(lease.index, lease.index + 1)

    def close(self, key: PassKey, ended: int | None) -> None:
        """The script ended a pass; what it was given for it and has not begun goes back.

        Args:
            key: the pass.
            ended: how many batches it has, where the script came to its end and only now knows.
        """
        one = self._own.get(key)
        if one is None:
            return
        self._returned += one.pool
        one.pool.clear()
        one.closed = True
        if ended is not None:
            self._ended[key] = ended
        self._want(key)

    def give_back(self, leases: Iterable[Lease]) -> None:
        """Begun, and not to be trained on by our script after all."""
        for lease in leases:
            self._at(lease.key).begun.discard(lease.index)
            self._returned.append(lease)

    def end(self, key: PassKey, batches: int) -> None:
        """A pass has only so many batches."""
        one = self._own[key]
        known = batches if one.batches is None else min(batches, one.batches)
        one.batches, one.used_up = known, True
        one.begun = {index for index in one.begun if index < known}
        one.pool = deque(le for le in one.pool if le.key != key or le.index < known)
        self._ended[key] = known

    def ask_again(self, key: PassKey) -> None:
        """Look again whether a pass is used up."""
        self._own[key].used_up = False

    def spent(self, key: PassKey) -> bool:
        """Whether a pass that we have opened holds nothing for us."""
        one = self._own[key]
        return one.used_up and not one.pool

    def progress(self, key: PassKey) -> int:
        """Batches of this loader begun so far by all boxes, in all passes."""
        waiting = sum(len(one.pool) for k, one in self._own.items() if k[0] == key[0])
        return max(0, self.begun.get(key[0], 0) - waiting)

    def order(self, key: PassKey) -> bytes | None:
        """How the batches of a pass are drawn, if this box knows."""
        one = self._own.get(key)
        return one.order if one is not None and one.answered else None

    def _at(self, key: PassKey) -> _Own:
        """Leases may be of an earlier pass that this box never opened."""
        if key not in self._own:
            self._own[key] = _Own(b"", None, closed=True)
        return self._own[key]

    # --- the steward

    def follow(self, view: View) -> None:
        """A new view: if it admits us anew, what we had been given is others' by now."""
        me = self._desk.me
        if me is not None and me.since != self._since:
            if self._since:
                for one in self._own.values():
                    one.pool.clear()
                self._returned.clear()
                self._request = None
            self._since = me.since
        self._sent = float("-inf")  # there may be another steward: ask it
        for one in self._own.values():
            one.asked = float("-inf")
        del view

    def tick(self, now: float) -> None:
        """Ask, and ask again."""
        steward, retry = self._desk.membership.steward, self._desk.settings.retry
        if steward is None or self._desk.me is None or self._desk.membership.waiting(now):
            return
        for key, one in self._own.items():
            if not one.answered and not one.closed and now - one.asked >= retry:
                one.asked = now
                self._desk.send(steward, Open(key, one.order, one.batches))
        if self._request is None:
            self._request = self._next_request()
            self._sent = float("-inf")
        if self._request is not None and now - self._sent >= retry:
            self._sent = now
            self._desk.send(steward, self._request)

    def opened(self, opened: Opened) -> None:
        """The steward's answer."""
        one = self._own.get(opened.key)
        if one is not None and not one.answered:
            one.order, one.batches, one.answered = opened.order, opened.batches, True
            one.used_up = one.used_up or opened.used_up

    def grant(self, grant: Grant) -> None:
        """The steward's answer."""
        request = self._request
        if request is None or grant.number != request.number or grant.key != request.key:
            return
        self._request = None
        if self._dry and request.want:  # the script is faster than that
            self._size = min(2 * self._size, self._desk.settings.most)
            self._dry = False
        self._returned = self._returned[len(request.returned) :]
        if request.ended is not None:
            self._ended.pop(request.key, None)
        one = self._at(grant.key)  # it may be a pass long over
        leases = [Lease(*lease) for lease in grant.leases]
        if one.closed:
            self._returned += leases
        else:
            one.pool.extend(leases)
        one.used_up = grant.used_up
        one.below = max(one.below, grant.below)
        one.done.add(0, one.below)
        loader = grant.key[0]
        self.begun[loader] = max(self.begun.get(loader, 0), grant.begun)
        if one.used_up and self._wanted == grant.key:
            self._wanted = None

    def reports(self) -> tuple[PassReport, ...]:
        """What we have done of the current passes."""
        return tuple(self._report(key) for key in self._own if self._current(key))

    def record(self) -> tuple[PassRecord, ...]:
        """All we know of the current passes, for a new steward."""
        held: dict[PassKey, set[int]] = {key: set(one.begun) for key, one in self._own.items()}
        for one in self._own.values():
            for lease in one.pool:
                held.setdefault(lease.key, set()).add(lease.index)
        for lease in self._returned:
            held.setdefault(lease.key, set()).add(lease.index)
        return tuple(
            PassRecord(
                key,
                one.order if one.answered else None,
                one.batches,
                tuple(sorted(held.get(key, ()))),
                self._report(key),
            )
            for key, one in self._own.items()
            if (one.answered or held.get(key)) and (self._current(key) or held.get(key))
        )

    def _report(self, key: PassKey) -> PassReport:
        one = self._own[key]
        return PassReport(key, one.below, one.done.from_(one.below))

    def _want(self, key: PassKey) -> None:
        self._wanted = key

    def _next_request(self) -> Take | None:
        """What to ask for next, if anything."""
        ended = next(iter(self._ended.items()), None)
        key = ended[0] if ended is not None else self._wanted
        if key is None and self._returned:
            key = self._returned[0].key
        one = self._own.get(key) if key is not None else None
        if key is None or one is None:
            return None
        want = 0
        if not one.closed and not one.used_up:
            want = self._size if 2 * len(one.pool) <= self._size else 0
        if not want and not self._returned and ended is None:
            return None
        self._number += 1
        returned = tuple((lease.key, lease.index) for lease in self._returned[:1024])
        return Take(
            self._desk.boot, self._number, key, want, returned,
            None if ended is None else ended[1], self._report(key),
        )  # fmt: skip

    def _current(self, key: PassKey) -> bool:
        latest = max(number for loader, number in self._own if loader == key[0])
        return key[1] > latest - REPORTED

    def _retire(self, opened: PassKey) -> None:
        """Forget passes long over."""
        loader, latest = opened
        for key in [k for k in self._own if k[0] == loader and k[1] <= latest - REPORTED - 1]:
            one = self._own[key]
            if one.is_over:
                del self._own[key]
        # some scripts make a new loader for every pass
        for key in [k for k, one in self._own.items() if one.is_over][:-KEPT]:
            del self._own[key]


class Steward:
    """The books, while they are this box's to keep."""

    def __init__(self, desk: Desk, passes: Passes) -> None:
        self._desk = desk
        self._passes = passes
        self._queue: EpochQueue | None = None
        self._followed = 0  # id of the latest view
        self._asked: set[int] = set()  # members that have not told yet what they know
        self._records: dict[int, tuple[PassRecord, ...]] = {}
        self._answers: dict[int, Grant] = {}  # by boot: the latest
        self._last_ask = float("-inf")
        self._heard: dict[int, dict[PassKey, PassReport]] = {}  # by boot: done when last heard of

    @property
    def presides(self) -> bool:
        """Whether this box is the steward."""
        return self._desk.me is not None and self._desk.membership.steward == self._desk.box

    def follow(self, view: View) -> None:
        """A new view: begin, go on or end to keep the books."""
        if not self.presides:
            self._queue, self._records, self._asked = None, {}, set()
            self._answers.clear()
            return
        if self._queue is None:
            self._asked = {m.box for m in view.members if m.box != self._desk.box}
            self._records = {self._desk.box: self._passes.record()}
            self._last_ask = float("-inf")
            self._begin_if_all_told()
        elif view.id != self._followed:  # it comes again when this box has a new block
            self._queue.bury(self._holders(view))
        self._followed = view.id

    def tick(self, now: float) -> None:
        """Ask members what they know, again if need be."""
        view = self._desk.view
        due = now - self._last_ask >= self._desk.settings.retry
        if self._queue is None and self.presides and view is not None and due:
            self._last_ask = now
            for box in self._asked:
                self._desk.send(box, Ask(view.id))

    def outstanding(self, key: PassKey) -> int:
        """Batches dealt and not known to be done; 0 if another box keeps the books."""
        if self._queue is None:
            return 0
        for report in self._passes.reports():
            self._queue.report(report)
        return self._queue.outstanding(key)

    def heard(self, boot: int, reports: Iterable[PassReport]) -> None:
        """What a box had done, as of now; remembered even if this box is not the steward."""
        known = self._heard.setdefault(boot, {})
        for report in reports:
            known[report.key] = report
            if self._queue is not None:
                self._queue.report(report)
        for key in sorted(known)[:-64]:  # of passes long over
            del known[key]

    def record(self, peer: int, record: Record) -> None:
        """A member told what it knows."""
        if self._queue is None and peer in self._asked:
            self._records[peer] = record.passes
            self._asked.discard(peer)
            self._begin_if_all_told()

    def open(self, peer: int, body: Open) -> None:
        """A script begins a pass."""
        if self._queue is not None:
            order, batches = self._queue.open(body.key, body.order, body.batches)
            used_up = self._queue.used_up(body.key)
            self._desk.send(peer, Opened(body.key, order, batches, used_up))

    def take(self, member: Member, take: Take) -> None:
        """A member wants batches."""
        view = self._desk.view
        if self._queue is None or view is None or take.boot != member.boot:
            return
        answered = self._answers.get(take.boot)
        if answered is None or answered.number < take.number:
            answered = self._answers[take.boot] = self._deal(member, take, view)
        elif answered.number > take.number:
            return
        self._desk.send(member.box, msgspec.structs.replace(answered, view=view.id))

    def _deal(self, member: Member, take: Take, view: View) -> Grant:
        queue = self._queue
        assert queue is not None
        queue.report(take.report)
        if take.ended is not None:
            queue.end(take.key, take.ended)
        queue.give_back(member.box, (Lease(*lease) for lease in take.returned))
        granted = queue.take(member.box, take.key, take.want, boxes=len(view.members))
        return Grant(
            view.id, take.number, take.key, tuple((le.key, le.index) for le in granted.leases),
            granted.used_up, queue.progress(take.key[0]).begun, queue.below(take.key),
        )  # fmt: skip

    def _begin_if_all_told(self) -> None:
        if self._asked:
            return
        heard = [report for known in self._heard.values() for report in known.values()]
        self._queue = EpochQueue.restore(self._records, heard, self._passes.begun)
        self._records = {}

    def _holders(self, view: View) -> set[int]:
        """Boxes that still hold what they were given: a box admitted anew does not."""
        boots = {m.boot: m for m in view.members}
        kept = {m.box for m in view.members if m.since < view.id}
        self._answers = {boot: grant for boot, grant in self._answers.items() if boot in boots}
        return kept
