"""The engine of a box: one thread that joins its node, the network and the clock.

[Note: engine]
The node (see [Note: node]) knows no I/O, the network (see `Network`) no protocol. The engine's
thread carries messages between them, and tells the node the time. The thread that trains talks
to the node too, under the same lock: what it asks for is mostly there already, so it does not wait
for the network. Where it must (at the very start, for weights and for the first batches, and
when the box is cut off from the others) it waits in `ask`, which looks up now and then whether
the run is being stopped.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from pellucid.errors import NetworkError
from pellucid.sync.stream.node import WAIT, Node, Note, Wait
from pellucid.sync.stream.roster import Roster
from pellucid.transport.network import Connected, Event, Lost, Network, Received, Refused
from pellucid.wire.messages import decode, encode
from pellucid.wire.rules import Rule

__all__ = ["Engine"]

T = TypeVar("T")

TICK_SECONDS: Final = 0.02
STATUS_SECONDS: Final = 1.0
THREADS: Final = ("pellucid-engine", "pellucid-network")
LOOK_SECONDS: Final = 0.1  # between two looks of a thread that waits


class Engine:
    """See [Note: engine].

    Args:
        node: this box's part in the cluster.
        network: what moves its messages; the engine's from now on.
        roster: where the other boxes are.
        tell: ``tell(event, text, **facts)`` says something to the launcher.
        samples: how many this box has trained on.
        leave: whether the user wants this box to leave the others.
        look_up: called while somebody waits; may raise to end that.
        clock: seconds that do not jump.
        cost: seconds of a processor that the exchange has taken so far.
    """

    def __init__(  # noqa: PLR0913 - it joins so many parts
        self,
        node: Node,
        network: Network,
        roster: Roster,
        tell: Callable[..., None],
        *,
        samples: Callable[[], int],
        leave: Callable[[], bool],
        look_up: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] | None = None,
    ) -> None:
        self._node = node
        self._network = network
        self._roster = roster
        self._tell = tell
        self._samples = samples
        self._counted = 0
        self._leave = leave
        self._look_up = look_up
        self._clock = clock
        self._cost = cost or _exchange_seconds
        self._spent = 0.0
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._failed: Exception | None = None
        self._ticked = self._reported = float("-inf")
        self._moved = (0, 0)
        self._told: set[str] = set()
        self._boxes: tuple[Any, ...] = ()
        self.leader: int | None = None  # the box whose prints and files are real
        self._thread = threading.Thread(target=self._run, name="pellucid-engine", daemon=True)

    def start(self) -> None:
        """Begin to talk to the others."""
        self._thread.start()

    # the thread that trains

    @contextmanager
    def node(self) -> Iterator[Node]:
        """The node, for a moment; what it has to say goes out afterwards.

        Raises:
            NetworkError: the engine's thread has failed.
        """
        with self._changed:
            if self._failed is not None:
                raise self._failed
            yield self._node
            self._send()

    def ask(self, question: Callable[[Node, float], T | Wait]) -> T:
        """Put a question to the node, again and again until the answer is not `WAIT`."""
        while True:
            with self.node() as node:
                answer = question(node, self._clock())
                if answer is not WAIT:
                    return answer
                self.pause()
            self._look_up()

    def pause(self) -> None:
        """Wait, with the lock held, until there may be news."""
        self._changed.wait(LOOK_SECONDS)

    def wait_until(self, holds: Callable[[Node], bool], seconds: float) -> bool:
        """Wait until something is so, at most for some seconds; whether it is."""
        until = self._clock() + seconds

        def question(node: Node, now: float) -> bool | Wait:
            return True if holds(node) else False if now >= until else WAIT

        return self.ask(question)

    def stay(self, needed: Callable[[Node], bool]) -> None:
        """Wait, at the script's end, while others need this box, or until the run is to end."""
        with contextlib.suppress(Exception, SystemExit):  # it ends: there is nobody to tell
            self.ask(lambda node, _: WAIT if needed(node) else None)

    def close(self, seconds: float) -> None:
        """Leave the others: give them our deltas and what we own; at most for some seconds."""
        if self._failed is None:
            with self.node() as node:
                node.leave()
            with self._changed:
                until = self._clock() + seconds
                while not self._node.left and self._clock() < until and self._failed is None:
                    self.pause()
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._network.close()

    # the engine's thread

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self.step(self._network.poll(TICK_SECONDS))
        except Exception as error:  # told to the thread that trains, at its next call
            with self._changed:
                self._failed = error
                self._changed.notify_all()

    def step(self, events: list[Event]) -> None:
        """Take in what came, and let time pass."""
        for event in events:  # the lock is held for one at a time: somebody may want to step
            with self._changed:
                self._take(event)
                self._send()
        now = self._clock()
        with self._changed:
            if now - self._ticked >= TICK_SECONDS:
                self._ticked = now
                self._count()
                self._node.tick(now)
                self._send()
                self._dial(now)
                self._report(now)
                if self._leave():
                    self._node.leave()
            self._changed.notify_all()

    def _count(self) -> None:
        samples = self._samples()
        self._node.trained(samples - self._counted)
        self._counted = samples

    def _take(self, event: Event) -> None:
        now = self._clock()
        match event:
            case Connected(peer):
                self._roster.connected(peer)
                self._node.connected(peer, now)
            case Received(peer, kind, body):
                try:
                    message = decode(kind, body)
                except NetworkError as error:
                    self._network.drop(peer, str(error))
                    self._say(f"box {peer} sent what breaks a rule ({error.rule}): {error}")
                else:
                    self._node.receive(peer, message, now)
            case Lost(peer, reason, error):
                self._roster.lost(peer, now)
                ended = error is None or error.rule == Rule.END  # its process has, most likely
                self._node.lost(peer, now, closed=ended)
                if error is not None:
                    self._say(f"the connection to box {peer} is lost: {reason}")
            case Refused(address, error, dialled):
                if dialled:
                    self._roster.refused(address, now)
                self._say_once(str(error))

    def _dial(self, now: float) -> None:
        view = self._node.view
        if view is not None:
            self._roster.learn((m.box, m.address) for m in view.members)
        for address in self._roster.due(now):
            self._network.connect(address)

    def _send(self) -> None:
        for peer, message in self._node.outgoing():
            kind, buffers = encode(message)
            self._network.send(peer, kind, buffers)

    # what the user is told

    def _report(self, now: float) -> None:
        for note in self._node.notes():
            self._note(note)
        status = self._node.status(now)
        members = [one.box for one in status.boxes if one.member]
        leader = status.leader
        self.leader = leader
        boxes = (tuple(members), leader, bool(status.waiting))
        if boxes != self._boxes and leader is not None:
            self._boxes = boxes
            self._tell("boxes", "", living=members, leader=leader, apart=bool(status.waiting))
        if now - self._reported < STATUS_SECONDS:
            return
        moved, spent = self._network.statistics(), self._cost()
        if self._reported > 0:
            seconds = now - self._reported
            self._node.pace(spent - self._spent, seconds)
            sent, received = moved.sent - self._moved[0], moved.received - self._moved[1]
            self._tell(
                "status",
                "",
                rates={str(one.box): one.rate for one in status.boxes if one.member},
                samples={str(one.box): one.samples for one in status.boxes},
                sent=sent / seconds,
                received=received / seconds,
                cost=(spent - self._spent) / seconds,
                staleness=status.staleness,
                cycle=status.cycle,
            )
        self._reported = now
        self._moved, self._spent = (moved.sent, moved.received), spent

    def _note(self, note: Note) -> None:
        self._tell("notice", note.text, slug=note.event, box=note.box)

    def _say(self, text: str) -> None:
        self._tell("notice", text, slug="link")

    def _say_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)


def _exchange_seconds() -> float:
    """What the threads of engine and network have taken of a processor."""
    return sum(
        time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.name in THREADS and thread.ident is not None and thread.is_alive()
    )
