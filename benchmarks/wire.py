"""Goodput and CPU time of the TCP network, and the speed of the codes, as ratios.

    python benchmarks/wire.py [--megabytes N] [--rounds N]

The network moves chunks of 1 MiB from one process to another over loopback, and is compared with
the shortest program that does the same: one blocking `send`, one `recv_into`. The codes are
compared with a copy of the same float32 values. All of a round is measured one after the other,
ratios are those of a round; medians and ranges are printed, and the JSON of all rounds.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import platform
import resource
import socket
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from pellucid.transport.identity import Identity
from pellucid.transport.network import Connected, Received
from pellucid.transport.pace import Pace
from pellucid.transport.tcp import TcpNetwork
from pellucid.wire.codec import Bfloat16, Codec, Float32, Int8
from pellucid.wire.framing import Kind
from pellucid.wire.session import Hello

CHUNK = 1 << 20
KIND = 16
KINDS = {KIND: Kind("chunk", CHUNK)}
WARM_UP = 200  # chunks; by then the pace knows the link
VALUES = 16 << 20
WAYS = ("plain", "encrypted", "plain, no head-room")


def cpu() -> float:
    """CPU seconds of this process, with all of its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def network(way: str, box: int, **other: Any) -> TcpNetwork:
    identity = Identity("only for benchmarks", encrypted=way == "encrypted")
    hello = Hello(box=box, boot=box + 1)
    head_room = 0.0 if "no head-room" in way else 0.05
    pace = functools.partial(Pace, head_room=head_room)
    return TcpNetwork(identity, hello, KINDS, pace=pace, **other)


def receive_frames(way: str, count: int, pipe: Connection) -> None:
    """One process: everything that comes is counted."""
    here = network(way, 0, listen=("127.0.0.1", 0))
    pipe.send(here.address)
    got, begun = 0, 0.0
    while got < WARM_UP + count:
        for event in here.poll(1.0):
            got += isinstance(event, Received)
            if got == WARM_UP and not begun:
                begun = cpu()
    pipe.send(cpu() - begun)
    pipe.recv()
    here.close()


def send_frames(way: str, count: int, pipe: Connection) -> tuple[float, float]:
    """The other process. Returns seconds, and CPU seconds."""
    here = network(way, 1)
    here.connect(pipe.recv())
    while not any(isinstance(e, Connected) for e in here.poll(1.0)):
        pass
    body = np.ones(CHUNK, np.uint8).data
    begun = spent = 0.0
    for number in range(WARM_UP + count):
        while here.backlog(0) > 16 * CHUNK:
            time.sleep(0.001)
        if number == WARM_UP:
            begun, spent = time.perf_counter(), cpu()
        here.send(0, KIND, [body])
    received = pipe.recv()
    seconds, spent = time.perf_counter() - begun, cpu() - spent
    pipe.send("done")
    here.close()
    return seconds, spent + received


def receive_bytes(count: int, pipe: Connection) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(listener.getsockname())
    peer, _ = listener.accept()
    memory = memoryview(bytearray(CHUNK))
    spent, rest = cpu(), count * CHUNK
    while rest:
        rest -= peer.recv_into(memory[: min(CHUNK, rest)])
    pipe.send(cpu() - spent)


def send_bytes(count: int, pipe: Connection) -> tuple[float, float]:
    peer = socket.create_connection(pipe.recv())
    body = np.ones(CHUNK, np.uint8).data
    begun, spent = time.perf_counter(), cpu()
    for _ in range(count):
        peer.sendall(body)
    received = pipe.recv()
    return time.perf_counter() - begun, cpu() - spent + received


def between(
    receiver: Callable[..., None], sender: Callable[..., tuple[float, float]], *args: Any
) -> tuple[float, float]:
    """Run one end in another process."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=receiver, args=(*args, there))
    process.start()
    try:
        return sender(*args, here)
    finally:
        process.join()


def measure_network(count: int) -> dict[str, float]:
    """One round: goodput, and CPU time a byte, of both ends, divided by the plain loop's."""
    seconds, spent = between(receive_bytes, send_bytes, count)
    ratios = {}
    for way in WAYS:
        ours = between(receive_frames, send_frames, way, count)
        ratios[f"goodput, {way}"] = seconds / ours[0]
        ratios[f"CPU, {way}"] = ours[1] / spent
    return ratios


def measure_codes() -> dict[str, float]:
    """One round: speed of each code's fused calls, divided by that of a copy."""
    now = np.random.default_rng(1).standard_normal(VALUES).astype(np.float32)
    believed, unacked, held = np.zeros_like(now), np.zeros_like(now), np.zeros_like(now)

    def over(*calls: Callable[[slice], Any]) -> list[float]:
        """Seconds of each call, all of them for one chunk after the other."""
        seconds = [0.0] * len(calls)
        for begin in range(0, VALUES, CHUNK):
            for number, call in enumerate(calls):
                begun = time.perf_counter()
                call(slice(begin, begin + CHUNK))
                seconds[number] += time.perf_counter() - begun
        return seconds

    def copy(part: slice) -> None:
        held[part] = now[part]

    over(copy)
    ratios = {}
    message = memoryview(b"")
    for code in (Int8(), Bfloat16(), Float32()):
        name = type(code).__name__.lower()
        believed[:] = unacked[:] = 0

        def encode(part: slice, code: Codec = code) -> None:
            nonlocal message
            message = code.encode_difference(now[part], believed[part], [unacked[part]])

        def add(part: slice, code: Codec = code) -> None:
            code.add(message, [held[part]], 0.5)

        copied, encoded, added = over(copy, encode, add)
        ratios[f"encode, {name}"] = copied / encoded
        ratios[f"add, {name}"] = copied / added
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="moved a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    count = math.ceil(options.megabytes * 1e6 / CHUNK)
    rounds = [measure_codes() | measure_network(count) for _ in range(options.rounds)]
    for name in rounds[0]:
        values = [r[name] for r in rounds]
        print(f"{name:32s} {statistics.median(values):5.2f} [{min(values):.2f}..{max(values):.2f}]")
    print(json.dumps({"machine": platform.processor() or platform.machine(), "rounds": rounds}))


if __name__ == "__main__":
    main()
