"""The pace: finds what a link carries, stays below it, follows it, and never bursts."""

from __future__ import annotations

import pytest

from pellucid.transport.pace import Pace, Phase
from tests.link import Link

RATES = [125e3, 1.25e6, 12.5e6, 125e6, 1.25e9]  # 1 Mbit/s to 10 Gbit/s


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("round_trip", [0.0002, 0.05])
def test_it_finds_the_rate_and_leaves_head_room(rate: float, round_trip: float) -> None:
    link, pace = Link(rate, round_trip=round_trip), Pace(0.0)
    link.run(pace, 4)
    assert pace.rate == pytest.approx(rate, rel=0.1)
    link.longest = 0
    carried = link.run(pace, 10)
    assert 0.85 * rate < carried < 0.99 * rate
    assert link.longest < max(0.05, 40e3 / rate)


@pytest.mark.parametrize("head_room", [0.0, 0.2, 0.5])
def test_head_room_is_what_was_asked_for(head_room: float) -> None:
    link, pace = Link(10e6), Pace(0.0, head_room=head_room)
    link.run(pace, 3)
    assert link.run(pace, 10) == pytest.approx(10e6 * (1 - head_room), rel=0.1)


@pytest.mark.parametrize("factor", [0.1, 0.5, 2, 10])
def test_it_follows_a_link_that_changes(factor: float) -> None:
    link, pace = Link(10e6), Pace(0.0)
    link.run(pace, 3)
    link.rate *= factor
    link.run(pace, 12)
    assert link.run(pace, 10) == pytest.approx(0.93 * link.rate, rel=0.1)


def test_a_way_that_becomes_longer_is_no_queue() -> None:
    link, pace = Link(10e6), Pace(0.0)
    link.run(pace, 3)
    link.detour = 0.08  # the system remembers the shorter one for minutes
    link.run(pace, 3)
    assert link.run(pace, 10) > 8e6


def test_a_link_that_stands_still_is_found_again() -> None:
    link, pace = Link(10e6), Pace(0.0)
    link.run(pace, 3)
    link.rate = 1.0
    link.run(pace, 20)
    link.rate = 10e6
    link.run(pace, 20)
    assert link.run(pace, 5) > 7e6


@pytest.mark.parametrize("rate", RATES)
def test_after_a_silence_there_is_no_burst(rate: float) -> None:
    link, pace = Link(rate), Pace(0.0)
    link.run(pace, 3)
    found = pace.rate
    link.run(pace, 60, hungry=False)
    assert pace.rate == found
    link.log.clear()
    link.run(pace, 0.05)
    assert sum(taken for at, taken in link.log if at < link.now - 0.04) < max(0.03 * rate, 64 << 10)


def test_a_sender_with_little_to_say_learns_nothing_wrong() -> None:
    link, pace = Link(10e6), Pace(0.0)
    link.run(pace, 3)
    for _ in range(100):  # a portion every 0.1 s: far less than the link carries
        link.run(pace, 0.002)
        link.run(pace, 0.098, hungry=False)
    assert pace.rate == pytest.approx(10e6, rel=0.15)


def test_no_more_than_the_ceiling() -> None:
    link, pace = Link(100e6), Pace(0.0, ceiling=5e6)
    assert link.run(pace, 10) == pytest.approx(5e6, rel=0.06)


def test_pieces_are_as_long_as_the_urgent_can_wait() -> None:
    slow, fast = Pace(0.0), Pace(0.0)
    Link(125e3).run(slow, 5)
    Link(1e9).run(fast, 5)
    assert slow.piece == 16 << 10
    assert fast.piece == 1 << 20


def test_what_waits_knows_for_how_long() -> None:
    pace = Pace(0.0)
    pace.took(pace.allowance(1.0))
    assert pace.allowance(1.0) == 0
    wait = pace.wait(1.0)
    assert 0 < wait < 0.02
    assert pace.allowance(1.0 + wait + 1e-9) > 0
    assert pace.phase is Phase.STARTUP
