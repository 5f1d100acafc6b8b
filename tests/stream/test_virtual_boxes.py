"""Boxes that train for real: as good as one, from as many samples."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from benchmarks.workloads.virtual import Digits, Outcome, Scenario, rehearse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Ten shapes in noise: hard enough to tell a bad run from a good one, and no download."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.randn(10, 1, 28, 28, generator=generator)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(10, (count,), generator=generator)
        noise = torch.randn(count, 1, 28, 28, generator=generator)
        return shapes[labels] / 8 + noise, labels

    return Digits(*draw(8000), *draw(2000))


@pytest.fixture(scope="module")
def alone(digits: Digits) -> dict[str, Outcome]:
    return {name: run(digits, optimizer=name, boxes=1) for name in ("sgd", "adam")}


def run(digits: Digits, **changes: object) -> Outcome:
    torch.set_num_threads(1)
    base = Scenario(epochs=4, net="small", batch=32)
    if changes.get("optimizer") == "adam":
        base = dataclasses.replace(base, lr=0.001)
    return rehearse(dataclasses.replace(base, **changes), digits)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("boxes", [2, 4])
def test_as_good_as_one_box(
    digits: Digits, alone: dict[str, Outcome], optimizer: str, boxes: int
) -> None:
    outcome = run(digits, optimizer=optimizer, boxes=boxes)
    assert outcome.samples == alone[optimizer].samples
    assert outcome.accuracy > alone[optimizer].accuracy - 1.5
    assert outcome.accuracy > 50


@pytest.mark.parametrize("hardship", [{"staleness": 30.0}, {"slowest": 4.0}, {"deaths": 2}])
def test_hardships(digits: Digits, alone: dict[str, Outcome], hardship: dict[str, object]) -> None:
    outcome = run(digits, boxes=4, **hardship)
    assert outcome.accuracy > alone["sgd"].accuracy - 3
    assert outcome.samples >= alone["sgd"].samples


def test_a_sum_of_deltas_is_what_momentum_does_not_survive(
    digits: Digits, alone: dict[str, Outcome]
) -> None:
    outcome = run(digits, boxes=8, stride=0.0, gain=1.0, cycle=10.0)
    assert outcome.accuracy < alone["sgd"].accuracy - 3
