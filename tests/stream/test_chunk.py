"""The two ends of a chunk, by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pellucid.wire.contributor import SEED, ContributedChunk, Weights
from pellucid.wire.messages import BF16, CODECS, FP32, INT8, NEVER
from pellucid.wire.owner import Outer, OwnedChunk

Values = NDArray[np.float32]
BOOT = 5


def ends(size: int = 600, outer: Outer | None = None) -> tuple[ContributedChunk, OwnedChunk]:
    th = np.random.default_rng(0).normal(size=size).astype(np.float32)
    mine = ContributedChunk(BOOT, th, np.empty_like(th))
    mine.seed()
    return mine, OwnedChunk(th.copy(), (1, 0), {}, SEED, outer or Outer())


def exchange(mine: ContributedChunk, owned: OwnedChunk, code: int, weight: float = 1.0) -> None:
    pending = mine.prepare(code)
    if pending is not None:
        values = CODECS[pending.code].decode(pending.payload, len(mine.th))
        owned.accept(BOOT, pending.seq, values, None if pending.whole else weight)
    tell(mine, owned, code)


def tell(mine: ContributedChunk, owned: OwnedChunk, code: int) -> None:
    answer = owned.answer(BOOT, mine.version, code)
    values = None
    if answer.base != answer.version:
        values = CODECS[answer.code].decode(answer.payload, len(mine.th))
    mine.receive(Weights(answer.version, answer.base, values, owned.table, 1))


@pytest.mark.parametrize("code", [FP32, BF16, INT8])
def test_errors_of_the_codec_do_not_add_up(code: int) -> None:
    mine, owned = ends()
    rng = np.random.default_rng(1)
    for number in range(600):
        mine.th += rng.normal(scale=0.01, size=600).astype(np.float32)
        owned.accept(9, number + 1, rng.normal(scale=0.01, size=600).astype(np.float32), 0.5)
        exchange(mine, owned, code, 0.5)
        mine.correct()
    assert np.abs(mine.base - owned.values).max() < 2e-3
    for _ in range(4):
        exchange(mine, owned, code)
        mine.correct()
    np.testing.assert_allclose(mine.base, owned.values, atol=2e-6)
    np.testing.assert_allclose(mine.th, owned.values, atol=2e-6)


def test_the_residue_stays_untold() -> None:
    mine, owned = ends()
    mine.th += np.random.default_rng(1).normal(size=600).astype(np.float32)
    delta = mine.th - mine.base
    pending = mine.prepare(INT8)
    assert pending is not None
    np.testing.assert_allclose(mine.untold(), delta - pending.values, atol=1e-6)
    assert 0 < np.abs(mine.untold()).max() < np.abs(delta).max() / 100
    assert mine.prepare(INT8) is pending  # one delta in flight, the same until it is known
    exchange(mine, owned, INT8)
    assert mine.pending is None


def test_what_came_in_between_stays() -> None:
    mine, owned = ends()
    mine.th += 1
    exchange(mine, owned, FP32, 0.25)
    mine.th += 1  # trained before the correction was applied
    mine.correct()
    np.testing.assert_allclose(mine.th, owned.values + 1, atol=1e-5)


@pytest.mark.parametrize("outer", [None, Outer(0.5, 0.7, every=1)])
def test_a_change_counts_whole_and_what_is_trained_beside_it_does_not(outer: Outer | None) -> None:
    mine, owned = ends(outer=outer)
    before = owned.values.copy()
    mine.th += 8
    mine.changed(np.full_like(mine.th, 8))
    mine.th += 1  # trained
    first = mine.prepare(INT8)
    assert first is not None
    assert first.whole
    exchange(mine, owned, INT8, 0.25)
    np.testing.assert_allclose(owned.values, before + 8, atol=1e-5)
    mine.correct()
    np.testing.assert_allclose(mine.th, before + 9, atol=1e-5)  # nothing of it comes back
    second = mine.prepare(FP32)
    assert second is not None
    assert not second.whole
    np.testing.assert_allclose(second.values, np.ones_like(before), atol=1e-5)


def test_changes_before_the_next_exchange_are_one() -> None:
    mine, owned = ends()
    before = owned.values.copy()
    for by in (3.0, -1.0):
        mine.th += np.float32(by)
        mine.changed(np.full_like(mine.th, by))
    exchange(mine, owned, FP32, 0.5)
    np.testing.assert_allclose(owned.values, before + 2, atol=1e-5)
    assert mine.prepare(FP32) is None


def test_a_change_to_weights_that_are_nobodys_is_dropped() -> None:
    _, owned = ends()
    late = ContributedChunk(BOOT + 1, np.zeros(600, np.float32), np.empty(600, np.float32))
    late.changed(np.ones(600, np.float32))
    tell(late, owned, FP32)
    assert late.prepare(FP32) is None
    np.testing.assert_array_equal(late.th, owned.values)


def test_old_news_and_differences_to_something_else_are_of_no_use() -> None:
    mine, owned = ends()
    mine.th += 1
    exchange(mine, owned, FP32)
    base, version = mine.base.copy(), mine.version
    zeros = np.zeros(600, np.float32)
    assert not mine.receive(Weights((1, 0), NEVER, zeros, {}, 1))
    assert not mine.receive(Weights((1, 9), (1, 8), zeros, {}, 1))
    assert not mine.receive(Weights((1, 9), (1, 9), None, {}, 1))
    np.testing.assert_array_equal(mine.base, base)
    assert mine.version == version
    assert mine.queued is None or not mine.queued.any()


def test_a_delta_is_in_when_the_table_says_so_whoever_answers() -> None:
    mine, owned = ends()
    mine.th += 1
    pending = mine.prepare(FP32)
    assert pending is not None
    owned.accept(BOOT, pending.seq, pending.values, 1.0)
    heir = OwnedChunk(owned.values.copy(), (2, 0), dict(owned.table), owned.version)
    assert not heir.accept(BOOT, pending.seq, pending.values, 1.0)
    tell(mine, heir, FP32)
    assert mine.pending is None
    mine.correct()
    np.testing.assert_allclose(mine.th, heir.values, atol=1e-6)


def test_a_delta_that_an_heir_does_not_have_is_sent_again() -> None:
    mine, owned = ends()
    before = owned.values.copy()
    mine.th += 1
    pending = mine.prepare(FP32)
    heir = OwnedChunk(before, (2, 0), {}, (1, 0))
    tell(mine, heir, FP32)
    assert mine.pending is pending
    np.testing.assert_allclose(mine.untold(), 0, atol=1e-6)
    exchange(mine, heir, FP32)
    assert mine.pending is None
    mine.correct()
    np.testing.assert_allclose(mine.th, heir.values, atol=1e-6)


def test_what_is_not_finite_is_never_sent() -> None:
    mine, owned = ends()
    mine.th[7] = np.nan
    mine.th[100:] += 1
    for code in (FP32, BF16):
        exchange(mine, owned, code)
    assert np.isfinite(owned.values).all()
    np.testing.assert_allclose(owned.values[100:], mine.th[100:], atol=1e-5)


def test_rounding_is_not_worth_a_message() -> None:
    mine, _ = ends()
    mine.th += np.float32(1e-8)
    assert mine.prepare(FP32) is None


def test_a_stranger_gets_the_weights_themselves() -> None:
    mine, owned = ends()
    late = ContributedChunk(6, np.zeros(600, np.float32), np.empty(600, np.float32))
    answer = owned.answer(6, late.version, INT8)
    assert (answer.base, answer.code) == (NEVER, FP32)
    values = CODECS[answer.code].decode(answer.payload, 600)
    late.receive(Weights(answer.version, answer.base, values, {}, 1))
    np.testing.assert_array_equal(late.th, mine.th)
    assert late.queued is None


def test_delayed_nesterov_adds_momentum_with_every_nth_delta() -> None:
    _, owned = ends(size=3, outer=Outer(momentum=0.5, rate=0.8, every=2))
    start = owned.values.copy()
    ones = np.ones(3, np.float32)
    expected = [0.8, 1.6 + 0.5 * 1.6, 3.2, 4.0 + 0.5 * (0.5 * 1.6 + 1.6)]
    for number, moved in enumerate(expected):
        owned.accept(BOOT, number + 1, ones, 1.0)
        np.testing.assert_allclose(owned.values - start, moved, atol=1e-5)


def test_the_table_forgets_whom_it_has_not_seen_for_longest() -> None:
    _, owned = ends(size=3)
    for boot in range(1, 1100):
        owned.accept(boot, 1, np.zeros(3, np.float32), 1.0)
    assert len(owned.table) == 1000
    assert 1 not in owned.table
    assert 1099 in owned.table


# what is only averaged


def averaged(values: Values) -> tuple[list[ContributedChunk], OwnedChunk]:
    boxes = [
        ContributedChunk(boot, values.copy(), np.empty_like(values), averaged=True)
        for boot in (BOOT, BOOT + 1)
    ]
    for mine in boxes:
        mine.seed()
    return boxes, OwnedChunk(values.copy(), (1, 0), {}, SEED, Outer(0.5), averaged=True)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_averaged_never_leaves_the_range_of_what_boxes_have(seed: int) -> None:
    """Running variances fall from 1 to values of all sizes; what is on its way is old by then."""
    true = np.logspace(-6, 0, 32).astype(np.float32)
    boxes, owned = averaged(np.ones(32, np.float32))
    rng = np.random.default_rng(seed)
    low = true * np.float32(0.5)
    for _ in range(300):
        for mine in boxes:
            for _ in range(int(rng.integers(0, 60))):
                noise = rng.uniform(0.5, 1.5, 32).astype(np.float32)
                mine.th[:] = np.float32(0.9) * mine.th + np.float32(0.1) * true * noise
            pending = mine.prepare(INT8)
            if pending is not None and rng.random() < 0.7:
                assert pending.code == FP32
                told = CODECS[FP32].decode(pending.payload, 32)
                owned.accept(mine.boot, pending.seq, told, 0.5)
            if rng.random() < 0.7:
                answer = owned.answer(mine.boot, mine.version, FP32)
                values = None
                if answer.base != answer.version:
                    values = CODECS[answer.code].decode(answer.payload, 32)
                news = Weights(answer.version, answer.base, values, dict(owned.table), 1)
                mine.receive(news)
            if rng.random() < 0.7:
                mine.correct()
            for values in (mine.th, owned.values):
                assert (values >= low).all()
                assert values.max() <= 1.5


def test_what_is_averaged_comes_to_rest_alike_everywhere() -> None:
    boxes, owned = averaged(np.ones(32, np.float32))
    boxes[0].th[:] = 1e-6
    boxes[1].th[:] = 0.1
    boxes[1].th[3] = np.nan  # its own affair
    for _ in range(100):
        for mine in boxes:
            pending = mine.prepare(INT8)
            if pending is not None:
                owned.accept(mine.boot, pending.seq, pending.told, 0.5)
            answer = owned.answer(mine.boot, mine.version, FP32)
            values = owned.values.copy() if answer.base != answer.version else None
            mine.receive(Weights(answer.version, answer.base, values, dict(owned.table), 1))
            mine.correct()
    others = np.arange(32) != 3
    for mine in boxes:
        np.testing.assert_allclose(mine.th[others], owned.values[others], atol=1e-6)
    assert np.isfinite(owned.values).all()


def test_a_change_of_what_is_averaged_is_taken_over_whole() -> None:
    boxes, owned = averaged(np.full(32, 0.002, np.float32))
    mine = boxes[0]
    owned.values[:] = 0.001  # in the meantime others had been there
    before = mine.th.copy()
    mine.th[:] = 1e-6
    mine.changed(mine.th - before)
    pending = mine.prepare(INT8)
    assert pending is not None
    assert pending.whole
    owned.accept(BOOT, pending.seq, pending.told, None)
    np.testing.assert_allclose(owned.values, 1e-6, rtol=1e-4)
