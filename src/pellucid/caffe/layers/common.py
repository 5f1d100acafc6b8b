"""Inner products, embeddings, scale and bias, normalisations over a batch or a sample."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pellucid.caffe.layers.layer import Layer, Shape, register
from pellucid.caffe.proto import messages

__all__: list[str] = []


@register("InnerProduct")
class InnerProduct(Layer):
    """A product with a matrix, over the axes from ``axis`` on."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Make weights (outputs, inputs), or turned over, and bias (outputs,)."""
        p = self.param.inner_product_param
        self.first = self.axis(p.axis, len(bottoms[0]))
        inputs = math.prod(bottoms[0][self.first :])
        if not p.num_output:
            self.refuse("it needs num_output")
        shape = (inputs, p.num_output) if p.transpose else (p.num_output, inputs)
        self.learn(shape, p.weight_filler)
        if p.bias_term:
            self.learn((p.num_output,), p.bias_filler)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        weight, *rest = self.blobs()
        if self.param.inner_product_param.transpose:
            weight = weight.t()
        return F.linear(x.flatten(self.first), weight, rest[0] if rest else None)


@register("Embed")
class Embed(Layer):
    """Rows of a matrix by number."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Make weights (numbers, outputs) and bias (outputs,)."""
        p = self.param.embed_param
        if not p.num_output or not p.input_dim:
            self.refuse("it needs num_output and input_dim")
        self.learn((p.input_dim, p.num_output), p.weight_filler)
        if p.bias_term:
            self.learn((p.num_output,), p.bias_filler)

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (..., outputs)."""
        weight, *rest = self.blobs()
        y = F.embedding(x.long(), weight)
        return y + rest[0] if rest else y


def _spread(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Values that lie along x's axes from ``axis`` on, to be broadcast over the others."""
    behind = x.ndim - axis - values.ndim
    return values.reshape(*values.shape, *(1,) * behind) if values.ndim else values


class _Affine(Layer):
    """What Scale and Bias have in common: a second bottom, or a learned blob."""

    counts = (1, 2)
    field = ""
    neutral = 0.0

    def setup(self, bottoms: list[Shape]) -> None:
        """Make the blob, if it is learned."""
        p = getattr(self.param, self.field)
        shape = bottoms[0]
        self.first = self.axis(p.axis, len(shape))
        if len(bottoms) == 1:
            end = len(shape) if p.num_axes == -1 else self.first + p.num_axes
            if end > len(shape):
                self.refuse(f"num_axes {p.num_axes} from axis {p.axis} exceed the shape {shape}")
            if not p.HasField("filler"):
                p.filler.value = self.neutral
            self.learn(shape[self.first : end], p.filler)
            other = shape[self.first : end]
        else:
            other = bottoms[1]
            if other != shape[self.first : self.first + len(other)]:
                self.refuse(f"its bottoms {shape} and {other} do not fit at axis {p.axis}")
        self.extra(p, other)

    def extra(self, p: Any, shape: Shape) -> None:
        """Further blobs."""

    def other(self, bottoms: tuple[Tensor, ...]) -> Tensor:
        """What the first bottom is combined with."""
        return _spread(bottoms[1] if len(bottoms) > 1 else self.blobs()[0], bottoms[0], self.first)


@register("Scale")
class Scale(_Affine):
    """A product along some axes, and a bias."""

    field = "scale_param"
    neutral = 1.0

    def extra(self, p: Any, shape: Shape) -> None:
        """Make the bias."""
        if p.bias_term:
            self.learn(shape, p.bias_filler)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Multiply, and add."""
        y = bottoms[0] * self.other(bottoms)
        if self.param.scale_param.bias_term:
            y = y + _spread(self.blobs()[-1], y, self.first)
        return y


@register("Bias")
class Bias(_Affine):
    """A sum along some axes."""

    field = "bias_param"

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Add."""
        return bottoms[0] + self.other(bottoms)


@register("BatchNorm")
class BatchNorm(Layer):
    """Normalisation over the batch, without scale and shift (Scale does that).

    Its blobs are running sums of means and of variances, and what to divide both by.
    """

    def setup(self, bottoms: list[Shape]) -> None:
        """Make the running sums."""
        p = self.param.batch_norm_param
        channels = bottoms[0][1] if len(bottoms[0]) > 1 else 1
        zero = messages.FillerParameter()
        for shape in ((channels,), (channels,), (1,)):
            self.learn(shape, zero, learned=False)
        given = p.use_global_stats if p.HasField("use_global_stats") else None
        self.use_global = not self.train_phase if given is None else given

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; in training, move the running sums."""
        p = self.param.batch_norm_param
        mean, variance, count = self.blobs()
        if self.use_global:
            factor = torch.where(count == 0, torch.zeros_like(count), 1 / count)
            return F.batch_norm(x, mean * factor, variance * factor, eps=p.eps)
        # with a momentum of 1 the "running" statistics are the batch's, the variance unbiased as
        # Caffe keeps it
        batch_mean, batch_variance = torch.zeros_like(mean), torch.zeros_like(variance)
        y = F.batch_norm(x, batch_mean, batch_variance, training=True, momentum=1.0, eps=p.eps)
        keep = p.moving_average_fraction
        with torch.no_grad():
            mean.mul_(keep).add_(batch_mean)
            variance.mul_(keep).add_(batch_variance)
            count.mul_(keep).add_(1)
        return y


@register("MVN")
class MVN(Layer):
    """Mean and variance of each sample's channels (or of all of it) made 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        p = self.param.mvn_param
        dims = tuple(range(1 if p.across_channels else 2, x.ndim))
        y = x - x.mean(dims, keepdim=True)
        if p.normalize_variance:
            y = y / (y.square().mean(dims, keepdim=True).sqrt() + p.eps)
        return y


@register("Softmax")
class Softmax(Layer):
    """Exponentials that sum to one along an axis."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Find the axis."""
        self.dim = self.axis(self.param.softmax_param.axis, len(bottoms[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return torch.softmax(x, self.dim)


@register("Parameter")
class Parameter(Layer):
    """A blob of its own, learned."""

    counts = (0, 0)

    def setup(self, bottoms: list[Shape]) -> None:
        """Make it, zeros."""
        self.learn(self.param.parameter_param.shape.dim, messages.FillerParameter())

    def forward(self) -> Tensor:
        """Hand it out."""
        return self.blobs()[0]
