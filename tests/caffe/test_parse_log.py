"""Logs of Caffe and of ours as tables and curves."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

from pellucid.caffe import log
from pellucid.caffe.errors import CaffeError
from pellucid.caffe.parse_log import parse, write_tables
from pellucid.caffe.plot import plot
from tests.caffe.tiny import solver, training

# written by hand after the shape of Caffe's log lines
CAFFES = """\
I1231 23:59:58.500000 31333 solver.cpp:289] Solving LeNet
I1231 23:59:58.500000 31333 solver.cpp:290] Learning Rate Policy: inv
I1231 23:59:58.600000 31333 solver.cpp:347] Iteration 0, Testing net (#0)
I1231 23:59:59.000000 31333 solver.cpp:414]     Test net output #0: accuracy = 0.1
I1231 23:59:59.000000 31333 solver.cpp:414]     Test net output #1: loss = 2.5 (* 1 = 2.5 loss)
I1231 23:59:59.500000 31333 solver.cpp:239] Iteration 0 (-1 iter/s, 1s/100 iters), loss = 2.4
I1231 23:59:59.500000 31333 solver.cpp:258]     Train net output #0: loss = 2.4 (* 1 = 2.4 loss)
I1231 23:59:59.500000 31333 sgd_solver.cpp:112] Iteration 0, lr = 0.01
I0101 00:00:08.500000 31333 solver.cpp:239] Iteration 100 (11 iter/s, 9s/100 iters), loss = 0.5
I0101 00:00:08.500000 31333 solver.cpp:258]     Train net output #0: loss = 5e-1 (* 1 = 0.5 loss)
I0101 00:00:08.500000 31333 sgd_solver.cpp:112] Iteration 100, lr = 0.0099
"""


def test_caffes_own_log_is_read_also_over_new_year() -> None:
    train, test = parse(CAFFES.splitlines())
    assert train == [
        {"NumIters": 0, "Seconds": 1.0, "LearningRate": 0.01, "loss": 2.4},
        {"NumIters": 100, "Seconds": 10.0, "LearningRate": 0.0099, "loss": 0.5},
    ]
    assert [(row["NumIters"], row["accuracy"], row["loss"]) for row in test] == [(0, 0.1, 2.5)]
    assert math.isnan(test[0]["LearningRate"])


def own_log(folder: Path) -> Path:
    stream = io.StringIO()
    log.begin(stream)
    param = solver(max_iter=6, display=2, test_iter=[2], test_interval=3, gamma=0.1)
    param.lr_policy, param.stepsize, param.snapshot_after_train = "step", 4, False
    training(param).solve()
    log.LOGGER.handlers = []
    path = folder / "tiny.log"
    path.write_text(stream.getvalue())
    return path


def test_our_own_log_becomes_tables(tmp_path: Path) -> None:
    written = write_tables(own_log(tmp_path), tmp_path)
    assert [path.name for path in written] == ["tiny.log.train", "tiny.log.test"]
    train, test = (list(csv.DictReader(path.read_text().splitlines())) for path in written)
    assert list(train[0]) == ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"]
    assert [row["NumIters"] for row in train] == ["0", "2", "4"]
    assert [row["LearningRate"] for row in train] == ["0.1", "0.1", "0.01"]
    assert [row["NumIters"] for row in test] == ["0", "3", "6"]
    assert all(0 <= float(row["accuracy"]) <= 1 for row in test)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    target = tmp_path / "curves.png"
    plot([str(own_log(tmp_path))], target)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_file_that_is_no_log_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of a training\n")
    with pytest.raises(CaffeError, match=r"notes\.txt has no line 'Train net output'"):
        write_tables(tmp_path / "notes.txt", tmp_path)
    with pytest.raises(CaffeError, match="cannot read the log"):
        write_tables(tmp_path / "missing.log", tmp_path)
