from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.cluster.ownership import NOBODY, owners

BOXES = st.sets(st.integers(0, 60), min_size=1, max_size=12)
quick = settings(derandomize=True, max_examples=60, database=None, deadline=None)


@given(boxes=BOXES, block=st.integers(0, 5), chunks=st.integers(1, 80))
@quick
def test_all_boxes_work_out_the_same(boxes: set[int], block: int, chunks: int) -> None:
    one = owners(block, chunks, sorted(boxes))
    other = owners(block, chunks, sorted(boxes, reverse=True))
    np.testing.assert_array_equal(one.first, other.first)
    assert set(one.first.tolist()) <= boxes
    if len(boxes) > 1:
        assert (one.first != one.backup).all()
        assert set(one.backup.tolist()) <= boxes
    else:
        assert (one.backup == NOBODY).all()


@given(boxes=BOXES, data=st.data())
@quick
def test_when_a_box_goes_only_its_chunks_move_each_to_its_backup(
    boxes: set[int], data: st.DataObject
) -> None:
    before = owners(1, 80, sorted(boxes))
    gone = data.draw(st.sampled_from(sorted(boxes)))
    after = owners(1, 80, sorted(boxes - {gone}))
    moved = before.first == gone
    np.testing.assert_array_equal(after.first[~moved], before.first[~moved])
    np.testing.assert_array_equal(after.first[moved], before.backup[moved])


def test_the_load_is_even() -> None:
    for count in (2, 3, 4, 8):
        share = np.bincount(owners(0, 4000, range(count)).first) / (4000 / count)
        assert share.min() > 0.85
        assert share.max() < 1.15


def test_nobody_owns_without_boxes() -> None:
    assert (owners(0, 3, []).first == NOBODY).all()
