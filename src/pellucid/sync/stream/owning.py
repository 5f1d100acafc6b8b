"""The chunks this box owns: deltas accepted, owners replaced.

[Note: takeover]
When a view gives a chunk a new owner, that one asks all members for their versions of it (inquiry,
claim), fetches the newest (snapshot), and only then accepts deltas. A member answers in the same
view only, and from then on takes nothing from the former owner: so what a claim says stays true.
What any living member had confirmed is in the newest version; what was in flight is sent again, and
the table that comes with the snapshot tells whether it is in already. Nothing is lost or doubled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import RemoteProtocolError
from pellucid.sync.stream.blocks import Block
from pellucid.sync.stream.desk import Desk
from pellucid.wire.contributor import SEED, Weights
from pellucid.wire.messages import (
    CODECS,
    FP32,
    NEVER,
    Claim,
    Fetch,
    Inquiry,
    Member,
    Push,
    Refusal,
    Reply,
    Snapshot,
    Version,
    View,
)
from pellucid.wire.owner import OwnedChunk

__all__ = ["Owning"]

Values = NDArray[np.float32]
ASKED_AT_ONCE: int = 4096  # chunks in one inquiry


@dataclass
class _Takeover:
    """A chunk that is to be ours.

    Attributes:
        waiting: boxes that have not told their version yet.
        best: the newest version told, and by whom.
        asked: when we asked last.
        fetching: whether its weights were asked for.
    """

    waiting: set[int]
    best: tuple[Version, int]
    asked: float = -np.inf
    fetching: bool = False


class Owning:
    """See [Note: takeover].

    Args:
        desk: what the parts of the node share.
        blocks: of this box, by number.
    """

    def __init__(self, desk: Desk, blocks: Mapping[int, Block]) -> None:
        self._desk = desk
        self._blocks = blocks
        self._takeovers: dict[tuple[int, int], _Takeover] = {}
        self._touches: Counter[tuple[int, int]] = Counter()
        self.accepted = 0  # deltas

    # --- views

    def follow(self, view: View, *, direct: bool) -> None:
        """Keep, give up and take over chunks as a new view says.

        Args:
            view: the new one.
            direct: whether it follows the one we had: only then nobody else can have owned in
                between what is ours in both.
        """
        self._takeovers.clear()
        boots = {member.boot: None for member in view.members}
        for block in self._blocks.values():
            mine = set(block.of(self._desk.box)) if self._desk.me is not None else set()
            for chunk in [c for c in block.owned if c not in mine or not direct]:
                block.frozen[chunk] = block.owned.pop(chunk)
            for owned in block.owned.values():
                owned.forget(boots)
            for chunk in sorted(mine - set(block.owned)):
                self._begin(block, chunk)

    def tick(self, now: float) -> None:
        """Ask, and ask again."""
        questions: dict[tuple[int, int], list[int]] = {}
        fetching = Counter(t.best[1] for t in self._takeovers.values() if t.fetching)
        for (number, chunk), takeover in list(self._takeovers.items()):
            due = now - takeover.asked >= self._desk.settings.retry
            if takeover.waiting and due:
                takeover.asked = now
                for box in takeover.waiting:
                    questions.setdefault((box, number), []).append(chunk)
            elif not takeover.waiting:
                self._choose(number, chunk, takeover, fetching, now)
        assert self._desk.view is not None or not questions
        for (box, number), chunks in questions.items():
            for at in range(0, len(chunks), ASKED_AT_ONCE):
                part = tuple(chunks[at : at + ASKED_AT_ONCE])
                self._desk.send(box, Inquiry(self._desk.view.id, number, part))  # type: ignore[union-attr]

    def busy(self) -> bool:
        """Whether chunks are still to be taken over."""
        return bool(self._takeovers)

    def _begin(self, block: Block, chunk: int) -> None:
        view = self._desk.view
        assert view is not None
        others = {m.box for m in view.members if m.blocks > block.id and m.box != self._desk.box}
        best = (self._version(block, chunk), self._desk.box)
        self._takeovers[block.id, chunk] = _Takeover(others, best)

    def _version(self, block: Block, chunk: int) -> Version:
        """The newest we have of a chunk."""
        versions = [block.chunks[chunk].version]
        versions += [s[chunk].version for s in (block.owned, block.frozen) if chunk in s]
        return max(versions)

    def _choose(
        self, number: int, chunk: int, takeover: _Takeover, fetching: Counter[int], now: float
    ) -> None:
        """All have told: take the newest."""
        version, box = takeover.best
        block = self._blocks[number]
        if version <= (NEVER if not self._desk.view.blocks[number].seeded else SEED):  # type: ignore[union-attr]
            # nobody has seeded it yet, or who has its weights is away
            if now - takeover.asked >= self._desk.settings.retry:
                self._begin(block, chunk)
                self._takeovers[number, chunk].asked = now - self._desk.settings.retry
        elif box == self._desk.box:
            values, table = self._content(block, chunk)
            self._own(block, chunk, values.copy(), dict(table), version)
        elif not takeover.fetching or now - takeover.asked >= self._patience(box):
            if not takeover.fetching and fetching[box] >= self._desk.settings.credit:
                return
            fetching[box] += not takeover.fetching
            takeover.fetching, takeover.asked = True, now
            self._desk.send(box, Fetch(self._desk.view.id, number, chunk))  # type: ignore[union-attr]

    def _patience(self, box: int) -> float:
        """Until the same weights are asked for again: they are large, and asking doubles them."""
        settings = self._desk.settings
        return settings.resend if box in self._desk.connected else settings.retry

    def _own(
        self, block: Block, chunk: int, values: Values, table: dict[int, int], origin: Version
    ) -> None:
        assert self._desk.view is not None
        version = (self._desk.view.id, 0)
        outer, averaged = self._desk.settings.outer, block.chunks[chunk].averaged
        block.owned[chunk] = OwnedChunk(values, version, table, origin, outer, averaged)
        block.frozen.pop(chunk, None)
        self._takeovers.pop((block.id, chunk), None)
        self._adopt(block, chunk)

    def _content(self, block: Block, chunk: int) -> tuple[Values, Mapping[int, int]]:
        """The newest values we have of a chunk, and what is in them."""
        for store in (block.owned, block.frozen):
            if chunk in store and store[chunk].version >= block.chunks[chunk].version:
                return store[chunk].values, store[chunk].table
        return block.chunks[chunk].base, block.chunks[chunk].table

    # --- our own deltas

    def fold_all(self, weight: float) -> None:
        """Exchange all our chunks with ourselves, with a given weight of our deltas."""
        for block in self._blocks.values():
            for chunk in block.owned:
                self.fold(block, chunk, weight)

    def fold(self, block: Block, chunk: int, weight: float | None = None) -> None:
        """Exchange with ourselves: our delta into G, and G into our weights."""
        me, owned, mine = self._desk.me, block.owned[chunk], block.chunks[chunk]
        if me is None or self._desk.membership.view is None:
            return
        if mine.since != me.since:
            self._adopt(block, chunk)
        pending = mine.prepare(FP32)
        if pending is not None:
            share = weight
            if share is None:
                share = self._desk.weight(self._desk.box, block.gain_of(chunk))
            counts = None if pending.whole else share
            self.accepted += owned.accept(self._desk.boot, pending.seq, pending.told, counts)
        self._adopt(block, chunk)
        if pending is not None and pending.whole:  # and what was trained beside it
            self.fold(block, chunk, weight)

    def _adopt(self, block: Block, chunk: int) -> None:
        owned, me = block.owned[chunk], self._desk.me
        since = 0 if me is None else me.since
        mine = block.chunks[chunk]
        if owned.version == mine.version:
            mine.since = since
            return
        mine.receive(Weights(owned.version, NEVER, owned.values, owned.table, since))

    # --- others' deltas

    def push(self, member: Member, push: Push, payload: memoryview) -> None:
        """A member's delta, and its request for news.

        The node has made sure that the member is one, and of our view.
        """
        block = self._blocks.get(push.block)
        if block is None or push.chunk not in block.owned:
            taking = block is not None and (push.block, push.chunk) in self._takeovers
            reason = "is about to take over" if taking else "does not own"
            self._refuse(member, push, f"box {self._desk.box} {reason} the chunk", later=True)
            return
        owned = block.owned[push.chunk]
        if push.elements != len(owned.values):
            text = f"the chunk has {len(owned.values)} elements, not {push.elements}"
            self._refuse(member, push, text, later=False)
            return
        if push.have > owned.version:
            if owned.version[0] == push.view:  # ours is the newest there can be
                self._refuse(member, push, "nobody has made that version", later=False)
                return
            # another owner went further in the meantime
            block.frozen[push.chunk] = block.owned.pop(push.chunk)
            self._begin(block, push.chunk)
            self._refuse(member, push, "an older version is here; it is renewed", later=True)
            return
        values = self._read(member, push, payload)
        if values is not None:
            weight = None if push.whole else self._desk.weight(member.box, push.gain)
            self.accepted += owned.accept(member.boot, push.seq, values, weight)
        self._fold_in_turn(block, push.chunk)
        self._answer(member, push, owned)

    def _read(self, member: Member, push: Push, payload: memoryview) -> Values | None:
        """The delta, if it may be accepted."""
        if push.seq == 0 or push.since != member.since:  # back from elsewhere: weights first
            return None
        try:
            return CODECS[push.codec].decode(payload, push.elements)
        except RemoteProtocolError as error:
            text = f"a delta of chunk {push.chunk} of block {push.block} has {error}"
            self._refuse(member, push, text, later=False)
            self._desk.note("refused", member.box, f"box {member.box}: {text}; it was left out")
            return None

    def _fold_in_turn(self, block: Block, chunk: int) -> None:
        """Once in a round of the others it is our own delta's turn."""
        view = self._desk.view
        others = 1 if view is None else max(1, len(view.members) - 1)
        self._touches[block.id, chunk] += 1
        if self._touches[block.id, chunk] >= others:
            self._touches[block.id, chunk] = 0
            self.fold(block, chunk)

    def _answer(self, member: Member, push: Push, owned: OwnedChunk) -> None:
        answer = owned.answer(member.boot, push.have, push.codec)
        assert self._desk.view is not None
        reply = Reply(
            view=self._desk.view.id,
            block=push.block,
            chunk=push.chunk,
            elements=push.elements,
            boot=member.boot,
            version=answer.version,
            base=answer.base,
            table=tuple(owned.table.items()),
            since=member.since,
            codec=answer.code,
        )
        self._desk.send(member.box, reply, answer.payload)

    def _refuse(self, member: Member, push: Push, reason: str, *, later: bool) -> None:
        refusal = Refusal(push.block, push.chunk, member.boot, push.seq, later, reason)
        self._desk.send(member.box, refusal)

    # --- takeovers

    def inquiry(self, peer: int, inquiry: Inquiry) -> None:
        """A new owner asks for our versions."""
        block = self._blocks.get(inquiry.block)
        if block is None:
            return
        asked = [chunk for chunk in inquiry.chunks if chunk < len(block.chunks)]
        versions = tuple((chunk, self._version(block, chunk)) for chunk in asked)
        self._desk.send(peer, Claim(inquiry.view, inquiry.block, versions))

    def claim(self, peer: int, claim: Claim) -> None:
        """A member tells its versions."""
        for chunk, version in claim.versions:
            takeover = self._takeovers.get((claim.block, chunk))
            if takeover is not None and peer in takeover.waiting:
                takeover.waiting.discard(peer)
                if version > takeover.best[0]:
                    takeover.best = (version, peer)

    def fetch(self, peer: int, fetch: Fetch) -> None:
        """A new owner wants the weights of a chunk."""
        block = self._blocks.get(fetch.block)
        if block is None or fetch.chunk >= len(block.chunks):
            return
        values, table = self._content(block, fetch.chunk)
        version = self._version(block, fetch.chunk)
        snapshot = Snapshot(
            view=fetch.view,
            block=fetch.block,
            chunk=fetch.chunk,
            elements=len(values),
            version=version,
            table=tuple(table.items()),
            codec=FP32,
        )
        self._desk.send(peer, snapshot, CODECS[FP32].encode(values))

    def snapshot(self, peer: int, snapshot: Snapshot, payload: memoryview) -> None:
        """The newest weights of a chunk that is to be ours."""
        takeover = self._takeovers.get((snapshot.block, snapshot.chunk))
        block = self._blocks.get(snapshot.block)
        if takeover is None or block is None or takeover.waiting:
            return
        expected = len(block.chunks[snapshot.chunk].th)
        if takeover.best != (snapshot.version, peer) or snapshot.elements != expected:
            return
        try:
            values = CODECS[snapshot.codec].decode(payload, snapshot.elements)
        except RemoteProtocolError as error:
            self._desk.note("refused", peer, f"box {peer} sent weights with {error}")
            return
        self._own(block, snapshot.chunk, values, dict(snapshot.table), snapshot.version)

    def seeds(self) -> Iterator[Block]:
        """Blocks whose first values are ours."""
        view = self._desk.view
        for block in self._blocks.values():
            if view is not None and block.id < len(view.blocks):
                info = view.blocks[block.id]
                if info.seeder == self._desk.box and self._desk.me is not None:
                    yield block
