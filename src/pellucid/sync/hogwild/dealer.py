"""Deals out batches among the workers of one box; see [Note: table]."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pellucid.sync.hogwild.locks import Lock
from pellucid.sync.hogwild.table import Column, Table
from pellucid.sync.shared.dealer import Lease, Opened, PassKey, Role
from pellucid.transport.board import Board, Field, Flag, State

__all__ = ["BoxDealer"]

_UNKNOWN: Final = 0  # of a nature
_TRY, _TRAIN, _WHOLE = 1, 2, 3
_ENDED: Final = (State.DEAD, State.FINISHED, State.RETIRED)
_ROLES: Final = {_TRY: Role.TRY, _TRAIN: Role.TRAIN, _WHOLE: Role.WHOLE}


class BoxDealer:
    """One worker's dealer; see `Dealer`.

    Args:
        table: of the box.
        board: of the box: says who is dead.
        index: of this worker.
        pause: lets a moment pass, while this worker waits for another; raises to stop it.
        patience: seconds to wait for a worker that is alive, before it is done without; 0 for ever.
        now: tells seconds.
    """

    def __init__(
        self,
        table: Table,
        board: Board,
        index: int,
        pause: Callable[[], None],
        *,
        patience: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._now = now
        self._table = table
        self._lock = Lock(table.fd)
        self._board = board
        self._index = index
        self._pause = pause
        self._rows: dict[PassKey, int] = {}
        self._latest: dict[int, int] = {}  # of each loader, the row of its latest pass
        self._keys: list[PassKey] = []
        self._finished: int | None = None  # the row of the pass that this worker left last

    def open(
        self, key: PassKey, order: bytes, batches: int | None, *, trains: bool = False
    ) -> Opened:
        """See `Dealer.open`.

        Waits for the leader, too, if that has yet to leave the pass that this worker has left: the
        weights that it evaluates and saves shall be those of the end of the pass.
        """
        began = self._now()
        while self._leader_is_behind() and not self._is_late(began):
            self._pause()
        while True:
            with self._lock:
                row = self._row(key)
                if row is None:
                    row = self._add(key, order, batches, trains=trains)
                elif row[Column.ROLE] == _TRY and (
                    self._is_dead(row[Column.TRIER]) or self._is_late(began)
                ):
                    row[Column.TRIER] = self._index
                role = row[Column.ROLE]
                if role != _TRY or row[Column.TRIER] == self._index:
                    return self._opened(key, row)
            self._pause()

    def decide(self, key: PassKey, *, trains: bool) -> None:
        """See `Dealer.decide`."""
        with self._lock:
            row = self._known(key)
            nature = _TRAIN if trains else _WHOLE
            latest = self._table.row(self._latest[key.loader])
            latest[Column.NATURE] = row[Column.NATURE] = nature
            if row[Column.ROLE] == _TRY:
                row[Column.ROLE] = nature

    def undecided(self, key: PassKey) -> None:
        """See `Dealer.undecided`."""
        self._known(key)[Column.ROLE] = _WHOLE

    def take(self, key: PassKey) -> Lease | None:
        """See `Dealer.take`."""
        with self._lock:
            number = self._rows[key]
            row = self._table.row(number)
            batch, total = row[Column.NEXT], row[Column.TOTAL]
            if total >= 0 and batch >= total:
                return self._take_over(number)
            # in this order: killed in between, a batch is dealt twice rather than lost
            self._table.hold(self._index, number, batch)
            row[Column.NEXT] = batch + 1
            return Lease(key, batch)

    def done(self, lease: Lease) -> None:
        """See `Dealer.done`."""
        self._table.drop(self._index, self._rows[lease.key], lease.index)

    def ended(self, lease: Lease) -> None:
        """See `Dealer.ended`: whoever takes such a lease finds out by itself."""
        self.done(lease)

    def finish(self, key: PassKey) -> Lease | None:
        """See `Dealer.finish`."""
        number = self._rows[key]
        began = self._now()
        while True:
            with self._lock:
                lease = self._take_over(number, everybodys=self._is_late(began))
                if lease is not None:
                    return lease
                one = range(number, number + 1)
                others = (w for w in range(self._table.workers) if w != self._index)
                if not any(self._table.held(w, one) for w in others):
                    row = self._table.row(number)
                    row[Column.OVER] = 1
                    self._table.drop_order(row)
                    self._finished = number
                    return None
            self._pause()

    def close(self, key: PassKey, undone: list[Lease]) -> None:
        """See `Dealer.close`."""
        self._table.leave(self._index, self._rows[key])
        if not undone:
            return
        with self._lock:
            for lease in undone:
                number = self._rows[lease.key]
                self._table.hold(self._table.workers, number, lease.index)
                self._table.drop(self._index, number, lease.index)

    def progress(self, key: PassKey) -> int:
        """See `Dealer.progress`."""
        row = self._known(key)
        return row[Column.BEFORE] + row[Column.NEXT]

    # rows; the lock is held

    def _row(self, key: PassKey) -> memoryview | None:
        """The row of a pass, if anybody has opened it."""
        for number in range(len(self._keys), self._table.rows):
            row = self._table.row(number)
            found = PassKey(row[Column.LOADER], row[Column.NUMBER])
            self._keys.append(found)
            self._rows[found] = number
            latest = self._latest.get(found.loader)
            if latest is None or self._keys[latest].number < found.number:
                self._latest[found.loader] = number
        return self._known(key) if key in self._rows else None

    def _known(self, key: PassKey) -> memoryview:
        return self._table.row(self._rows[key])

    def _add(self, key: PassKey, order: bytes, batches: int | None, *, trains: bool) -> memoryview:
        row = self._table.add_row()
        nature, before = _UNKNOWN, 0
        if key.loader in self._latest:
            earlier = self._table.row(self._latest[key.loader])
            nature = earlier[Column.NATURE]
            before = earlier[Column.BEFORE] + earlier[Column.NEXT]
        if trains:
            nature = _TRAIN
        row[Column.LOADER], row[Column.NUMBER] = key
        row[Column.ROLE] = nature or _TRY
        row[Column.NATURE] = nature
        row[Column.TRIER] = self._index
        row[Column.TOTAL] = -1 if batches is None else batches
        row[Column.NEXT] = 0
        row[Column.BEFORE] = before
        self._table.put_order(row, order)
        self._table.publish_row()
        known = self._row(key)
        assert known is not None
        return known

    def _opened(self, key: PassKey, row: memoryview) -> Opened:
        role = _ROLES[row[Column.ROLE]]
        if role is Role.TRAIN and not self._has_more(self._rows[key]):
            return Opened(Role.SPENT)
        return Opened(role, self._table.order(row))

    def _has_more(self, number: int) -> bool:
        row = self._table.row(number)
        if row[Column.OVER]:
            return False
        dealt = row[Column.NEXT] >= row[Column.TOTAL] >= 0
        return not dealt or self._left(number) is not None

    # leases of those who will not finish them; the lock is held

    def _left(self, number: int, *, everybodys: bool = False) -> tuple[int, int] | None:
        """A lease of a pass that its holder has given back or died with: (holder, batch)."""
        one = range(number, number + 1)
        for worker in range(self._table.workers + 1):
            gone = worker == self._table.workers or self._is_dead(worker)
            if gone or (everybodys and worker != self._index):
                held = self._table.held(worker, one)
                if held is not None:
                    return worker, held[1]
        return None

    def _take_over(self, number: int, *, everybodys: bool = False) -> Lease | None:
        left = self._left(number, everybodys=everybodys)
        if left is None:
            return None
        worker, batch = left
        self._table.hold(self._index, number, batch)
        self._table.drop(worker, number, batch)
        return Lease(self._keys[number], batch)

    def _leader_is_behind(self) -> bool:
        if self._finished is None:
            return False
        leader = self._board.flags[Flag.LEADER]
        trains = self._board.fields[leader][Field.STATE] not in _ENDED
        return leader != self._index and trains and not self._table.has_left(leader, self._finished)

    def _is_late(self, began: float) -> bool:
        """Whether this worker has waited too long since."""
        return bool(self._patience) and self._now() - began > self._patience

    def _is_dead(self, worker: int) -> bool:
        return self._board.fields[worker][Field.STATE] == State.DEAD
