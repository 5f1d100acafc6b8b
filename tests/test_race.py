"""Is splitting worth its while?"""

from __future__ import annotations

import pytest

from pellucid.sync.exact.race import LAPS, STEPS, Lap, Laps, Race, is_faster_alone


@pytest.mark.parametrize(
    ("split", "alone", "seconds", "compute", "faster_alone"),
    [
        (2e-3, 4e-3, 12e-3, 10e-3, False),
        (2e-3, 2e-3, 10e-3, 10e-3, False),
        (2e-3, 2e-3, 12e-3, 10e-3, True),  # exchanging and waiting come on top
        (2e-3, 2e-3, 10.4e-3, 10e-3, False),  # a little slower is no reason to give up the others
        (2e-3, 1.5e-3, 10e-3, 10e-3, True),
        (2e-3, 4e-3, 30e-3, 10e-3, True),  # gradients too large for what they are worth
    ],
)
def test_what_a_step_takes_is_held_against_what_it_would_take_alone(
    split: float, alone: float, seconds: float, compute: float, faster_alone: bool
) -> None:
    lap = Lap(seconds, compute)
    assert is_faster_alone([Race(split, alone)], lap) is faster_alone
    assert is_faster_alone([Race(split, alone)] * 3, lap) is faster_alone


def test_of_some_laps_the_least_disturbed_counts() -> None:
    laps = Laps()
    now = spent = 0
    took = [5_000_000, 90_000_000, 4_000_000, 8_000_000]
    ends = []
    for step in range(LAPS * STEPS + 1):
        ends.append(laps.step(now, spent))
        now += took[min(step // STEPS, LAPS - 1)]
        spent += 1_000_000
    assert ends == [False] * LAPS * STEPS + [True]
    best = laps.best()
    assert (best.seconds, best.compute) == pytest.approx((STEPS * 4e-3, STEPS * 3e-3))
