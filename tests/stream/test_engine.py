"""The engine: what it tells, whom it calls, how it ends."""

from __future__ import annotations

from pellucid.sync.stream.roster import Roster
from tests.stream.engines import Fleet

HERE, THERE = ("10.0.0.1", 1), ("10.0.0.2", 2)


def told(fleet: Fleet, box: int, event: str) -> list[dict[str, object]]:
    return [facts for name, facts in fleet.said[box] if name == event]


def test_who_is_there_and_how_fast_is_told_to_the_launcher() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    fleet.go_on(3.0)
    fleet.samples[1] = 900
    fleet.go_on(6.0)
    assert told(fleet, 0, "boxes")[-1]["living"] == [0, 1]
    assert told(fleet, 1, "boxes")[-1]["leader"] == 0
    status = told(fleet, 0, "status")[-1]
    rates = status["rates"]
    assert isinstance(rates, dict)
    assert rates["0"] == 0
    assert rates["1"] > 0
    assert any("box 1 takes part" in str(facts["text"]) for facts in told(fleet, 0, "notice"))


def test_a_box_whose_process_ended_is_dead_at_once_and_another_leads() -> None:
    fleet = Fleet()
    for box in (0, 1, 2):
        fleet.start(box)
    fleet.go_on(5.0)
    fleet.crash(0)
    fleet.go_on(8.0)  # less than silence would take
    assert told(fleet, 1, "boxes")[-1]["living"] == [1, 2]
    assert fleet.engines[1].leader == fleet.engines[2].leader == 1


def test_a_box_that_leaves_hands_over_and_says_goodbye() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    fleet.go_on(3.0)
    fleet.engines[1].close(10.0)
    fleet.go_on(3.0)
    assert told(fleet, 0, "boxes")[-1]["living"] == [0]
    assert any("box 1 has left" in str(facts["text"]) for facts in told(fleet, 0, "notice"))


def test_a_box_leaves_when_its_user_wants() -> None:
    fleet = Fleet()
    fleet.start(0)
    fleet.start(1)
    fleet.go_on(3.0)
    fleet.leaves.add(1)
    fleet.go_on(3.0)
    assert told(fleet, 0, "boxes")[-1]["living"] == [0]


def test_the_later_box_calls_the_earlier_one() -> None:
    assert Roster(0, [(1, THERE)]).due(0.0) == []
    assert Roster(1, [(0, HERE)]).due(0.0) == [HERE]


def test_who_does_not_answer_is_called_ever_more_seldom() -> None:
    roster = Roster(1, [(0, HERE)])
    pauses, now = [], 0.0
    for _ in range(5):
        assert roster.due(now) == [HERE]
        assert roster.due(now) == []  # one call at a time
        roster.refused(HERE, now)
        since = now
        while not roster.due(now):
            now += 0.25
        pauses.append(now - since)
        roster.refused(HERE, now)
        now += 10
    assert pauses[0] == 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0


def test_who_was_lost_is_called_at_once() -> None:
    roster = Roster(2, [(0, HERE), (1, THERE)])
    assert roster.due(0.0) == [HERE, THERE]
    roster.connected(0)
    roster.connected(1)
    assert roster.due(99.0) == []
    roster.lost(1, 100.0)
    assert roster.due(100.0) == [THERE]


def test_addresses_are_learned_from_the_view() -> None:
    roster = Roster(2)
    roster.learn([(0, "10.0.0.1:1"), (1, ""), (3, "10.0.0.4:4")])
    assert roster.due(0.0) == [HERE]
