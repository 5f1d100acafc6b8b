"""One box's part in the cluster, without I/O.

[Note: node]
A node takes messages and the time, and gives messages. It knows no thread, socket, clock or torch:
a driver owns those, calls `receive` with what came and `tick` every few hundredths of a second,
and sends what `outgoing` hands out. Under whatever lock, one call at a time; only the arrays given
to `add_block` may be changed by the training thread in between.

    desk        who we are, whom we know, the tray of outgoing messages
    owning      chunks this box owns: deltas accepted, owners replaced
    pushing     chunks it trains on: deltas out, news in
    passes      batches it asks for; the steward's books, while it is the steward

A message that does not fit the state of this box is dropped or refused; it never changes weights.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pellucid.cluster.leases import Lease, PassKey
from pellucid.cluster.membership import State
from pellucid.errors import LinkError, MismatchError
from pellucid.sync.stream.blocks import Block, ChunkKind
from pellucid.sync.stream.desk import Desk, Identity, NodeSettings, Note
from pellucid.sync.stream.owning import Owning
from pellucid.sync.stream.passes import WAIT, Passes, Steward, Wait
from pellucid.sync.stream.pushing import Pushing
from pellucid.sync.stream.status import BoxStatus, Status
from pellucid.wire.contributor import SEED
from pellucid.wire.messages import (
    NEVER,
    Ask,
    Body,
    Claim,
    Fetch,
    Goodbye,
    Grant,
    Heartbeat,
    Inquiry,
    Member,
    Message,
    Offer,
    Open,
    Opened,
    Place,
    Push,
    Record,
    Refusal,
    Reply,
    Snapshot,
    Take,
    View,
    view_number,
)
from pellucid.wire.rules import Rule

__all__ = ["WAIT", "Identity", "Lease", "Node", "NodeSettings", "Note", "PassKey", "Wait"]

Values = NDArray[np.float32]


class Node:
    """See [Note: node].

    Args:
        identity: which box this is.
        settings: how it behaves.
        rng: for the order of chunks.
    """

    def __init__(self, identity: Identity, settings: NodeSettings, rng: random.Random) -> None:
        self._desk = Desk(identity, settings, rng)
        self._address = identity.address
        self._blocks: dict[int, Block] = {}
        self._owning = Owning(self._desk, self._blocks)
        self._pushing = Pushing(self._desk, self._blocks, self._owning)
        self._passes = Passes(self._desk)
        self._steward = Steward(self._desk, self._passes)
        self._sought: dict[str, float] = {}  # blocks not listed yet, since when
        self._samples = 0
        self._measured = (0, 0.0)  # samples and time at the latest measurement of the rate
        self._beaten = float("-inf")
        self._heard_last: tuple[int, ...] = ()
        self._place: Place = (0, 0)  # up to which our script has left its passes
        self._leaving = False
        self._left = False
        self._was_waiting = False
        self._bytes_in = self._bytes_out = 0
        self._handlers: Final[dict[type[Body], Callable[[int, Any, memoryview, float], None]]] = {
            Heartbeat: self._on_heartbeat,
            View: self._on_view,
            Goodbye: self._on_goodbye,
            Push: self._on_push,
            Reply: self._on_reply,
            Refusal: lambda p, b, _, now: self._pushing.refusal(p, b, now),
            Inquiry: self._in_view(lambda p, b, _: self._owning.inquiry(p, b)),
            Claim: self._in_view(lambda p, b, _: self._owning.claim(p, b)),
            Fetch: self._in_view(lambda p, b, _: self._owning.fetch(p, b)),
            Snapshot: self._in_view(self._owning.snapshot),
            Open: self._on_open,
            Opened: lambda p, b, _, __: self._passes.opened(b) if self._is_steward(p) else None,
            Take: self._on_take,
            Grant: self._in_view(lambda _, b, __: self._passes.grant(b)),
            Ask: self._in_view(self._on_ask),
            Record: self._in_view(lambda p, b, _: self._steward.record(p, b)),
        }
        if identity.founder:
            self._follow(self._desk.membership.found(), None)

    # --- the driver

    def connected(self, peer: int, now: float) -> None:
        """There is a connection to a box."""
        self._desk.connected.add(peer)
        self._desk.membership.opened(peer)
        self._pushing.lost(peer)
        self._beat(peer, now)
        if self._desk.view is not None:
            self._desk.send(peer, self._desk.view)

    def lost(self, peer: int, now: float, *, closed: bool = False) -> None:
        """The connection to a box is gone.

        Args:
            peer: the box.
            now: seconds.
            closed: whether its side closed it, in which case its process has most likely ended;
                a silence that became too long says nothing of that kind.
        """
        self._desk.connected.discard(peer)
        self._pushing.lost(peer)
        if closed:
            self._desk.membership.closed(peer, now)

    def receive(self, peer: int, message: Message, now: float) -> None:
        """A message came."""
        self._bytes_in += memoryview(message.payload).nbytes
        self._handle(peer, message, now)
        self._after(now)

    def tick(self, now: float) -> None:
        """Time has passed.

        Raises:
            LinkError: all boxes that could have let this one in have ended.
        """
        self._measure_rate(now)
        hears = self._desk.membership.hears(now)
        # whoever is to follow a dead steward waits until others say that they do not hear it
        if now - self._beaten >= self._desk.settings.timing.heartbeat or hears != self._heard_last:
            self._beat_all(now)
        self._heard_last = hears
        before = self._desk.view
        own = self._own_beat(now)
        if self._desk.membership.forsaken(own, now):
            boxes = ", ".join(str(member.box) for member in before.members) if before else ""
            msg = (
                f"box {boxes} has ended before this box was admitted, and nobody else is left who "
                "has the weights: start the run again"
            )
            raise LinkError(msg, Rule.END)
        proposed = self._desk.membership.propose(own, now)
        if proposed is not None:
            self._tell_view(proposed)
            self._follow(proposed, before)
            self._beat_all(now)
        self._owning.tick(now)
        self._steward.tick(now)
        self._passes.tick(now)
        self._say_waiting(now)
        self._after(now)
        self._leave_if_handed_over()

    def outgoing(self) -> list[tuple[int, Message]]:
        """Messages to send, to whom."""
        out = self._desk.outgoing()
        self._bytes_out += sum(memoryview(message.payload).nbytes for _, message in out)
        return out

    def pace(self, spent: float, elapsed: float) -> None:
        """Keep the cost of the exchange at its share, by exchanging chunks more or less often.

        Args:
            spent: seconds of a processor that the driver spent on the exchange lately.
            elapsed: the seconds since it said that before.
        """
        self._pushing.pace(spent, elapsed)

    def notes(self) -> list[Note]:
        """What the user wants to know, since the last call."""
        return self._desk.notes()

    # --- weights

    def add_block(
        self,
        block_id: int,
        fingerprint: str,
        weights: Values,
        chunk_elements: int,
        kinds: Sequence[ChunkKind] | None = None,
    ) -> None:
        """Take part with an array of weights.

        Args:
            block_id: its number, in order from 0 on; the same on all boxes.
            fingerprint: of its layout, 64 digits at most.
            weights: flat; what the script trains on. It is overwritten with the cluster's, unless
                this box seeds the block.
            chunk_elements: of a chunk.
            kinds: what each chunk holds; trained weights, if not given.

        Raises:
            MismatchError: the other boxes have another layout.
            ValueError: the number is not the next one, or the array is none of the kind.
        """
        if block_id != len(self._blocks):
            msg = f"block {block_id} cannot come after {len(self._blocks)} others: number it so"
            raise ValueError(msg)
        if weights.dtype != np.float32 or weights.ndim != 1 or not weights.flags.c_contiguous:
            msg = f"block {block_id} has to be a flat contiguous array of float32"
            raise ValueError(msg)
        offer = Offer(fingerprint, len(weights), chunk_elements)
        chunks = -(-len(weights) // chunk_elements)
        block = Block.make(
            block_id, offer, self._desk.boot, weights, kinds or [ChunkKind.TRAINED] * chunks
        )
        block.gain = self._desk.settings.gain
        self._blocks[block_id] = block
        self._check_block(block)
        self._beaten = float("-inf")  # others are to know soon
        if self._desk.view is not None:
            self._follow(self._desk.view, self._desk.view)

    def next_block(self, fingerprint: str, now: float) -> int | Wait:
        """The number under which to add a block; call again after `WAIT`.

        A box that came late may never train models that others have trained: it keeps a place for
        each of them, and takes its part of the work with them.

        Args:
            fingerprint: of its layout.
            now: seconds.
        """
        view = self._desk.view
        if view is None or self._desk.me is None:
            return WAIT
        listed = view.blocks[len(self._blocks) :]
        wanted = [info.fingerprint for info in listed]
        if listed and fingerprint not in wanted:
            # others are ahead: this one will be listed soon, or the model is another
            since = self._sought.setdefault(fingerprint, now)
            return WAIT if now - since < self._desk.settings.timing.suspected else len(self._blocks)
        for info in listed[: wanted.index(fingerprint)] if listed else ():
            place = np.zeros(info.elements, np.float32)
            self.add_block(len(self._blocks), info.fingerprint, place, info.chunk)
        return len(self._blocks)

    def ready(self, block_id: int) -> bool:
        """Whether the weights are the cluster's, and the script may train.

        Raises:
            MismatchError: the other boxes have another layout.
        """
        block = self._blocks[block_id]
        self._check_block(block)
        return all(chunk.version != NEVER for chunk in block.chunks)

    def stride(self, power: float = 1.0) -> float:
        """By how much to multiply the script's learning rate for a step of this box.

        Averaging over N boxes makes of their N batches one of N times the size; the step that
        belongs to it is N times as long for SGD (the linear scaling rule, Goyal et al. 2017, arXiv
        1706.02677). N is the effective number of boxes that train, by their samples/s, and changes
        as they come and go.

        Args:
            power: of N; see docs/design/0007-stream.md for which optimizer takes which.
        """
        return self._desk.stride(power)

    def correct(self, block_id: int | None = None) -> list[tuple[int, int]]:
        """Bring others' progress into the script's weights; by the training thread, at a step.

        Args:
            block_id: which block; all without it.

        Returns:
            The chunks that have changed, as pairs of the block's number and the chunk's index.
        """
        return [
            (block.id, at)
            for block in self._blocks.values()
            if block_id is None or block.id == block_id
            for at, chunk in enumerate(block.chunks)
            if chunk.correct()
        ]

    def changed(self, block_id: int, by: Values) -> None:
        """The script has changed weights otherwise than by training: that counts whole.

        Args:
            block_id: which block.
            by: the difference, of the whole array; it is in the weights already.
        """
        block = self._blocks[block_id]
        for at, chunk in enumerate(block.chunks):
            part = by[at * block.offer.chunk :][: len(chunk.th)]
            if part.any():
                chunk.changed(part)
        self._pushing.hurry()  # others should not train on for long without it

    def weights(self, block_id: int) -> Values:
        """The cluster's weights as this box knows them, a copy: G, without our untold rest."""
        block = self._blocks[block_id]
        parts = [
            block.owned[at].values if at in block.owned else chunk.base
            for at, chunk in enumerate(block.chunks)
        ]
        return np.concatenate(parts)

    def settle(self) -> None:
        """Begin to give all our deltas away and to collect everybody's; see `settled`."""
        self._pushing.settle()

    @property
    def settled(self) -> bool:
        """Whether the latest `settle` has come to its end; `correct` applies what it brought."""
        return self._pushing.settled()

    # --- batches

    def open_pass(self, key: PassKey, order: bytes, batches: int | None) -> bytes | Wait:
        """The script begins a pass: the order all agree on; call again after `WAIT`.

        Args:
            key: ordinal of the loader, number of the pass.
            order: how its batches would be drawn here; opaque.
            batches: how many there are, if that is known.
        """
        answer = self._passes.open(key, order, batches)
        self._run_local(0.0)
        return answer

    def take(self, key: PassKey, now: float) -> Lease | Wait | None:
        """The next batch to train on; None when the pass is used up; call again after `WAIT`."""
        if self._desk.membership.waiting(now):
            return WAIT
        lease = self._passes.take(key)
        if lease is WAIT:  # ask at once
            self._passes.tick(now)
            self._run_local(now)
            lease = self._passes.take(key)
        return lease

    def done(self, lease: Lease) -> None:
        """The script has trained on a batch."""
        self._passes.done(lease)

    def give_back(self, leases: Iterable[Lease]) -> None:
        """Batches that were taken and will not be trained on here: others may have them."""
        self._passes.give_back(leases)

    def end_pass(self, key: PassKey, batches: int) -> None:
        """A pass whose length was not known has come to its end after so many batches."""
        self._passes.end(key, batches)

    def ask_again(self, key: PassKey) -> None:
        """A pass that was used up may be so no longer: somebody died."""
        self._passes.ask_again(key)

    def outstanding(self, key: PassKey) -> int:
        """Batches of a pass that are dealt and not known to be done; the steward knows, else 0."""
        return self._steward.outstanding(key)

    def spent(self, key: PassKey) -> bool:
        """Whether an opened pass is used up, as it is for a box that comes late."""
        return self._passes.spent(key)

    def close(self, key: PassKey, batches: int | None = None) -> None:
        """The script ended a pass.

        Args:
            key: which.
            batches: how many there were, if it came to its end and that was not known before.
        """
        self._passes.close(key, batches)
        self._beaten = float("-inf")  # what we have done is to be known soon

    def progress(self, key: PassKey) -> int:
        """Batches of the loader begun so far by all boxes, in all passes."""
        return self._passes.progress(key)

    def order(self, key: PassKey) -> bytes | None:
        """How the batches of an earlier pass are drawn; None if this box never opened it."""
        return self._passes.order(key)

    def has_left(self, place: Place) -> None:
        """The script has left all passes before this place."""
        if place > self._place:
            self._place = place
            self._beaten = float("-inf")  # others may wait for that

    def leader_is_behind(self, place: Place) -> bool:
        """Whether the leader's script goes on, and has yet to leave passes before this place.

        A new leader's place counts as soon as there is a view in which it leads.
        """
        leader = self._desk.membership.leader
        if leader is None:
            return False
        if leader == self._desk.box:
            return not self._leaving and self._place < place
        beat = self._desk.membership.beat(leader)
        if beat is None:  # where it is it has yet to say
            return place > (0, 0)
        return not beat.leaving and beat.left < place

    def trained(self, samples: int) -> None:
        """The script has made a step on so many samples."""
        self._samples += samples

    # --- the end

    def leave(self) -> None:
        """Begin to go: settle, hand over what we own, say goodbye; see `left`."""
        if not self._leaving:
            self._leaving = True
            self._beaten = float("-inf")
            self._pushing.settle()

    @property
    def left(self) -> bool:
        """Whether nothing keeps this box any more."""
        return self._left

    def status(self, now: float) -> Status:
        """This box and all others at this moment."""
        members = self._desk.membership
        view = members.view
        numbers = {m.box for m in view.members} if view is not None else set()
        return Status(
            boxes=tuple(
                self._box_status(box, box in numbers, now)
                for box in sorted(numbers | {self._desk.box} | set(members.hears(now)))
            ),
            view=0 if view is None else view_number(view.id),
            steward=members.steward,
            leader=members.leader,
            waiting=self._why_waiting(now),
            staleness=self._pushing.behind,
            cycle=self._pushing.cycle,
            owned=sum(len(block.owned) for block in self._blocks.values()),
            accepted=self._owning.accepted,
            bytes_out=self._bytes_out,
            bytes_in=self._bytes_in,
        )

    @property
    def view(self) -> View | None:
        """What the boxes agree on: the driver finds their addresses there."""
        return self._desk.view

    @property
    def busy(self) -> bool:
        """Whether chunks are about to change owners."""
        return self._owning.busy()

    # --- what came

    def _handle(self, peer: int, message: Message, now: float) -> None:
        handler = self._handlers[type(message.body)]
        handler(peer, message.body, memoryview(message.payload).cast("B"), now)

    def _after(self, now: float) -> None:
        self._run_local(now)
        self._pushing.pump(now)

    def _run_local(self, now: float) -> None:
        while self._desk.local:
            self._handle(self._desk.box, self._desk.local.popleft(), now)

    def _in_view(
        self, handler: Callable[[int, Any, memoryview], None]
    ) -> Callable[[int, Any, memoryview, float], None]:
        """A handler of messages that mean something only among members of one view."""

        def handle(peer: int, body: Any, payload: memoryview, now: float) -> None:
            view = self._desk.view
            if view is not None and body.view == view.id and view.member(peer) is not None:
                handler(peer, body, payload)
            del now

        return handle

    def _on_heartbeat(self, peer: int, beat: Heartbeat, _: memoryview, now: float) -> None:
        known = self._desk.membership.beat(peer)
        if beat.box != peer or not self._desk.membership.heard(beat, now):
            return
        if known is None or known.boot != beat.boot or self._desk.box not in beat.hears:
            self._beat(peer, now)
        self._steward.heard(beat.boot, beat.reports)
        if self._desk.membership.behind(peer) and self._desk.view is not None:
            self._desk.send(peer, self._desk.view)

    def _on_view(self, peer: int, view: View, _: memoryview, now: float) -> None:
        before = self._desk.view
        if self._desk.membership.receive(view, now):
            self._follow(view, before)
            self._beat_all(now)
        elif before is not None and view.id < before.id:
            self._desk.send(peer, before)

    def _on_goodbye(self, peer: int, goodbye: Goodbye, _: memoryview, __: float) -> None:
        if goodbye.box == peer:
            self._desk.membership.goodbye(peer, goodbye.boot)

    def _on_push(self, peer: int, push: Push, payload: memoryview, now: float) -> None:
        view = self._desk.view
        member = None if view is None else view.member(peer)
        if view is None or member is None or member.boot != push.boot or push.view != view.id:
            reason = "it is of another view"
        elif self._desk.membership.waiting(now):
            reason = f"box {self._desk.box} waits for the majority"
        else:
            self._owning.push(member, push, payload)
            return
        self._desk.send(peer, Refusal(push.block, push.chunk, push.boot, push.seq, True, reason))

    def _on_reply(self, peer: int, reply: Reply, payload: memoryview, now: float) -> None:
        view = self._desk.view
        if view is not None and self._desk.me is not None and reply.view == view.id:
            self._pushing.reply(peer, reply, payload, now)

    def _on_open(self, peer: int, body: Open, _: memoryview, now: float) -> None:
        if self._member(peer) is not None and not self._desk.membership.waiting(now):
            self._steward.open(peer, body)

    def _on_take(self, peer: int, take: Take, _: memoryview, now: float) -> None:
        member = self._member(peer)
        if member is not None and not self._desk.membership.waiting(now):
            self._steward.take(member, take)

    def _on_ask(self, peer: int, ask: Ask, _: memoryview) -> None:
        if self._is_steward(peer):
            self._desk.send(peer, Record(ask.view, self._passes.record()))

    def _member(self, peer: int) -> Member | None:
        return None if self._desk.view is None else self._desk.view.member(peer)

    def _is_steward(self, peer: int) -> bool:
        return peer == self._desk.membership.steward

    # --- what we say

    def _own_beat(self, now: float) -> Heartbeat:
        view = self._desk.view
        listed = 0 if view is None else len(view.blocks)
        blocks = [block.offer for block in self._blocks.values() if self._fits(block)]
        return Heartbeat(
            box=self._desk.box,
            boot=self._desk.boot,
            address=self._address,
            view=0 if view is None else view.id,
            blocks=len(blocks),
            offers=tuple(blocks[listed:]),
            leaving=self._leaving,
            hears=self._desk.membership.hears(now),
            rate=self._desk.rate,
            samples=self._samples,
            reports=self._passes.reports(),
            ready=self._ready_blocks(),
            left=self._place,
        )

    def _ready_blocks(self) -> int:
        count = 0
        for block in self._blocks.values():
            if not self._fits(block) or any(chunk.version <= SEED for chunk in block.chunks):
                break
            count += 1
        return count

    def _beat(self, peer: int, now: float) -> None:
        self._desk.send(peer, self._own_beat(now))

    def _beat_all(self, now: float) -> None:
        self._beaten = now
        beat = self._own_beat(now)
        self._steward.heard(beat.boot, beat.reports)
        for peer in sorted(self._desk.connected):
            self._desk.send(peer, beat)

    def _tell_view(self, view: View) -> None:
        for peer in sorted(self._desk.connected):
            self._desk.send(peer, view)

    # --- views

    def _follow(self, view: View, before: View | None) -> None:
        """All parts take over a view."""
        direct = before is not None and before.id in (view.previous, view.id)
        if before is not None and not any(
            member.blocks for member in before.members if member.box != self._desk.box
        ):
            self._owning.fold_all(1.0)  # what we did alone was nobody else's work: it counts whole
        for block in self._owning.seeds():
            for chunk in block.chunks:
                chunk.seed()
        self._pushing.follow(view)
        self._owning.follow(view, direct=direct)
        self._passes.follow(view)
        self._steward.follow(view)
        self._tell_changes(view, before)

    def _fits(self, block: Block) -> bool:
        view = self._desk.view
        return view is None or block.id >= len(view.blocks) or block.agrees(view.blocks[block.id])

    def _check_block(self, block: Block) -> None:
        if self._fits(block) or self._desk.view is None:
            return
        info = self._desk.view.blocks[block.id]
        msg = (
            f"the model of this box is not that of box {info.seeder}: block {block.id} has "
            f"{block.offer.elements:,} elements and layout {block.offer.fingerprint[:12]} here, "
            f"{info.elements:,} and {info.fingerprint[:12]} there. Run the same script with the "
            "same arguments, files and versions on all boxes"
        )
        raise MismatchError(msg, "layout")

    def _tell_changes(self, view: View, before: View | None) -> None:
        old = {} if before is None else {m.box: m for m in before.members}
        new = {m.box: m for m in view.members}
        for box in sorted(new.keys() - old.keys()):
            self._desk.note("joined", box, f"box {box} takes part")
        for box in sorted(old.keys() - new.keys()):
            leaving = old[box].leaving or self._desk.membership.said_goodbye(box)
            text = (
                f"box {box} has left" if leaving else f"box {box} is dead: nothing is heard of it"
            )
            self._desk.note("left" if leaving else "died", box, text)
        for was, now in zip(() if before is None else before.blocks, view.blocks, strict=False):
            if was.seeded and not now.seeded:
                text = (
                    f"nobody that is left has all weights of model {now.fingerprint[:12]}: "
                    f"what is lost of them begins anew, as it was when box {now.seeder} began"
                )
                self._desk.note("lost", now.seeder, text)
        if before is not None and before.members[0].box != view.members[0].box:
            lead = view.members[0].box
            self._desk.note("leads", lead, f"box {lead} leads now, and prints and saves")

    # --- measures

    def _measure_rate(self, now: float) -> None:
        samples, at = self._measured
        if now - at < self._desk.settings.timing.heartbeat:
            return
        rate = (self._samples - samples) / (now - at)
        if self._samples > samples:
            known = self._desk.rate
            self._desk.rate = rate if known == 0 else known + 0.3 * (rate - known)
            self._measured = (self._samples, now)
        elif now - at > 5 * self._desk.settings.timing.dead:
            self._desk.rate = 0.0

    def _why_waiting(self, now: float) -> str:
        if not self._desk.membership.waiting(now):
            return ""
        if self._desk.view is None or self._desk.me is None:
            return "this box is not admitted yet"
        silent = [
            str(m.box)
            for m in self._desk.view.members
            if not self._desk.membership.present(m, now, self._desk.settings.timing.suspected)
        ]
        return (
            f"nothing is heard of box {', '.join(silent)}: the network may be split, and the "
            "others go on. This box waits until it hears them again"
        )

    def _say_waiting(self, now: float) -> None:
        why = self._why_waiting(now)
        if bool(why) != self._was_waiting:
            self._was_waiting = bool(why)
            self._desk.note("waits" if why else "goes-on", self._desk.box, why or "goes on")

    def _box_status(self, box: int, member: bool, now: float) -> BoxStatus:
        if box == self._desk.box:
            state = State.ALIVE if self._desk.me is not None else State.OUTSIDE
            return BoxStatus(box, state.value, self._desk.rate, self._samples, member)
        beat = self._desk.membership.beat(box)
        rate, samples = (0.0, 0) if beat is None else (beat.rate, beat.samples)
        return BoxStatus(box, self._desk.membership.state(box, now).value, rate, samples, member)

    def _leave_if_handed_over(self) -> None:
        if not self._leaving or self._left:
            return
        view, me = self._desk.view, self._desk.me
        if view is None or me is None:
            self._left = True
            return
        others = [m for m in view.members if m.box != self._desk.box and not m.leaving]
        owns = any(len(block.owned) for block in self._blocks.values())
        alone = not any(m.blocks for m in others)
        if self.settled and (alone or (me.leaving and not owns and not self._frozen())):
            self._left = True
            for peer in sorted(self._desk.connected):
                goodbye = Goodbye(self._desk.box, self._desk.boot, "it has finished")
                self._desk.send(peer, goodbye)

    def _frozen(self) -> bool:
        return any(block.frozen for block in self._blocks.values())
