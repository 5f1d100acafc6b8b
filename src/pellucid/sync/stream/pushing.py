"""The chunks this box trains on and others own: deltas out, news in, for ever in rotation.

Each box that owns chunks has a credit of chunks in flight to it; the next one goes when an answer
comes. So the pace is the link's and the other box's, and nothing piles up.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pellucid.errors import RemoteProtocolError
from pellucid.sync.stream.blocks import Block
from pellucid.sync.stream.desk import Desk
from pellucid.sync.stream.owning import Owning
from pellucid.wire.contributor import Weights
from pellucid.wire.messages import CODECS, FP32, NEVER, Push, Refusal, Reply, View

__all__ = ["Pushing"]

SLOWEST: Final = 60.0  # seconds; a cycle is never made longer than that
RESIDUE_ROUNDS: Final = 2  # what a lossy codec leaves after so many: less than 1/10000 of the delta


@dataclass
class _Turn:
    """A chunk's place in the rotation.

    Attributes:
        block: its block.
        chunk: its index.
        rounds: exchanges done since the latest call of `settle`.
    """

    block: Block
    chunk: int
    rounds: int = 0


@dataclass
class _Flight:
    turn: _Turn
    peer: int
    sent: float
    patience: float
    seq: int = 0  # of the delta it carries
    settling: int = 0  # which call of settle it counts for


class Pushing:
    """See the module.

    Args:
        desk: what the parts of the node share.
        blocks: of this box, by number.
        owning: the chunks we own ourselves.
    """

    def __init__(self, desk: Desk, blocks: Mapping[int, Block], owning: Owning) -> None:
        self._desk = desk
        self._blocks = blocks
        self._owning = owning
        self._turns: dict[tuple[int, int], _Turn] = {}
        self._waiting: dict[int, list[tuple[float, int, _Turn]]] = {}  # by owner: heaps, by due
        self._tick = itertools.count()  # of two that are due at once, who waits longer goes first
        self._flights: dict[tuple[int, int], _Flight] = {}
        self._aloft: dict[int, int] = {}  # by owner: how many
        self._settling = 0
        self._goal: int | None = None
        self.behind = 0.0  # versions accepted by owners between two answers, smoothed
        self.cycle = 0.0  # seconds between two answers of a chunk, smoothed
        self.pause = desk.settings.cycle  # seconds between two exchanges of a chunk, at least
        self._answered: dict[tuple[int, int], float] = {}

    # --- rotation

    def follow(self, view: View) -> None:
        """A new view: all that was in flight is sent again, to whom it belongs now."""
        self._flights.clear()
        self._aloft.clear()
        self._waiting = {}
        for block in self._blocks.values():
            block.assign(view)
            order = list(range(len(block.chunks)))
            self._desk.rng.shuffle(order)  # so that not all boxes come to one owner at once
            for chunk in order:
                turn = self._turns.setdefault((block.id, chunk), _Turn(block, chunk))
                self._wait(int(block.owners[chunk]), turn, 0.0)

    def lost(self, peer: int) -> None:
        """A connection broke: what was in flight on it may never arrive."""
        for key in [key for key, flight in self._flights.items() if flight.peer == peer]:
            self._land(key, 0.0)

    def pump(self, now: float) -> None:
        """Send what may go."""
        self._send_again(now)
        me = self._desk.me
        if me is None or self._desk.membership.waiting(now):
            return
        for peer, waiting in self._waiting.items():
            if peer == self._desk.box or peer not in self._desk.connected:
                continue
            room = self._desk.settings.credit - self._aloft.get(peer, 0)
            while room > 0 and waiting and waiting[0][0] <= now:
                turn = heapq.heappop(waiting)[2]
                flight = _Flight(turn, peer, now, self._desk.settings.resend)
                self._flights[turn.block.id, turn.chunk] = flight
                self._aloft[peer] = self._aloft.get(peer, 0) + 1
                self._send(flight)
                room -= 1
        if self._goal is not None:
            self._settle_own()

    def _wait(self, owner: int, turn: _Turn, due: float) -> None:
        heapq.heappush(self._waiting.setdefault(owner, []), (due, next(self._tick), turn))

    def _send(self, flight: _Flight) -> None:
        turn = flight.turn
        view, me = self._desk.view, self._desk.me
        assert view is not None
        assert me is not None
        chunk = turn.block.chunks[turn.chunk]
        pending, code = None, turn.block.code_of(turn.chunk, self._desk.code)
        if chunk.since == me.since and chunk.version != NEVER:  # otherwise: weights first
            if chunk.pending is None and chunk.change is None:  # a change goes by itself, first
                flight.settling = self._settling
            pending = chunk.prepare(code)
        flight.seq = 0 if pending is None else pending.seq
        push = Push(
            view=view.id,
            block=turn.block.id,
            chunk=turn.chunk,
            elements=len(chunk.th),
            boot=self._desk.boot,
            since=chunk.since,
            seq=flight.seq,
            have=chunk.version,
            gain=turn.block.gain_of(turn.chunk),
            codec=code if pending is None else pending.code,
            whole=pending is not None and pending.whole,
        )
        self._desk.send(flight.peer, push, b"" if pending is None else pending.payload)

    def _send_again(self, now: float) -> None:
        for flight in self._flights.values():
            if now - flight.sent >= flight.patience:
                flight.sent = now
                flight.patience *= 2
                if self._desk.me is not None:
                    self._send(flight)

    def _land(self, key: tuple[int, int], due: float) -> _Flight | None:
        """A chunk is in flight no more, and waits for its next turn."""
        flight = self._flights.pop(key, None)
        if flight is not None:
            self._aloft[flight.peer] -= 1
            self._wait(flight.peer, flight.turn, due)
        return flight

    # --- answers

    def reply(self, peer: int, reply: Reply, payload: memoryview, now: float) -> None:
        """News of a chunk. The node has made sure that they are of our view."""
        block = self._blocks.get(reply.block)
        if (
            block is None
            or reply.boot != self._desk.boot
            or reply.chunk >= len(block.chunks)
            or block.owners[reply.chunk] != peer
            or reply.elements != len(block.chunks[reply.chunk].th)
        ):
            return
        chunk = block.chunks[reply.chunk]
        before, had_pending = chunk.version, chunk.pending is not None
        values = None
        if reply.base != reply.version:
            try:
                values = CODECS[reply.codec].decode(payload, reply.elements)
            except RemoteProtocolError as error:
                self._desk.note("refused", peer, f"box {peer} sent weights with {error}")
                return
        table = dict(reply.table)
        if not chunk.receive(Weights(reply.version, reply.base, values, table, reply.since)):
            return
        if reply.chunk in block.frozen and chunk.version > block.frozen[reply.chunk].version:
            del block.frozen[reply.chunk]
        self._measure((block.id, reply.chunk), before, chunk.version, now)
        flight = self._flights.get((block.id, reply.chunk))
        if flight is not None and (chunk.pending is None or chunk.pending.seq != flight.seq):
            self._finish(flight, moved=had_pending or chunk.version != before)

    def refusal(self, peer: int, refusal: Refusal, now: float) -> None:
        """An owner does not take a delta."""
        key = (refusal.block, refusal.chunk)
        flight = self._flights.get(key)
        if flight is None or flight.peer != peer or refusal.boot != self._desk.boot:
            return
        chunk = flight.turn.block.chunks[refusal.chunk]
        if not refusal.later and chunk.pending is not None and chunk.pending.seq == refusal.seq:
            chunk.pending = None  # nobody has it, and nobody will: it is ours again
            self._desk.note("refused", peer, f"box {peer} refused a delta: {refusal.reason}")
        self._land(key, now + min(self._desk.settings.retry, 0.2))

    def _finish(self, flight: _Flight, *, moved: bool) -> None:
        settings = self._desk.settings
        pause = self.pause if moved else max(self.pause, settings.idle)
        if flight.settling == self._settling and self._goal is not None:
            flight.turn.rounds += 1
            self._advance()
        if self._goal is not None and flight.turn.rounds < self._goal:
            pause = 0.0  # scripts wait for it
        self._land((flight.turn.block.id, flight.turn.chunk), flight.sent + pause)

    def _measure(
        self, key: tuple[int, int], before: tuple[int, int], after: tuple[int, int], now: float
    ) -> None:
        if before[0] == after[0]:
            self.behind += 0.05 * (after[1] - before[1] - self.behind)
        if key in self._answered:
            self.cycle += 0.05 * (now - self._answered[key] - self.cycle)
        self._answered[key] = now

    def pace(self, spent: float, elapsed: float) -> None:
        """Exchange more or less often, by what it cost of late; see `Node.pace`."""
        settings = self._desk.settings
        wanted = max(self.cycle, self.pause) * spent / (elapsed * settings.share)
        self.pause += 0.5 * (min(max(wanted, settings.cycle), SLOWEST) - self.pause)

    # --- settling

    def settle(self) -> None:
        """Give all our deltas to their owners, and then get everybody's."""
        self._settling += 1
        self._goal = 1 if self._desk.code == FP32 else RESIDUE_ROUNDS
        for turn in self._turns.values():
            turn.rounds = 0
        self.hurry()

    def settled(self) -> bool:
        """Whether the latest `settle` is done."""
        return self._goal is not None and self._reached(self._goal) and self._collecting()

    def _collecting(self) -> bool:
        return self._goal is not None and self._goal > RESIDUE_ROUNDS

    def _reached(self, goal: int) -> bool:
        return all(turn.rounds >= goal for turn in self._turns.values())

    def _advance(self) -> None:
        """When all deltas are with their owners: once more, for the news."""
        if self._goal is not None and not self._collecting() and self._reached(self._goal):
            self._goal = RESIDUE_ROUNDS + 1
            for turn in self._turns.values():
                turn.rounds = RESIDUE_ROUNDS
            self.hurry()

    def hurry(self) -> None:
        """Nobody waits for a cycle to be over."""
        self._waiting = {
            owner: [(0.0, tick, turn) for _, tick, turn in sorted(waiting, key=lambda w: w[1])]
            for owner, waiting in self._waiting.items()
        }

    def _settle_own(self) -> None:
        for turn in self._turns.values():
            mine = turn.chunk in turn.block.owned
            if mine and self._goal is not None and turn.rounds < self._goal:
                self._owning.fold(turn.block, turn.chunk)
                turn.rounds = self._goal
        self._advance()
