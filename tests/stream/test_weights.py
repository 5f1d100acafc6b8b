"""Weights of several boxes, as the scripts see them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.errors import MismatchError, NetworkError
from pellucid.params.flat import FlatParameters, named_tensors
from pellucid.params.memory import create
from pellucid.sync.shared.dealer import Block
from pellucid.sync.stream.exchange import BoxExchange
from pellucid.sync.stream.mirror import Mirror
from pellucid.sync.stream.weights import ClusterWeights, Settling
from tests.stream.engines import Fleet


class Script:
    """One box's script, cut down to a model and its optimizer."""

    def __init__(
        self,
        fleet: Fleet,
        box: int,
        *,
        seed: int,
        outputs: int = 3,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, outputs), nn.BatchNorm1d(outputs)).to(dtype)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1.0)
        self.said: list[str] = []
        engine, fd = fleet.engines[box], create()
        self.exchange = BoxExchange(engine, fd)
        settling = Settling(engine, self.exchange, lambda _, text: self.said.append(text))
        self.weights = ClusterWeights(fd, 0, lambda: box == 0, self.exchange, settling)

    def begin(self, name: str = "Net 0.0") -> None:
        self.weights.enter(keep=True)
        self.weights.register(Block(name, FlatParameters(named_tensors(self.net))))

    def step(self, by: float) -> None:
        for parameter in self.net.parameters():
            parameter.grad = torch.full_like(parameter, -by)
        self.weights.before_step(self.optimizer)
        self.optimizer.step()
        self.weights.after_step(self.optimizer)

    def values(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten().double() for p in self.net.parameters()])


def after_a_step(
    fleet: Fleet, dtype: torch.dtype = torch.float32
) -> tuple[list[Script], torch.Tensor]:
    """Two scripts that have made a step of 1 each and told it, and the weights before it."""
    scripts = [Script(fleet, box, seed=0, dtype=dtype) for box in (0, 1)]
    before = scripts[0].values()
    for script in scripts:
        script.begin()
    for script in scripts:
        script.step(1.0)
    fleet.go_on(2.0)
    return scripts, before


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet()
    made.start(0)
    made.start(1)
    return made


def test_steps_are_as_many_times_as_long_as_boxes_train(fleet: Fleet) -> None:
    scripts = [Script(fleet, box, seed=0) for box in (0, 1)]
    for script in scripts:
        script.begin()
    for _ in range(5):
        for box in (0, 1):
            fleet.samples[box] += 100
        fleet.go_on(2.0)
    before = scripts[0].values()
    scripts[0].step(1.0)
    moved = scripts[0].values() - before
    torch.testing.assert_close(moved, torch.full_like(moved, 2.0), atol=0.01, rtol=0)
    assert scripts[0].optimizer.param_groups[0]["lr"] == 1.0


def test_fresh_weights_of_a_late_box_reach_nobody(fleet: Fleet) -> None:
    first, late = Script(fleet, 0, seed=0), Script(fleet, 1, seed=1)
    before = first.values()
    first.begin()
    late.begin()
    assert torch.equal(late.values(), before)
    fleet.go_on(2.0)
    first.exchange.correct()
    assert torch.equal(first.values(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_steps_of_both_boxes_come_together_averaged(fleet: Fleet, dtype: torch.dtype) -> None:
    scripts = [Script(fleet, box, seed=0, dtype=dtype) for box in (0, 1)]
    before = scripts[0].values()
    for script in scripts:
        script.begin()
    for script, by in zip(scripts, (1.0, 3.0), strict=True):
        script.step(by)
    for _ in range(3):
        fleet.go_on(2.0)
        for script in scripts:
            script.weights.before_batch()
            script.weights.before_batch()  # no optimizer has stepped since: it is time, too
    tolerance = 0.05 if dtype is torch.bfloat16 else 1e-5
    for script in scripts:
        moved = script.values() - before
        torch.testing.assert_close(moved, torch.full_like(moved, 2.0), atol=tolerance, rtol=0)


def test_the_leader_looks_at_the_clusters_weights_and_its_own_rest_is_kept(fleet: Fleet) -> None:
    scripts, before = after_a_step(fleet)
    scripts[0].weights.leave()
    seen = scripts[0].values()
    torch.testing.assert_close(seen - before, torch.ones_like(seen), atol=1e-5, rtol=0)
    fleet.go_on(1.0)
    assert torch.equal(scripts[0].values(), seen)  # it stands still
    scripts[1].step(1.0)
    fleet.go_on(2.0)
    assert torch.equal(scripts[0].values(), seen)
    scripts[0].weights.enter(keep=True)
    scripts[0].exchange.correct()
    moved = scripts[0].values() - before
    torch.testing.assert_close(moved, torch.full_like(moved, 1.5), atol=1e-5, rtol=0)


def test_weights_come_together_without_waiting_for_a_cycle(fleet: Fleet) -> None:
    scripts = [Script(fleet, box, seed=0) for box in (0, 1)]
    for script in scripts:
        script.begin()
        script.step(1.0)
    before = fleet.medium.now
    scripts[0].weights.leave()
    assert scripts[0].said == []
    assert fleet.medium.now - before < 0.5  # chunks that are at rest are exchanged as seldom


def test_a_network_that_is_too_slow_for_a_last_look_is_told_once(fleet: Fleet) -> None:
    scripts = [Script(fleet, box, seed=0) for box in (0, 1)]
    for script in scripts:
        script.begin()
    scripts[0].step(1.0)
    fleet.medium.cut(0, 1)
    for _ in range(2):
        scripts[0].weights.leave()
        scripts[0].weights.enter(keep=True)
    (told,) = scripts[0].said
    assert "did not come together within" in told


def test_another_model_is_refused(fleet: Fleet) -> None:
    Script(fleet, 0, seed=0).begin()
    with pytest.raises(MismatchError, match="not that of box 0"):
        Script(fleet, 1, seed=0, outputs=5).begin()


def test_a_box_that_never_had_an_earlier_model_keeps_its_place(fleet: Fleet) -> None:
    early, late = Script(fleet, 0, seed=0), Script(fleet, 1, seed=1)
    early.begin("Net 0.0")
    torch.manual_seed(2)
    early.net = nn.Sequential(nn.Linear(4, 5))
    early.weights.register(Block("Net 3.0", FlatParameters(named_tensors(early.net))))
    late.net = nn.Sequential(nn.Linear(4, 5))
    late.begin("Net 3.0")
    assert torch.equal(late.values(), early.values())


def test_a_failure_of_the_engine_reaches_the_script(fleet: Fleet) -> None:
    script = Script(fleet, 0, seed=0)
    script.begin()
    fleet.engines[0]._failed = NetworkError("the network's thread failed")
    with pytest.raises(NetworkError, match="thread failed"):
        script.step(1.0)


def test_a_mirror_follows_its_array_and_adds_corrections() -> None:
    array = torch.arange(4.0, dtype=torch.float64)
    mirror = Mirror(array)
    array += 0.1
    mirror.correct(lambda: np.add(mirror.values, 1.0, out=mirror.values))
    torch.testing.assert_close(array, torch.arange(4.0, dtype=torch.float64) + 1.1)
    mirror.values[:] = 7.0
    mirror.adopt()
    assert array.tolist() == [7.0] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_leader_changes_between_passes_counts_whole(
    fleet: Fleet, dtype: torch.dtype
) -> None:
    scripts, before = after_a_step(fleet, dtype)
    for script in scripts:
        script.weights.leave()
    with torch.no_grad():  # it loads a checkpoint
        for script, by in zip(scripts, (10.0, 90.0), strict=True):
            for parameter in script.net.parameters():
                parameter.add_(by)
    for script, leads in zip(scripts, (True, False), strict=True):
        script.weights.enter(keep=leads)
        script.step(2.0)
    for _ in range(3):
        fleet.go_on(2.0)
        for script in scripts:
            script.weights.before_batch()
            script.weights.before_batch()
    for script in scripts:
        moved = script.values() - before
        torch.testing.assert_close(moved, torch.full_like(moved, 13.0), atol=1e-4, rtol=0)
