"""Engines of several boxes in one process, without their threads: time passes when one waits."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.node import Identity, Node, NodeSettings
from pellucid.sync.stream.roster import Roster
from pellucid.transport.loopback import Loopback, LoopbackNetwork

__all__ = ["Fleet", "StillEngine"]

STEP = 0.02


class StillEngine(Engine):
    """An engine whose thread is not started; whoever waits lets all boxes go on instead."""

    on_pause: Callable[[], None]

    def pause(self) -> None:
        self.on_pause()


class Fleet:
    """Boxes on the network in memory.

    Attributes:
        engines: by box.
        said: what each box told its launcher.
    """

    def __init__(self, codec: str = "fp32") -> None:
        self.medium = Loopback()
        self.engines: dict[int, StillEngine] = {}
        self.networks: dict[int, LoopbackNetwork] = {}
        self.said: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        self.samples: dict[int, int] = {}
        self.leaves: set[int] = set()
        self.stop: Exception | None = None
        self._codec = codec

    def start(self, box: int) -> StillEngine:
        boot = box + 1
        said: list[tuple[str, dict[str, Any]]] = []
        self.said[box], self.samples[box] = said, 0
        network = self.networks[box] = self.medium.box(box, boot)
        node = Node(
            Identity(box, boot, "", founder=not self.engines),
            NodeSettings(codec=self._codec),
            random.Random(box),
        )
        engine = StillEngine(
            node,
            network,
            Roster(box),
            lambda event, text, **facts: said.append((event, {"text": text, **facts})),
            samples=lambda: self.samples[box],
            leave=lambda: box in self.leaves,
            look_up=self._look_up,
            clock=lambda: self.medium.now,
            cost=lambda: 0.0,
        )
        engine.on_pause = self.go_on
        self.engines[box] = engine
        self.go_on()
        return engine

    def go_on(self, seconds: float = STEP) -> None:
        """Let time pass for all."""
        for _ in range(max(1, round(seconds / STEP))):
            self.medium.advance(self.medium.now + STEP)
            for box, engine in self.engines.items():
                engine.step(self.networks[box].poll(0))

    def meanwhile(self, box: int, do: Callable[[], object], after: float = 1.0) -> list[float]:
        """Let something happen after a box has waited for so long; returns when it did."""
        happened: list[float] = []
        due: list[float] = []

        def pause() -> None:
            self.go_on()
            due[:] = due or [self.medium.now + after]
            if self.medium.now >= due[0] and not happened:
                happened.append(self.medium.now)
                do()

        self.engines[box].on_pause = pause
        return happened

    def crash(self, box: int) -> None:
        self.medium.crash(box)
        del self.engines[box]

    def _look_up(self) -> None:
        if self.stop is not None:
            raise self.stop
