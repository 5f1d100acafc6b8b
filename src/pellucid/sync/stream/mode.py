"""Stream mode: where its parts meet the box and the other boxes; see [Note: node] for the rest.

The first worker of each box talks to the other boxes. What the script is answered is the same as
in hogwild mode; batches come from the cluster's steward, and a box's weights from its own array,
which the engine exchanges with the other boxes while the script trains.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

from pellucid.cluster.membership import Timing
from pellucid.errors import StoppedError
from pellucid.settings import Cluster
from pellucid.sync.shared.mode import AsynchronousMode
from pellucid.sync.shared.part import Part
from pellucid.sync.stream.dealer import ClusterDealer
from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.node import Identity, Node, NodeSettings
from pellucid.sync.stream.roster import Roster
from pellucid.sync.stream.weights import ClusterWeights
from pellucid.transport.board import Board, Field, Flag
from pellucid.transport.identity import Identity as Proof
from pellucid.transport.tcp import TcpNetwork
from pellucid.wire.messages import KINDS
from pellucid.wire.owner import Outer
from pellucid.wire.session import Hello

__all__ = ["StreamMode"]

OUTER_MOMENTUM: Final = 0.5  # of delayed Nesterov, where the user asks for it
OUTER_RATE: Final = 0.7


class StreamMode(AsynchronousMode):
    """The stream mode of a box's first worker.

    Args:
        board: of the box.
        cluster: this box's place among the others.
        hello: what this box says of itself.
        secret: of the run.
        weights_fd: memory made by `pellucid.params.memory.create`.
        seed: of the run.
        tell: ``tell(event, text, **facts)`` says something to the user.
        frames: the script's frames, see `Part`.
        on_lead: called when this box has become the leader.
        reason: why so many workers and threads, for the line at the start.
    """

    def __init__(  # noqa: PLR0913 - all that a worker was told
        self,
        board: Board,
        cluster: Cluster,
        *,
        hello: Hello,
        secret: str,
        weights_fd: int,
        seed: int,
        tell: Callable[..., None],
        frames: Callable[[], Iterator[FrameType]],
        on_lead: Callable[[], None],
        reason: str = "",
    ) -> None:
        self._board = board
        self._cluster = cluster
        self._mine = board.fields[0]
        self._tell = tell
        self._on_lead = on_lead
        self._reason = reason
        self._begun = False
        self._led = cluster.here.box == 0
        self._counted = 0
        self._engine = self._make_engine(hello, secret)
        self._cluster_weights = ClusterWeights(weights_fd, self._leads, self._engine, tell)
        part = Part(cluster.here.box, seed, self._leads, self._begin, tell, frames)
        dealer = ClusterDealer(self._engine, self._cluster_weights.before_batch)
        super().__init__(part, dealer, self._cluster_weights)
        self._engine.start()

    def _make_engine(self, hello: Hello, secret: str) -> Engine:
        cluster, here = self._cluster, self._cluster.here
        timing = Timing(cluster.heartbeat, cluster.suspect_after, cluster.lost_after)
        outer = Outer(OUTER_MOMENTUM, OUTER_RATE) if cluster.nesterov else Outer()
        node = Node(
            Identity(here.box, here.nonce, str(here.data), founder=here.box == 0),
            NodeSettings(timing, cluster.codec, outer=outer),
            random.Random(here.nonce),  # noqa: S311 - not for secrets
        )
        network = TcpNetwork(
            Proof(secret, encrypted=cluster.encrypt),
            hello,
            KINDS,
            listen=socket.socket(fileno=cluster.data_fd),
        )
        peers = [(peer.box, (peer.data.host, peer.data.port)) for peer in cluster.peers]
        flags = self._board.flags
        return Engine(
            node,
            network,
            Roster(here.box, peers),
            self._tell,
            leave=lambda: bool(flags[Flag.LEAVE]),
            look_up=self._look_up,
        )

    def iterate(self, original: Callable[[Any], Iterator[Any]], loader: Any) -> Iterator[Any]:
        """What ``iter(loader)`` gives the script."""
        self._look_up()
        return super().iterate(original, loader)

    def after_step(self, optimizer: Any, *_: Any) -> None:
        """An optimizer has stepped."""
        super().after_step(optimizer)
        self._look_up()
        mine = self._mine
        mine[Field.STEPS] = self.steps
        mine[Field.SAMPLES] = self.samples
        mine[Field.TRAIN_NS] = self.train_ns
        with self._engine.node() as node:
            node.trained(self.samples - self._counted)
        self._counted = self.samples

    def close(self) -> None:
        """The script has ended: what it has learned goes to the others."""
        super().close()
        self._engine.close(self._cluster.lost_after)

    def _leads(self) -> bool:
        leader = self._engine.leader
        return self._led if leader is None else leader == self._cluster.here.box

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._board.flags[Flag.GO] = 1
        box = self._cluster.here.box
        codec = {"int8": "int8 by blocks", "bf16": "bfloat16", "fp32": "float32"}
        parts = [
            self._reason,
            f"box {box}",
            "stream",
            "batches are dealt out one by one",
            f"weights flow as {codec[self._cluster.codec]} in the background"
            + ("" if self._cluster.encrypt else ", unencrypted"),
        ]
        self.part.tell("plan", ", ".join(part for part in parts if part))

    def _look_up(self) -> None:
        """What a worker looks at now and then: is it to stop, does it lead?"""
        if self._board.flags[Flag.STOP]:
            msg = "the run is being stopped"
            raise StoppedError(msg)
        if self._board.flags[Flag.LEAVE]:
            raise SystemExit(0)
        if not self._led and self._leads():
            self._led = True
            self._on_lead()
