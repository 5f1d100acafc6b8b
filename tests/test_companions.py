"""Loaders walked together: on whatever worker, the batches meet that meet under plain python."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from pellucid.intercept.callers import script_frames
from pellucid.sync.shared.part import Part
from pellucid.sync.shared.passes import Passes
from pellucid.sync.shared.single import SingleDealer
from tests.asynchronous import OwnWeights

Pairs = list[tuple[Any, Any]]
Script = Callable[["Worker"], Iterator[tuple[Any, Any]]]


class Worker:
    """One of several workers that a dealer in this process deals to."""

    def __init__(self, dealer: SingleDealer, number: int) -> None:
        self.said: list[str] = []
        self.number = number
        self.weights = OwnWeights()
        part = Part(
            number,
            7,
            leads=lambda: True,
            begin=lambda: None,
            tell=lambda _, text: self.said.append(text),
            frames=script_frames,
        )
        self.passes = Passes(part, dealer, self.weights)

    def loader(self, *args: Any, **kwargs: Any) -> Any:
        """A loader as the script has it: `Passes` answers who iterates it."""
        return _Loader(self, *args, **kwargs)


class _Loader(DataLoader[Any]):
    def __init__(self, worker: Worker, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        vars(self)["worker"] = worker

    def __iter__(self) -> Any:
        return self.worker.passes.iterate(DataLoader.__iter__, self)  # type: ignore[attr-defined]


def run(script: Script, workers: int = 2, seed: int = 0, first: int = 3) -> list[Pairs]:
    """The pairs each worker trained on, the workers taking turns by chance.

    Args:
        script: yields a pair at each step; it is run in each worker.
        workers: how many.
        seed: of the chance.
        first: steps that the first one is ahead.
    """
    dealer, chance = SingleDealer(), random.Random(seed)
    made = [Worker(dealer, number) for number in range(workers)]
    scripts = [script(worker) for worker in made]
    trained: list[Pairs] = [[] for _ in made]
    going = list(range(workers))
    turns = itertools.chain([0] * first, iter(lambda: chance.choice(going), None))
    while going:
        number = next(turns)
        pair = next(scripts[number], None)
        if pair is None:
            going.remove(number)
            continue
        if not made[number].passes.rehearses:
            trained[number].append(pair)
        made[number].passes.changed()
    run.said = [text for worker in made for text in worker.said]  # type: ignore[attr-defined]
    return trained


def together(trained: list[Pairs]) -> Pairs:
    return sorted(pair for pairs in trained for pair in pairs)


def said() -> list[str]:
    return run.said  # type: ignore[attr-defined,no-any-return]


def plain(count: int, other: int, epochs: int = 1) -> Pairs:
    """Pairs of two loaders in order, the second beginning anew at its end, over all epochs."""
    return sorted((k % count, k % other) for k in range(count * epochs))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_zipped_stays_paired(workers: int, seed: int) -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        a, b, c = (worker.loader(range(0, 40, 2), 1) for _ in range(3))
        for _ in range(3):
            for x, y, z in zip(a, b, c, strict=True):
                assert y == z
                yield int(x), int(y)

    trained = run(script, workers, seed)
    assert together(trained) == sorted([(k, k) for k in range(0, 40, 2)] * 3)
    assert said() == []


@pytest.mark.parametrize("seed", range(3))
def test_equal_generators_give_equal_orders(seed: int) -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        a, b = (
            worker.loader(range(20), 1, shuffle=True, generator=torch.Generator().manual_seed(5))
            for _ in range(2)
        )
        for _ in range(3):
            for x, y in zip(a, b, strict=False):
                yield int(x), int(y)

    assert together(run(script, 2, seed)) == plain(20, 20, 3)


def test_of_a_shuffled_companion_every_batch_comes_once_an_epoch() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        a, b, c = (worker.loader(range(20), 1, shuffle=True) for _ in range(3))
        for epoch in range(3):
            for x, y, z in zip(a, b, c, strict=False):
                yield (epoch, int(x)), (int(y), int(z))

    pairs = together(run(script, 3))
    orders = set()
    for epoch in range(3):
        met = [(x, *others) for (e, x), others in pairs if e == epoch]
        assert [sorted(column) for column in zip(*met, strict=True)] == [[*range(20)]] * 3
        assert all(len(set(m)) > 1 for m in met[:10]) or len({m[0] - m[1] for m in met}) > 1
        orders.add(tuple(y for _, y, _ in met))
    assert len(orders) == 3  # another one each epoch


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_what_is_repeated_comes_round_after_its_length(swapped: bool, shuffle: bool) -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        many, few = worker.loader(range(23), 1), worker.loader(range(5), 1, shuffle=shuffle)
        for epoch in range(2):
            if swapped:
                walk: Any = ((x, y) for y, x in zip(itertools.cycle(few), many, strict=False))
            else:
                walk = zip(many, itertools.cycle(few), strict=False)
            kept: list[Any] = []
            for x, y in walk:
                if not any(y is other for other in kept):
                    kept.append(y)
                assert len(kept) <= 10  # plain python repeats the very batches, too
                yield (epoch, int(x)), int(y)

    pairs = together(run(script))
    assert [x for x, _ in pairs] == [(e, x) for e in range(2) for x in range(23)]
    for epoch in range(2):
        order = [y for (e, _), y in pairs if e == epoch]
        assert sorted(order[:5]) == [*range(5)]
        assert order == [order[k % 5] for k in range(23)]
        assert shuffle or order[:5] == [*range(5)]


def test_a_companion_that_ends_ends_the_pass_for_all() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        many, few = worker.loader(range(23), 1), worker.loader(range(5), 1)
        for _ in range(4):
            for x, y in zip(many, few, strict=False):
                yield int(x), int(y)

    assert together(run(script, 3)) == plain(5, 5, 4)


def test_the_longest_goes_on() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        many, few = worker.loader(range(23), 1), worker.loader(range(5), 1)
        for x, y in itertools.zip_longest(many, few, fillvalue=-1):
            yield int(x), int(y)

    assert together(run(script)) == [(k, k if k < 5 else -1) for k in range(23)]


def forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("other", [4, 7, 10, 13])
@pytest.mark.parametrize("workers", [2, 3])
def test_an_iterator_asked_within_the_loop_goes_on_from_epoch_to_epoch(
    endless: bool, other: int, workers: int
) -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        labelled, more = worker.loader(range(10), 1), worker.loader(range(other), 1)
        rest = forever(more) if endless else iter(more)
        for _ in range(4):
            for x in labelled:
                try:
                    y = next(rest)
                except StopIteration:
                    rest = iter(more)
                    y = next(rest)
                yield int(x), int(y)

    assert together(run(script, workers)) == plain(10, other, 4)
    assert said() == []


def test_the_rounds_of_a_shuffled_companion_are_complete() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        labelled = worker.loader(range(10), 1, shuffle=True)
        rest = forever(worker.loader(range(5), 1, shuffle=True))
        for _ in range(3):
            for x in labelled:
                yield int(x), int(next(rest))

    trained = together(run(script))
    assert sorted(y for _, y in trained) == sorted([*range(5)] * 6)


def test_two_endless_iterators_without_a_loop_over_a_loader_stay_paired() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        source, target = forever(worker.loader(range(6), 1)), forever(worker.loader(range(9), 1))
        for _ in range(18):
            yield int(next(source)), int(next(target))

    for pairs in run(script):
        assert all(pair in plain(6, 9, 3) for pair in pairs)


class Counted(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(20))


def test_what_can_only_be_gone_through_is_paired_too() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        for x, y in zip(worker.loader(range(20), 1), worker.loader(Counted(), 1), strict=False):
            yield int(x), int(y)

    assert together(run(script)) == plain(20, 20)


def test_loader_processes_of_a_companion_are_not_needed() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        a, b = worker.loader(range(8), 1), worker.loader(range(8), 1, num_workers=2, timeout=9)
        for x, y in zip(a, b, strict=False):
            yield int(x), int(y)

    assert together(run(script)) == plain(8, 8)


def test_an_evaluation_within_the_loop_is_everybodys_own_and_whole() -> None:
    def evaluate(loader: Any) -> list[int]:
        return [int(y) for y in loader]

    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        validation = worker.loader(range(6), 1)
        for step, x in enumerate(worker.loader(range(20), 1)):
            if step % 3 == 0:
                assert evaluate(validation) == [*range(6)]
                assert sorted(evaluate(y for y in validation)) == [*range(6)]
                assert sorted(itertools.islice(forever(validation), 6)) == [*range(6)]
            assert int(next(iter(validation))) == 0
            yield int(x), 0

    assert len(together(run(script))) == 20
    assert said() == []


def test_a_loop_out_of_step_is_told_once() -> None:
    def script(worker: Worker) -> Iterator[tuple[Any, Any]]:
        rest = iter(worker.loader(range(50), 1))
        for step, x in enumerate(worker.loader(range(20), 1)):
            yield int(x), int(next(rest)) if step % 3 == 0 else -1

    run(script, 1, first=0)
    (text,) = said()
    assert text.startswith(f"the loop over range begun at {__file__}:")


def test_a_loop_zipped_with_one_that_trains_nothing_is_everybodys_own() -> None:
    dealer = SingleDealer()
    for number in range(2):
        worker = Worker(dealer, number)
        a, b = worker.loader(range(8), 1), worker.loader(range(8), 1)
        for _ in range(2):
            pairs = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
            assert pairs == [(k, k) for k in range(8)]
        assert worker.passes.opened == 2
