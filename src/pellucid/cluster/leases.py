"""The epoch queue: an epoch's batches, dealt out one lease at a time.

[Note: leases]
A *pass* is one iteration over a loader; its *key* is (ordinal of the loader, number of the pass).
A *lease* is the right to train on one batch of a pass. The steward deals them, first come first
served; who opened the pass first deposited how its batches are drawn (the *order*), so that a
number means the same batch on every box.

The lease rule: a batch is dealt to one box at a time. It is dealt again only if that box left the
view before it was known to have done it. So without deaths every batch is trained on exactly once,
and with deaths at least once, unless the death comes in the last moments of a loader's last pass:
what is left then is dealt in the next pass of the same loader, under its own key.

What a box gives back because its script broke off the pass is dealt to others that are still in the
pass, and otherwise forgotten, as the script wanted.

A steward that dies takes its books with it. All boxes know what each had done when it was last
heard of, and the living tell what they hold: from that `EpochQueue.restore` makes new books.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pellucid.cluster.ranges import Ranges
from pellucid.wire.messages import PassRecord, PassReport

__all__ = ["EpochQueue", "Granted", "Lease", "PassKey", "Progress"]

PassKey = tuple[int, int]
KEPT: Final = 2  # passes of a loader whose order is kept


@dataclass(frozen=True, slots=True, order=True)
class Lease:
    """The right to train on a batch."""

    key: PassKey
    index: int


class Progress(NamedTuple):
    """A loader's passes so far: batches dealt, and the first of its latest pass not done."""

    begun: int
    below: int


class Granted(NamedTuple):
    """Leases, and whether there will be no more for this pass."""

    leases: tuple[Lease, ...]
    used_up: bool


@dataclass
class _Pass:
    """The books of one pass.

    Attributes:
        order: how its batches are drawn; None if nobody living knows.
        batches: how many it has; None while unknown.
        fresh: the first batch that was never dealt.
        held: who has which.
        done: batches trained on.
        again: given back, to be dealt again within the pass.
        orphans: left by boxes that are gone.
    """

    order: bytes | None
    batches: int | None
    fresh: int = 0
    held: dict[int, int] = field(default_factory=dict)
    done: Ranges = field(default_factory=Ranges)
    again: list[int] = field(default_factory=list)
    orphans: list[int] = field(default_factory=list)

    def left(self) -> int | None:
        """Batches still to be dealt; None while unknown."""
        waiting = len(self.again) + len(self.orphans)
        return None if self.batches is None else max(0, self.batches - self.fresh) + waiting

    def next(self) -> int | None:
        """The next batch to deal."""
        for waiting in (self.orphans, self.again):
            while waiting:
                index = waiting.pop(0)
                if index not in self.done and (self.batches is None or index < self.batches):
                    return index
        if self.batches is not None and self.fresh >= self.batches:
            return None
        self.fresh += 1
        return self.fresh - 1

    def finish(self, index: int) -> None:
        self.done.add(index, index + 1)
        self.held.pop(index, None)


class EpochQueue:
    """The steward's books; see [Note: leases]."""

    def __init__(self) -> None:
        self._passes: dict[PassKey, _Pass] = {}
        self._begun: dict[int, int] = {}  # loader: batches dealt
        self._gone: dict[int, int] = {}  # loader: passes before this one are over and forgotten
        self.lost = 0  # batches left by the dead that nobody could take over

    def open(self, key: PassKey, order: bytes, batches: int | None) -> tuple[bytes, int | None]:
        """Deposit the order of a pass, or learn the one deposited before.

        Returns:
            The order and the number of batches that count. The order of a pass that is over and
            forgotten is empty: there is nothing to be drawn.
        """
        loader, number = key
        one = self._passes.get(key)
        if one is None:
            if number < self._gone.get(loader, 0):
                return b"", batches
            one = self._passes[key] = _Pass(order, batches)
            self._retire(loader, number)
        if one.order is None and order:  # who asks without one only wants to know
            one.order = order
        if one.batches is None:
            one.batches = batches
        return one.order or b"", one.batches

    def take(self, box: int, key: PassKey, want: int, *, boxes: int = 1) -> Granted:
        """Deal batches.

        Args:
            box: to whom.
            key: the pass it is in.
            want: how many it would like.
            boxes: how many share the rest: near the end nobody gets much at once.
        """
        one = self._passes.get(key)
        if one is None:
            return Granted((), used_up=key[1] < self._gone.get(key[0], 0))
        left = one.left()
        if left is not None:
            want = min(want, max(1, left // (2 * boxes)))
        leases: list[Lease] = []
        for source in self._sources(key):
            while len(leases) < want:
                index = self._next(source, key)
                if index is None:
                    break
                self._passes[source].held[index] = box
                leases.append(Lease(source, index))
        self._begun[key[0]] = self._begun.get(key[0], 0) + len(leases)
        return Granted(tuple(leases), self.used_up(key))

    def used_up(self, key: PassKey) -> bool:
        """Whether nothing is left to deal to who is in this pass."""
        if key not in self._passes:
            return key[1] < self._gone.get(key[0], 0)
        waiting = any(self._passes[source].orphans for source in self._sources(key)[:-1])
        return not waiting and self._passes[key].left() == 0

    def give_back(self, box: int, leases: Iterable[Lease]) -> None:
        """A box will not train on these."""
        for lease in leases:
            one = self._passes.get(lease.key)
            if one is not None and one.held.get(lease.index) == box:
                del one.held[lease.index]
                one.again.append(lease.index)
                self._begun[lease.key[0]] -= 1

    def end(self, key: PassKey, batches: int) -> None:
        """A box came to the end of a pass, and knows now how many batches it has."""
        one = self._passes.get(key)
        if one is not None and (one.batches is None or batches < one.batches):
            one.batches = batches
            one.held = {index: box for index, box in one.held.items() if index < batches}

    def report(self, report: PassReport) -> None:
        """A box has done these."""
        one = self._passes.get(report.key)
        if one is None:
            return
        for begin, end in report.done:
            one.done.add(begin, end)
            if one.held:
                for index in [i for i in one.held if begin <= i < end]:
                    del one.held[index]

    def bury(self, living: Iterable[int]) -> int:
        """Whoever else held leases is gone: they are dealt again. Returns how many."""
        left = set(living)
        count = 0
        for key, one in self._passes.items():
            orphans = sorted(index for index, box in one.held.items() if box not in left)
            for index in orphans:
                del one.held[index]
            one.orphans.extend(orphans)
            self._begun[key[0]] = self._begun.get(key[0], 0) - len(orphans)
            count += len(orphans)
        return count

    def progress(self, loader: int) -> Progress:
        """How far a loader has come."""
        latest = max((key for key in self._passes if key[0] == loader), default=None)
        below = 0 if latest is None else self._passes[latest].done.below
        return Progress(self._begun.get(loader, 0), below)

    def below(self, key: PassKey) -> int:
        """The first batch of a pass that is not known to be done."""
        one = self._passes.get(key)
        return 0 if one is None else one.done.below

    def outstanding(self, key: PassKey) -> int:
        """Batches dealt and not known to be done, or left by the dead."""
        one = self._passes.get(key)
        return 0 if one is None else len(one.held) + len(one.orphans)

    @classmethod
    def restore(
        cls,
        records: Mapping[int, Sequence[PassRecord]],
        heard: Iterable[PassReport],
        begun: Mapping[int, int],
    ) -> EpochQueue:
        """New books, from what the boxes know.

        Args:
            records: what each living box told.
            heard: what anybody, living or dead, had done when it was last heard of.
            begun: by loader, the most batches anybody knows to have been dealt.
        """
        queue = cls()
        for box, passes in records.items():
            for record in passes:
                queue._enter(box, record)
        for report in [*heard, *(r.report for passes in records.values() for r in passes)]:
            one = queue._passes.get(report.key)
            if one is None:
                continue
            one.done.add(0, report.below)
            queue.report(report)
        for key in sorted(queue._passes):
            one = queue._passes[key]
            one.fresh = max(one.done.end, max(one.held, default=-1) + 1)
            one.orphans = [i for i in one.done.missing(one.fresh) if i not in one.held]
            queue._begun[key[0]] = queue._begun.get(key[0], 0) + one.fresh - len(one.orphans)
        for loader, count in begun.items():
            queue._begun[loader] = max(queue._begun.get(loader, 0), count)
        for loader, number in sorted(queue._passes):
            queue._retire(loader, number)
        return queue

    def _enter(self, box: int, record: PassRecord) -> None:
        one = self._passes.setdefault(record.key, _Pass(None, None))
        if one.order is None:
            one.order = record.order
        if record.batches is not None:
            one.batches = (
                record.batches if one.batches is None else min(one.batches, record.batches)
            )
        one.held.update(dict.fromkeys(record.held, box))

    def _sources(self, key: PassKey) -> list[PassKey]:
        """The passes whose batches one that is in this pass may get, oldest first."""
        loader, number = key
        return [*sorted(k for k in self._passes if k[0] == loader and k[1] < number), key]

    def _next(self, source: PassKey, key: PassKey) -> int | None:
        """The next batch of a source; of an earlier pass, only what the dead left."""
        one = self._passes[source]
        if source == key:
            return one.next()
        while one.orphans:
            index = one.orphans.pop(0)
            if index in one.done:
                continue
            if one.order is None:  # nobody can say which batch that is
                self.lost += 1
                continue
            return index
        return None

    def _retire(self, loader: int, number: int) -> None:
        """Forget passes long over; what nobody wants of them is given up."""
        for key in [k for k in self._passes if k[0] == loader and k[1] <= number - KEPT]:
            one = self._passes[key]
            if not one.held and not one.orphans:
                del self._passes[key]
                self._gone[loader] = max(self._gone.get(loader, 0), key[1] + 1)
