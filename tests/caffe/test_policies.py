"""Learning-rate policies against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pellucid.caffe.solver.policies import LearningRate, Schedule
from pellucid.errors import SettingsError


def rates(*, count: int, losses: list[float] | None = None, **fields: Any) -> list[float]:
    rate = LearningRate(Schedule(base_lr=0.5, **fields))
    return [rate.at(i, lambda i=i: losses[i] if losses else 0.0) for i in range(count)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"lr_policy": "fixed"}, [0.5, 0.5, 0.5, 0.5]),
        ({"lr_policy": "step", "gamma": 0.1, "stepsize": 2}, [0.5, 0.5, 0.05, 0.05]),
        ({"lr_policy": "exp", "gamma": 0.5}, [0.5, 0.25, 0.125, 0.0625]),
        ({"lr_policy": "inv", "gamma": 1.0, "power": 2.0}, [0.5, 0.125, 0.5 / 9, 0.03125]),
        (
            {"lr_policy": "multistep", "gamma": 0.1, "stepvalue": (1, 3)},
            [0.5, 0.05, 0.05, 0.005],
        ),
        ({"lr_policy": "poly", "power": 2.0, "max_iter": 4}, [0.5, 0.28125, 0.125, 0.03125]),
        (
            {"lr_policy": "sigmoid", "gamma": -1.0, "stepsize": 1},
            # half of the logistic function at 1, 0, -1 and -2
            [0.36552928931500245, 0.25, 0.13447071068499755, 0.05960146101105877],
        ),
    ],
)
def test_a_policy_gives_the_rates_of_its_formula(
    fields: dict[str, Any], expected: list[float]
) -> None:
    assert rates(count=4, **fields) == pytest.approx(expected, rel=1e-12)


def test_multistep_takes_one_step_an_iteration_even_where_values_are_equal() -> None:
    got = rates(count=4, lr_policy="multistep", gamma=0.1, stepvalue=(1, 1))
    assert got == pytest.approx([0.5, 0.05, 0.005, 0.005])


def test_plateau_steps_after_a_window_without_a_new_minimum() -> None:
    losses = [3.0, 2.0, 2.0, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    got = rates(count=9, losses=losses, lr_policy="plateau", gamma=0.1, plateau_winsize=(2, 2))
    # minima at 0, 1 and 4; two iterations later, at 3 and 6, nothing new had come
    assert got == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.005, 0.005, 0.005])


def test_the_rate_climbs_quadratically_and_never_falls_below_the_least() -> None:
    got = rates(
        count=8, lr_policy="exp", gamma=0.1, rampup_interval=4, rampup_lr=0.1, min_lr=0.00001
    )
    assert got[:4] == pytest.approx([0.1, 0.125, 0.2, 0.325])
    assert got[4:] == pytest.approx([0.00005, 0.00001, 0.00001, 0.00001])


def test_a_sigmoid_far_from_its_middle_does_not_overflow() -> None:
    assert rates(count=1, lr_policy="sigmoid", gamma=10.0, stepsize=1000) == [pytest.approx(0.0)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lr_policy": "stepp"}, "unknown lr_policy 'stepp'"),
        ({"lr_policy": "step"}, "needs a stepsize"),
        ({"lr_policy": "poly"}, "needs a max_iter"),
        ({"lr_policy": "plateau"}, "needs a plateau_winsize"),
    ],
)
def test_what_cannot_be_is_refused_before_the_training(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Schedule(base_lr=0.1, **fields)
