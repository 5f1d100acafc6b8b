"""Loaders: the workers share the loading of every batch, and see the whole batch.

[Note: rungs]
*Known*: a `TensorDataset` with torch's own collate function. Each worker takes its rows of large
tensors and all rows of small ones straight from the dataset's tensors: nothing is exchanged.
*Sliced*: samplers run the same everywhere, each worker fetches and collates its own rows only.
Small tensors are made whole by one packed exchange a batch, large ones stay split behind a
`BatchView`. This needs samples that do not depend on each other: a collate function that works row
by row (the default one does; any other is proven on the first batch) and a dataset that draws no
random numbers (a single process would draw them in the order of all rows), counts and prints
nothing.
*Dealt*: where the first rung is not proven, and for good as soon as anything contradicts the proof,
a loader's own processes are dealt out over the workers. Each makes the batches that it would make
for the script alone, from the same random state, and its worker hands them to the others; see
[Note: processes elsewhere] in `dealt_loader.py`.
*Whole*: every worker loads every batch as the script alone would. Always right; taken where the
loader has no processes, or its batches cannot be sent from one process to another.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import io
import operator
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import torch
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    TensorDataset,
    default_collate,
    get_worker_info,
)

from pellucid.sync.exact.columns import Columns, base_of
from pellucid.sync.exact.dealt_loader import DealtBatches, can_deal
from pellucid.sync.exact.doings import Doings
from pellucid.sync.exact.drawn import DISPUTE, hash_of
from pellucid.sync.exact.history import History
from pellucid.sync.exact.loader_pass import Pass
from pellucid.sync.exact.region import inside
from pellucid.sync.exact.rows import Rows, split_rows
from pellucid.sync.exact.tree import leaves_of, map_leaves
from pellucid.sync.exact.view import BatchView
from pellucid.sync.shared import generators
from pellucid.sync.shared.script_thread import in_script_thread
from pellucid.transport.shared_memory import Group, joined, row_bytes

__all__ = ["Loaders"]

_RANDOM, _WHOLE, _FAILED, _KNOWN, _DOES = 1, 2, 4, 8, 16


class _Indices(list[Any]):
    """One worker's indices of a batch; travels to the loader's own processes."""

    batch: list[Any]
    rows: Rows  # which of the batch are whose


class _Fetched:
    """What the loader's fetch gives back to the script's process.

    Attributes:
        value: the collated rows (or the collated whole batch).
        flags: `_RANDOM` if samples drew random numbers, `_DOES` if they did something else (see
            `doings`), `_WHOLE` if this is the whole batch, `_KNOWN` if nothing has to be exchanged.
    """

    def __init__(self, value: Any, flags: int) -> None:
        self.value = value
        self.flags = flags

    def pin_memory(self) -> _Fetched:
        """Called by the loader's pin-memory thread."""
        from torch.utils.data._utils.pin_memory import pin_memory

        return _Fetched(pin_memory(self.value), self.flags)


class _Dataset:
    """Fetches one worker's rows, or the whole batch where samples turn out to be random."""

    def __init__(self, inner: Any, columns: Columns | None = None) -> None:
        self.inner = inner
        self._columns = columns
        self._held: tuple[Any, ...] | None = None
        self._doings: Doings | None = None  # of the script's process
        self._draws_nothing = _draws_nothing(inner)
        # of all generators, before the latest fetch in this process
        self.before: generators.States | None = None

    def held(self) -> tuple[Any, ...]:
        """Generators of the dataset's own."""
        if self._held is None:
            self._held = generators.held_by(self.inner)
        return self._held

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": None, "_doings": None, "before": None}

    def fetch(self, indices: Sequence[Any]) -> list[Any]:
        """The samples at these indices."""
        many = getattr(self.inner, "__getitems__", None)
        with inside():  # each worker calls a model that makes samples for its own rows
            return list(many(list(indices))) if many else [self.inner[i] for i in indices]

    def __getitems__(self, indices: _Indices) -> tuple[list[Any], int]:
        known = self._known(indices)
        if known is not None:
            return known, _KNOWN | (_WHOLE if len(indices) == len(indices.batch) else 0)
        if len(indices) == len(indices.batch):
            return self.fetch(indices), _WHOLE
        if self._draws_nothing:
            return self.fetch(indices), 0
        self.before = before = generators.states(self.held())
        doings = self._watched()
        samples = (
            self.fetch(indices) if doings is None else doings.watch(lambda: self.fetch(indices))
        )
        flags = _DOES if doings is not None and doings.any else 0
        if not generators.same(before, generators.states(self.held())):
            flags |= _RANDOM
        return (self._with_the_rest(samples, indices), flags | _WHOLE) if flags else (samples, 0)

    def again(self, indices: _Indices) -> list[Any]:
        """The whole batch, as if nothing of it had been fetched before."""
        if self.before is not None:
            generators.restore(self.before, self.held())
        if self._doings is not None:
            self._doings.undo()
        return self.fetch(indices.batch)

    def _with_the_rest(self, samples: list[Any], indices: _Indices) -> list[Any]:
        """The whole batch, of which we have our rows."""
        if indices.rows.start or hasattr(self.inner, "__getitems__"):
            return self.again(indices)
        # ours are the first: what was drawn, counted and printed for them is as it should be
        return samples + self.fetch(indices.batch[indices.rows.stop :])

    def _watched(self) -> Doings | None:
        """The dataset's doings, in the script's process: the script sees no other."""
        if self._doings is None and get_worker_info() is None:
            self._doings = Doings(self.inner)
        return self._doings

    def _known(self, indices: _Indices) -> list[torch.Tensor] | None:
        """The collated batch: our rows of large columns, all rows of small ones."""
        if self._columns is None:
            return None
        # all workers look at the whole batch, so all decide alike
        rows = self._columns.rows(indices.batch)
        if rows is None:
            return None
        mine = rows[indices.rows.start : indices.rows.stop]
        return [
            Columns.select(column, mine if _stays_split(column, indices.rows) else rows)
            for column in self._columns.tensors
        ]

    def __len__(self) -> int:
        return len(self.inner)


class _Collate:
    """The script's collate function, on one worker's rows."""

    def __init__(self, inner: Callable[[Any], Any]) -> None:
        self.inner = inner

    def __call__(self, fetched: tuple[list[Any], int]) -> _Fetched:
        samples, flags = fetched
        if flags & _KNOWN:
            return _Fetched(samples, flags)
        with inside():  # as in `_Dataset.fetch`
            return _Fetched(self.inner(samples), flags)


class _WorkerInit:
    """The script's worker_init_fn, seeing the script's dataset."""

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker: int) -> None:
        info: Any = get_worker_info()
        object.__setattr__(info, "dataset", info.dataset.inner)  # the record is frozen
        if self.inner is not None:
            self.inner(worker)


class _Sampler:
    """The script's batch sampler, noting each batch and cutting out this worker's rows."""

    def __init__(self, inner: Any, loading: _Loading) -> None:
        self.inner = inner
        self.loading = loading

    def __iter__(self) -> Iterator[_Indices]:
        for batch in self.inner:
            yield self.loading.cut(list(batch))

    def __len__(self) -> int:
        return len(self.inner)


class Mode(Protocol):
    """What loaders need of exact mode."""

    group: Group

    def start(self) -> None:
        """Make sure all workers run; called before the first random number is drawn."""

    def explain(self, slug: str, text: str) -> None:
        """Tell the user once."""


class _Loading:
    """One pass over a loader: the state shared by sampler and script's side."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.group = mode.group
        self.noted: collections.deque[_Indices] = collections.deque()
        self.whole = False

    def cut(self, batch: list[Any]) -> _Indices:
        """This worker's indices of a batch; the whole batch where it cannot be shared out."""
        group = self.group
        rows = split_rows(len(batch), tuple(group.living), group.workers, group.index)
        if self.whole or len(batch) < len(group.living):
            rows = Rows(len(batch), (len(batch),) * group.workers, 0, len(batch))
        indices = _Indices(batch[rows.start : rows.stop])
        indices.batch, indices.rows = batch, rows
        self.noted.append(indices)
        return indices


class Loaders:
    """Iterates loaders for the script.

    Args:
        mode: the workers, and whom to tell.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._group = mode.group
        self._unsliceable: weakref.WeakSet[Any] = weakref.WeakSet()
        self._undealable: weakref.WeakSet[Any] = weakref.WeakSet()
        self._proven: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        # of loaders that keep their processes
        self._shadows: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._dealt: weakref.WeakKeyDictionary[Any, DealtBatches] = weakref.WeakKeyDictionary()
        self._histories: weakref.WeakKeyDictionary[Any, History] = weakref.WeakKeyDictionary()
        self.alone = False  # nothing is ever split from now on

    def iterate(
        self, original: Callable[[Any], Iterator[Any]], loader: Any, whose: Any = None
    ) -> Iterator[Any]:
        """What ``iter(loader)`` gives the script.

        Args:
            original: ``DataLoader.__iter__``.
            loader: the script's loader, or one like it that gives some of its batches.
            whose: the script's loader, if not the same.
        """
        whose = loader if whose is None else whose
        if not in_script_thread():
            return original(loader)
        if self.alone and not self._is_kept(loader, whose):
            return original(loader)
        self._mode.start()
        sliceable = _batches_by_index(loader) and whose not in self._unsliceable
        if sliceable and not self._collates_by_row(whose):
            self.give_up(loader, whose, "its collate function does not work row by row, or prints")
            sliceable = False
        if not sliceable and whose not in self._dealt and not self._can_deal(loader, whose):
            return original(loader)
        history = self._history(loader, whose)
        history.begin(whose)
        origin = _Origin(self, loader, whose, original, history)
        if not sliceable:
            return Pass(origin, self.unsliced(original, loader, whose))
        loading = _Loading(self._mode)
        return _SlicedPass(origin, loading, original(self._shadow(loader, whose, loading)))

    def _is_kept(self, loader: Any, whose: Any) -> bool:
        """Whether a loader is answered by one worker alone, too.

        The processes that it keeps go on, and to select rows is faster than to stack samples.
        """
        if whose in self._shadows or whose in self._dealt:
            return True
        return _batches_by_index(loader) and _columns_of(loader) is not None

    def unsliced(
        self, original: Callable[[Any], Iterator[Any]], loader: Any, whose: Any
    ) -> Iterator[Any]:
        """Begin a pass on the rungs below the first; the arguments are those of `iterate`."""
        if (kept := self._dealt.get(whose)) is not None:
            return kept.begin(loader)
        if not self._can_deal(loader, whose):
            return original(loader)
        batches = DealtBatches(loader, self._group)
        if loader.persistent_workers:
            self._dealt[whose] = batches
        return batches

    def let_go(self, loader: Any, whose: Any) -> None:
        """End the processes that are kept of a loader."""
        self._shadows.pop(whose, None)
        self._dealt.pop(whose, None)
        vars(loader)["_iterator"] = None

    def _can_deal(self, loader: Any, whose: Any) -> bool:
        return whose not in self._undealable and can_deal(loader, self._group)

    def _history(self, loader: Any, whose: Any) -> History:
        if not (loader.num_workers and loader.persistent_workers):
            return History()
        return self._histories.setdefault(whose, History())

    def _shadow(self, loader: Any, whose: Any, loading: _Loading) -> Any:
        """A loader like this one whose sampler cuts out this worker's rows."""
        shadow = self._shadows.get(whose)
        if shadow is None:
            shadow = copy.copy(loader)
            vars(shadow).update(
                dataset=_Dataset(loader.dataset, _columns_of(loader)),
                collate_fn=_Collate(loader.collate_fn),
                worker_init_fn=_WorkerInit(loader.worker_init_fn),
                _iterator=None,
            )
            if loader.persistent_workers:
                self._shadows[whose] = shadow
        # persistent processes keep their index sampler: it must look up the pass of today
        sampler = vars(shadow).get("batch_sampler")
        if isinstance(sampler, _Sampler):
            sampler.inner, sampler.loading = loader.batch_sampler, loading
        else:
            vars(shadow)["batch_sampler"] = _Sampler(loader.batch_sampler, loading)
        return shadow

    def _collates_by_row(self, loader: Any) -> bool:
        """Whether the loader's collate function treats samples one by one.

        Any but torch's own is tried: on the first batch of indices, the whole must equal what the
        slices and single samples give when joined.
        """
        if loader.collate_fn is default_collate:
            return True
        if loader not in self._proven:
            self._proven[loader] = _prove_collate(loader, len(self._group.living))
        return self._proven[loader]

    def give_up(self, loader: Any, whose: Any, why: str) -> None:
        """From now on, batches of this loader are not put together from slices."""
        self._unsliceable.add(whose)
        if not self._can_deal(loader, whose):
            self._explain_whole(whose, why)
            return
        self._mode.explain(
            f"dealt-{why}",
            f"the loader processes of {type(whose.dataset).__name__} ({loader.num_workers} in all) "
            f"are dealt out over the workers: {why}",
        )

    def deal_no_more(self, whose: Any, why: str = "") -> None:
        """From now on, this loader's processes are not dealt out."""
        self._undealable.add(whose)
        if why:
            self._explain_whole(whose, why)

    def _explain_whole(self, whose: Any, why: str) -> None:
        self._mode.explain(
            f"loader-{why}",
            f"every worker loads whole batches of {type(whose.dataset).__name__}: {why}",
        )


@dataclass
class _Origin:
    """Where a pass comes from: see `loader_pass.Origin`, and `Loaders.iterate`."""

    loaders: Loaders
    loader: Any
    whose: Any
    original: Callable[[Any], Iterator[Any]]
    history: History

    def begin(self) -> Iterator[Any]:
        """Begin a pass like it, on the rungs below the first."""
        return self.loaders.unsliced(self.original, self.loader, self.whose)

    def let_go(self) -> None:
        """End the loader's processes, where it keeps them."""
        self.loaders.let_go(self.loader, self.whose)

    def deal_no_more(self, why: str = "") -> None:
        """From now on, every worker has all processes of the loader."""
        self.loaders.deal_no_more(self.whose, why)


class _SlicedPass(Pass):
    """One pass of the script over a sliced loader.

    Args:
        origin: where it comes from.
        loading: the state shared with the sampler.
        batches: this worker's rows of the batches.
    """

    def __init__(self, origin: _Origin, loading: _Loading, batches: Any) -> None:
        super().__init__(origin, batches)
        self._came_from = origin
        self._group = loading.group
        self._loader = origin.loader
        self._loading = loading
        self._data: _Dataset = batches._dataset
        self._sliced = True
        self._fetching = 0  # nanoseconds the loader itself took for the latest batch

    def next_or_again(self) -> Any:
        if not self._sliced or self.is_lost:
            self._sliced = False
            return super().next_or_again()
        began = self._group.own_time()
        self._fetching = 0
        batch = self._next()
        self._group.note_overhead(self._group.own_time() - began - self._fetching)
        return batch

    def _next(self) -> Any:
        fetched = self._fetch()
        indices = self._loading.noted.popleft()
        rows = indices.rows
        if self._came_from.loaders.alone and fetched.flags & _WHOLE:
            return fetched.value
        self._group.claim(hash_of(indices.batch), DISPUTE)
        if fetched.flags & _KNOWN:
            return self._known(indices, fetched)
        value, leaves = _flatten(fetched.value)
        flags, taken = self._exchange(rows, fetched.flags, leaves)
        if taken is None:
            return self._fall_back(indices, fetched, flags)
        if fetched.flags & _WHOLE:
            return fetched.value
        if not rows.sharers <= taken.keys() & set(self._group.living):
            return self._load_whole(indices)  # a worker died since this batch was shared out
        return _rebuild(value, leaves, rows, taken, self._group)

    def _known(self, indices: _Indices, fetched: _Fetched) -> Any:
        """A batch of which nobody needs anything from the others, unless somebody died."""
        rows = indices.rows
        if fetched.flags & _WHOLE:
            return fetched.value
        if not rows.sharers <= set(self._group.living):
            return self._load_whole(indices)
        return [
            BatchView(self._group, rows, leaf) if _stays_split(leaf, rows) else leaf
            for leaf in fetched.value
        ]

    def _load_whole(self, indices: _Indices) -> Any:
        """The whole batch, in this process."""
        return self._loader.collate_fn(self._data.fetch(indices.batch))

    def _fetch(self) -> _Fetched:
        """Our rows of the next batch."""
        began = self._group.own_time()
        try:
            fetched: _Fetched = next(self._batches)
        except StopIteration:
            raise
        except Exception:
            if not self._loading.noted:
                raise  # it came from the sampler: all have it
            fetched = _Fetched(None, _FAILED)
        self._fetching = self._group.own_time() - began
        return fetched

    def _exchange(
        self, rows: Rows, flags: int, leaves: list[Any]
    ) -> tuple[int, dict[int, list[torch.Tensor]] | None]:
        """Hand round what is small.

        Returns:
            Everybody's flags; and their small leaves, None where the batch cannot be put together
            from slices.
        """
        signature, small = _describe(leaves, rows)
        header = torch.tensor([flags, signature])
        taken = self._group.swap("batch", [header, *small])
        headers = [parts[0].view(torch.int64).tolist() for parts in taken.values()]
        all_flags = functools.reduce(operator.or_, (h[0] for h in headers))
        unlike = any(h != headers[0] for h in headers)
        if unlike or _is_odd(leaves, rows) or flags & (_RANDOM | _DOES | _FAILED):
            return all_flags, None
        return all_flags, {worker: parts[1:] for worker, parts in taken.items()}

    def _fall_back(self, indices: _Indices, fetched: _Fetched, flags: int) -> Any:
        """From here on, no slices; also this batch."""
        if flags & _FAILED:
            why = "loading raised an exception"
        elif flags & _RANDOM:
            why = "its samples draw random numbers or count"
        elif flags & _DOES:
            why = "it prints or keeps a record as it gives samples"
        else:
            why = "its batches are more than their rows, one under the other"
        self._came_from.loaders.give_up(self._loader, self._came_from.whose, why)
        if self._loader.num_workers == 0:  # fetch this batch again, whole, in this process
            self._loading.whole = True
            if fetched.flags & _WHOLE:
                return fetched.value
            return self._loader.collate_fn(self._data.again(indices))
        self._sliced = False
        self.is_lost = self.is_ahead = True
        return super().next_or_again()


def _draws_nothing(dataset: Any) -> bool:
    """Whether it is known, without a look at the generators, that samples are not random."""
    return type(base_of(dataset)) is TensorDataset


def _columns_of(loader: Any) -> Columns | None:
    return Columns.of(loader.dataset, loader.collate_fn)


def _batches_by_index(loader: Any) -> bool:
    """Whether the loader asks a dataset for lists of indices."""
    return (
        isinstance(loader, DataLoader)
        and loader.batch_sampler is not None
        and not isinstance(loader.dataset, IterableDataset)
        and getattr(loader, "in_order", True)
    )


def _prove_collate(loader: Any, workers: int) -> bool:
    """Try a collate function on one batch: whole against slices and single samples."""
    dataset = _Dataset(loader.dataset)
    held = generators.held_by((loader.dataset, loader.collate_fn))
    before = generators.states(held)
    doings = Doings(loader.collate_fn)
    try:
        # spread over the dataset: neighbours may be alike, which would prove too much
        size = min(getattr(loader, "batch_size", None) or 16, len(loader.dataset))
        stride = max(len(loader.dataset) // size, 1)
        with contextlib.redirect_stdout(io.StringIO()), inside():
            samples = dataset.fetch([k * stride for k in range(size)])
            whole = doings.watch(lambda: loader.collate_fn(samples))
            if doings.any or not generators.same(before, generators.states(held)):
                return False
            return _joins(loader.collate_fn, samples, whole, workers)
    except Exception:
        return False
    finally:
        generators.restore(before, held)
        doings.undo()


def _joins(collate: Callable[[Any], Any], samples: list[Any], whole: Any, workers: int) -> bool:
    total = len(samples)
    cuts = [split_rows(total, tuple(range(workers)), workers, w) for w in range(workers)]
    slices = [(r.start, r.stop) for r in cuts] + [(k, k + 1) for k in range(min(total, 8))]
    leaves = _flatten(whole)[1]
    if not any(_is_rows(leaf, total) for leaf in leaves):
        return False
    for start, stop in slices:
        if stop == start:
            continue
        part = _flatten(collate(samples[start:stop]))[1]
        if len(part) != len(leaves):
            return False
        for mine, its in zip(part, leaves, strict=True):
            if not _is_slice(mine, its, start, stop, total):
                return False
    return True


def _is_slice(part: Any, whole: Any, start: int, stop: int, total: int) -> bool:
    if not _is_rows(whole, total):
        return (
            type(part) is type(whole)
            and isinstance(part, str | int | float | bool | None)
            and (part == whole)
        )
    if isinstance(whole, torch.Tensor):
        return isinstance(part, torch.Tensor) and torch.equal(part, whole[start:stop])
    return isinstance(part, type(whole)) and list(part.items) == list(whole.items[start:stop])


class _Strings:
    """A list (or tuple) with one string a row, as a leaf."""

    def __init__(self, items: Any) -> None:
        self.items = items


def _flatten(value: Any) -> tuple[Any, list[Any]]:
    """The structure with lists of strings as leaves, and its leaves."""
    marked = _mark(value)
    return marked, leaves_of(marked)


def _mark(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(type(v) in (str, bytes) for v in value):
        return _Strings(value)
    if type(value) in (list, tuple):
        return type(value)(_mark(v) for v in value)
    if type(value) is dict:
        return {k: _mark(v) for k, v in value.items()}
    return value


def _is_rows(leaf: Any, total: int) -> bool:
    if isinstance(leaf, torch.Tensor):
        return leaf.ndim > 0 and leaf.shape[0] == total and not leaf.is_sparse
    return isinstance(leaf, _Strings) and len(leaf.items) == total


def _is_odd(leaves: list[Any], rows: Rows) -> bool:
    """Whether there are tensors with other than a row for each sample: some were left out, say."""
    return any(isinstance(leaf, torch.Tensor) and not _is_rows(leaf, rows.local) for leaf in leaves)


def _describe(leaves: list[Any], rows: Rows) -> tuple[int, list[torch.Tensor]]:
    """A hash of what the leaves look like, and the bytes of the small ones."""
    words: list[Any] = []
    small: list[torch.Tensor] = []
    for leaf in leaves:
        if _is_rows(leaf, rows.local):
            if isinstance(leaf, torch.Tensor):
                large = _stays_split(leaf, rows)
                words.append((str(leaf.dtype), tuple(leaf.shape[1:]), large))
                if not large:
                    small.append(leaf.contiguous())
            else:
                words.append("strings")
                encoded = msgspec.msgpack.encode(list(leaf.items))
                small.append(torch.frombuffer(bytearray(encoded), dtype=torch.uint8))
        elif isinstance(leaf, torch.Tensor):
            words.append(("odd tensor", tuple(leaf.shape)))
        else:
            words.append((type(leaf).__name__, repr(leaf)))
    return zlib.crc32(repr(words).encode()), small


def _stays_split(leaf: torch.Tensor, rows: Rows) -> bool:
    return rows.stay_split(row_bytes(leaf, 0))


def _rebuild(
    value: Any, leaves: list[Any], rows: Rows, taken: dict[int, list[torch.Tensor]], group: Group
) -> Any:
    """Put the batch together: small leaves whole, large ones as views."""
    workers = [w for w, size in enumerate(rows.sizes) if size]
    small = iter(range(len(leaves)))

    def put_together(leaf: Any) -> Any:
        if not _is_rows(leaf, rows.local):
            return leaf
        if isinstance(leaf, _Strings):
            place = next(small)
            items: list[Any] = []
            kind = list[bytes] if isinstance(leaf.items[0], bytes) else list[str]
            for worker in workers:
                data = taken[worker][place].numpy().tobytes()
                items += msgspec.msgpack.decode(data, type=kind)
            return type(leaf.items)(items)
        if _stays_split(leaf, rows):
            return BatchView(group, rows, leaf)
        place = next(small)
        parts = [taken[worker][place] for worker in workers]
        whole = joined(parts, leaf, rows.sizes, 0).to(leaf.device)
        return whole.pin_memory() if leaf.is_pinned() else whole

    return map_leaves(put_together, value)
