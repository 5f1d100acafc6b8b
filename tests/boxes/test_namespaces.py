"""The boxes of these tests: their links are what they claim to be, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boxes.namespaces import Namespaces

pytestmark = pytest.mark.boxes

ROOT = Path(__file__).parent.parent.parent
Make = Callable[..., Namespaces]

LISTEN = """
import socket, sys
with socket.create_server(("0.0.0.0", 7070)) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    with connection:
        total = 0
        while data := connection.recv(1 << 16):
            total += len(data)
            if b"?" in data:
                connection.sendall(b"!")
        print(total, flush=True)
"""
DATAGRAMS = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
    here.bind(("0.0.0.0", 7070))
    here.settimeout(float(sys.argv[1]))
    print("ready", flush=True)
    try:
        print(here.recv(100).decode(), flush=True)
    except TimeoutError:
        print("nothing", flush=True)
"""
SEND = "import socket, sys; s = socket.create_connection((sys.argv[1], 7070)); "
SAY = (
    "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    "s.sendto(b'hello', (sys.argv[1], 7070))"
)


def started(boxes: Namespaces, box: int, program: str, *args: str) -> subprocess.Popen[str]:
    process = boxes.start(
        box, [sys.executable, "-c", program, *args], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finished(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=20)[0].strip()


def test_boxes_reach_each_other_and_their_bytes_are_counted(make_boxes: Make) -> None:
    boxes = make_boxes(2)
    listening = started(boxes, 1, LISTEN)
    send = SEND + "s.sendall(b'?' + bytes(10**6)); assert s.recv(1) == b'!'"
    before = boxes.traffic(0)
    assert boxes.start(0, [sys.executable, "-c", send, boxes.address(1)]).wait(20) == 0
    assert finished(listening) == str(10**6 + 1)
    assert 10**6 < boxes.traffic(0).sent - before.sent < 1.1 * 10**6
    assert 10**6 < boxes.traffic(1).received < 1.1 * 10**6


def test_a_slow_link_is_slow(make_boxes: Make) -> None:
    boxes = make_boxes(2, rate="10mbit")
    listening = started(boxes, 1, LISTEN)
    began = time.monotonic()
    send = SEND + "s.sendall(bytes(10**6))"
    assert boxes.start(0, [sys.executable, "-c", send, boxes.address(1)]).wait(20) == 0
    assert finished(listening) == str(10**6)
    # 8 Mbit, of which the bucket lets 256 KiB through at once
    assert time.monotonic() - began > 0.5


def heard(boxes: Namespaces, sender: int, receiver: int) -> bool:
    """Whether a datagram arrives; it is not waited for long if it is not meant to."""
    listening = started(boxes, receiver, DATAGRAMS, "1.5")
    command = [sys.executable, "-c", SAY, boxes.address(receiver)]
    assert boxes.start(sender, command).wait(20) == 0
    return finished(listening) == "hello"


def test_a_cable_is_cut_one_way_and_healed(make_boxes: Make) -> None:
    boxes = make_boxes(3)
    boxes.cut(1, receives=False)
    assert not heard(boxes, 1, 0)
    assert heard(boxes, 0, 1)
    assert heard(boxes, 2, 0)
    boxes.heal(1)
    assert heard(boxes, 1, 0)
    boxes.cut(1, sends=False)
    assert heard(boxes, 1, 2)
    assert not heard(boxes, 2, 1)


def test_a_cable_is_pulled_and_put_back(make_boxes: Make) -> None:
    boxes = make_boxes(2)
    boxes.pull(1)
    assert not heard(boxes, 0, 1)
    boxes.heal(1)
    assert heard(boxes, 0, 1)


def test_what_runs_on_a_box_is_gone_with_it(make_boxes: Make) -> None:
    boxes = make_boxes(1)
    sleeping = boxes.start(0, ["sleep", "60"])
    while not boxes.processes(0):
        time.sleep(0.01)
    boxes.close()
    assert sleeping.wait(5) == -signal.SIGKILL


def test_what_a_killed_process_left_is_removed_by_the_next(make_boxes: Make) -> None:
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); "
        "from tests.boxes.namespaces import Namespaces; boxes = Namespaces(1); "
        "boxes.start(0, ['sleep', '600']); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(ROOT)], stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
        left = [name for name in names() if f"-{maker.pid}-" in name]
        assert len(left) == 2
        maker.kill()
    make_boxes(1)
    assert not set(left) & set(names())


def names() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in listed.stdout.splitlines()]
