"""Batches and weights of a box whose workers walk in step, as the other boxes deal and send them.

The first worker has the originals, which talk to the node. All workers, the first one included, use
what is here, and come to the same: see [Note: agreement]. Each has its weights in memory of its
own; those of the first worker are the ones that the node exchanges, and what the node changes in
them the others copy at the same step. So the workers' weights stay the same bits.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import torch

from pellucid.params.memory import WEIGHTS_BYTES
from pellucid.sync.exact.replicas import adopt
from pellucid.sync.shared.dealer import Lease, Opened, PassKey, Role
from pellucid.sync.stream.agreement import Agreement
from pellucid.sync.stream.dealer import ClusterDealer
from pellucid.sync.stream.exchange import BlockFacts, BoxExchange, Stretch
from pellucid.sync.stream.relay import answered, packed
from pellucid.sync.stream.weights import Settling
from pellucid.transport.memory import SLOT_BYTES
from pellucid.transport.shared_memory import Group

__all__ = ["AgreedDealer", "AgreedExchange", "AgreedSettling"]

PIECE_BYTES: Final = SLOT_BYTES // 2  # of what is copied in one exchange


class AgreedDealer:
    """Deals the same batches to all workers of the box; see `Dealer`.

    Args:
        agreement: of the workers.
        dealer: the first worker's.
        on_take: called whenever the script is about to get a batch.
    """

    def __init__(
        self, agreement: Agreement, dealer: ClusterDealer | None, on_take: Callable[[], None]
    ) -> None:
        self._agreement = agreement
        self._dealer = dealer
        self._on_take = on_take

    def open(
        self, key: PassKey, order: bytes, batches: int | None, *, trains: bool = False
    ) -> Opened:
        """See `Dealer.open`."""

        def question() -> tuple[str, bytes]:
            opened = self._first.open(key, order, batches, trains=trains)
            return opened.role.value, opened.order

        role, agreed = self._agreement.ask("open a pass", question)
        return Opened(Role(role), agreed)

    def decide(self, key: PassKey, *, trains: bool) -> None:
        """See `Dealer.decide`."""
        if self._dealer is not None:
            self._dealer.decide(key, trains=trains)

    def undecided(self, key: PassKey) -> None:
        """See `Dealer.undecided`."""
        if self._dealer is not None:
            self._dealer.undecided(key)

    def take(self, key: PassKey) -> Lease | None:
        """See `Dealer.take`."""
        self._on_take()
        return answered(self._agreement.ask("take a batch", lambda: packed(self._first.take(key))))

    def done(self, lease: Lease) -> None:
        """See `Dealer.done`."""
        if self._dealer is not None:
            self._dealer.done(lease)

    def ended(self, lease: Lease) -> None:
        """See `Dealer.ended`."""
        if self._dealer is not None:
            self._dealer.ended(lease)

    def finish(self, key: PassKey) -> Lease | None:
        """See `Dealer.finish`."""
        return answered(
            self._agreement.ask("finish a pass", lambda: packed(self._first.finish(key)))
        )

    def close(self, key: PassKey, undone: list[Lease]) -> None:
        """See `Dealer.close`."""
        if self._dealer is not None:
            self._dealer.close(key, undone)

    def progress(self, key: PassKey) -> int:
        """See `Dealer.progress`."""
        return int(self._agreement.ask("progress", lambda: self._first.progress(key)))

    @property
    def _first(self) -> ClusterDealer:
        assert self._dealer is not None  # questions are put to the first worker
        return self._dealer


class AgreedExchange:
    """Brings what others have done into all workers' weights; see `Exchange`.

    Args:
        agreement: of the workers.
        group: the workers.
        fd: memory of this worker's weights.
        exchange: the first worker's.
    """

    def __init__(
        self, agreement: Agreement, group: Group, fd: int, exchange: BoxExchange | None
    ) -> None:
        self._agreement = agreement
        self._group = group
        self._map = mmap.mmap(fd, WEIGHTS_BYTES)
        self._exchange = exchange
        self._arrays: dict[tuple[str, int], torch.Tensor] = {}

    def add(self, facts: BlockFacts) -> None:
        """See `Exchange.add`."""
        self._agreement.ask("add weights", lambda: self._first.add(facts))
        arrays = [
            torch.frombuffer(
                self._map, dtype=getattr(torch, a.dtype), count=a.elements, offset=a.start
            )
            for a in facts.arrays
        ]
        if not self._agreement.alone:
            adopt(self._group, arrays)
        for one, array in zip(facts.arrays, arrays, strict=True):
            self._arrays[facts.name, one.number] = array

    @torch.no_grad()
    def correct(self, blocks: Iterable[str] | None = None) -> None:
        """See `Exchange.correct`."""
        changed = self._agreement.ask("corrections", lambda: self._first.correct(blocks))
        for arrays in _in_pieces(self._at(Stretch(*one)) for one in changed):
            self._agreement.spread("corrected weights", arrays)

    def change(self, block: str, apply: Callable[[], None]) -> None:
        """See `Exchange.change`; all workers make the same change, each in its own memory."""
        if self._exchange is None:
            apply()
        else:
            self._exchange.change(block, apply)

    def stride(self) -> float:
        """See `Exchange.stride`."""
        return float(self._agreement.ask("stride", self._asked_stride))

    def _asked_stride(self) -> float:
        return self._first.stride()

    def _at(self, stretch: Stretch) -> torch.Tensor:
        return self._arrays[stretch.block, stretch.number][stretch.start : stretch.stop]

    @property
    def _first(self) -> BoxExchange:
        assert self._exchange is not None  # questions are put to the first worker
        return self._exchange


class AgreedSettling:
    """The cluster's weights for a last look, in all workers; see `Settling`.

    Args:
        agreement: of the workers.
        settling: the first worker's.
    """

    def __init__(self, agreement: Agreement, settling: Settling | None) -> None:
        self._agreement = agreement
        self._settling = settling

    def enter(self) -> None:
        """See `Settling.enter`."""
        if self._settling is not None:
            self._settling.enter()

    def leave(self, *, look: bool) -> None:
        """See `Settling.leave`."""
        self._agreement.ask("settle", lambda: self._first.leave(look=look))

    @torch.no_grad()
    def weights(self, block: str) -> dict[int, torch.Tensor]:
        """See `Settling.weights`."""
        mine: dict[int, torch.Tensor] = {}

        def question() -> list[tuple[int, int]]:
            mine.update(self._first.weights(block))
            return [(number, values.numel()) for number, values in mine.items()]

        for number, length in self._agreement.ask("settled", question):
            mine.setdefault(number, torch.empty(length, dtype=torch.float32))
        for values in mine.values():
            for piece in values.split(PIECE_BYTES // values.element_size()):
                self._agreement.spread("settled weights", [piece])
        return mine

    @property
    def _first(self) -> Settling:
        assert self._settling is not None  # questions are put to the first worker
        return self._settling


def _in_pieces(arrays: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Arrays in groups that one exchange can take; none is larger than that, being a chunk."""
    group: list[Any] = []
    size = 0
    for array in arrays:
        size += array.nbytes
        if group and size > PIECE_BYTES:
            yield group
            group, size = [], array.nbytes
        group.append(array)
    if group:
        yield group
