"""A dealer for one worker, in its own memory: a public test double, and all a lone worker needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from pellucid.sync.shared.dealer import Lease, Opened, PassKey, Role

__all__ = ["SingleDealer"]


@dataclass
class _Row:
    role: Role
    order: bytes
    batches: int | None
    next: int = 0
    returned: list[Lease] = field(default_factory=list)


class SingleDealer:
    """Deals to the one worker there is; see `Dealer`.

    Attributes:
        log: every call that changed something, in order, for tests to look at.
    """

    def __init__(self) -> None:
        self._rows: dict[PassKey, _Row] = {}
        self._nature: dict[int, Role] = {}
        self.log: list[tuple[object, ...]] = []

    def open(
        self, key: PassKey, order: bytes, batches: int | None, *, trains: bool = False
    ) -> Opened:
        """See `Dealer.open`."""
        role = Role.TRAIN if trains else self._nature.get(key.loader, Role.TRY)
        row = self._rows.setdefault(key, _Row(role, order, batches))
        self.log.append(("open", key, row.role))
        return Opened(row.role, row.order)

    def decide(self, key: PassKey, *, trains: bool) -> None:
        """See `Dealer.decide`."""
        role = self._nature[key.loader] = Role.TRAIN if trains else Role.WHOLE
        if self._rows[key].role is Role.TRY:
            self._rows[key].role = role
        self.log.append(("decide", key, role))

    def undecided(self, key: PassKey) -> None:
        """See `Dealer.undecided`."""
        self._rows[key].role = Role.WHOLE
        self.log.append(("undecided", key))

    def take(self, key: PassKey) -> Lease | None:
        """See `Dealer.take`."""
        row = self._rows[key]
        if row.returned:
            return row.returned.pop(0)
        if row.batches is not None and row.next >= row.batches:
            return None
        row.next += 1
        return Lease(key, row.next - 1)

    def done(self, lease: Lease) -> None:
        """See `Dealer.done`."""
        self.log.append(("done", lease))

    def ended(self, lease: Lease) -> None:
        """See `Dealer.ended`."""
        self.log.append(("ended", lease))

    def finish(self, key: PassKey) -> Lease | None:
        """See `Dealer.finish`."""
        self.log.append(("finish", key))
        return None

    def close(self, key: PassKey, undone: list[Lease]) -> None:
        """See `Dealer.close`."""
        self._rows[key].returned += undone
        self.log.append(("close", key))

    def progress(self, key: PassKey) -> int:
        """See `Dealer.progress`."""
        return sum(row.next for other, row in self._rows.items() if other.loader == key.loader)
