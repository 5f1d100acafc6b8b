"""Launchers of several boxes talk: who is let in, who is not, and why."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import LaunchError, LinkError, MismatchError, NetworkError, RemoteProtocolError
from pellucid.launch.bundle import pack
from pellucid.launch.channel import Channel, greeting
from pellucid.launch.company import Company
from pellucid.launch.door import Door
from pellucid.launch.listening import open_site
from pellucid.launch.register import Register, View
from pellucid.launch.rendezvous import (
    Admitted,
    Elsewhere,
    Knock,
    Message,
    News,
    Over,
    Plan,
    Refused,
    decode,
    encode,
)
from pellucid.launch.sources import find_place, find_sources
from pellucid.launch.visitor import Visitor
from pellucid.settings import Address, Peer
from pellucid.transport.identity import Identity
from pellucid.wire.session import VISITOR, Hello

SECRET = "a secret that everybody in this file knows"
LOOPBACK = Address("127.0.0.1", 0)
IDENTITY = Identity(SECRET)


def peer(box: int, **changes: Any) -> Peer:
    at = Address(f"10.0.0.{box}", 7070)
    made = Peer(box=box, nonce=box, name=f"lab-{box}", data=at, door=at)
    return msgspec.structs.replace(made, **changes)


def view(*living: int, leader: int = 0, apart: bool = False) -> View:
    return View(frozenset(living), leader, apart)


# who is in


KNOCK = Knock("lab-9", 4)


def test_numbers_go_up_and_never_come_again() -> None:
    register = Register(peer(0))
    assert [register.ask(), register.ask()] == [1, 2]
    assert register.enter(peer(2))
    register.leave(1)
    assert register.ask() == 3
    assert [p.box for p in register.before(3)] == [0, 2]


def test_only_who_was_given_a_number_has_it() -> None:
    register = Register(peer(0))
    assert not register.enter(peer(5))
    assert register.ask() == 1
    assert register.enter(peer(1))
    assert not register.enter(peer(1, nonce=99))


def test_the_lowest_number_alive_lets_in() -> None:
    register = Register(peer(2), [peer(0), peer(1)])
    assert register.ask() == Elsewhere(0, peer(0).door)
    register.see(view(1, 2))
    assert register.ask() == Elsewhere(1, peer(1).door)
    register.see(view(2, leader=2))
    assert register.ask() == 3
    assert [p.box for p in register.before(3)] == [2]
    assert register.leader == 2


def test_a_successor_gives_no_number_twice() -> None:
    register = Register(peer(1), [peer(0)])
    register.learn([peer(0), peer(1), peer(4)])
    register.see(view(1, 7))  # of 7 the workers know, and no launcher told
    assert register.ask() == 8


def test_a_box_that_was_let_in_lives_before_worker_0_has_met_it() -> None:
    register = Register(peer(0))
    register.see(view(0))
    assert register.ask() == 1
    register.enter(peer(1))
    register.see(view(0))
    assert register.living == [0, 1]
    register.see(view(0, 1))
    register.see(view(0))
    assert register.living == [0]


def test_who_is_cut_off_or_at_the_end_lets_nobody_in() -> None:
    register = Register(peer(1), [peer(0)])
    register.see(view(1, apart=True))
    assert "cut off" in str(register.ask())
    register.see(view(0, 1))
    register.over = Over(0, 0)
    assert register.ask() == Refused("the run has ended")


# what is said

PLAN = Plan(
    run="run",
    is_module=False,
    argv=["--lr", "0.1", "caf\udce9", "", "\n"],
    place=find_place(
        find_sources("tests/fate.py", is_module=False, cwd=Path(__file__).parent.parent),
        "tests/fate.py",
        is_module=False,
        cwd=Path(__file__).parent.parent,
    ),
    digest="d",
    bundle_bytes=0,
    seed=2**63 - 1,
    seeded=True,
    hash_seed=3,
    torch="2.13.0",
    within="hogwild",
    codec="int8",
    heartbeat=2.0,
    suspect_after=6.0,
    lost_after=10.0,
    nesterov=False,
    scale_lr=True,
    on_failure="continue",
)


@pytest.mark.parametrize(
    "message", [KNOCK, Refused("no"), Admitted(3, PLAN), News([peer(0), peer(1)]), Over(2, -9)]
)
def test_what_is_said_is_heard(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_bytes_that_say_nothing(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="cannot be read"):
        decode(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "Knock", "name": "x", "workers": -1}',
        b'{"type": "Knock", "name": 7, "workers": 1}',
        b'{"type": "Admitted", "box": 1}',
        b'{"type": "Nothing"}',
        b"[" * 10_000,
        b"null",
    ],
)
def test_messages_of_the_wrong_shape(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="cannot be read"):
        decode(body)


# doors


def visitors_hello(**changes: Any) -> Hello:
    return msgspec.structs.replace(greeting(VISITOR, 77, ""), **changes)


class House:
    """A box with a door, in this process, and a script to give out."""

    def __init__(self, folder: Path, box: int = 0, others: list[Peer] | None = None) -> None:
        site = open_site(box, f"lab-{box}", LOOPBACK, 1000 + box)
        site.data.close()
        here = folder / "here"
        here.mkdir(exist_ok=True)
        (here / "train.py").write_text("print('hello')")
        sources = find_sources("train.py", is_module=False, cwd=here)
        bundle = pack(sources, folder / f"bundle-{box}", limit=1000)
        self.peer = site.peer
        self.register = Register(site.peer, others or [])
        plan = msgspec.structs.replace(
            PLAN,
            place=find_place(sources, "train.py", is_module=False, cwd=here),
            digest=bundle.digest,
            bundle_bytes=bundle.size,
        )
        self.door = Door(
            site.door,
            IDENTITY,
            greeting(box, 1000 + box, "run"),
            register=self.register,
            plan=plan,
            bundle=bundle,
        )
        self.door.open()

    def said(self) -> str:
        return self.door.sayings.get(timeout=20).text


Build = Callable[..., House]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    houses: list[House] = []

    def make(box: int = 0, others: list[Peer] | None = None) -> House:
        houses.append(House(tmp_path, box, others))
        return houses[-1]

    yield make
    for house in houses:
        house.door.close()


def visitor(said: list[str] | None = None, **changes: Any) -> Visitor:
    told: list[str] = [] if said is None else said
    return Visitor(IDENTITY, visitors_hello(**changes), KNOCK, told.append)


def enter(visit: Visitor, address: Address, folder: Path, limit: int = 1000) -> Any:
    return visit.enter(address, packed=folder / "packed", base=folder / "new", limit=limit)


def test_a_box_is_let_in_gets_the_script_and_begins_with_the_others(
    build: Build, tmp_path: Path
) -> None:
    house = build()
    visit = visitor()
    admission = enter(visit, house.peer.door, tmp_path)
    assert (admission.box, admission.local) == (1, "127.0.0.1")
    assert (tmp_path / "new/train.py").read_text() == "print('hello')"
    assert admission.plan.argv == PLAN.argv
    visit.ready(peer(1))
    assert "box 1 (lab-1, 10.0.0.1:7070, 4 workers) is in" in house.said()
    assert visit.begun(20) is None
    house.door.begin()
    peers = None
    while peers is None:
        peers = visit.begun(20)
    assert peers == [house.peer]
    assert house.register.living == [0, 1]


def test_who_comes_back_out_before_it_began_is_forgotten(build: Build, tmp_path: Path) -> None:
    house = build()
    visit = visitor()
    enter(visit, house.peer.door, tmp_path)
    visit.ready(peer(1))
    house.said()
    visit.leave()
    assert "box 1 (lab-9, 127.0.0.1" in (text := house.said())
    assert "went away before it had started" in text
    assert house.register.living == [0]


def test_one_door_sends_to_the_other_that_lets_in(build: Build, tmp_path: Path) -> None:
    first = build()
    second = build(1, [first.peer])
    said: list[str] = []
    visit = visitor(said)
    admission = enter(visit, second.peer.door, tmp_path)
    visit.leave()
    assert admission.box == 1
    assert said == [f"box 0 at {first.peer.door} lets boxes in"]


def test_when_the_first_box_is_dead_the_next_one_lets_in(build: Build, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = Address("127.0.0.1", gone.getsockname()[1])
    second = build(1, [peer(0, door=nobody)])
    said: list[str] = []

    visit = visitor(said)
    # worker 0 of the second box notices the death while the visitor is sent to and fro
    threading.Timer(0.5, lambda: second.register.see(view(1, leader=1))).start()
    assert enter(visit, second.peer.door, tmp_path).box == 2
    visit.leave()
    assert any("nobody listens at" in text for text in said)


def test_news_and_the_end_travel_to_all(build: Build) -> None:
    first = build()
    second = build(1, [first.peer])
    first.register.learn([second.peer])
    first.door.call_all(News([first.peer, second.peer, peer(5)]))
    assert sorted(second.register.peers) == [0, 1, 5]
    first.door.call_all(Over(0, 3))
    assert second.register.over == Over(0, 3)


def test_another_major_version_of_torch(build: Build, tmp_path: Path) -> None:
    house = build()
    with pytest.raises(NetworkError, match=r"1\.13.*same major version"):
        enter(visitor(torch="1.13.1"), house.peer.door, tmp_path)
    assert "turned away 127.0.0.1" in house.said()


def test_another_secret(build: Build, tmp_path: Path) -> None:
    house = build()
    stranger = Visitor(Identity(SECRET + "!"), visitors_hello(), KNOCK, print)
    with pytest.raises(MismatchError, match="its secret is another one"):
        enter(stranger, house.peer.door, tmp_path)
    assert "turned away 127.0.0.1" in house.said()


def test_one_side_encrypts_and_the_other_does_not(build: Build, tmp_path: Path) -> None:
    house = build()
    plain = Visitor(Identity(SECRET, encrypted=False), visitors_hello(), KNOCK, print)
    with pytest.raises(NetworkError):
        enter(plain, house.peer.door, tmp_path)
    assert "--no-encrypt" in house.said()


def test_a_stranger_that_speaks_something_else(build: Build) -> None:
    house = build()
    with socket.create_connection((house.peer.door.host, house.peer.door.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert "turned away 127.0.0.1" in house.said()


def test_a_stranger_that_calls_again_and_again_is_told_of_once(build: Build) -> None:
    house = build()
    for _ in range(3):
        with socket.create_connection((house.peer.door.host, house.peer.door.port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while stranger.recv(100):
                pass
    house.said()
    assert house.door.sayings.empty()


def test_nobody_is_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = Address("127.0.0.1", gone.getsockname()[1])
    with pytest.raises(LinkError, match=r"nobody listens at .*--listen"):
        enter(visitor(), nobody, tmp_path)


def test_a_name_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="no name that this box can resolve"):
        enter(visitor(), Address("no such box.invalid", 7070), tmp_path)


def test_a_bundle_that_is_more_than_this_box_takes(build: Build, tmp_path: Path) -> None:
    house = build()
    with pytest.raises(LaunchError, match="raise --bundle-limit here, too"):
        enter(visitor(), house.peer.door, tmp_path, limit=10)
    assert not (tmp_path / "new").exists()
    assert "box 1" in house.said()


def test_a_run_that_has_ended(build: Build, tmp_path: Path) -> None:
    house = build()
    house.register.over = Over(0, 0)
    with pytest.raises(LaunchError, match="does not let this box in: the run has ended"):
        enter(visitor(), house.peer.door, tmp_path)
    assert "not let in: the run has ended" in house.said()


def test_a_visitor_that_begins_with_something_else(build: Build) -> None:
    house = build()
    channel = Channel.dial(house.peer.door, IDENTITY, visitors_hello())
    channel.tell(Admitted(1, PLAN))
    assert channel.hear() == Refused("Admitted is no way to begin")
    channel.close()


# addresses


def test_the_two_ports_of_a_box_lie_side_by_side() -> None:
    site = open_site(0, "lab", LOOPBACK, 1)
    with site.door, site.data:
        assert site.peer.door.port == site.door.getsockname()[1]
        assert site.peer.data.port == site.data.getsockname()[1]


def test_a_taken_port_is_an_error_unless_any_will_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = Address("127.0.0.1", other.getsockname()[1])
        with pytest.raises(LaunchError, match=rf"cannot listen at {taken}: another program"):
            open_site(0, "lab", taken, 1)
        site = open_site(0, "lab", taken, 1, strict=False)
        with site.door, site.data:
            assert site.peer.door.port != taken.port


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Address("203.0.113.7", 7070), "203.0.113.7 is no address of this box. It has"),
        (Address("no such box.invalid", 7070), "no name that this box can resolve"),
    ],
)
def test_an_address_that_is_not_ours(address: Address, words: str) -> None:
    with pytest.raises(LaunchError, match=words):
        open_site(0, "lab", address, 1)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ImportError: no\n", "the script failed on this box, which leaves the run; the others go"),
        ("", "the script ended with exit code 7 on this box, which leaves the run"),
    ],
)
def test_what_a_script_said_that_failed_on_a_joined_box(
    tmp_path: Path, said: str, told: str
) -> None:
    (tmp_path / "worker-0.err").write_text(said)
    text = Company.failed(object.__new__(Company), tmp_path, 7)
    assert text.startswith(told)
    assert text.endswith(said.strip() or "worker-0.out")
