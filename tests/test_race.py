"""Is splitting worth its while?"""

from __future__ import annotations

import pytest

from pellucid.sync.exact.race import Race, is_faster_alone


@pytest.mark.parametrize(
    ("split", "alone", "gradient_bytes", "faster_alone"),
    [
        (5e-3, 8e-3, 1_700_000, False),
        (5e-3, 5e-3, 1_700_000, True),  # the exchange comes on top
        (5.2e-3, 5e-3, 0, True),
        (4.9e-3, 5e-3, 0, False),  # a little slower is no reason to give up the others
        (4e-3, 5e-3, 0, False),
        (4e-3, 5e-3, 100_000_000, True),
    ],
)
def test_the_exchange_counts(
    split: float, alone: float, gradient_bytes: int, faster_alone: bool
) -> None:
    assert is_faster_alone([Race(split, alone, gradient_bytes)]) is faster_alone
    assert is_faster_alone([Race(split, alone, gradient_bytes)] * 3) is faster_alone
