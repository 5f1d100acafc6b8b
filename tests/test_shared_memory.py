"""The exchange: what everybody gets, whatever the sizes, and whoever dies in the middle."""

# torch does not annotate all of its functions
# mypy: allow-untyped-calls

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.errors import DivergenceError, ExchangeError, ShapeError, StoppedError
from pellucid.sync.exact.rows import split_rows
from pellucid.transport import memory, shared_memory
from pellucid.transport.board import Board, Field, Flag
from pellucid.transport.shared_memory import Group
from tests.group_of_threads import Crowd, DiedError, bury

KINDS_OF_GROUP = [2, 3, 5]
DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip
SMALL_SLOT = 4096 + 1024  # of which 1024 bytes are left for values


@pytest.fixture(params=KINDS_OF_GROUP)
def crowd(request: pytest.FixtureRequest) -> Crowd:
    return Crowd(request.param)


@pytest.fixture
def small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots so small that little tensors must travel in pieces."""
    for module in (memory, shared_memory):
        monkeypatch.setattr(module, "SLOT_BYTES", SMALL_SLOT)
        monkeypatch.setattr(module, "HALF_BYTES", 1 << 20)


def values(worker: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Values that nobody else has."""
    generator = torch.Generator().manual_seed(worker + 1)
    return torch.randint(0, 120, tuple(shape), generator=generator).to(dtype)


def same_bits(results: dict[int, Any]) -> Any:
    """What all workers got, which must be the same to the last bit."""
    first, *others = results.values()
    for other in others:
        assert other.dtype == first.dtype
        assert other.shape == first.shape
        assert (
            other.contiguous()
            .view(-1)
            .view(torch.uint8)
            .equal(first.contiguous().view(-1).view(torch.uint8))
        )
    return first


# swap


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_swap_hands_everybody_everything(crowd: Crowd, dtype: torch.dtype) -> None:
    shapes = [(), (3,), (2, 5), (0, 4), (1,)]

    def work(group: Group) -> list[list[list[Any]]]:
        taken = group.swap("test", [values(group.index, s, dtype) for s in shapes])
        return [[p.view(dtype).tolist() for p in parts] for parts in taken.values()]

    for got in crowd.run(work).values():
        assert got == [
            [values(w, s, dtype).reshape(-1).tolist() for s in shapes] for w in range(len(got))
        ]
        assert len(got) == len(crowd.groups)


def test_swap_takes_any_layout_and_any_number_of_parts(crowd: Crowd) -> None:
    def work(group: Group) -> list[list[int]]:
        matrix = torch.arange(6).view(2, 3) + 10 * group.index
        parts = [matrix.t(), *matrix, matrix[:, ::2]][: group.index + 1]
        return [
            [int(x) for p in parts for x in p.view(torch.int64)]
            for parts in group.swap("test", parts).values()
        ]

    for got in crowd.run(work).values():
        assert got[0] == [0, 3, 1, 4, 2, 5]
        assert got[1] == [10, 13, 11, 14, 12, 15, 10, 11, 12]


def test_swap_of_nothing_is_a_barrier(crowd: Crowd) -> None:
    arrived = []

    def work(group: Group) -> int:
        arrived.append(group.index)
        assert group.swap("test", []) == {w: [] for w in range(group.workers)}
        return len(arrived)

    assert set(crowd.run(work).values()) == {len(crowd.groups)}


def test_what_was_read_stays_until_the_next_exchange(crowd: Crowd) -> None:
    """Workers that race ahead must not write over what a slow one has not read yet."""

    def work(group: Group) -> list[list[int]]:
        seen = []
        for number in range(1, 50):
            taken = group.swap("test", [torch.full((7,), 1000 * number + group.index)])
            if number % group.workers == group.index:  # the slow one: all others are ahead
                others = [w for w in range(group.workers) if w != group.index]
                while any(group.board.fields[w][Field.ARRIVED] <= number for w in others):
                    time.sleep(0)
            seen.append([int(p[0].view(torch.int64)[3]) for p in taken.values()])
        group.swap("end", [])
        return seen

    for seen in crowd.run(work).values():
        assert seen == [[1000 * n + w for w in range(len(crowd.groups))] for n in range(1, 50)]


@pytest.mark.usefixtures("small_slots")
def test_what_does_not_fit_a_slot_is_refused_with_its_size() -> None:
    texts = Crowd(2).raised(
        lambda group: group.swap("too much", [torch.zeros(9999)]), ExchangeError
    )
    for text in texts.values():
        assert "too much" in text
        assert str(SMALL_SLOT) in text


# gather


def rows_of(group: Group, total: int) -> list[int]:
    return list(split_rows(total, tuple(group.living), group.workers, group.index).sizes)


def cut(whole: torch.Tensor, sizes: Sequence[int], dim: int, worker: int) -> torch.Tensor:
    piece: torch.Tensor = whole.split(list(sizes), dim)[worker]
    return piece


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("total", [1, 4, 7, 60])
def test_gather_joins_uneven_slices_along_any_dim(
    crowd: Crowd, dtype: torch.dtype, total: int
) -> None:
    shapes = [
        ((total,), 0),
        ((total, 3), 0),
        ((2, total), 1),
        ((2, 3, total, 2), 2),
        ((total, 0), 0),
    ]
    wholes = [values(9, shape, dtype) for shape, _ in shapes]
    dims = [dim for _, dim in shapes]

    def work(group: Group) -> list[torch.Tensor]:
        sizes = rows_of(group, total)
        parts = [cut(w, sizes, d, group.index) for w, d in zip(wholes, dims, strict=True)]
        return group.gather("test", parts, [sizes] * len(parts), dims)

    results = crowd.run(work)
    for k, whole in enumerate(wholes):
        got = same_bits({worker: theirs[k] for worker, theirs in results.items()})
        assert torch.equal(got, whole)
        assert got.dtype == dtype


def test_gather_takes_slices_of_any_size(crowd: Crowd) -> None:
    workers = len(crowd.groups)
    sizes = [(w * 2) % 5 for w in range(workers)]  # 0, 2, 4, 1, 3
    whole = values(9, (sum(sizes), 2), torch.float32)

    def work(group: Group) -> torch.Tensor:
        (got,) = group.gather("test", [cut(whole, sizes, 0, group.index)], [sizes], [0])
        return got

    assert torch.equal(same_bits(crowd.run(work)), whole)


@pytest.mark.parametrize("dim", [0, 1])
def test_slices_that_do_not_fit_together_are_an_error_on_all(crowd: Crowd, dim: int) -> None:
    """Only the last worker's rows are longer; the others would not know, but for what they get."""

    def work(group: Group) -> Any:
        shape = [4 + (group.index == group.workers - 1)] * 2
        shape[dim] = 2
        return group.gather("test", [torch.zeros(shape)], [[2] * group.workers], [dim])

    texts = crowd.raised(work, ShapeError)
    assert set(texts.values()) == {"the workers' parts of a batch have not the shape of their rows"}


def test_what_was_gathered_may_be_kept_and_written_to(crowd: Crowd) -> None:
    def work(group: Group) -> torch.Tensor:
        ones = [1] * group.workers
        (kept,) = group.gather("test", [torch.tensor([group.index])], [ones], [0])
        kept += 1
        for _ in range(3):
            group.gather("test", [torch.tensor([77])], [ones], [0])
        return kept

    assert same_bits(crowd.run(work)).tolist() == [w + 1 for w in range(len(crowd.groups))]


# several pieces; one row more than fits; exactly what fits, for some but not for all workers
@pytest.mark.usefixtures("small_slots")
@pytest.mark.parametrize("workers", KINDS_OF_GROUP)
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("local", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("more", [0, 1])
def test_gather_of_what_does_not_fit_a_slot(workers: int, dim: int, local: int, more: int) -> None:
    """32 rows of 32 bytes are what fits: `more` rows make the slices differ in length."""
    total = workers * local + more
    whole = torch.arange(total * 8.0).view(total, 8)
    whole = whole if dim == 0 else whole.t().contiguous()

    def work(group: Group) -> torch.Tensor:
        sizes = rows_of(group, total)
        (got,) = group.gather("test", [cut(whole, sizes, dim, group.index)], [sizes], [dim])
        return got

    assert torch.equal(same_bits(Crowd(workers).run(work)), whole)


@pytest.mark.usefixtures("small_slots")
def test_gather_of_several_large_parts() -> None:
    wholes = [torch.arange(600.0), torch.arange(12), torch.rand(40, 40) > 0.5]

    def work(group: Group) -> list[torch.Tensor]:
        sizes = [rows_of(group, len(w)) for w in wholes]
        parts = [cut(w, s, 0, group.index) for w, s in zip(wholes, sizes, strict=True)]
        return group.gather("test", parts, sizes, [0, 0, 0])

    for got in Crowd(3).run(work).values():
        assert all(torch.equal(a, b) for a, b in zip(got, wholes, strict=True))


@pytest.mark.usefixtures("small_slots")
def test_gather_of_large_parts_of_which_somebody_has_none() -> None:
    sizes = [0, 300, 20]
    whole = torch.arange(320 * 4.0).view(320, 4)

    def work(group: Group) -> torch.Tensor:
        (got,) = group.gather("test", [cut(whole, sizes, 0, group.index)], [sizes], [0])
        return got

    assert torch.equal(same_bits(Crowd(3).run(work)), whole)


# all_reduce and broadcast


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0,)])
def test_all_reduce_sums_with_the_same_bits_for_all(
    crowd: Crowd, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    def mine(worker: int) -> torch.Tensor:
        return (values(worker, shape, torch.float64) / 7).to(dtype)

    got = same_bits(crowd.run(lambda group: group.all_reduce("test", mine(group.index))))
    expected = sum((mine(w) for w in range(len(crowd.groups))), torch.zeros(shape, dtype=dtype))
    assert torch.equal(got, expected)


@pytest.mark.usefixtures("small_slots")
@pytest.mark.parametrize("workers", KINDS_OF_GROUP)
@pytest.mark.parametrize("length", [255, 256, 257, 2000])
def test_all_reduce_of_what_does_not_fit_a_slot(workers: int, length: int) -> None:
    got = same_bits(
        Crowd(workers).run(
            lambda group: group.all_reduce("test", torch.arange(length * 2.0).view(2, -1))
        )
    )
    assert torch.equal(got, torch.arange(length * 2.0).view(2, -1) * workers)


@pytest.mark.usefixtures("small_slots")
@pytest.mark.parametrize("workers", KINDS_OF_GROUP)
@pytest.mark.parametrize("shape", [(), (3,), (700, 2), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bool])
def test_broadcast_gives_all_what_one_has(
    workers: int, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    for source in {0, workers - 1}:
        got = same_bits(
            Crowd(workers).run(
                lambda group, source=source: group.broadcast(  # type: ignore[misc]
                    "test", values(group.index, shape, dtype), source
                )
            )
        )
        assert torch.equal(got, values(source, shape, dtype))


# gradients

BUCKETS: list[list[tuple[int, ...]]] = [[(3, 4), (5,)], [(1000,)], [(), (7,)], [(16, 33)]]


@pytest.mark.parametrize("alone", [False, True], ids=["sharded", "alone"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_several_passes_of_several_buckets(
    crowd: Crowd, dtype: torch.dtype, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "REDUCE_ALONE_WORKERS", 99 if alone else 1)

    def mine(worker: int, number: int) -> list[list[torch.Tensor]]:
        return [
            [(values(worker + 10 * number, s, torch.float64) / 7).to(dtype) for s in bucket]
            for bucket in BUCKETS[: 1 + number % len(BUCKETS)]
        ]

    def work(group: Group) -> list[list[list[torch.Tensor]]]:
        passes = []
        for number in range(9):
            buckets = [group.post(tensors) for tensors in mine(group.index, number)]
            passes.append(group.collect(buckets))
            group.end_pass()
        for total in itertools.chain.from_iterable(sums for buckets in passes for sums in buckets):
            total.detach_().add_(0)  # they are ours to write to
        return passes

    results = crowd.run(work)
    for number in range(9):
        for k in range(len(mine(0, number))):
            for at, like in enumerate(mine(0, number)[k]):
                got = same_bits({w: passes[number][k][at] for w, passes in results.items()})
                expected = torch.zeros_like(like)
                for w in range(len(crowd.groups)):
                    expected += mine(w, number)[k][at]
                assert torch.equal(got, expected)


@pytest.mark.parametrize("alone", [False, True], ids=["sharded", "alone"])
def test_what_is_empty_is_not_added(
    crowd: Crowd, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "REDUCE_ALONE_WORKERS", 99 if alone else 1)
    like = [torch.ones(70), torch.ones(2, 3)]

    def work(group: Group) -> list[list[torch.Tensor]]:
        full = group.post([torch.full((90,), 7.0)])  # what was there before is not to be seen
        group.collect([full])
        group.end_pass()
        group.collect([group.post([torch.full((90,), 7.0)])])
        group.end_pass()
        some = group.post([part * 2.0**group.index for part in like], empty=group.index == 1)
        none = group.post(like, empty=True)
        sums = group.collect([some, none])
        group.end_pass()
        return sums

    for some, none in crowd.run(work).values():
        expected = sum(2.0**w for w in range(len(crowd.groups)) if w != 1)
        assert [part.unique().tolist() for part in some] == [[expected], [expected]]
        assert [part.shape for part in none] == [part.shape for part in like]
        assert not any(part.any() for part in none)


def test_buckets_may_be_collected_by_turns(crowd: Crowd) -> None:
    """Two backward passes, one inside the other: the outer's buckets are collected last."""

    def work(group: Group) -> torch.Tensor:
        outer = group.post([torch.full((4,), 1.0)])
        inner = group.post([torch.full((6,), 10.0)])
        ((ten,),) = group.collect([inner])
        ((one,),) = group.collect([outer])
        group.end_pass()
        return torch.cat([one, ten])

    workers = float(len(crowd.groups))
    expected = [workers] * 4 + [10 * workers] * 6
    assert same_bits(crowd.run(work)).tolist() == expected


def test_gradients_that_do_not_fit_the_arena_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, shared_memory):
        monkeypatch.setattr(module, "HALF_BYTES", 1 << 12)
    crowd = Crowd(2)
    texts = crowd.raised(lambda group: group.post([torch.zeros(5000)]), ExchangeError)
    assert "arena" in texts[0]


# counters


def test_counters_tell_what_was_exchanged() -> None:
    crowd = Crowd(2)

    def work(group: Group) -> dict[str, Any]:
        group.swap("test", [torch.zeros(100)])
        group.collect([group.post([torch.zeros(50)])])
        group.end_pass()
        return group.statistics()

    for worker, counters in crowd.run(work).items():
        assert counters["arrived"] == 1
        assert counters["posted"] == 1
        assert counters["bytes"] >= 600
        assert counters["exchange_ns"] > 0
        assert counters["wait_ns"] >= 0
        assert crowd.board.fields[worker][Field.ARRIVED] == 1


# different paths, and the end


def test_different_exchanges_are_an_error_that_names_both() -> None:
    kinds = ["loss", "batch", "loss"]

    def work(group: Group) -> None:
        for kind in kinds:  # so that each knows all names
            group.swap(kind, [])
        group.swap(kinds[group.index], [torch.ones(2)])

    for worker, text in Crowd(3).raised(work, DivergenceError).items():
        assert repr(kinds[worker]) in text
        assert "'batch'" in text
        assert "worker 1" in text
        assert "different paths" in text


def test_who_waits_is_unwound_when_the_run_is_stopped(crowd: Crowd) -> None:
    def work(group: Group) -> None:
        if group.index == 0:
            group.board.flags[Flag.STOP] = 1
        else:
            group.swap("batch", [])

    texts = []

    def caught(group: Group) -> None:
        try:
            work(group)
        except StoppedError as error:
            texts.append(str(error))

    crowd.run(caught)
    assert len(texts) == len(crowd.groups) - 1
    assert all("waiting for 0 (batch)" in text for text in texts)


def test_who_waits_for_gradients_is_unwound_too(crowd: Crowd) -> None:
    def work(group: Group) -> None:
        if group.index == 0:
            group.board.flags[Flag.STOP] = 1
            raise StoppedError
        group.collect([group.post([torch.ones(3)])])

    crowd.raised(work, StoppedError)


def test_gradients_of_a_worker_that_is_beyond_are_not_waited_for() -> None:
    def work(group: Group) -> None:
        if group.index == 0:
            group.collect([group.post([torch.ones(3)])])
        else:
            group.swap("batch", [])

    with pytest.raises(DivergenceError, match="gradients of worker 1, which is at an exchange"):
        Crowd(2).run(work)


class Hurries:
    """The row of a worker that posts, and goes on to the next exchange, between two looks at it."""

    def __init__(self, row: Any) -> None:
        self.row = row
        self.went_on = False

    def __getitem__(self, field: int) -> int:
        if field == Field.ARRIVED:
            self.went_on = True
            return 1
        return int(self.went_on) if field == Field.POSTED else int(self.row[field])


def test_a_worker_that_has_posted_may_be_beyond() -> None:
    group = Crowd(2).groups[0]
    rows: Any = group.board.fields
    rows[1] = Hurries(rows[1])
    assert [s.tolist() for s in group.collect([group.post([torch.ones(3)])])[0]] == [[1.0] * 3]


def test_waiting_gives_the_core_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """More workers than cores: who waits must not keep the one it waits for from its core."""
    yields = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "sched_yield", lambda: yields.append(1))
    monkeypatch.setattr(shared_memory, "NAP_AFTER", 5000)
    crowd = Crowd(2)

    def work(group: Group) -> None:
        if group.index == 1:
            while len(yields) < 10:
                pass
        group.swap("test", [])

    crowd.run(work)


# death


def die() -> None:
    raise DiedError


def dies_at(group: Group, name: str) -> None:
    """This worker dies as soon as it comes to this step of an exchange."""
    setattr(group, name, lambda *_, **__: die())


def settle(crowd: Crowd) -> dict[int, list[int]]:
    """One more exchange, after all deaths are known; who lives now, for each survivor."""

    def work(group: Group) -> list[int]:
        group.swap("settle", [])
        return list(group.living)

    return crowd.run(work)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("published", [False, True], ids=["before", "after"])
def test_a_dead_workers_part_counts_if_it_arrived(
    crowd: Crowd, victim: int, published: bool
) -> None:
    def work(group: Group) -> list[int]:
        group.swap("before", [])
        if group.index == victim:
            dies_at(group, "_wait" if published else "_code")
        return list(group.swap("test", [torch.tensor([group.index])]))

    everybody = list(range(len(crowd.groups)))
    survivors = [w for w in everybody if w != victim]
    results = crowd.run(work)
    assert results == dict.fromkeys(survivors, everybody if published else survivors)
    assert settle(crowd) == dict.fromkeys(survivors, survivors)


@pytest.mark.parametrize("published", [False, True], ids=["before", "after"])
def test_the_rows_of_the_dead_are_zeros(crowd: Crowd, published: bool) -> None:
    whole = torch.arange(1.0, 23.0).view(11, 2)

    def work(group: Group) -> torch.Tensor:
        sizes = rows_of(group, 11)
        if group.index == 1:
            dies_at(group, "_wait" if published else "_code")
        (got,) = group.gather("test", [cut(whole, sizes, 0, group.index)], [sizes], [0])
        return got

    got = same_bits(crowd.run(work))
    expected = whole.clone()
    if not published:
        rows = split_rows(11, tuple(range(len(crowd.groups))), len(crowd.groups), 1)
        expected[rows.start : rows.stop] = 0
    assert torch.equal(got, expected)


@pytest.mark.usefixtures("small_slots")
@pytest.mark.parametrize("workers", KINDS_OF_GROUP)
def test_a_death_between_two_pieces_leaves_zeros_behind(workers: int) -> None:
    whole = torch.arange(1.0, 2000.0 * workers + 1)

    def work(group: Group) -> torch.Tensor:
        sizes = rows_of(group, len(whole))
        if group.index == workers - 1:
            swap, count = group.swap, iter(range(3))

            def dying(*args: Any) -> Any:
                return die() if next(count) == 2 else swap(*args)

            group.swap = dying  # type: ignore[assignment,method-assign]
        (got,) = group.gather("test", [cut(whole, sizes, 0, group.index)], [sizes], [0])
        return got

    got = same_bits(Crowd(workers).run(work))
    sent = 2 * (SMALL_SLOT - 4096) // 4
    expected = whole.clone()
    expected[2000 * (workers - 1) + sent :] = 0
    assert torch.equal(got, expected)


def test_a_dead_source_cannot_be_heard(crowd: Crowd) -> None:
    def work(group: Group) -> None:
        if group.index == 1:
            die()
        group.broadcast("weights", torch.ones(3), 1)

    for text in crowd.raised(work, ExchangeError).values():
        assert "worker 1" in text
        assert "weights" in text


@pytest.mark.parametrize("alone", [False, True], ids=["sharded", "alone"])
@pytest.mark.parametrize("moment", ["post", "collect", "_reduce_shard", "_collect"])
def test_a_death_in_a_backward_pass(
    crowd: Crowd, alone: bool, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets the dead one has posted count, the others do not; all survivors agree."""
    monkeypatch.setattr(shared_memory, "REDUCE_ALONE_WORKERS", 99 if alone else 1)
    victim = len(crowd.groups) - 1

    def work(group: Group) -> list[torch.Tensor]:
        first = group.post([torch.full((100,), 2.0**group.index)])
        if group.index == victim:
            if alone and moment.startswith("_"):
                die()
            dies_at(group, moment)
        second = group.post([torch.full((70,), 2.0**group.index)])
        ((one,), (two,)) = group.collect([first, second])
        group.end_pass()
        return [one, two]

    results = crowd.run(work)
    everybody, survivors = 2.0 ** len(crowd.groups) - 1, 2.0**victim - 1
    one = same_bits({w: sums[0] for w, sums in results.items()})
    two = same_bits({w: sums[1] for w, sums in results.items()})
    assert one.tolist() == [everybody] * 100
    posted = moment != "post" and not (alone and moment.startswith("_"))
    assert two.tolist() == [everybody if posted else survivors] * 70


def test_all_but_one_may_die(crowd: Crowd) -> None:
    def work(group: Group) -> float:
        for number in range(len(crowd.groups)):
            if group.index == number and number < len(crowd.groups) - 1:
                die()
            group.swap("test", [])
        return float(group.all_reduce("sum", torch.ones(1)))

    last = len(crowd.groups) - 1
    assert crowd.run(work) == {last: 1.0}
    assert settle(crowd) == {last: [last]}


def test_nobody_is_dropped_before_all_know_of_it() -> None:
    """A death that only some have seen when they arrive counts for all from that exchange on."""
    crowd = Crowd(3)
    seen = Board(crowd.board.fd, 3)

    def work(group: Group) -> list[int]:
        if group.index == 2:
            die()
        if group.index == 0:  # arrives before the death is known
            code = group._code
            group._code = lambda kind: (code(kind), seen)[0]  # type: ignore[method-assign]
        else:
            while not seen.flags[Flag.EPOCH]:
                pass
        group.swap("test", [])
        return list(group.living)

    assert crowd.run(work) == {0: [0, 1], 1: [0, 1]}


def test_a_death_is_not_counted_before_its_epoch() -> None:
    """The launcher marks who died before it lets the epoch begin; until then rows are theirs."""
    crowd = Crowd(3)
    crowd.run(lambda group: group.swap("test", []))
    bury(crowd.board, 1)
    crowd.board.fields[2][Field.DIED] = 2  # the launcher is in the middle of burying worker 2
    survivors = {w: g for w, g in enumerate(crowd.groups) if w != 1}

    def work(group: Group) -> list[int]:
        group.swap("test", [])
        return list(group.living)

    assert crowd.run(work) == {w: [0, 2] for w in survivors}


# everything at once


@dataclass(frozen=True)
class Step:
    """One exchange, and who dies in it.

    Attributes:
        what: kind of exchange.
        size: of what is exchanged.
        victim: who dies; nobody if it is dead already or would be the last.
        published: whether its part is out before it dies.
    """

    what: str
    size: int
    victim: int
    published: bool


WHAT = ["swap", "gather", "all_reduce", "pass"]
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(WHAT),
        st.sampled_from([1, 5, 64, 257, 600]),
        st.integers(-6, 4),  # mostly nobody
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def part(worker: int, number: int, size: int) -> torch.Tensor:
    return torch.full((size,), float(2**worker * (number % 5 + 1)))


def play(group: Group, steps: Sequence[Step], dying: Callable[[int], int]) -> list[list[float]]:
    """What a worker gets from these exchanges."""
    results = []
    for number, step in enumerate(steps):
        victim = dying(number)
        mine = part(group.index, number, step.size)
        if victim == group.index and not step.published:
            die()
        if victim == group.index:
            dies_at(group, "_wait")  # it waits for others only after its part is out
        if step.what == "gather":
            rows = [[step.size] * group.workers]
            got = [t.tolist() for t in group.gather("gather", [mine], rows, [0])]
        elif step.what == "all_reduce":
            got = [group.all_reduce("sum", mine).tolist()]
        elif step.what == "pass":
            buckets = [group.post([mine]), group.post([mine[:3], mine[3:]])]
            sums = group.collect(buckets)
            got = [total.tolist() for total in itertools.chain.from_iterable(sums)]
            group.end_pass()
        else:
            taken = group.swap("swap", [mine[:200]])
            got = [[w, *p[0].view(torch.float32).tolist()] for w, p in taken.items()]
        results.append([x for values in got for x in values])
        if victim == group.index:
            die()  # nobody was left to wait for
    return results


def expected_of(step: Step, number: int, workers: int, counted: list[int]) -> list[float]:
    parts = {w: part(w, number, step.size) for w in counted}
    if step.what == "gather":
        zero = torch.zeros(step.size)
        return [x for w in range(workers) for x in parts.get(w, zero).tolist()]
    if step.what == "swap":
        return [x for w in counted for x in [float(w), *parts[w][:200].tolist()]]
    total = sum(parts.values(), torch.zeros(step.size)).tolist()
    return total * 2 if step.what == "pass" else total


@pytest.mark.usefixtures("small_slots")
@pytest.mark.parametrize("workers", KINDS_OF_GROUP)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_any_exchanges_and_any_deaths(workers: int, steps: list[Step]) -> None:
    living, victims, counted = list(range(workers)), [], []
    for step in steps:
        dies = step.victim in living and len(living) > 1
        survivors = [w for w in living if not (dies and w == step.victim)]
        victims.append(step.victim if dies else -1)
        # what travels in pieces loses those that come after the first: nothing we want to list here
        whole = step.what == "pass" or step.size * 4 <= SMALL_SLOT - 4096 or step.what == "swap"
        published = Step(step.what, step.size, step.victim, step.published and whole)
        counted.append(list(living) if published.published else survivors)
        living = survivors
    steps = [
        Step(s.what, s.size, s.victim, v >= 0 and v in c)
        for s, v, c in zip(steps, victims, counted, strict=True)
    ]
    crowd = Crowd(workers)
    results = crowd.run(lambda group: play(group, steps, lambda number: victims[number]))
    assert sorted(results) == living
    for got in results.values():
        for number, step in enumerate(steps):
            assert got[number] == expected_of(step, number, workers, counted[number])
    assert settle(crowd) == dict.fromkeys(living, living)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_long_run_under_load(seed: int) -> None:
    """Thousands of exchanges of random kinds, at the pace of the machine."""
    crowd = Crowd(3)

    def work(group: Group) -> float:
        choice = random.Random(seed)
        check = 0.0
        for number in range(600):
            size = choice.choice([1, 100, 5000])
            mine = part(group.index, number, size)
            if choice.random() < 0.5:
                check += float(group.all_reduce("sum", mine).sum())
            else:
                buckets = [group.post([mine]) for _ in range(choice.randrange(1, 4))]
                check += sum(float(total.sum()) for (total,) in group.collect(buckets))
                group.end_pass()
        return check

    assert len(set(crowd.run(work).values())) == 1
