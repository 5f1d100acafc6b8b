"""Stream mode: where its parts meet the box and the other boxes; see [Note: node] for the rest.

The first worker of each box talks to the other boxes, for all workers of its box. What the script
is answered is the same as in hogwild mode; but batches come from the cluster's steward, and the
box's weights are exchanged with the other boxes while the script trains.
"""

from __future__ import annotations

import functools
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

from pellucid.cluster.membership import Timing
from pellucid.errors import StoppedError
from pellucid.settings import Cluster
from pellucid.sync.shared.dealer import Dealer, Weights
from pellucid.sync.shared.mode import AsynchronousMode
from pellucid.sync.shared.part import Part
from pellucid.sync.stream.dealer import BoxPasses, ClusterDealer
from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.exchange import BoxExchange
from pellucid.sync.stream.node import Identity, Node, NodeSettings
from pellucid.sync.stream.relay import Caller, RelayedDealer, RelayedExchange, serve
from pellucid.sync.stream.roster import Roster
from pellucid.sync.stream.weights import ClusterWeights, Settling
from pellucid.transport.board import Board, Field, Flag
from pellucid.transport.identity import Identity as Proof
from pellucid.transport.tcp import TcpNetwork
from pellucid.wire.messages import KINDS
from pellucid.wire.owner import Outer
from pellucid.wire.session import Hello

__all__ = [
    "FirstWorkersMode",
    "OtherWorkersMode",
    "StreamMode",
    "Surroundings",
    "look_up",
    "make_engine",
    "meter_of",
    "plan",
]

OUTER_MOMENTUM: Final = 0.5  # of delayed Nesterov, where the user asks for it
OUTER_RATE: Final = 0.7
BOOTS: Final = 1 << 62  # processes of a box are told apart by a number from 1 to this
WORKERS: Final = 1 << 12  # of a box, at most: to number all workers of all boxes
CODECS: Final = {"int8": "int8 by blocks", "bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class Surroundings:
    """What a worker finds around it.

    Attributes:
        board: of the box.
        index: of this worker.
        cluster: the box's place among the others.
        weights_fd: memory made by `pellucid.params.memory.create`.
        seed: of the run.
        tell: ``tell(event, text, **facts)`` says something to the user.
        frames: the script's frames, see `Part`.
        release: lets the box's other workers start.
        on_begin: called when the workers begin to share, before this worker's next batch.
        on_lead: called when this worker has become the leader.
        reason: why so many workers and threads, for the line at the start.
    """

    board: Board
    index: int
    cluster: Cluster
    weights_fd: int
    seed: int
    tell: Callable[..., None]
    frames: Callable[[], Iterator[FrameType]]
    release: Callable[[], None]
    on_begin: Callable[[], None]
    on_lead: Callable[[], None]
    reason: str = ""


class StreamMode(AsynchronousMode):
    """What the modes of all workers have in common.

    Args:
        around: what is around this worker.
        dealer: deals out batches.
        weights: keeps the weights together.
        alike: whether all workers of the box draw the same random numbers.
    """

    def __init__(
        self, around: Surroundings, dealer: Dealer, weights: Weights, *, alike: bool = False
    ) -> None:
        self._around = around
        self._flags = around.board.flags
        self._begun = False
        number = around.cluster.here.box * WORKERS + (0 if alike else around.index)
        part = Part(number, around.seed, self._leads, self._begin, around.tell, around.frames)
        super().__init__(part, dealer, weights, around.board.fields[around.index])

    def _leads(self) -> bool:
        return False

    def _begin(self) -> None:
        """The first training pass."""
        if not self._begun:
            self._begun = True
            self._around.on_begin()

    def look_up(self) -> None:
        """What a worker looks at now and then: is it to stop?"""
        look_up(self._flags)


class OtherWorkersMode(StreamMode):
    """The stream mode of a worker that is not its box's first.

    Args:
        around: what is around it.
        line: its end of the socket to the first worker.
    """

    def __init__(self, around: Surroundings, line: int) -> None:
        caller = Caller(line)
        weights = ClusterWeights(
            around.weights_fd, around.index, lambda: False, RelayedExchange(caller)
        )
        super().__init__(around, RelayedDealer(caller, weights.before_batch), weights)


class FirstWorkersMode(StreamMode):
    """The stream mode of a box's first worker.

    Args:
        around: what is around it.
        lines: its ends of the sockets to the box's other workers.
        hello: what this box says of itself.
        secret: of the run.
    """

    def __init__(
        self, around: Surroundings, lines: Sequence[int], *, hello: Hello, secret: str
    ) -> None:
        cluster = around.cluster
        self._engine = engine = make_engine(around, hello, secret)
        self._led = cluster.here.box == 0
        exchange = BoxExchange(engine, around.weights_fd, scales=cluster.scale_lr)
        settling = Settling(engine, exchange, around.tell)
        weights = ClusterWeights(around.weights_fd, 0, self._leads, exchange, settling)
        passes = BoxPasses()
        waited = functools.partial(meter_of, around.board)
        self._dealer = dealer = ClusterDealer(
            engine, 0, passes, weights.before_batch, leads=self._leads, waited=waited(0)
        )
        super().__init__(around, dealer, weights)
        engine.start()
        for worker, line in enumerate(lines, 1):
            other = ClusterDealer(engine, worker, passes, exchange.correct, waited=waited(worker))
            serve(line, other, exchange)

    def end(self, *, failed: bool) -> None:
        """The script has ended: what it has learned goes to the others.

        Args:
            failed: whether by an exception.
        """
        self.close()
        if not failed:
            self._dealer.stay()
        self._engine.close(self._around.cluster.lost_after)

    def _leads(self) -> bool:
        leader = self._engine.leader
        return self._led if leader is None else leader == self._around.cluster.here.box

    def _begin(self) -> None:
        if self._begun:
            return
        super()._begin()
        self._around.release()
        self.part.tell("plan", plan(self._around))

    def look_up(self) -> None:
        """What the first worker looks at: does its box lead, too?"""
        super().look_up()
        if not self._led and self._leads():
            self._led = True
            self._around.on_lead()


def plan(around: Surroundings, division: Sequence[str] = ()) -> str:
    """The line at the start.

    Args:
        around: what is around the first worker.
        division: how each batch is divided within the box, if it is.
    """
    cluster = around.cluster
    flow = f"weights flow as {CODECS[cluster.codec]} in the background"
    parts = [
        around.reason,
        f"box {cluster.here.box}",
        "stream",
        "batches are dealt out one by one",
        *division,
        *(["steps are as many times as long as there are boxes"] if cluster.scale_lr else []),
        flow if cluster.encrypt else flow + ", unencrypted",
    ]
    return ", ".join(part for part in parts if part)


def meter_of(board: Board, worker: int) -> Callable[[float], None]:
    """What counts the seconds for which a worker waits for others.

    Args:
        board: of the box.
        worker: whose.
    """
    row = board.fields[worker]

    def count(seconds: float) -> None:
        row[Field.WAIT_NS] += round(seconds * 1e9)

    return count


def look_up(flags: memoryview) -> None:
    """Look whether this worker is to end.

    Args:
        flags: of the board.

    Raises:
        StoppedError: the run ends.
        SystemExit: this box leaves the run.
    """
    if flags[Flag.STOP]:
        msg = "the run is being stopped"
        raise StoppedError(msg)
    if flags[Flag.LEAVE]:
        raise SystemExit(0)


def make_engine(
    around: Surroundings,
    hello: Hello,
    secret: str,
    *,
    alike: bool = False,
    waits: Callable[[], None] = lambda: None,
) -> Engine:
    """The engine of a box, for its first worker.

    Args:
        around: what is around this worker.
        hello: what this box says of itself.
        secret: of the run.
        alike: whether all workers of the box train on the same samples.
        waits: called now and then while this worker waits for other boxes.
    """
    cluster, here = around.cluster, around.cluster.here
    timing = Timing(cluster.heartbeat, cluster.suspect_after, cluster.lost_after)
    outer = Outer(OUTER_MOMENTUM, OUTER_RATE) if cluster.nesterov else Outer()
    node = Node(
        Identity(here.box, 1 + here.nonce % BOOTS, str(here.data), founder=here.box == 0),
        NodeSettings(timing, cluster.codec, outer=outer),
        random.Random(here.nonce),
    )
    network = TcpNetwork(
        Proof(secret, encrypted=cluster.encrypt),
        hello,
        KINDS,
        listen=socket.socket(fileno=cluster.data_fd),
    )
    peers = [(peer.box, (peer.data.host, peer.data.port)) for peer in cluster.peers]
    counted = 1 if alike else around.board.workers
    flags = around.board.flags

    def look_around() -> None:
        look_up(flags)
        waits()

    return Engine(
        node,
        network,
        Roster(here.box, peers),
        around.tell,
        samples=lambda: sum(around.board.column(Field.SAMPLES)[:counted]),
        leave=lambda: bool(flags[Flag.LEAVE]),
        look_up=look_around,
    )
