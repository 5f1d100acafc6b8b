"""Rows: who gets which part of a batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.sync.exact.rows import split_rows


@st.composite
def divisions(draw: st.DrawFn) -> tuple[int, tuple[int, ...], int]:
    workers = draw(st.integers(1, 9))
    living = draw(st.sets(st.integers(0, workers - 1), min_size=1))
    return draw(st.integers(0, 200)), tuple(sorted(living)), workers


@given(divisions())
def test_slices_are_even_contiguous_and_whole(division: tuple[int, tuple[int, ...], int]) -> None:
    total, living, workers = division
    slices = [split_rows(total, living, workers, w) for w in range(workers)]
    sizes = slices[0].sizes
    assert {s.sizes for s in slices} == {sizes}
    assert {s.total for s in slices} == {total}
    assert sum(sizes) == total
    assert all(size == 0 for w, size in enumerate(sizes) if w not in living)
    given_out = [sizes[w] for w in living]
    assert max(given_out) - min(given_out) <= 1
    assert given_out == sorted(given_out, reverse=True)
    stop = 0
    for worker, rows in enumerate(slices):
        assert rows.start == stop
        stop = rows.stop
        assert rows.local == sizes[worker]
    assert stop == total


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_an_even_batch_is_divided_as_torch_would(workers: int) -> None:
    batch = torch.arange(workers * 4)
    for worker, chunk in enumerate(batch.chunk(workers)):
        rows = split_rows(len(batch), tuple(range(workers)), workers, worker)
        assert torch.equal(batch[rows.start : rows.stop], chunk)
