"""Where a pass gets its batches from: only those that this worker has leases for.

*Indexed*: a loader whose sampler gives batches of indices. The loader is asked for the leased ones
only, by its own processes if it has some.
*Scanned*: anything else that can be iterated. Every worker goes through all of it, and the script
gets what is leased.
"""

from __future__ import annotations

import collections
import copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch.utils.data import DataLoader, IterableDataset

from pellucid.sync.shared import generators
from pellucid.sync.shared.dealer import Lease, PassKey
from pellucid.sync.shared.order import Order

__all__ = [
    "IndexedSource",
    "ItemSource",
    "ScannedSource",
    "Shadows",
    "Source",
    "first_batch",
    "has_index_batches",
    "lone_shadow",
]

Take = Callable[[], Lease | None]


class Source(Protocol):
    """Gives the batches of one pass."""

    @property
    def undone(self) -> list[Lease]:
        """Leases that were taken and not handed out yet."""

    def next(self) -> tuple[Lease, Any] | None:
        """The next leased batch; None when there is no further lease."""

    def fetch(self, lease: Lease) -> tuple[Lease, Any] | None:
        """The batch of a lease that came late; None when it cannot be had any more."""


def has_index_batches(loader: Any) -> bool:
    """Whether a loader asks its dataset for lists of indices."""
    return (
        isinstance(loader, DataLoader)
        and loader.batch_sampler is not None
        and not isinstance(loader.dataset, IterableDataset)
        and getattr(loader, "in_order", True)
    )


def first_batch(loader: Any, iterate: Callable[[Any], Iterator[Any]]) -> Any:
    """The first batch of a loader, without starting its processes if that can be.

    Raises:
        StopIteration: it has none.
    """
    if not has_index_batches(loader):
        return next(iterate(loader))
    return _fetch(loader, next(iter(loader.batch_sampler)))


def _fetch(loader: Any, indices: Any) -> Any:
    many = getattr(loader.dataset, "__getitems__", None)
    samples = many(list(indices)) if many else [loader.dataset[i] for i in indices]
    return loader.collate_fn(samples)


class _Sampler:
    """Stands in for a batch sampler: gives the batches that are leased, as they are asked for."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.leased: Callable[[], Iterator[Any]] = lambda: iter(())

    def __iter__(self) -> Iterator[Any]:
        return self.leased()

    def __len__(self) -> int:
        return len(self._inner)


class Shadows:
    """Loaders like the script's, with a sampler of ours; kept where a loader keeps processes."""

    def __init__(self) -> None:
        self._kept: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def of(self, loader: Any) -> Any:
        """The shadow of a loader."""
        shadow = self._kept.get(loader)
        if shadow is None:
            shadow = _shadow(loader)
            if loader.persistent_workers:
                self._kept[loader] = shadow
        return shadow


def lone_shadow(loader: Any) -> Any:
    """A loader like the script's, with a sampler of ours, that works in this process only."""
    return _shadow(loader, num_workers=0, prefetch_factor=None, persistent_workers=False, timeout=0)


def _shadow(loader: Any, **others: Any) -> Any:
    """A copy with a sampler of ours, and with other settings."""
    shadow = copy.copy(loader)
    # not by setattr: a loader refuses to have its sampler replaced
    vars(shadow).update(batch_sampler=_Sampler(loader.batch_sampler), _iterator=None, **others)
    return shadow


class IndexedSource:
    """The leased batches of a loader with a batch sampler.

    Args:
        shadow: of the loader, see `Shadows`.
        iterate: ``DataLoader.__iter__``.
        orders: gives the order of a pass; None if all who knew that of an earlier one are dead.
        take: the next lease of this pass.
        done: tells that a lease is beyond the end of its pass.
    """

    def __init__(
        self,
        shadow: Any,
        iterate: Callable[[Any], Iterator[Any]],
        orders: Callable[[PassKey], Order | None],
        take: Take,
        done: Callable[[Lease], None],
    ) -> None:
        self._shadow = shadow
        self._orders = orders
        self._take = take
        self._done = done
        self._noted: collections.deque[Lease] = collections.deque()
        self._given: list[Any] = []  # batches of indices, from the beginning of the pass on
        shadow.batch_sampler.leased = self._leased
        self._batches: Iterator[Any] | None = iterate(shadow)

    @property
    def undone(self) -> list[Lease]:
        """See `Source.undone`."""
        return list(self._noted)

    def next(self) -> tuple[Lease, Any] | None:
        """See `Source.next`."""
        if self._batches is None:
            return None
        try:
            value = next(self._batches)
        except StopIteration:
            self._batches = None  # lets go of the loader's processes, as a plain loop does
            return None
        return self._noted.popleft(), value

    def fetch(self, lease: Lease) -> tuple[Lease, Any] | None:
        """See `Source.fetch`; in this process, the loader's own may be gone."""
        order = self._orders(lease.key)
        indices = None if order is None else order.batch(lease.index)
        if indices is None:
            return None
        return lease, _fetch(self._shadow, indices)

    def _leased(self) -> Iterator[Any]:
        yield from list(self._given)  # whoever divides the batches may have to begin again
        while (lease := self._take()) is not None:
            order = self._orders(lease.key)
            indices = None if order is None else order.batch(lease.index)
            if indices is None:
                self._done(lease)
                if order is None:  # a batch of an earlier pass that nobody can tell any more
                    continue
                return  # beyond the end, of a sampler that does not know its length
            self._noted.append(lease)
            self._given.append(indices)
            yield indices


class ScannedSource:
    """The leased items of anything that can be iterated.

    Args:
        begin: begins to iterate it.
        take: the next lease of this pass.
        ended: tells that a lease is beyond the end.
        draws: whether iterating draws random numbers, that must be the same on all workers.
    """

    def __init__(
        self,
        begin: Callable[[], Iterator[Any]],
        take: Take,
        ended: Callable[[Lease], None],
        *,
        draws: bool = False,
    ) -> None:
        self._begin = begin
        self._take = take
        self._ended = ended
        # what iterating draws from, from pass to pass the same on all workers
        self._states = generators.states() if draws else None
        self._first = self._states
        self._items = self._swapped(begin)
        self._position = 0

    @property
    def undone(self) -> list[Lease]:
        """See `Source.undone`: a lease is taken when its item is asked for."""
        return []

    @property
    def position(self) -> int:
        """Items gone through; all, once one beyond the end was asked for."""
        return self._position

    def next(self) -> tuple[Lease, Any] | None:
        """See `Source.next`."""
        lease = self._take()
        return None if lease is None else self.fetch(lease)

    def fetch(self, lease: Lease) -> tuple[Lease, Any] | None:
        """See `Source.fetch`; what can be iterated only once is gone when it is gone."""
        if lease.index < self._position:
            self._states, self._position = self._first, 0
            self._items = self._swapped(self._begin)
        try:
            while True:
                item = self._swapped(lambda: next(self._items))
                self._position += 1
                if self._position > lease.index:
                    return lease, item
        except StopIteration:
            self._ended(lease)
            return None

    def _swapped(self, act: Callable[[], Any]) -> Any:
        """Do something that draws from the pass's own random stream."""
        if self._states is None:
            return act()
        own = generators.states()
        generators.restore(self._states)
        try:
            return act()
        finally:
            self._states = generators.states()
            generators.restore(own)


class ItemSource:
    """The leased items of a sequence."""

    def __init__(self, items: Any, take: Take) -> None:
        self._items = items
        self._take = take

    @property
    def undone(self) -> list[Lease]:
        """See `Source.undone`: a lease is taken when its item is asked for."""
        return []

    def next(self) -> tuple[Lease, Any] | None:
        """See `Source.next`."""
        lease = self._take()
        return None if lease is None else self.fetch(lease)

    def fetch(self, lease: Lease) -> tuple[Lease, Any]:
        """See `Source.fetch`."""
        return lease, self._items[lease.index]
