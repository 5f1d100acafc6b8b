"""Caffe's six update rules as torch optimizers.

[Note: update order]
With the gradient g summed over ``iter_size`` batches, one update is, in Caffe's order:

    clip        g *= clip_gradients / |g|   if the norm over all parameters is above it
    normalize   g /= iter_size
    regularize  g += d * w (L2)  or  g += d * sign(w) (L1),   d = weight_decay * decay_mult
    value       u = rule(g, r),                               r = lr * lr_mult
    update      w -= u

torch.optim's optimizers differ: they keep the rate out of the momentum buffer (a change of rate
there acts on past gradients too), and know no multipliers. The histories kept here are the blobs
of a ``.solverstate``. Source: BVLC/caffe, solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from pellucid.errors import SettingsError

__all__ = ["RULES", "CaffeOptimizer", "Rule", "make_optimizer"]

Tensors = list[Tensor]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The numbers of a solver file that its update rule reads; the names are Caffe's.

    Attributes:
        momentum: of the first history; the decay of AdaDelta's histories and of Adam's mean.
        momentum2: decay of Adam's second history.
        rms_decay: decay of RMSProp's history.
        delta: keeps divisors from zero.
        weight_decay: strength of the regularization.
        regularization_type: L2 or L1.
        clip_gradients: largest norm of the whole gradient; negative for none.
        iter_size: batches a gradient is summed over.
    """

    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    weight_decay: float = 0.0
    regularization_type: str = "L2"
    clip_gradients: float = -1.0
    iter_size: int = 1

    @classmethod
    def of(cls, param: Any) -> Rule:
        """Take it from a SolverParameter."""
        return cls(**{name: getattr(param, name) for name in cls.__dataclass_fields__})

    def __post_init__(self) -> None:
        """Refuse what Caffe refuses, before the training."""
        if self.regularization_type not in ("L1", "L2"):
            msg = f"unknown regularization_type {self.regularization_type!r}. It is L1 or L2"
            raise SettingsError(msg)
        if self.iter_size < 1:
            msg = f"iter_size is {self.iter_size}: the batches of an iteration are 1 or more"
            raise SettingsError(msg)


class CaffeOptimizer(torch.optim.Optimizer):
    """One update an iteration, see [Note: update order].

    Parameters may come in groups with multipliers ``lr_mult`` and ``decay_mult``, 1 by default.
    The rate of an iteration is put into ``group["lr"]``, as torch's schedulers do.

    ``group["updates"]`` counts them from the start of the training: set it after a restore.

    Args:
        params: parameters or groups, as for any torch optimizer.
        lr: the rate.
        rule: the other numbers.
        note: told when gradients are clipped.
    """

    histories: ClassVar[int] = 1
    momentum_allowed: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        rule: Rule | None = None,
        *,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.rule = rule or Rule()
        if self.rule.momentum and not self.momentum_allowed:
            name = type(self).__name__
            msg = f"solver type {name!r} has no momentum, the solver says {self.rule.momentum}"
            raise SettingsError(msg)
        self._note = note
        super().__init__(params, {"lr": lr, "lr_mult": 1.0, "decay_mult": 1.0, "updates": 0})

    def history_of(self, parameter: Tensor) -> Tensors:
        """The histories of a parameter, zero before its first update."""
        state = self.state[parameter]
        if "history" not in state:
            state["history"] = [torch.zeros_like(parameter) for _ in range(self.histories)]
        history: Tensors = state["history"]
        return history

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter by the gradient summed since `zero_grad`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._clip()
        for group in self.param_groups:
            group["updates"] += 1
            if group["lr_mult"]:
                self._update(group)
        return loss

    def _clip(self) -> None:
        limit = self.rule.clip_gradients
        if limit < 0:
            return
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        there = [grad for grad in grads if grad is not None]
        norm = float(torch.nn.utils.get_total_norm(there))
        if norm > limit:
            scale = limit / norm
            torch._foreach_mul_(there, scale)
            self._note(
                f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) "
                f"by scale factor {scale:g}"
            )

    def _update(self, group: dict[str, Any]) -> None:
        """All parameters of a group in a few calls: a net has hundreds, each of them small."""
        weights: Tensors = group["params"]
        # a parameter that took no part has a zero gradient in Caffe: decay and momentum go on
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        if self.rule.iter_size > 1:
            grads = list(torch._foreach_div(grads, float(self.rule.iter_size)))
        if decay := self.rule.weight_decay * group["decay_mult"]:
            penalty = weights
            if self.rule.regularization_type == "L1":
                penalty = list(torch._foreach_sign(weights))
            grads = list(torch._foreach_add(grads, penalty, alpha=decay))
        histories = [self.history_of(p) for p in weights]
        columns = [list(column) for column in zip(*histories, strict=True)]
        rate = group["lr"] * group["lr_mult"] * self._correction(group["updates"])
        torch._foreach_sub_(weights, self._value(grads, columns, rate))

    def _value(self, grads: Tensors, histories: list[Tensors], rate: float) -> Tensors:
        """What is taken from the weights.

        Args:
            grads: regularized gradients of the group's parameters.
            histories: for each history of the rule, one tensor a parameter; updated here.
            rate: the rate times the group's multiplier and correction.
        """
        raise NotImplementedError

    def _correction(self, updates: int) -> float:  # noqa: ARG002 - Adam's needs the count
        """Factor of the rate at the update of this number, counted from 1."""
        return 1.0


class SGD(CaffeOptimizer):
    """h = mu h + r g; the update is h."""

    def _value(self, grads: Tensors, histories: list[Tensors], rate: float) -> Tensors:
        (h,) = histories
        torch._foreach_mul_(h, self.rule.momentum)
        torch._foreach_add_(h, grads, alpha=rate)
        return h


class Nesterov(CaffeOptimizer):
    """h' = mu h + r g; the update is (1 + mu) h' - mu h."""

    def _value(self, grads: Tensors, histories: list[Tensors], rate: float) -> Tensors:
        (h,) = histories
        momentum = self.rule.momentum
        before = torch._foreach_mul(h, momentum)
        torch._foreach_mul_(h, momentum)
        torch._foreach_add_(h, grads, alpha=rate)
        value = list(torch._foreach_mul(h, 1 + momentum))
        torch._foreach_sub_(value, before)
        return value


def _divided(grads: Tensors, squares: Tensors, rate: float, delta: float) -> Tensors:
    """The update r g / (sqrt(h) + delta)."""
    divisors = torch._foreach_sqrt(squares)
    torch._foreach_add_(divisors, delta)
    value = torch._foreach_div(grads, divisors)
    torch._foreach_mul_(value, rate)
    return list(value)


def _average(history: Tensors, values: Tensors, decay: float) -> None:
    """Replace the history h by decay h + (1 - decay) value."""
    torch._foreach_mul_(history, decay)
    torch._foreach_add_(history, values, alpha=1 - decay)


def _squares(values: Tensors) -> Tensors:
    return list(torch._foreach_mul(values, values))


class AdaGrad(CaffeOptimizer):
    """h += g^2; the update is r g / (sqrt h + delta)."""

    momentum_allowed = False

    def _value(self, grads: Tensors, histories: list[Tensors], rate: float) -> Tensors:
        (h,) = histories
        torch._foreach_add_(h, _squares(grads))
        return _divided(grads, h, rate, self.rule.delta)


class RMSProp(CaffeOptimizer):
    """h = rd h + (1 - rd) g^2; the update is r g / (sqrt h + delta)."""

    momentum_allowed = False

    def _value(self, grads: Tensors, histories: list[Tensors], rate: float) -> Tensors:
        (h,) = histories
        _average(h, _squares(grads), self.rule.rms_decay)
        return _divided(grads, h, rate, self.rule.delta)


class AdaDelta(CaffeOptimizer):
    """h = mu h + (1 - mu) g^2; u = g sqrt((h2 + delta) / (h + delta)); h2 likewise of u; r u."""

    histories = 2

    def _value(self, grads: Tensors, histories: list[Tensors], rate: float) -> Tensors:
        of_gradients, of_updates = histories
        delta, decay = self.rule.delta, self.rule.momentum
        _average(of_gradients, _squares(grads), decay)
        damped = torch._foreach_add(of_gradients, delta)
        ratio = list(torch._foreach_div(torch._foreach_add(of_updates, delta), damped))
        torch._foreach_sqrt_(ratio)
        torch._foreach_mul_(ratio, grads)
        _average(of_updates, _squares(ratio), decay)
        torch._foreach_mul_(ratio, rate)
        return ratio


class Adam(CaffeOptimizer):
    """m, v averages of g, g^2; the update is r sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt v + delta).

    The correction stands outside of the root, so that delta weighs more at the start than it
    does in torch's Adam.
    """

    histories = 2

    def _value(self, grads: Tensors, histories: list[Tensors], rate: float) -> Tensors:
        mean, square = histories
        b1, b2 = self.rule.momentum, self.rule.momentum2
        _average(mean, grads, b1)
        _average(square, _squares(grads), b2)
        return _divided(mean, square, rate, self.rule.delta)

    def _correction(self, updates: int) -> float:
        return float((1 - self.rule.momentum2**updates) ** 0.5 / (1 - self.rule.momentum**updates))


RULES: Final[dict[str, type[CaffeOptimizer]]] = {
    "SGD": SGD,
    "Nesterov": Nesterov,
    "AdaGrad": AdaGrad,
    "RMSProp": RMSProp,
    "AdaDelta": AdaDelta,
    "Adam": Adam,
}


def make_optimizer(
    kind: str, params: Iterable[Any], lr: float, rule: Rule, note: Callable[[str], None]
) -> CaffeOptimizer:
    """The optimizer of a solver file.

    Args:
        kind: ``type`` of the solver file.
        params: parameters or groups.
        lr: the rate before the first iteration.
        rule: the other numbers.
        note: told when gradients are clipped.

    Raises:
        SettingsError: there is no such type.
    """
    if kind not in RULES:
        msg = f"unknown solver type {kind!r}. It is one of: {', '.join(RULES)}"
        raise SettingsError(msg)
    return RULES[kind](params, lr, rule, note=note)
