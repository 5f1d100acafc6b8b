"""Stream mode of boxes whose workers divide each batch exactly: ``--within exact``.

The workers of a box walk in step, as in exact mode: each computes its rows of every batch, and the
sums of gradients are the same bits for all. To other boxes they are one: what box and boxes agree
on comes to all workers alike, see [Note: agreement]. So a box of several workers makes the steps
that it would make with one, only faster.

    exact mode      rows of batches, calls of modules, gradients, the watch over equal weights
    stream mode     passes and batches that are dealt, weights that flow, schedulers, side effects
    `agreed.py`     stream mode's two protocols, in step
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from torch import nn

from pellucid.errors import StoppedError
from pellucid.params import memory
from pellucid.sync.exact.mode import ExactMode
from pellucid.sync.shared.script_thread import in_script_thread
from pellucid.sync.stream.agreed import AgreedDealer, AgreedExchange, AgreedSettling
from pellucid.sync.stream.agreement import Agreement
from pellucid.sync.stream.dealer import BoxPasses, ClusterDealer
from pellucid.sync.stream.engine import Engine
from pellucid.sync.stream.exchange import BoxExchange
from pellucid.sync.stream.mode import (
    StreamMode,
    Surroundings,
    look_up,
    make_engine,
    meter_of,
    plan,
)
from pellucid.sync.stream.weights import ClusterWeights, Settling
from pellucid.transport.board import Field, Flag, State
from pellucid.wire.session import Hello

__all__ = ["LockstepMode"]

Original = Callable[..., Any]

END_SECONDS: Final = 0.01


class LockstepMode(StreamMode):
    """One worker's side; see the module.

    Args:
        around: what is around this worker.
        exact: divides the batches among the workers of the box.
        hello: what this box says of itself.
        secret: of the run; in the first worker only.
    """

    def __init__(
        self, around: Surroundings, exact: ExactMode, *, hello: Hello, secret: str
    ) -> None:
        self._exact = exact
        self._engine: Engine | None = None
        self._led = around.cluster.here.box == 0
        self._agreement = agreement = Agreement(
            exact.group,
            exact.start,
            self._box_leads,
            lambda: look_up(around.board.flags),
        )
        dealer: ClusterDealer | None = None
        exchange = settling = None
        fd = around.weights_fd
        if agreement.is_first:
            engine = make_engine(around, hello, secret, alike=True, waits=agreement.wait)
            self._engine = engine
            exchange = BoxExchange(engine, fd, scales=around.cluster.scale_lr)
            settling = Settling(engine, exchange, around.tell)
            dealer = ClusterDealer(
                engine,
                0,
                BoxPasses(),
                lambda: None,
                leads=self._box_leads,
                waited=meter_of(around.board, 0),
            )
        else:
            fd = memory.create()  # all have their own
            around = dataclasses.replace(around, tell=lambda *_, **__: None)
        weights = _Weights(
            agreement,
            fd,
            AgreedExchange(agreement, exact.group, fd, exchange),
            AgreedSettling(agreement, settling),
        )
        self._dealer = dealer
        agreed = AgreedDealer(agreement, dealer, weights.before_batch)
        super().__init__(around, agreed, weights, alike=True)
        if self._engine is not None:
            self._engine.start()

    def seams(self) -> list[tuple[Any, str, Original]]:
        """Functions to answer: triples (owner, name, handler)."""
        return _chained([*super().seams(), *self._exact.seams()])

    def iterate(self, original: Original, loader: Any) -> Iterator[Any]:
        """What ``iter(loader)`` gives the script: of what this box is dealt, this worker's rows."""
        if in_script_thread():
            self._exact.start()  # before the states of random generators are looked at
        divide = functools.partial(self._exact.loaders.iterate, original, whose=loader)
        return super().iterate(divide, loader)

    def call(self, original: Original, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What ``module(*args, **kwargs)`` gives the script: of rows divided among the workers."""

        def divide(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self._exact.calls.call(original, module, args, kwargs)

        return super().call(divide, module, args, kwargs)

    def after_step(self, optimizer: Any, *_: Any) -> None:
        """An optimizer has stepped."""
        super().after_step(optimizer)
        if in_script_thread():
            if self.steps == 1 and self._agreement.is_first:
                self.part.tell("plan", plan(self._around, self._exact.division()))
            self._exact.look_after(optimizer)
            self._exact.calls.rows = 0

    def end(self, *, failed: bool) -> None:
        """The script has ended.

        Args:
            failed: whether by an exception, which need not have come to all workers.
        """
        together = self._agreement.over
        if not failed and not together:
            self.close()
        self._agreement.over = True
        if self._dealer is not None and not failed:
            self._dealer.stay()
        if self._engine is not None:
            self._engine.close(self._around.cluster.lost_after)
        elif together:
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        """One that ends before the first worker does would be taken for dead."""
        first = self._around.board.fields[0]
        while first[Field.STATE] not in (State.FINISHED, State.DEAD) and not self._flags[Flag.STOP]:
            time.sleep(END_SECONDS)

    def _who_does_it(self) -> str:
        return "every worker does all of it by itself"

    def _leads(self) -> bool:
        return self._agreement.leads

    def _box_leads(self) -> bool:
        """Whether this box leads, at this moment; known to the first worker."""
        assert self._engine is not None
        leader, here = self._engine.leader, self._around.cluster.here.box
        return here == 0 if leader is None else leader == here

    def look_up(self) -> None:
        """What a worker looks at now and then; where all may leave is for the agreement to say."""
        if self._flags[Flag.STOP]:
            msg = "the run is being stopped"
            raise StoppedError(msg)
        if not self._led and self._agreement.is_first and self._box_leads():
            self._led = True
            self._around.on_lead()


def _chained(seams: list[tuple[Any, str, Original]]) -> list[tuple[Any, str, Original]]:
    """One answer for each function: where both modes have one, the first gets the second's."""
    chained: dict[tuple[Any, str], Original] = {}
    for owner, name, handler in seams:
        first = chained.get((owner, name))
        chained[owner, name] = handler if first is None else _chain(first, handler)
    return [(owner, name, handler) for (owner, name), handler in chained.items()]


def _chain(first: Original, second: Original) -> Original:
    def answer(original: Original, *args: Any, **kwargs: Any) -> Any:
        return first(functools.partial(second, original), *args, **kwargs)

    return answer


class _Weights(ClusterWeights):
    """One worker's weights, in memory of its own; see `ClusterWeights`."""

    def __init__(
        self, agreement: Agreement, fd: int, exchange: AgreedExchange, settling: AgreedSettling
    ) -> None:
        super().__init__(fd, 0, lambda: agreement.leads, exchange, settling)
        self._agreement = agreement

    def leave(self) -> None:
        """See `Weights.leave`; nothing where the workers unwind, each as it comes."""
        if not self._agreement.over:
            super().leave()
