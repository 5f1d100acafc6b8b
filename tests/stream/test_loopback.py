"""The network in memory keeps the promises of its faults."""

from __future__ import annotations

from pellucid.errors import LinkError
from pellucid.transport.loopback import Link, Loopback
from pellucid.transport.network import Connected, Lost, Network, Received


def pair(link: Link | None = None, seed: int = 0) -> tuple[Loopback, Network, Network]:
    medium = Loopback(seed, link)
    left, right = medium.box(0), medium.box(1)
    medium.advance(0.0)
    assert [type(event) for event in left.poll(0)] == [Connected]
    assert [type(event) for event in right.poll(0)] == [Connected]
    return medium, left, right


def bodies(network: Network) -> list[bytes]:
    return [bytes(event.body) for event in network.poll(0) if isinstance(event, Received)]


def test_frames_arrive_after_their_latency() -> None:
    medium, left, right = pair(Link(latency=0.5))
    left.send(1, 16, [b"one ", memoryview(b"frame")])
    medium.advance(0.4)
    assert bodies(right) == []
    assert medium.next_arrival() == 0.5
    medium.advance(0.5)
    assert bodies(right) == [b"one frame"]


def test_a_link_has_a_bandwidth_and_a_backlog() -> None:
    medium, left, right = pair(Link(latency=0.0, bandwidth=1005))
    for _ in range(3):
        left.send(1, 16, [bytes(1000)])
    assert left.backlog(1) == 3015
    medium.advance(1.5)
    assert len(bodies(right)) == 1
    assert left.backlog(1) == 1507
    medium.advance(3.0)
    assert len(bodies(right)) == 2
    assert left.statistics().sent == 3015
    assert right.statistics().peers[0].received == 3015


def test_order_is_kept_unless_it_is_not() -> None:
    for ordered in (True, False):
        medium, left, right = pair(Link(jitter=1.0, ordered=ordered))
        for number in range(50):
            left.send(1, 16, [bytes([number])])
        medium.advance(2.0)
        came = bodies(right)
        assert sorted(came) == [bytes([number]) for number in range(50)]
        assert (came == sorted(came)) is ordered


def test_chance_is_seeded() -> None:
    def lost(seed: int) -> list[bytes]:
        medium, left, right = pair(Link(loss=0.5, duplicate=0.5), seed)
        for number in range(100):
            left.send(1, 16, [bytes([number])])
        medium.advance(1.0)
        return bodies(right)

    assert lost(1) == lost(1) != lost(2)
    assert 25 < len(set(lost(1))) < 75  # some are lost
    assert len(lost(1)) > len(set(lost(1)))  # some come twice


def test_a_cable_is_cut_one_way_and_nobody_is_told() -> None:
    medium, left, right = pair()
    left.send(1, 16, [b"on its way"])
    medium.cut(0, 1, both=False)
    left.send(1, 16, [b"into the void"])
    right.send(0, 16, [b"back"])
    medium.advance(1.0)
    assert right.poll(0) == []
    assert bodies(left) == [b"back"]
    medium.heal()
    left.send(1, 16, [b"again"])
    medium.advance(2.0)
    assert bodies(right) == [b"again"]


def test_peers_of_a_crashed_box_are_told_once_cables_permit() -> None:
    medium, _, right = pair()
    medium.cut(0, 1)
    medium.crash(0)
    medium.advance(1.0)
    assert right.poll(0) == []
    medium.heal()
    medium.advance(2.0)
    (event,) = right.poll(0)
    assert isinstance(event, Lost)
    assert isinstance(event.error, LinkError)
    right.send(0, 16, [b"to nobody"])
    assert right.backlog(0) == 0
    medium.box(0, boot=2)
    medium.advance(3.0)
    (back,) = right.poll(0)
    assert isinstance(back, Connected)
    assert back.hello.boot == 2


def test_goodbyes_and_calls() -> None:
    medium, left, right = pair()
    left.close()
    medium.advance(1.0)
    for network in (left, right):
        (event,) = network.poll(0)
        assert isinstance(event, Lost)
        assert event.error is None
    left.connect(("1", 0))
    medium.advance(2.0)
    assert isinstance(left.poll(0)[0], Connected)
    assert isinstance(right.poll(0)[0], Connected)


def test_without_power_nobody_hears_anything() -> None:
    medium, _, right = pair()
    medium.power_off(0)
    medium.advance(100.0)
    assert right.poll(0) == []
