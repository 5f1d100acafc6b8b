"""The script's passes: which there are, what each is, what the script is given; see `Dealer`."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import weakref
from collections.abc import Callable, Iterator, Sized
from types import FrameType
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.sync.shared import generators, streams
from pellucid.sync.shared.companions import (
    Begun,
    Companion,
    IndexedRounds,
    ItemRounds,
    Rounds,
    ScannedRounds,
    zipped_with,
)
from pellucid.sync.shared.dealer import Dealer, Lease, PassKey, Role, Weights
from pellucid.sync.shared.order import Order, deposit, goes_beyond, held_by_loader, restore_deposit
from pellucid.sync.shared.part import Part
from pellucid.sync.shared.schedulers import Pace
from pellucid.sync.shared.script_thread import in_script_thread
from pellucid.sync.shared.sources import (
    IndexedSource,
    ItemSource,
    ScannedSource,
    Shadows,
    Source,
    first_batch,
    has_index_batches,
)
from pellucid.sync.shared.trial import Trial

__all__ = ["Passes"]

Iterate = Callable[[Any], Iterator[Any]]
ORDERS_KEPT = 4  # of the latest passes: a lease may be of an earlier one


class Passes:
    """Answers the script's loops over loaders.

    Args:
        part: of this worker in the run.
        dealer: deals out batches.
        weights: keeps the workers' weights together.
        batch_done: called when the script has done with a batch.
    """

    def __init__(
        self,
        part: Part,
        dealer: Dealer,
        weights: Weights,
        batch_done: Callable[[], None] = lambda: None,
    ) -> None:
        self.batch_done = batch_done
        self.part = part
        self.dealer = dealer
        self.weights = weights
        self.opened = 0  # passes that the script has come by
        self._training: weakref.ref[Pass] | None = None  # it ends when the script drops it
        self.whole: PassKey | None = None  # a pass that is not dealt, under way
        self._whole_began = 0
        self._ordinals: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._loaders = itertools.count()
        self._numbers: dict[int, int] = {}
        self._orders: dict[PassKey, Order] = {}
        # loaders whose samplers give more than they say
        self._goes_on: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        self._own: dict[int, int] = {}  # batches that the script got, by loader
        self._shadows = Shadows()
        self._proven = WeakIdKeyDictionary()  # of datasets: a tensor answers == by elements
        self._told: set[str] = set()
        self._in_hand: tuple[PassKey, Lease] | None = None  # of a pass that the script broke off
        self.divided = False  # there was a training pass
        self.broke_off = False  # the script ended within a pass, by an error or an exit code
        self._clock = itertools.count()  # of beginnings
        self._waiting: weakref.WeakSet[Loop] = weakref.WeakSet()  # begun, and not asked yet
        self._ended = WeakIdKeyDictionary()  # of loaders: the companion that came to its end last

    # loops

    def iterate(self, original: Iterate, loader: Any) -> Iterator[Any]:
        """What ``iter(loader)`` gives the script.

        Args:
            original: ``DataLoader.__iter__``.
            loader: the script's loader.
        """
        self.settle()
        if not self.divides:
            return original(loader)
        whole = functools.partial(original, loader)
        if has_index_batches(loader):
            return self._loop(
                loader,
                lambda place: self._iterate_indexed(original, loader, place),
                lambda stream: IndexedRounds(original, loader, stream),
                whole,
            )
        return self._loop(
            loader,
            lambda _: self._iterate_scanned(original, loader),
            lambda stream: ScannedRounds(whole, stream, draws=loader.num_workers == 0),
            whole,
        )

    def _iterate_scanned(self, original: Iterate, loader: Any) -> Iterator[Any]:
        self._explain(
            f"scanned-{type(loader.dataset).__name__}",
            f"every worker goes through all batches of {type(loader.dataset).__name__} and trains "
            f"on its own: they cannot be asked for by index. Loading them is not divided",
        )
        key, own = self._next_key(loader), generators.states()
        opened = self.dealer.open(key, deposit(()), None)
        if opened.role is Role.WHOLE:
            return _Whole(self, key, original(loader), loader)
        begun = Pass(self, key, loader, opened.role, lambda: first_batch(loader, original))
        if opened.role is Role.SPENT:
            return self._begin(begun, None)
        restore_deposit(opened.order, ())
        take = functools.partial(self.dealer.take, key)
        draws = loader.num_workers == 0
        source = ScannedSource(lambda: original(loader), take, self.dealer.ended, draws=draws)
        generators.restore(own)
        return self._begin(begun, source)

    def share(self, shared: Any) -> Iterator[Any]:
        """What a loop over ``pellucid.share(items)`` gives the script.

        Args:
            shared: what the script iterates; has what it wraps as ``items``.
        """
        items = shared.items
        self.settle()
        if not self.divides:
            return iter(items)

        def rounds(stream: str) -> Rounds:
            if _is_sequence(items):
                return ItemRounds(items)
            return ScannedRounds(lambda: iter(items), stream, draws=False)

        return self._loop(shared, lambda _: self._share(shared), rounds, lambda: iter(items))

    def _share(self, shared: Any) -> Iterator[Any]:
        items = shared.items
        length = len(items) if isinstance(items, Sized) else None
        key = self._next_key(shared)
        opened = self.dealer.open(key, b"-", length, trains=True)
        begun = Pass(self, key, shared, opened.role, lambda: next(iter(items)))
        begun.length = length
        if opened.role is Role.SPENT:
            return self._begin(begun, None)
        take = functools.partial(self.dealer.take, key)
        if _is_sequence(items):
            return self._begin(begun, ItemSource(items, take))
        return self._begin(begun, ScannedSource(lambda: iter(items), take, self.dealer.ended))

    def _iterate_indexed(
        self, original: Iterate, loader: Any, place: tuple[str, int] | None
    ) -> Iterator[Any]:
        held = held_by_loader(loader)
        key, length = self._next_key(loader), self._length(loader, held)
        # what makes one loader as good as another: made anew for each epoch, say
        site = (place, type(loader.sampler), loader.batch_size)
        trains = self._is_proven(loader, site)
        opened = self.dealer.open(key, deposit(held), length, trains=trains)
        if opened.role is Role.WHOLE:
            return _Whole(self, key, original(loader), loader)
        begun = Pass(self, key, loader, opened.role, lambda: first_batch(loader, original), site)
        begun.length = length
        if opened.role is Role.SPENT:
            return self._begin(begun, None)
        order = self._orders[key] = Order(loader, opened.order, held)
        while len(self._orders) > ORDERS_KEPT:
            del self._orders[next(iter(self._orders))]

        def orders(wanted: PassKey) -> Order | None:
            found = self._orders.get(wanted)
            if found is None:
                deposited = self.dealer.open(wanted, b"", length).order
                if not deposited:
                    return None
                found = self._orders[wanted] = Order(loader, deposited, held)
            return found

        def source() -> Source:
            shadow, take = self._shadows.of(loader), functools.partial(self.dealer.take, key)
            made = IndexedSource(shadow, original, orders, take, self.dealer.done)
            order.restore_held()
            return made

        return self._begin(begun, source)

    def _length(self, loader: Any, held: tuple[Any, ...]) -> int | None:
        """How many batches a pass has; None where its sampler does not know, or goes on beyond."""
        try:
            length = len(loader.batch_sampler)
        except TypeError:
            return None
        if (goes_on := self._goes_on.get(loader)) is None:
            goes_on = self._goes_on[loader] = goes_beyond(loader, held, length)
        return None if goes_on else length

    @property
    def divides(self) -> bool:
        """Whether a loop that begins now may be a pass, or beside one; see [Note: passes]."""
        return (
            in_script_thread() and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        )

    def _loop(
        self,
        loader: Any,
        as_pass: Callable[[tuple[str, int] | None], Iterator[Any]],
        rounds: Callable[[str], Rounds],
        whole: Callable[[], Iterator[Any]],
    ) -> Loop:
        """A loop that the script begins; what it is shows when it asks for a batch."""
        frame = next(self.part.frames(), None)
        place = None if frame is None else (frame.f_code.co_filename, frame.f_lineno)
        begun = Begun(loader, next(self._clock), place, _generator(), rounds, whole)
        loop = Loop(self, begun, lambda: as_pass(place))
        self._waiting.add(loop)
        return loop

    def start(self, loop: Loop) -> Iterator[Any]:
        """The batches of a loop of which the script wants the first now."""
        self.settle()
        self._waiting.discard(loop)
        outer, begun = self.training, loop.begun
        if outer is None:
            if self.whole is not None and begun.time < self._whole_began:
                return begun.whole()  # zipped with a loop that every worker iterates by itself
            return self._start_pass(loop)
        if not outer.is_under_way:  # within what loads its first batch
            return begun.whole()
        return self._beside(outer, begun)

    def _beside(self, outer: Pass, begun: Begun) -> Companion:
        """What a loop is that is within a pass, or beside it."""
        if begun.time < outer.began:
            return self._accompany(outer, begun)
        ended: Companion | None = (
            self._ended.get(begun.loader) if _has_identity(begun.loader) else None
        )
        if ended is not None and ended.resume(outer, begun):
            return ended
        if begun.generator not in (0, outer.generator) and outer.handed == 1:
            # most likely one that goes on for ever; plain python began it at the first batch
            return self._accompany(outer, begun)
        return Companion(self, begun, None)

    def _start_pass(self, loop: Loop) -> Iterator[Any]:
        others = zipped_with(loop) if self._waiting else ()
        for other in others:
            if isinstance(other, Loop) and other in self._waiting:
                # this one is repeated as long as that one lasts
                other.start()
                outer = self.training
                return loop.begun.whole() if outer is None else self._accompany(outer, loop.begun)
        return loop.begin()

    def _accompany(self, outer: Pass, begun: Begun) -> Companion:
        stream = f"{self.part.seed}/{outer.key.loader}/{outer.key.number}/beside {outer.companions}"
        outer.companions += 1
        return Companion(self, begun, stream, ahead=not outer.handed)

    def forget(self, loop: Loop) -> None:
        """A loop is asked for its first batch."""
        self._waiting.discard(loop)

    def exhausted(self, loader: Any, companion: Companion) -> None:
        """A companion came to its end: the script may begin it anew."""
        if _has_identity(loader):
            self._ended[loader] = companion

    def tell_unpaired(self, begun: Begun) -> None:
        """A loop within a pass goes on over several of its batches, out of step with it."""
        kind = type(getattr(begun.loader, "dataset", begun.loader)).__name__
        where = "" if begun.place is None else " begun at {}:{}".format(*begun.place)
        self._explain(
            f"unpaired-{begun.place}",
            f"the loop over {kind}{where} goes on within another loop, and not by one batch for "
            f"each of that loop's: every worker goes through it on its own, so its batches meet "
            f"others of the loop around it than under plain python. If they belong together, "
            f"iterate both with zip()",
        )

    def _begin(self, begun: Pass, source: Source | Callable[[], Source] | None) -> Iterator[Any]:
        self._training = weakref.ref(begun)
        begun.began = next(self._clock)
        streams.within_pass(self.part.seed, begun.key, self.part.number)
        if begun.role is not Role.TRY:
            self.begin()
            self.weights.enter(keep=self.part.leads())
        if begun.role is Role.SPENT:
            self.weights.leave()  # to rehearse on a copy of its own
        begun.source = source() if callable(source) else source
        return begun

    def _next_key(self, loader: Any) -> PassKey:
        try:
            ordinal = self._ordinals.get(loader)
            if ordinal is None:
                ordinal = self._ordinals[loader] = next(self._loaders)
        except TypeError:  # a list, say, that cannot be kept an eye on
            ordinal = next(self._loaders)
        number = self._numbers[ordinal] = self._numbers.get(ordinal, -1) + 1
        self.opened += 1
        return PassKey(ordinal, number)

    def begin(self) -> None:
        """A training pass begins: the other workers may start."""
        self.divided = True
        self.part.begin()

    def begin_whole(self, key: PassKey) -> None:
        """A loop begins that every worker iterates by itself."""
        self.whole, self._whole_began = key, next(self._clock)

    # what others ask

    @property
    def training(self) -> Pass | None:
        """The pass that is under way, unless it is everybody's own."""
        return None if self._training is None else self._training()

    @property
    def trains(self) -> bool:
        """Whether a training pass is under way."""
        return self.training is not None and self.training.role is Role.TRAIN

    @property
    def rehearses(self) -> bool:
        """Whether what this worker does is dropped."""
        return self.training is not None and self.training.role is Role.SPENT

    def pace(self) -> Pace | None:
        """Batches of the loader that is iterated, so far; None between passes."""
        if self.training is None:
            return None
        key = self.training.key
        return Pace(self._own.get(key.loader, 0), self.dealer.progress(key))

    def changed(self) -> bool:
        """Weights have changed. Tells whether any pass is under way."""
        if self.training is not None and self.training.trial is not None:
            self.training.trial.stepped = True
        elif self.training is None and self.whole is not None:
            self.dealer.decide(self.whole, trains=True)
        return self.training is not None or self.whole is not None

    def close(self) -> None:
        """The script has ended: leave a pass that it is still in."""
        if self.training is not None:
            self.training.close()
        self.settle()

    def break_off(self) -> None:
        """The script ends by an error or an exit code: others are to do the batch in its hands."""
        if self.training is not None:
            self.training.leave_in_hand()
            self.broke_off = True
        if self._in_hand is not None:
            (key, lease), self._in_hand = self._in_hand, None
            self.dealer.close(key, [lease])
            self.broke_off = True

    def settle(self) -> None:
        """The script goes on: it had done with the batch that it had when it left a pass."""
        if self._in_hand is not None:
            (_, lease), self._in_hand = self._in_hand, None
            self.dealer.done(lease)
            self.batch_done()

    # what a pass tells

    def left_in_hand(self, key: PassKey, lease: Lease) -> None:
        """The script left a pass by ``break``, or by an error, which may be its end."""
        self._in_hand = key, lease

    def handed(self, key: PassKey) -> None:
        """The script was given a batch."""
        self._own[key.loader] = self._own.get(key.loader, 0) + 1

    def proven(self, loader: Any, site: Any) -> None:
        """A pass was found to train: so will passes over such loaders, begun at the same line."""
        try:
            self._proven.setdefault(loader.dataset, set()).add(site)
        except TypeError:  # a dataset that cannot be kept an eye on
            return

    def _is_proven(self, loader: Any, site: Any) -> bool:
        try:
            return site in self._proven.get(loader.dataset, ())
        except TypeError:
            return False

    def left(self, ended: Pass) -> None:
        """The script has left a pass."""
        if self.training in (None, ended):
            self._training = None
        if ended.role is Role.SPENT:
            self.weights.enter(keep=False)
        if ended.role is not Role.TRY:
            self.weights.leave()
            streams.after_pass(self.part.seed, ended.key)

    def _explain(self, slug: str, text: str) -> None:
        if slug not in self._told:
            self._told.add(slug)
            if self.part.leads():
                self.part.tell("notice", text)


class Loop:
    """What the script gets for a loop that it begins: which it is, shows at its first batch.

    Args:
        passes: all of them.
        begun: what is known of it.
        as_pass: makes it a pass.
    """

    def __init__(self, passes: Passes, begun: Begun, as_pass: Callable[[], Iterator[Any]]) -> None:
        self._passes = passes
        self.begun = begun
        self._as_pass = as_pass
        self._batches: Iterator[Any] | None = None
        begun.iterator = weakref.ref(self)

    def __iter__(self) -> Loop:
        return self

    def __len__(self) -> int:
        return len(self.begun.loader)

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = self._passes.start(self)
        return next(self._batches)

    def start(self) -> None:
        """Make it a pass, and get its first batch."""
        self._passes.forget(self)
        self._batches = self.begin()
        if isinstance(self._batches, Pass):
            self._batches.prepare()

    def begin(self) -> Iterator[Any]:
        """Make it a pass."""
        batches = self._as_pass()
        if isinstance(batches, Pass):
            batches.generator = self.begun.generator
        return batches


class Pass:
    """One pass that is dealt, or on trial, as the script iterates it.

    Args:
        passes: all of them.
        key: which one it is.
        loader: what is iterated.
        role: what this worker does with it, at first.
        first: gives its first batch, to rehearse with.
        site: what is alike in loaders that serve the same purpose.
    """

    def __init__(
        self,
        passes: Passes,
        key: PassKey,
        loader: Any,
        role: Role,
        first: Callable[[], Any],
        site: Any = None,
    ) -> None:
        self.key = key
        self.length: int | None = None  # batches, if that is known
        self.began = 0  # in beginnings of loops and passes
        self.role = role
        self.trial = Trial() if role is Role.TRY else None
        self.generator = 0  # see `Begun`
        self.handed = 0  # batches that the script has got
        self.companions = 0  # loops that were found to go with it
        self.source: Source | None = None
        self._passes = passes
        self._loader = loader
        self._first = first
        self._site = site
        self._lease: Lease | None = None  # of the batch that the script has in hand
        self._next: tuple[Lease | None, Any] | None = None  # a batch that it is to get
        self._whole = False
        self._closed = False

    def __iter__(self) -> Pass:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        if self._next is None:
            self.prepare()
        if self._next is None:
            raise StopIteration
        (self._lease, batch), self._next = self._next, None
        self.handed += 1
        self._passes.handed(self.key)
        return batch

    @property
    def is_under_way(self) -> bool:
        """Whether the script has got a batch, or is about to."""
        return self.handed > 0 or self._next is not None

    @property
    def index(self) -> int:
        """Which batch the script has in hand, or is about to get; of an earlier pass: negative."""
        lease = self._lease if self._next is None else self._next[0]
        if lease is None:
            return 0
        return lease.index - (self.key.number - lease.key.number) * (self.length or 0)

    def prepare(self) -> None:
        """Get the batch that the script is to get next, if there is one."""
        if self._closed or self._next is not None:
            return
        self._have_done()
        self._prove()
        item: tuple[Lease | None, Any] | None = None
        if self.source is not None:
            item = self.source.next()
        if item is None:
            item = self._late()
        if item is None and not self.handed:
            item = self._rehearse()
        self._next = item
        if item is None:
            self.close(whole=True)

    def end_before(self) -> None:
        """The batch in hand is none any more: what the pass is zipped with has come to its end.

        Waits for the others' batches, as at any end; one that is left undone by the dead is not
        this worker's to do, whose loop is over.
        """
        dealer = self._passes.dealer
        if self.role is Role.TRAIN and self._lease is not None:
            lease, self._lease = self._lease, None
            dealer.ended(lease)
            while (late := dealer.finish(self.key)) is not None:
                if late.index < lease.index:
                    dealer.close(self.key, [late])
                    break
                dealer.ended(late)
        self._whole = True

    def __del__(self) -> None:
        self.close()

    def close(self, *, whole: bool = False) -> None:
        """The script has left the pass.

        Args:
            whole: whether by its end, rather than by ``break``.
        """
        if self._closed:
            return
        self._closed = True
        whole |= self._whole
        if whole or self.role is not Role.TRAIN:
            self._have_done()
        self.leave_in_hand()
        self._prove()
        dealer = self._passes.dealer
        if self.trial is not None:
            if whole:
                dealer.decide(self.key, trains=False)
            else:
                dealer.undecided(self.key)
        undone = self.source.undone if self.source else []
        if self._next is not None and self._next[0] is not None:
            undone = [self._next[0], *undone]
        self._next = None
        self.source = None
        self._passes.left(self)
        dealer.close(self.key, undone)

    def leave_in_hand(self) -> None:
        """Whether the script has done with its batch is still to be seen."""
        if self._lease is not None:
            self._passes.left_in_hand(self.key, self._lease)
            self._lease = None

    def _have_done(self) -> None:
        if self._lease is not None:
            self._passes.dealer.done(self._lease)
            self._lease = None
            self._passes.batch_done()  # not after a rehearsal: that had no lease

    def _rehearse(self) -> tuple[None, Any] | None:
        """Something for a worker that got nothing; see [Note: passes]. None if there is nothing."""
        if self.role is Role.TRY:
            return None
        try:
            batch = self._first()
        except StopIteration:
            return None
        if self.role is Role.TRAIN:
            self.role = Role.SPENT
            self._passes.weights.leave()
        return None, batch

    def _late(self) -> tuple[Lease, Any] | None:
        """What another worker has left undone, when all is dealt."""
        if self.role is not Role.TRAIN:
            return None
        while (lease := self._passes.dealer.finish(self.key)) is not None:
            assert self.source is not None
            item = self.source.fetch(lease)
            if item is not None:
                return item
            self._passes.dealer.done(lease)
        return None

    def _prove(self) -> None:
        """If weights have changed while the pass was tried, it is a training pass."""
        if self.trial is None or not self.trial.found():
            return
        self.trial = None
        self.role = Role.TRAIN
        passes = self._passes
        passes.dealer.decide(self.key, trains=True)
        if self._site is not None:
            passes.proven(self._loader, self._site)
        passes.begin()
        passes.weights.enter(keep=True)


class _Whole:
    """A pass that every worker iterates by itself."""

    def __init__(self, passes: Passes, key: PassKey, batches: Iterator[Any], loader: Any) -> None:
        self._passes = passes
        self._key = key
        self._batches = batches
        self._loader = loader
        passes.begin_whole(key)

    def __iter__(self) -> _Whole:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        try:
            return next(self._batches)
        except StopIteration:
            self._end()
            raise

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._passes.whole == self._key:
            self._passes.whole = None


def _generator() -> int:
    """The id of the generator function's frame that begins a loop; 0 if it is begun elsewhere."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            return id(frame)
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in ("torch", "pellucid") and frame.f_code.co_name != "__iter__":
            return 0
        frame = frame.f_back
    return 0


def _is_sequence(items: Any) -> bool:
    return isinstance(items, Sized) and hasattr(items, "__getitem__") and not hasattr(items, "keys")


def _has_identity(loader: Any) -> bool:
    """Whether there can be a weak reference to it."""
    return hasattr(loader, "__weakref__")
