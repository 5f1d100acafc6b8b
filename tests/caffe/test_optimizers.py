"""Update rules against a least-squares history computed with numpy, value by value.

The problem is a linear model y = X w + b with the loss |X w + b - y|^2 / 2n, whose gradient is
written down here, so that nothing of torch takes part in the expected history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pellucid.caffe.solver.optimizers import RULES, Rule, make_optimizer
from pellucid.errors import SettingsError

Array = npt.NDArray[np.float64]
LR_MULT = (1.0, 2.0)
DECAY_MULT = (1.0, 0.0)
STEPS = 6


def problem(seed: int = 0) -> tuple[list[Array], list[Array], list[Array]]:
    """Three batches of inputs and targets, and the first w and b."""
    random = np.random.default_rng(seed)
    inputs = [random.normal(size=(7, 3)) for _ in range(3)]
    targets = [random.normal(size=7) for _ in range(3)]
    return inputs, targets, [random.normal(size=3), random.normal(size=1)]


def gradient(x: Array, y: Array, w: Array, b: Array) -> list[Array]:
    residual = x @ w + b - y
    return [x.T @ residual / len(y), np.array([residual.sum() / len(y)])]


def sgd(g: float, h: list[float], r: float, rule: Rule, _t: int) -> float:
    h[0] = rule.momentum * h[0] + r * g
    return h[0]


def nesterov(g: float, h: list[float], r: float, rule: Rule, _t: int) -> float:
    old, h[0] = h[0], rule.momentum * h[0] + r * g
    return (1 + rule.momentum) * h[0] - rule.momentum * old


def adagrad(g: float, h: list[float], r: float, rule: Rule, _t: int) -> float:
    h[0] += g**2
    return float(r * g / (h[0] ** 0.5 + rule.delta))


def rmsprop(g: float, h: list[float], r: float, rule: Rule, _t: int) -> float:
    h[0] = rule.rms_decay * h[0] + (1 - rule.rms_decay) * g**2
    return float(r * g / (h[0] ** 0.5 + rule.delta))


def adadelta(g: float, h: list[float], r: float, rule: Rule, _t: int) -> float:
    h[0] = rule.momentum * h[0] + (1 - rule.momentum) * g**2
    u = float(g * ((h[1] + rule.delta) / (h[0] + rule.delta)) ** 0.5)
    h[1] = rule.momentum * h[1] + (1 - rule.momentum) * u**2
    return r * u


def adam(g: float, h: list[float], r: float, rule: Rule, t: int) -> float:
    h[0] = rule.momentum * h[0] + (1 - rule.momentum) * g
    h[1] = rule.momentum2 * h[1] + (1 - rule.momentum2) * g**2
    corrected = (1 - rule.momentum2**t) ** 0.5 / (1 - rule.momentum**t)
    return float(r * corrected * h[0] / (h[1] ** 0.5 + rule.delta))


ONE: dict[str, Callable[[float, list[float], float, Rule, int], float]] = {
    "SGD": sgd,
    "Nesterov": nesterov,
    "AdaGrad": adagrad,
    "RMSProp": rmsprop,
    "AdaDelta": adadelta,
    "Adam": adam,
}


def expected(kind: str, rule: Rule, lrs: list[float]) -> list[list[Array]]:
    """The weights after each update."""
    inputs, targets, weights = problem()
    histories = [[[0.0, 0.0] for _ in w] for w in weights]
    after = []
    taken = 0
    for t, lr in enumerate(lrs, 1):
        sums = [np.zeros(3), np.zeros(1)]
        for _ in range(rule.iter_size):
            grads = gradient(inputs[taken % 3], targets[taken % 3], *weights)
            sums = [s + g for s, g in zip(sums, grads, strict=True)]
            taken += 1
        norm = float(np.sqrt(sum((s**2).sum() for s in sums)))
        clip = rule.clip_gradients / norm if 0 <= rule.clip_gradients < norm else 1.0
        for k in range(2):
            for i in range(len(weights[k])):
                w = weights[k][i]
                penalty = w if rule.regularization_type == "L2" else np.sign(w)
                g = sums[k][i] * clip / rule.iter_size
                g += rule.weight_decay * DECAY_MULT[k] * penalty
                weights[k][i] = w - ONE[kind](g, histories[k][i], lr * LR_MULT[k], rule, t)
        after.append([w.copy() for w in weights])
    return after


def actual(kind: str, rule: Rule, lrs: list[float]) -> list[list[Array]]:
    inputs, targets, first = problem()
    weights = [torch.tensor(w, requires_grad=True) for w in first]
    groups = [
        {"params": [w], "lr_mult": lr, "decay_mult": decay}
        for w, lr, decay in zip(weights, LR_MULT, DECAY_MULT, strict=True)
    ]
    optimizer = make_optimizer(kind, groups, 0.0, rule, lambda _: None)
    after = []
    taken = 0
    for lr in lrs:
        optimizer.zero_grad()
        for _ in range(rule.iter_size):
            x, y = torch.tensor(inputs[taken % 3]), torch.tensor(targets[taken % 3])
            ((x @ weights[0] + weights[1] - y).square().mean() / 2).backward()  # type: ignore[no-untyped-call]
            taken += 1
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        after.append([w.detach().numpy().copy() for w in weights])
    return after


def momentum_of(kind: str) -> float:
    return 0.9 if RULES[kind].momentum_allowed else 0.0


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "regularization_type": "L1"},
        {"clip_gradients": 0.2, "weight_decay": 0.1},
        {"iter_size": 3, "weight_decay": 0.1, "clip_gradients": 0.9},
    ],
    ids=["plain", "L2", "L1", "clip", "iter_size"],
)
def test_a_rule_makes_the_history_worked_out_by_hand(kind: str, fields: dict[str, Any]) -> None:
    rule = Rule(momentum=momentum_of(kind), delta=1e-6, rms_decay=0.95, **fields)
    lrs = [0.1 * 0.7**i for i in range(STEPS)]  # a falling rate: it must not act on the past
    for want, got in zip(expected(kind, rule, lrs), actual(kind, rule, lrs), strict=True):
        for w, g in zip(want, got, strict=True):
            np.testing.assert_allclose(g, w, rtol=0, atol=1e-13)


def test_the_clip_is_on_what_is_summed_and_comes_before_decay() -> None:
    """Both orders give different numbers here, so that the grid above is able to fail."""
    rule = Rule(iter_size=3, clip_gradients=0.9, weight_decay=0.1)
    unclipped = Rule(iter_size=3, weight_decay=0.1)
    clipped_late = Rule(iter_size=3, clip_gradients=0.3, weight_decay=0.1)
    first = [expected("SGD", one, [0.1])[0][0] for one in (rule, unclipped, clipped_late)]
    assert abs(first[0] - first[1]).max() > 1e-3
    assert abs(first[0] - first[2]).max() > 1e-3


def test_a_parameter_without_gradient_still_decays() -> None:
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = make_optimizer("SGD", [weight], 0.5, Rule(weight_decay=0.1), lambda _: None)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.95, dtype=torch.float64))


def test_a_multiplier_of_zero_freezes() -> None:
    weight = torch.ones(2, requires_grad=True)
    weight.grad = torch.ones(2)
    group = {"params": [weight], "lr_mult": 0.0}
    optimizer = make_optimizer("Adam", [group], 0.5, Rule(weight_decay=0.1), lambda _: None)
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0]


def test_clipping_is_said() -> None:
    said: list[str] = []
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.full((1,), 4.0)
    make_optimizer("SGD", [weight], 0.1, Rule(clip_gradients=1.0), said.append).step()
    assert said == [
        "Gradient clipping: scaling down gradients (L2 norm 4 > 1) by scale factor 0.25"
    ]


def test_what_cannot_be_is_refused() -> None:
    weight = torch.zeros(1, requires_grad=True)
    with pytest.raises(SettingsError, match="unknown solver type 'SDG'"):
        make_optimizer("SDG", [weight], 0.1, Rule(), lambda _: None)
    with pytest.raises(SettingsError, match="'AdaGrad' has no momentum"):
        make_optimizer("AdaGrad", [weight], 0.1, Rule(momentum=0.9), lambda _: None)
    with pytest.raises(SettingsError, match="regularization_type 'L3'"):
        Rule(regularization_type="L3")
