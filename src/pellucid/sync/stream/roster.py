"""Where the other boxes are, and whom to call when: pure.

Of two boxes the one that came later calls the other. Who does not answer is called again, ever more
seldom; who was lost, at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pellucid.settings import Address as Spelled
from pellucid.transport.network import Address

__all__ = ["Roster"]

FIRST_SECONDS: Final = 0.5  # until a call that was refused is made again
LONGEST_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 15.0  # of a call that comes to nothing, not even a refusal


@dataclass
class _Entry:
    address: Address
    due: float = 0.0
    pause: float = FIRST_SECONDS
    connected: bool = False


class Roster:
    """See the module.

    Args:
        box: this box.
        peers: boxes that are known from the start, by number.
    """

    def __init__(self, box: int, peers: Iterable[tuple[int, Address]] = ()) -> None:
        self._box = box
        self._entries: dict[int, _Entry] = {}
        for number, address in peers:
            self._enter(number, address)

    def learn(self, members: Iterable[tuple[int, str]]) -> None:
        """Take in addresses, as the boxes spell them."""
        for box, spelled in members:
            if box not in self._entries and spelled:
                parsed = Spelled.parse(spelled)
                self._enter(box, (parsed.host, parsed.port))

    def due(self, now: float) -> list[Address]:
        """Whom to call now."""
        calls = []
        for entry in self._entries.values():
            if not entry.connected and entry.due <= now:
                entry.due = now + PATIENCE_SECONDS
                calls.append(entry.address)
        return calls

    def connected(self, box: int) -> None:
        """There is a connection to a box."""
        if (entry := self._entries.get(box)) is not None:
            entry.connected, entry.pause = True, FIRST_SECONDS

    def lost(self, box: int, now: float) -> None:
        """The connection to a box is gone."""
        if (entry := self._entries.get(box)) is not None:
            entry.connected, entry.due = False, now

    def refused(self, address: Address, now: float) -> None:
        """A call came to nothing."""
        for entry in self._entries.values():
            if entry.address == address and not entry.connected:
                entry.due = now + entry.pause
                entry.pause = min(2 * entry.pause, LONGEST_SECONDS)

    def _enter(self, box: int, address: Address) -> None:
        if box < self._box:
            self._entries[box] = _Entry(address)
