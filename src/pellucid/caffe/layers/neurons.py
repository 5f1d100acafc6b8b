"""Layers that treat values one by one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pellucid.caffe.layers.layer import Layer, Shape, register

__all__: list[str] = []


@register("ReLU")
class ReLU(Layer):
    """max(x, 0), or a slope for negative values."""

    def forward(self, x: Tensor) -> Tensor:
        """Rectify."""
        slope = self.param.relu_param.negative_slope
        return F.leaky_relu(x, slope) if slope else F.relu(x)


@register("PReLU")
class PReLU(Layer):
    """A learned slope for negative values."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Make the slopes: one a channel, or one."""
        p = self.param.prelu_param
        if not p.HasField("filler"):
            p.filler.value = 0.25
        self.learn(() if p.channel_shared else (bottoms[0][1],), p.filler)

    def forward(self, x: Tensor) -> Tensor:
        """Rectify."""
        return F.prelu(x, self.blobs()[0].reshape(-1))


@register("ELU")
class ELU(Layer):
    """Exponential for negative values (Clevert et al. 2015)."""

    def forward(self, x: Tensor) -> Tensor:
        """Rectify."""
        return F.elu(x, self.param.elu_param.alpha)


@register("Sigmoid")
class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Squash."""
        return torch.sigmoid(x)


@register("TanH")
class TanH(Layer):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Squash."""
        return torch.tanh(x)


@register("Swish")
class Swish(Layer):
    """x * sigmoid(beta x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Gate."""
        return x * torch.sigmoid(self.param.swish_param.beta * x)


@register("AbsVal")
class AbsVal(Layer):
    """|x|."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop the sign."""
        return x.abs()


@register("BNLL")
class BNLL(Layer):
    """log(1 + exp(x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Soften."""
        return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


@register("Clip")
class Clip(Layer):
    """Values kept between two bounds."""

    def forward(self, x: Tensor) -> Tensor:
        """Clip."""
        return x.clamp(self.param.clip_param.min, self.param.clip_param.max)


@register("Power")
class Power(Layer):
    """(shift + scale * x) ^ power."""

    def forward(self, x: Tensor) -> Tensor:
        """Raise."""
        p = self.param.power_param
        y = x if p.scale == 1 else x * p.scale
        y = y if p.shift == 0 else y + p.shift
        return y if p.power == 1 else y.pow(p.power)


@register("Exp")
class Exp(Layer):
    """base ^ (shift + scale * x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Raise."""
        p = self.param.exp_param
        log_base = 1.0 if p.base == -1 else math.log(p.base)
        return torch.exp(log_base * (p.shift + p.scale * x))


@register("Log")
class Log(Layer):
    """log_base(shift + scale * x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Take the logarithm."""
        p = self.param.log_param
        log_base = 1.0 if p.base == -1 else math.log(p.base)
        return torch.log(p.shift + p.scale * x) / log_base


@register("Threshold")
class Threshold(Layer):
    """1 above a threshold, else 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Compare."""
        return x.gt(self.param.threshold_param.threshold).to(x.dtype)


@register("Dropout")
class Dropout(Layer):
    """Zeros at random in training, the rest scaled up."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Check the ratio."""
        ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= ratio < 1:
            self.refuse(f"dropout_ratio {ratio} must be at least 0 and less than 1")

    def forward(self, x: Tensor) -> Tensor:
        """Drop."""
        return F.dropout(x, self.param.dropout_param.dropout_ratio, self.train_phase)
