"""The training loop: what is done at which iteration, and what the log says."""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch

from pellucid.caffe import log
from pellucid.caffe.solver.loop import tests_before as count_tests_before
from pellucid.caffe.solver.requests import Action, Requests
from tests.caffe.tiny import Drawn, Net, solver, training


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.begin(stream)
    yield stream
    log.LOGGER.handlers = []


def messages_of(stream: io.StringIO) -> list[str]:
    return [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()]


def test_a_line_is_shaped_like_those_of_glog(said: io.StringIO) -> None:
    log.LOGGER.info("Iteration 100, lr = 0.01")
    assert re.fullmatch(
        r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ test_solver_loop\.py:\d+\] Iteration 100, lr = 0\.01\n",
        said.getvalue(),
    )


def test_the_log_of_a_training_is_caffes(said: io.StringIO, tmp_path: Path) -> None:
    param = solver(max_iter=4, display=2, test_iter=[3], test_interval=2, snapshot=4)
    training(param, str(tmp_path), clock=map(float, count()).__next__).solve()
    number = r"[-+.e\d]+"
    test = [
        r"Iteration {0}, Testing net \(#0\)",
        rf"    Test net output #0: accuracy = {number}",
        rf"    Test net output #1: loss = {number} \(\* 1 = {number} loss\)",
    ]
    shown = [
        rf"Iteration {{0}} \({number} iter/s, {number}s/2 iters\), loss = {number}",
        rf"    Train net output #0: accuracy = {number}",
        rf"    Train net output #1: loss = {number} \(\* 1 = {number} loss\)",
        r"Iteration {0}, lr = 0.1",
    ]
    wanted = [
        "Solving Tiny",
        "Learning Rate Policy: fixed",
        *(line.format(0) for line in (*test, *shown)),
        *(line.format(2) for line in (*test, *shown)),
        f"Snapshotting to binary proto file {tmp_path}/tiny_iter_4.caffemodel",
        f"Snapshotting solver state to binary proto file {tmp_path}/tiny_iter_4.solverstate",
        rf"Iteration 4, loss = {number}",
        *(line.format(4) for line in test),
        "Optimization Done.",
    ]
    got = messages_of(said)
    assert len(got) == len(wanted)
    for line, pattern in zip(got, wanted, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)


def test_the_pace_is_of_the_iterations_since_the_last_display(said: io.StringIO) -> None:
    param = solver(max_iter=5, display=4, snapshot_after_train=False)
    training(param, clock=iter([0.0, 1.0, 3.0]).__next__).solve()
    assert "Iteration 4 (2 iter/s, 2s/4 iters)" in said.getvalue()


def test_the_loss_is_smoothed_over_the_latest(said: io.StringIO) -> None:
    alone: list[float] = []
    smooth: list[float] = []
    for average, losses in ((1, alone), (3, smooth)):
        param = solver(display=1, average_loss=average, max_iter=5, snapshot_after_train=False)
        training(param).solve()
        found = re.findall(r"iters\), loss = (\S+)", said.getvalue())
        losses += [float(loss) for loss in found[-5:]]
    assert smooth[4] == pytest.approx(sum(alone[2:5]) / 3, rel=1e-4)
    assert smooth[1] == pytest.approx(sum(alone[:2]) / 2, rel=1e-4)


def test_an_iteration_of_two_batches_is_that_of_their_sum() -> None:
    """The mean gradient of two batches, taken by hand, moves the weights as iter_size does."""
    param = solver(iter_size=2, max_iter=1, snapshot_after_train=False)
    one = training(param)
    one.feed.net.drop.p = 0.0
    one.solve()
    net = Net()
    net.drop.p = 0.0
    for number in range(2):
        (net.run(Drawn(1).take(number)).loss / 2).backward()  # type: ignore[no-untyped-call]
    for mine, wanted in zip(one.feed.net.parameters(), net.parameters(), strict=True):
        assert wanted.grad is not None
        torch.testing.assert_close(mine, wanted - 0.1 * wanted.grad)


def test_no_test_at_the_start_where_none_is_wanted(said: io.StringIO) -> None:
    fields = {"test_iter": [1], "test_interval": 3, "snapshot_after_train": False}
    training(solver(test_initialization=False, **fields)).solve()
    at = re.findall(r"Iteration (\d+), Testing", said.getvalue())
    assert at == ["3", "6"]


@pytest.mark.parametrize("initial", [True, False])
def test_the_tests_before_an_iteration_are_counted_as_they_were_made(
    said: io.StringIO, initial: bool
) -> None:
    for stop in range(1, 8):
        said.truncate(0)
        param = solver(
            max_iter=stop,
            test_iter=[1],
            test_interval=3,
            test_initialization=initial,
            snapshot_after_train=False,
        )
        one = training(param)
        while one.iteration < stop:  # without the look back at the end
            one._test_if_due()
            one._part()
        made = said.getvalue().count("Testing net")
        assert count_tests_before(param, stop) == made


def asked(at: dict[int, Action]) -> Requests:
    """Requests that come after these iterations."""

    class Scripted(Requests):
        polls = 0

        def poll(self) -> Action:
            self.polls += 1
            return at.get(self.polls, Action.NONE)

    return Scripted({})


def test_a_request_to_stop_snapshots_and_ends(said: io.StringIO, tmp_path: Path) -> None:
    one = training(solver(max_iter=100), str(tmp_path), requests=asked({3: Action.STOP}))
    one.solve()
    assert one.iteration == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "tiny_iter_3.caffemodel",
        "tiny_iter_3.solverstate",
    ]
    assert messages_of(said)[-1] == "Optimization stopped early."


def test_a_request_to_snapshot_snapshots_and_goes_on(said: io.StringIO, tmp_path: Path) -> None:
    param = solver(snapshot_after_train=False)
    training(param, str(tmp_path), requests=asked({2: Action.SNAPSHOT})).solve()
    assert (tmp_path / "tiny_iter_2.solverstate").exists()
    assert messages_of(said)[-1] == "Optimization Done."


def test_a_request_within_a_test_ends_it(said: io.StringIO, tmp_path: Path) -> None:
    param = solver(test_iter=[50], test_interval=2)
    one = training(param, str(tmp_path), requests=asked({5: Action.STOP}))
    one.solve()
    assert one.iteration == 0
    assert "Test interrupted." in messages_of(said)


def test_signals_ask_for_their_effects() -> None:
    now = count(0.0, 100.0)  # so slow that it is asked every time
    effects = {signal.SIGINT: Action.STOP, signal.SIGHUP: Action.SNAPSHOT}
    requests = Requests(effects, clock=now.__next__)
    before = signal.getsignal(signal.SIGHUP)
    with requests.heard():
        assert requests.poll() is Action.NONE
        os.kill(os.getpid(), signal.SIGHUP)
        assert requests.poll() is Action.SNAPSHOT
        assert requests.poll() is Action.NONE
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.poll() is Action.STOP
    assert signal.getsignal(signal.SIGHUP) is before


def test_what_was_asked_is_not_looked_for_in_every_fast_iteration() -> None:
    ticks = count(0.0, 0.01)
    requests = Requests({signal.SIGHUP: Action.SNAPSHOT}, clock=ticks.__next__)
    assert requests.poll() is Action.NONE  # it took a tick: look again after 20 of them
    requests.note(Action.SNAPSHOT)
    assert [requests.poll() for _ in range(20)] == [Action.NONE] * 19 + [Action.SNAPSHOT]
