"""Who is in, who lets boxes in, and who gets which number: decisions only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pellucid.launch.rendezvous import Elsewhere, Over, Refused
from pellucid.settings import Peer

__all__ = ["Register", "View"]


@dataclass(frozen=True)
class View:
    """What this box's worker 0 knows of the others.

    Attributes:
        living: numbers of the boxes that are not given up, this one among them.
        leader: whose prints and files are real.
        apart: whether this box is cut off from most others, and waits.
    """

    living: frozenset[int]
    leader: int
    apart: bool = False


class Register:
    """All boxes this one knows of.

    Args:
        here: this box.
        others: those that were there before.
    """

    def __init__(self, here: Peer, others: Iterable[Peer] = ()) -> None:
        self.here = here
        self.peers = {peer.box: peer for peer in (*others, here)}
        self.over: Over | None = None
        self._view: View | None = None  # before worker 0 says anything, all are taken to live
        self._promised: set[int] = set()  # numbers given out to boxes that are not ready yet
        self._new: set[int] = set()  # boxes that were let in here and worker 0 has not met yet
        self._highest = max(self.peers)

    @property
    def living(self) -> list[int]:
        """Boxes that are not given up, in order."""
        if self._view is None:
            return sorted(self.peers)
        return sorted(self._view.living | self._new | {self.here.box})

    @property
    def leader(self) -> int:
        """Whose prints and files are real."""
        return min(self.peers) if self._view is None else self._view.leader

    def ask(self) -> int | Refused | Elsewhere:
        """Somebody wants to be let in: its number, or what to answer instead."""
        if self.over is not None:
            return Refused("the run has ended")
        if self._view is not None and self._view.apart:
            return Refused(
                f"box {self.here.box} is cut off from most of the others and waits for them. "
                "Ask one of the others, or again when the network is whole"
            )
        steward = min(self.living)
        if steward != self.here.box and steward in self.peers:
            return Elsewhere(steward, self.peers[steward].door)
        if steward != self.here.box:
            return Refused(
                f"box {steward} lets boxes in, and this box does not know where it is. Ask one of "
                "the others"
            )
        self._highest += 1
        self._promised.add(self._highest)
        return self._highest

    def enter(self, peer: Peer) -> bool:
        """A box that was given a number is ready; whether it is that box."""
        if peer.box not in self._promised:
            return False
        self._promised.remove(peer.box)
        self.peers[peer.box] = peer
        self._new.add(peer.box)
        return True

    def leave(self, box: int) -> None:
        """A box that was let in went away before the script had started there."""
        self._promised.discard(box)
        self._new.discard(box)
        self.peers.pop(box, None)

    def before(self, box: int) -> list[Peer]:
        """The boxes that a box is to call: those that live and came earlier."""
        return [self.peers[n] for n in self.living if n < box and n in self.peers]

    def learn(self, peers: Iterable[Peer]) -> list[Peer]:
        """The steward has let boxes in; returns those that are news."""
        new = [peer for peer in peers if peer.box not in self.peers]
        self.peers |= {peer.box: peer for peer in new}
        self._highest = max(self._highest, *self.peers)
        return new

    def see(self, view: View) -> None:
        """Worker 0 has told who lives."""
        self._view = view
        self._new -= view.living
        self._highest = max(self._highest, *view.living, 0)
