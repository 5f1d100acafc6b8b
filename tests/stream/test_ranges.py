from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.cluster.ranges import Ranges

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)


@given(pairs=PAIRS, end=st.integers(0, 45))
@settings(derandomize=True, max_examples=300, database=None)
def test_like_a_set(pairs: list[tuple[int, int]], end: int) -> None:
    ranges, model = Ranges(pairs), {n for begin, stop in pairs for n in range(begin, stop)}
    assert [n in ranges for n in range(45)] == [n in model for n in range(45)]
    assert len(ranges) == len(model)
    assert bool(ranges) == bool(model)
    assert ranges.end == max(model, default=-1) + 1
    assert ranges.below == next(n for n in range(50) if n not in model)
    assert list(ranges.missing(end)) == [n for n in range(end) if n not in model]
    assert {n for b, e in ranges.from_(end) for n in range(b, e)} == {n for n in model if n >= end}
    assert all(e < b for (_, e), (b, _) in zip(list(ranges), list(ranges)[1:], strict=False))
