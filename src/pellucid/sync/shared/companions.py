"""Loops beside a pass: loaders that the script walks together with the one that is dealt out.

[Note: companions]
``for a, b in zip(first, second)`` pairs batches, as ``next(other)`` within a loop does. If both
were dealt out, a worker would get batches of the two that do not belong together. So only the loop
that is advanced first is a pass; one that was begun before it, and is advanced within it, is its
*companion*: with the pass's batch k the script gets the companion's batch k, on whatever worker.

    position   how many batches plain python would have drawn from the companion by then: those of
               the passes it has accompanied so far, and the number of the batch in hand
    round      a run of the companion from its beginning to its end. If the script begins the same
               loader anew where it ended, that is the next round, and positions go on counting

The orders of a companion's rounds are the same on all workers without being told: the first is
drawn from states that hang on the run's seed and the companion's number, each further one from
those that the last one left. Generators that the loader has of its own are used as they are.

Positions can be known as long as the companion is advanced once with each batch of the pass. If it
is not, or if it is begun in the middle of a pass, each worker walks it by itself, as it does loops
of its own such as an evaluation. Where that goes on over several batches of the pass, so that it
is no such loop, the user is told that batches are not paired as under plain python.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pellucid.sync.shared import generators, streams
from pellucid.sync.shared.dealer import Lease, PassKey
from pellucid.sync.shared.order import Order, deposit, held_by_loader
from pellucid.sync.shared.sources import IndexedSource, ItemSource, ScannedSource, lone_shadow

__all__ = [
    "Begun",
    "Companion",
    "IndexedRounds",
    "ItemRounds",
    "Rounds",
    "ScannedRounds",
    "zipped_with",
]

Iterate = Callable[[Any], Iterator[Any]]
KEPT = 2  # rounds whose order is kept: a batch that came late may be of the last one


@dataclass
class Begun:
    """A loop that the script has begun, and where.

    Attributes:
        loader: what it iterates.
        time: in beginnings of loops and passes.
        place: the line.
        generator: id of the frame, if it is that of a generator function: such a loop may go on
            over many batches of the loop around it.
        rounds: makes it a companion's, drawn from the random stream of this name.
        whole: makes it this worker's own.
        iterator: what the script has got.
    """

    loader: Any
    time: int
    place: tuple[str, int] | None
    generator: int
    rounds: Callable[[str], Rounds]
    whole: Callable[[], Iterator[Any]]
    iterator: Callable[[], object] = lambda: None


class Outer(Protocol):
    """The pass that a companion goes with."""

    key: PassKey
    handed: int  # batches given to the script so far
    length: int | None  # batches in all, where that is known

    @property
    def index(self) -> int:
        """Which batch the script has in hand, or is about to get."""

    def prepare(self) -> None:
        """Take the next batch, which the script is about to ask for."""

    def end_before(self) -> None:
        """End without the batch that was prepared."""


class Company(Protocol):
    """All loops of the script."""

    @property
    def training(self) -> Outer | None:
        """The pass that the script is in."""

    def exhausted(self, loader: Any, companion: Companion) -> None:
        """A companion came to its end."""

    def tell_unpaired(self, begun: Begun) -> None:
        """Tell the user that batches are not paired as under plain python."""


class Rounds(Protocol):
    """The batches of a companion by round and index."""

    def batch(self, number: int, index: int) -> tuple[Any] | None:
        """A batch, in a tuple; None beyond the round's end. Rounds are begun one by one."""

    def length(self, number: int) -> int:
        """Batches of a round whose end was found."""


class IndexedRounds:
    """Of a loader with a batch sampler, loaded in this process.

    Args:
        original: ``DataLoader.__iter__``.
        loader: the script's.
        seed: names the random stream that the first order is drawn from.
    """

    def __init__(self, original: Iterate, loader: Any, seed: str) -> None:
        self._original = original
        self._loader = loader
        self._held = held_by_loader(loader)
        own = generators.states()
        streams.begin(seed)
        self._next = deposit(self._held)
        generators.restore(own)
        self._orders: dict[int, Order] = {}
        self._source: IndexedSource | None = None
        self._round = -1
        self._wanted: Lease | None = None

    def batch(self, number: int, index: int) -> tuple[Any] | None:
        """See `Rounds.batch`."""
        while self._round < number:
            self._begin()
        lease = Lease(PassKey(-1, number), index)
        order = self._orders.get(number)
        if order is None or order.batch(index) is None:
            return None
        assert self._source is not None
        self._wanted = lease
        item = self._source.next() if number == self._round else self._source.fetch(lease)
        return None if item is None else (item[1],)

    def length(self, number: int) -> int:
        """See `Rounds.length`."""
        return self._orders[number].batches_begun

    def _begin(self) -> None:
        """The next round."""
        if self._orders:
            self._next = self._orders[self._round].after()
        self._round += 1
        order = self._orders[self._round] = Order(self._loader, self._next, self._held)
        self._orders.pop(self._round - KEPT, None)
        shadow = lone_shadow(self._loader)
        self._source = IndexedSource(shadow, self._original, self._of, self._take, lambda _: None)
        order.restore_held()

    def _of(self, key: PassKey) -> Order | None:
        return self._orders.get(key.number)

    def _take(self) -> Lease | None:
        wanted, self._wanted = self._wanted, None
        return wanted


class ScannedRounds:
    """Of anything that can be iterated: each worker goes through all of it.

    Args:
        begin: begins to iterate it.
        seed: names the random stream that iterating draws from.
        draws: whether it draws random numbers.
    """

    def __init__(self, begin: Callable[[], Iterator[Any]], seed: str, *, draws: bool) -> None:
        self._begin = begin
        self._seed = seed
        self._draws = draws
        self._sources: dict[int, ScannedSource] = {}

    def batch(self, number: int, index: int) -> tuple[Any] | None:
        """See `Rounds.batch`."""
        if number not in self._sources:
            own = generators.states()
            streams.begin(f"{self._seed}/{number}")
            self._sources = {
                number: ScannedSource(self._begin, lambda: None, lambda _: None, draws=self._draws)
            }
            generators.restore(own)
        item = self._sources[number].fetch(Lease(PassKey(-1, number), index))
        return None if item is None else (item[1],)

    def length(self, number: int) -> int:
        """See `Rounds.length`."""
        return self._sources[number].position


class ItemRounds:
    """Of a sequence."""

    def __init__(self, items: Any) -> None:
        self._items = items
        self._source = ItemSource(items, lambda: None)

    def batch(self, number: int, index: int) -> tuple[Any] | None:
        """See `Rounds.batch`."""
        if index >= len(self._items):
            return None
        return (self._source.fetch(Lease(PassKey(-1, number), index))[1],)

    def length(self, number: int) -> int:  # noqa: ARG002 - all are alike
        """See `Rounds.length`."""
        return len(self._items)


class Companion:
    """What the script iterates beside a pass; see [Note: companions].

    Args:
        passes: all of them.
        begun: the loop whose batches these are.
        stream: names its random stream; None if it is not known where in the pass it was begun,
            and it is to be walked by itself.
        ahead: whether the script advances it before the pass itself.
    """

    def __init__(
        self, passes: Company, begun: Begun, stream: str | None, *, ahead: bool = False
    ) -> None:
        self._passes = passes
        self._begun = begun
        self._ahead = ahead
        self._resumed = False
        self._rounds = None if stream is None else begun.rounds(stream)
        self._round = 0
        self._start = 0  # position at which the round began
        self._before = 0  # batches of passes that it has accompanied before this one
        self._pass: PassKey | None = None
        self._span: int | None = 0  # of the pass, how many batches it has
        self._calls = 0  # within the pass
        self._latest: int | None = None  # index of the batch given last
        self._own: Iterator[Any] | None = begun.whole() if stream is None else None
        self._step: tuple[PassKey, int] | None = None  # in which it began to be walked alone
        self._repeated: dict[int, Any] | None = None  # batches, where the script repeats them
        self._over = False

    def __iter__(self) -> Companion:
        return self

    def __next__(self) -> Any:
        if self._over:
            raise StopIteration
        outer = self._passes.training
        if self._own is None and not self._follow(outer):
            self._own = self._alone()
        if self._own is not None:
            self._tell(outer)
            return next(self._own)
        if outer is None:
            self._before += 1
            return self._at(self._before - 1)
        return self._at(max(0, self._before + outer.index), outer)

    def resume(self, outer: Outer, begun: Begun) -> bool:
        """Begin the next round, if the last one ended at the batch of the pass that is in hand.

        Args:
            outer: the pass.
            begun: the loop whose batches these are from now on.
        """
        at = (outer.key, outer.handed) == (self._pass, self._calls + 1)
        if not (self._over and at and self._own is None):
            return False
        self._over, self._resumed, self._begun = False, True, begun
        self._next_round()
        return True

    # following

    def _follow(self, outer: Outer | None) -> bool:
        """Whether positions are known; counts the call."""
        key = None if outer is None else outer.key
        if key != self._pass:
            if self._span is None:
                return False  # how far it was cannot be told
            self._before += self._span
            self._pass, self._span, self._calls = key, 0, 0
            if outer is not None:
                self._span = outer.length
        if outer is None:
            return True  # between passes: all workers are there
        if self._ahead and outer.handed == self._calls:
            outer.prepare()
            self._calls += 1
            return True
        self._calls += 1
        return outer.handed == self._calls

    def _at(self, position: int, outer: Outer | None = None) -> Any:
        assert self._rounds is not None
        if self._repeated is not None:
            return self._repeat(position)
        while True:
            index = position - self._start
            if index < 0:  # of a round that is over, and a worker has died
                index %= self._rounds.length(self._round - 1)
            found = self._rounds.batch(self._round, index)
            if found is not None:
                self._latest, self._resumed = index, False
                return found[0]
            if not index:  # there is nothing at all
                break
            if self._is_repeated():
                self._repeated = {}
                return self._repeat(position)
            if not self._resumed:
                break
            self._next_round()  # scripts do not expect a loop begun anew to give nothing
        self._over = True
        self._calls -= 1
        self._passes.exhausted(self._begun.loader, self)
        if outer is not None and is_zipped(self._begun.iterator()):
            outer.end_before()
        raise StopIteration

    def _next_round(self) -> None:
        assert self._rounds is not None
        self._start += self._rounds.length(self._round)
        self._round += 1
        self._latest = None

    def _is_repeated(self) -> bool:
        return cycle_around(self._begun.iterator()) is not None

    def _repeat(self, position: int) -> Any:
        """What `itertools.cycle` gives: the very batches of the first time."""
        assert self._rounds is not None
        assert self._repeated is not None
        index = (position - self._start) % self._rounds.length(self._round)
        if index not in self._repeated:
            found = self._rounds.batch(self._round, index)
            assert found is not None
            self._repeated[index] = found[0]
        return self._repeated[index]

    # by itself

    def _alone(self) -> Iterator[Any]:
        """The rest of the round and then what was before: all of it once, wherever it began."""
        if self._latest is None or self._rounds is None:
            return self._begun.whole()
        return self._from(self._rounds, self._latest)

    def _from(self, rounds: Rounds, latest: int) -> Iterator[Any]:
        index = latest + 1
        while (found := rounds.batch(self._round, index)) is not None:
            yield found[0]
            index += 1
        for index in range(latest):
            found = rounds.batch(self._round, index)
            assert found is not None
            yield found[0]

    def _tell(self, outer: Outer | None) -> None:
        step = None if outer is None else (outer.key, outer.handed)
        if step is None:
            return
        if self._step is None:
            self._step = step
        elif step != self._step:
            self._passes.tell_unpaired(self._begun)


def is_zipped(iterator: object) -> bool:
    """Whether ``zip`` has an iterator: what comes to an end then is the loop around it."""
    groups = (o for o in gc.get_referrers(iterator) if type(o) is tuple)
    return any(type(o) is zip for group in groups for o in gc.get_referrers(group))


def cycle_around(iterator: object) -> object | None:
    """The `itertools.cycle` that an iterator was handed to, if any."""
    return next((o for o in gc.get_referrers(iterator) if type(o) is itertools.cycle), None)


def zipped_with(iterator: object) -> tuple[Any, ...]:
    """What an iterator that is repeated by `itertools.cycle` is zipped with."""
    cycle = cycle_around(iterator)
    if cycle is None:
        return ()
    groups = (o for o in gc.get_referrers(cycle) if type(o) is tuple)
    return next((group for group in groups if any(one is cycle for one in group)), ())
