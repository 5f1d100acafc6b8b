"""Batches for the script of one box, dealt by the cluster's steward; see `Dealer`.

[Note: trials between boxes]
Every box finds out by itself which of its loaders train (see [Note: passes]). While a box tries a
pass, it takes the batches that the steward deals it, as long as they come in order, which they do
for the first box; so what it trains on before it knows counts. A late box tries on weights that
nobody will see, and what it takes out of order it gives back.

[Note: the end of a pass]
Nobody waits for a batch that somebody else is training on, with one exception: the script of the
leader is about to evaluate or to save, and may be about to end. It waits until all batches of the
pass are done, and takes over those of boxes that die meanwhile; but no longer than a small part of
the time the pass took. So does each box's first worker for the others of its box.

[Note: ahead]
The leader evaluates and saves what the passes so far made of the weights. So nobody is more than a
pass ahead of it, as in hogwild mode: a worker that is about to open a pass waits while the leader
has yet to leave the training pass that this worker left last. While the leader evaluates after a
pass, the others may train in the next one; none of them opens the one after that before the leader
has left that one, too.

Where the leader is its signs of life tell. The *place* of a pass is the ordinal of the newest
loader so far, and how many passes the script has come by since that was new, whatever became of
them: so places say the same on every box, and are in the order of the script. Copies that stop
early in different epochs are of one mind again where a new loader begins. Who is late is never
ahead, and runs through what is over. The leader is its box's first worker; the box's others wait
for it, too. If it dies, the next leader's place counts from then on.

A joined box whose script has ended stays until the leader has left the last training pass, too:
it may be the only one that has the weights of a model that was new in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pellucid.sync.shared.dealer import Lease, Opened, PassKey, Role
from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.node import WAIT, Node, Wait
from pellucid.sync.stream.node import Lease as NodeLease
from pellucid.sync.stream.patience import patience
from pellucid.wire.messages import Place

__all__ = ["BoxPasses", "ClusterDealer"]

FIRST: Final = 0  # the worker of a box whose prints and files are real where the box leads


class BoxPasses:
    """What the dealers of one box share.

    Attributes:
        nature: what each loader's passes are, once one worker has found out.
        within: workers that are in a pass; the node is out of it when all are.
        dealers: of all workers.
    """

    def __init__(self) -> None:
        self.nature: dict[int, Role] = {}
        self.within: dict[PassKey, set[int]] = {}
        self.dealers: list[ClusterDealer] = []


class ClusterDealer:
    """One worker's; see the module.

    Args:
        engine: of this box.
        worker: whose it is.
        box: what all dealers of the box share.
        on_take: called whenever the script is about to get a batch.
        leads: of a box's first worker: whether its box leads.
        waited: told the seconds for which this worker has waited for the leader.
    """

    def __init__(
        self,
        engine: Engine,
        worker: int,
        box: BoxPasses,
        on_take: Callable[[], object],
        *,
        leads: Callable[[], bool] | None = None,
        waited: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._box = box
        self._on_take = on_take
        self._leads = leads
        self._waited = waited
        self._coming: Place = (0, 0)  # of the pass that the script comes by next
        self._places: dict[PassKey, Place] = {}  # of passes that it is in
        self._training: set[PassKey] = set()  # those of them that are known to train
        self._finished: Place = (0, 0)  # after the training pass that it left last
        self._opened: dict[PassKey, float] = {}  # when
        box.dealers.append(self)
        self._nature = box.nature
        self._held: set[Lease] = set()
        self._trial: _Trial | None = None
        self._ungranted: set[Lease] = set()  # batches of trials that are others' to train on

    def open(
        self, key: PassKey, order: bytes, batches: int | None, *, trains: bool = False
    ) -> Opened:
        """See `Dealer.open`.

        Waits for the leader, too, if that has yet to leave the training pass that this worker left
        last; see [Note: ahead].
        """
        if not order:  # only to know how the batches of an earlier pass are drawn
            return Opened(Role.TRAIN, self._order_of(key, batches))
        place = self._come_by(key)
        nature = Role.TRAIN if trains else self._nature.get(key.loader, Role.TRY)
        if nature is Role.WHOLE:
            return Opened(Role.WHOLE)
        self._wait_for_leader()
        self._places[key] = place

        def question(node: Node, now: float) -> bytes | Wait:
            self._opened[key] = now
            return node.open_pass(key, order, batches)

        agreed = self._engine.ask(question)
        with self._engine.node() as node:
            spent = node.spent(key)
            if not spent:
                self._box.within.setdefault(key, set()).add(self._worker)
        if spent or nature is Role.TRAIN:
            self._training.add(key)
        if spent:
            self._nature[key.loader] = Role.TRAIN  # others have trained on it
            return Opened(Role.SPENT)
        if nature is Role.TRY:
            self._trial = _Trial(key, batches)
        return Opened(nature, agreed)

    def decide(self, key: PassKey, *, trains: bool) -> None:
        """See `Dealer.decide`."""
        self._nature[key.loader] = Role.TRAIN if trains else Role.WHOLE
        if trains and key in self._places:
            self._training.add(key)
        self._end_trial(key, counts=trains)

    def undecided(self, key: PassKey) -> None:
        """See `Dealer.undecided`."""
        self._end_trial(key, counts=False)

    def take(self, key: PassKey) -> Lease | None:
        """See `Dealer.take`; waits if the steward has to be asked, or while the box is cut off."""
        self._on_take()
        trial = self._trial
        if trial is not None and trial.key == key:
            lease, granted = trial.take(self._next)
            if lease is not None and not granted:
                self._ungranted.add(lease)
            return lease
        return self._next(key)

    def done(self, lease: Lease) -> None:
        """See `Dealer.done`."""
        if lease in self._ungranted:
            self._ungranted.discard(lease)
        elif self._trial is not None and self._trial.key == lease.key:
            self._trial.done.append(lease)  # it counts when the trial is decided
        else:
            self._held.discard(lease)
            with self._engine.node() as node:
                node.done(_of_node(lease))

    def ended(self, lease: Lease) -> None:
        """See `Dealer.ended`."""
        self._ungranted.discard(lease)
        self._held.discard(lease)
        if self._trial is not None:
            self._trial.forget(lease)
        with self._engine.node() as node:
            node.end_pass(lease.key, lease.index)

    def finish(self, key: PassKey) -> Lease | None:
        """See `Dealer.finish` and [Note: the end of a pass]."""
        until: float | None = None

        def question(node: Node, now: float) -> NodeLease | Wait | None:
            nonlocal until
            dealt = node.take(key, now)
            if dealt is not None:
                return dealt
            if until is None:
                until = now + patience(now - self._opened.get(key, now))
            if now >= until or not self._waits(node, key):
                return None
            node.ask_again(key)
            return WAIT

        return self._received(self._engine.ask(question))

    def _waits(self, node: Node, key: PassKey) -> bool:
        """Whether others still have batches of a pass that this worker's script is to wait for."""
        if self._leads is None:
            return False
        others = (dealer for dealer in self._box.dealers if dealer is not self)
        if any(lease.key == key for dealer in others for lease in dealer._held):
            return True
        return self._leads() and node.outstanding(key) > 0

    def close(self, key: PassKey, undone: list[Lease]) -> None:
        """See `Dealer.close`."""
        back = [lease for lease in undone if lease not in self._ungranted]
        self._ungranted.difference_update(undone)
        self._held.difference_update(back)
        with self._engine.node() as node:
            node.give_back(_of_node(lease) for lease in back)
            within = self._box.within.get(key, set())
            within.discard(self._worker)
            self._opened.pop(key, None)
            if not within:
                node.close(key)
        self._leave(key)

    def stay(self) -> None:
        """The script has ended: wait until the leader needs this box no more; [Note: ahead]."""
        self._engine.stay(lambda node: node.leader_is_behind(self._finished))

    def abandon(self) -> None:
        """The worker is dead: others may have its batches."""
        with self._engine.node() as node:
            node.give_back(_of_node(lease) for lease in self._held)
        self._held.clear()
        for key in [key for key, within in self._box.within.items() if self._worker in within]:
            self.close(key, [])

    def progress(self, key: PassKey) -> int:
        """See `Dealer.progress`."""
        with self._engine.node() as node:
            return node.progress(key)

    def _come_by(self, key: PassKey) -> Place:
        """The place of a pass that the script comes by; it has left those before."""
        place = max(self._coming, (key.loader, 0))
        self._coming = _after(place)
        self._tell_left(place)
        return place

    def _leave(self, key: PassKey) -> None:
        """The script has left a pass."""
        trains = key in self._training
        self._training.discard(key)
        place = self._places.pop(key, None)
        if place is not None:
            self._finished = _after(place) if trains else self._finished
            self._tell_left(_after(place))

    def _tell_left(self, place: Place) -> None:
        if self._worker == FIRST:  # the others do not lead
            with self._engine.node() as node:
                node.has_left(place)

    def _wait_for_leader(self) -> None:
        since: float | None = None

        def question(node: Node, now: float) -> float | Wait:
            nonlocal since
            since = now if since is None else since
            return WAIT if node.leader_is_behind(self._finished) else now - since

        waited = self._engine.ask(question)
        if waited:
            self._waited(waited)

    def _order_of(self, key: PassKey, batches: int | None) -> bytes:
        with self._engine.node() as node:
            known = node.order(key)
        if known is None:
            known = self._engine.ask(lambda node, _: node.open_pass(key, b"", batches))
            with self._engine.node() as node:
                node.close(key)
        return known

    def _next(self, key: PassKey) -> Lease | None:
        return self._received(self._engine.ask(lambda node, now: node.take(key, now)))

    def _received(self, dealt: NodeLease | None) -> Lease | None:
        if dealt is None:
            return None
        lease = Lease(PassKey(*dealt.key), dealt.index)
        self._held.add(lease)
        return lease

    def _end_trial(self, key: PassKey, *, counts: bool) -> None:
        trial = self._trial
        if trial is None or trial.key != key:
            return
        self._trial = None
        with self._engine.node() as node:
            if counts:
                back = []
                for lease in trial.done:
                    node.done(_of_node(lease))
                self._held.difference_update(trial.done)
            else:
                back = list(trial.granted)
            if trial.stray is not None:
                back.append(trial.stray)
            node.give_back(_of_node(lease) for lease in back)
            self._held.difference_update(back)


class _Trial:
    """All batches of a pass for one box, of which it holds leases for the first ones, if it can.

    Attributes:
        granted: leases that the steward has dealt.
        done: those of them that the script has done with.
        stray: the lease that came out of order, if one did.
    """

    def __init__(self, key: PassKey, batches: int | None) -> None:
        self.key = key
        self.granted: list[Lease] = []
        self.done: list[Lease] = []
        self.stray: Lease | None = None
        self._batches = batches
        self._next = 0
        self._in_order = True

    def forget(self, lease: Lease) -> None:
        """There is no such batch."""
        if lease in self.granted:
            self.granted.remove(lease)

    def take(self, deal: Callable[[PassKey], Lease | None]) -> tuple[Lease | None, bool]:
        """The next batch, and whether it is this box's to train on."""
        if self._batches is not None and self._next >= self._batches:
            return None, False
        wanted = Lease(self.key, self._next)
        self._next += 1
        if self._in_order:
            dealt = deal(self.key)
            self._in_order = dealt == wanted
            if self._in_order:
                self.granted.append(wanted)
            else:
                self.stray = dealt
        return wanted, self._in_order


def _after(place: Place) -> Place:
    return place[0], place[1] + 1


def _of_node(lease: Lease) -> NodeLease:
    return NodeLease((lease.key.loader, lease.key.number), lease.index)
