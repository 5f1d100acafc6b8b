"""Models x losses x optimizers x sizes x sources x workers: the same numbers as plain python.

Hypothesis draws the cases; one program trains many of them, so that a pair of processes, with
its imports of torch, is paid once for all. The draw is the same each time.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.like_python import PROGRAMS, LikePython, Program

GRID = Program(path=PROGRAMS / "_grid.py")
NORMALISED = ("batchnorm", "conv_batchnorm")  # refuse to train on a single row
MODELS = (
    *NORMALISED,
    "linear",
    "mlp",
    "dropout",
    "conv",
    "norms",
    "gru",
    "lstm_time_first",
    "attention",
    "attention_dropout",
    "words",
    "tied",
    "reparameterized",
    "coupled",
)
LOSSES = (
    "mean",
    "sum",
    "weighted_rows",
    "class_weights",
    "smoothing",
    "ignore_index",
    "mse",
    "contrastive",
    "masked",
    "variance",
)
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "by_hand")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """One training: sizes that leave uneven, tiny and empty slices are as likely as any."""
    model = draw(st.sampled_from(MODELS))
    batch = draw(st.integers(2 if model in NORMALISED else 1, 11))
    return {
        "model": model,
        "loss": draw(st.sampled_from(LOSSES)),
        "optimizer": draw(st.sampled_from(OPTIMIZERS)),
        "batch": batch,
        "rows": draw(st.integers(batch, 30)),
        "drop_last": model in NORMALISED or draw(st.booleans()),
        "source": draw(st.sampled_from(("loader", "loader", "slices", "loader_process"))),
        "accumulate": draw(st.sampled_from((1, 1, 2))),
        "clip": draw(st.booleans()),
        "seed": draw(st.integers(0, 1000)),
    }


# no shrinking: each trial is a pair of runs, and the first line that differs names the case
DRAW = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def check(like_python: LikePython, drawn: list[dict[str, Any]], workers: int) -> None:
    files = {"cases.json": json.dumps(drawn, indent=1)}
    report = like_python.run_both(GRID, workers, files=files).report()
    if report:
        pytest.fail(f"{report}\ncases: {json.dumps(drawn)}", pytrace=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [2, 3])
def test_a_few_drawn_cases(like_python: LikePython, workers: int) -> None:
    @settings(DRAW, max_examples=2)
    @given(drawn=st.lists(cases(), min_size=12, max_size=12))
    def draw(drawn: list[dict[str, Any]]) -> None:
        check(like_python, drawn, workers)

    draw()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_many_drawn_cases(like_python: LikePython, workers: int) -> None:
    @settings(DRAW, max_examples=12)
    @given(drawn=st.lists(cases(), min_size=15, max_size=15))
    def draw(drawn: list[dict[str, Any]]) -> None:
        check(like_python, drawn, workers)

    draw()
