"""Layers that slide over images: convolution, deconvolution, pooling, local normalisation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from pellucid.caffe.layers.layer import Layer, Shape, register

__all__ = ["is_torchs", "pool2d", "pooled"]

_PLANE = 2  # spatial dimensions of an image


def _sizes(param: Any, name: str, dims: int, default: int | None) -> tuple[int, ...] | None:
    """A kernel's size, stride or padding in each spatial dimension; None if not given."""
    short = name.removesuffix("_size")
    if param.HasField(f"{short}_h") or param.HasField(f"{short}_w"):
        return getattr(param, f"{short}_h"), getattr(param, f"{short}_w")
    given = tuple(getattr(param, name))
    if not given:
        return None if default is None else (default,) * dims
    return given * dims if len(given) == 1 else given


@register("Convolution")
class Convolution(Layer):
    """Convolution over any number of spatial dimensions, in groups."""

    counts = (1, 100)

    def setup(self, bottoms: list[Shape]) -> None:
        """Make weights (outputs, inputs / group, *kernel) and bias (outputs,)."""
        p = self.param.convolution_param
        shape = bottoms[0]
        if p.axis % len(shape) != 1:
            self.refuse(f"axis {p.axis}: only 1, the channels, can be convolved over")
        dims = len(shape) - 2
        kernel = _sizes(p, "kernel_size", dims, None)
        if kernel is None or len(kernel) != dims or dims < 1:
            self.refuse(f"its kernel {kernel} does not fit a blob of shape {shape}")
            return
        self.stride = _sizes(p, "stride", dims, 1)
        self.pad = _sizes(p, "pad", dims, 0)
        self.dilation = tuple(p.dilation) * (dims if len(p.dilation) == 1 else 1) or (1,) * dims
        self.fit(shape, kernel)
        self.group = p.group
        channels, outputs = shape[1], p.num_output
        if not outputs or channels % p.group or outputs % p.group:
            self.refuse(
                f"{channels} channels to {outputs} outputs cannot be done in {p.group} groups"
            )
        self.learn(self.weight_shape(channels, outputs, kernel), p.weight_filler)
        if p.bias_term:
            self.learn((outputs,), p.bias_filler)

    def fit(self, shape: Shape, kernel: tuple[int, ...]) -> None:
        """Refuse a kernel that is larger than the padded image."""
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, kernel, strict=True)]
        padded = [n + 2 * p for n, p in zip(shape[2:], self.pad or (), strict=True)]
        if any(r > n for r, n in zip(reach, padded, strict=True)):
            self.refuse(
                f"it does not fit bottoms of shapes {[shape]}: its kernel reaches over {reach}, "
                f"the padded image is {padded}"
            )

    def weight_shape(self, channels: int, outputs: int, kernel: tuple[int, ...]) -> Shape:
        """Of the weights."""
        return (outputs, channels // self.group, *kernel)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One bottom."""
        convolve = _CONVOLVE[x.ndim - 3]
        top: Tensor = convolve(x, weight, bias, self.stride, self.pad, self.dilation, self.group)
        return top

    def forward(self, *bottoms: Tensor) -> Any:
        """Convolve every bottom with the same weights."""
        weight, *rest = self.blobs()
        bias = rest[0] if rest else None
        tops = tuple(self.convolve(x, weight, bias) for x in bottoms)
        return tops[0] if len(tops) == 1 else tops


@register("Deconvolution")
class Deconvolution(Convolution):
    """The gradient of a convolution, as a layer."""

    def fit(self, shape: Shape, kernel: tuple[int, ...]) -> None:
        """Any kernel does."""

    def weight_shape(self, channels: int, outputs: int, kernel: tuple[int, ...]) -> Shape:
        """Of the weights: inputs come first."""
        return (channels, outputs // self.group, *kernel)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """One bottom."""
        spread = _DECONVOLVE[x.ndim - 3]
        top: Tensor = spread(x, weight, bias, self.stride, self.pad, 0, self.group, self.dilation)
        return top


_CONVOLVE: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)
_DECONVOLVE: tuple[Any, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@register("Im2col")
class Im2col(Layer):
    """Patches as channels."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Read the window."""
        p = self.param.convolution_param
        self.window = {
            "kernel_size": _sizes(p, "kernel_size", _PLANE, 1),
            "stride": _sizes(p, "stride", _PLANE, 1),
            "padding": _sizes(p, "pad", _PLANE, 0),
            "dilation": tuple(p.dilation) * (_PLANE if len(p.dilation) == 1 else 1) or 1,
        }
        window: Any = self.window
        k, s, d = window["kernel_size"], window["stride"], window["dilation"]
        d = d if isinstance(d, tuple) else (d, d)
        pad = window["padding"]
        self.out = [
            (n + 2 * pad[i] - d[i] * (k[i] - 1) - 1) // s[i] + 1
            for i, n in enumerate(bottoms[0][2:])
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C * kernel, H', W')."""
        window: Any = self.window
        patches = F.unfold(x, **window)
        return patches.view(*patches.shape[:2], *self.out)


def pooled(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    ceil: bool,
) -> list[int]:
    """Sizes of what pooling gives: the last window must not begin in the padding behind."""
    outs = []
    for n, k, s, p in zip(size, kernel, stride, pad, strict=True):
        steps = n + 2 * p - k
        out = (-(-steps // s) if ceil else steps // s) + 1
        outs.append(out - 1 if p and (out - 1) * s >= n + p else out)
    return outs


@functools.cache
def is_torchs(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    ceil: bool,
) -> bool:
    """Whether torch's own pooling gives these sizes, and the same averages."""
    outs = pooled(size, kernel, stride, pad, ceil)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        return False
    if any((o - 1) * s >= n + p for n, s, p, o in zip(size, stride, pad, outs, strict=True)):
        return False
    like = torch.empty((1, 1, *size), device="meta")
    y = F.max_pool2d(like, tuple(kernel), tuple(stride), tuple(pad), ceil_mode=ceil)
    return list(y.shape[2:]) == outs


def pool2d(
    x: Tensor,
    method: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    ceil: bool = True,
) -> Tensor:
    """Pool with Caffe's sizes, see `pooled`. Averages count the padding, up to its end."""
    size = tuple(x.shape[2:])
    if is_torchs(size, kernel, stride, pad, ceil):
        pool = F.max_pool2d if method == "MAX" else F.avg_pool2d
        return pool(x, kernel, stride, pad, ceil_mode=ceil)
    # what torch's own rules do not give: pad by hand
    outs = pooled(size, kernel, stride, pad, ceil)
    behind = [
        max((o - 1) * s + k - n - p, 0)
        for n, k, s, p, o in zip(size, kernel, stride, pad, outs, strict=True)
    ]
    value = -torch.inf if method == "MAX" else 0.0
    padded = F.pad(x, (pad[1], behind[1], pad[0], behind[0]), value=value)
    pool = F.max_pool2d if method == "MAX" else F.avg_pool2d
    y = pool(padded, kernel, stride)[..., : outs[0], : outs[1]]
    if method == "AVE":
        # count places up to the end of the padding only
        ones = F.pad(x.new_ones(1, 1, *size), (pad[1], pad[1], pad[0], pad[0]), value=1.0)
        ones = F.pad(ones, (0, max(behind[1] - pad[1], 0), 0, max(behind[0] - pad[0], 0)))
        y = y / pool(ones, kernel, stride)[..., : outs[0], : outs[1]]
    return y


@register("Pooling")
class Pooling(Layer):
    """Maximum, average or stochastic pooling."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Read the window."""
        p = self.param.pooling_param
        if len(bottoms[0]) != 4:
            self.refuse(f"it pools images (N, C, H, W), not blobs of shape {bottoms[0]}")
        self.method = ("MAX", "AVE", "STOCHASTIC")[p.pool]
        if p.global_pooling:
            self.kernel: tuple[int, int] = bottoms[0][2], bottoms[0][3]
        elif p.HasField("kernel_size"):
            self.kernel = p.kernel_size, p.kernel_size
        elif p.HasField("kernel_h") and p.HasField("kernel_w"):
            self.kernel = p.kernel_h, p.kernel_w
        else:
            self.refuse("it needs kernel_size, kernel_h and kernel_w, or global_pooling")
        two = p.HasField("pad_h") or p.HasField("pad_w")
        self.pad = (p.pad_h, p.pad_w) if two else (p.pad, p.pad)
        two = p.HasField("stride_h") or p.HasField("stride_w")
        self.stride = (p.stride_h, p.stride_w) if two else (p.stride, p.stride)
        self.ceil = p.round_mode == 0
        if any(pad >= k for pad, k in zip(self.pad, self.kernel, strict=True)):
            self.refuse(f"its padding {self.pad} is not smaller than its kernel {self.kernel}")
        if self.method == "STOCHASTIC" and any(self.pad):
            self.refuse("stochastic pooling takes no padding")
        self.plain = is_torchs(bottoms[0][2:], self.kernel, self.stride, self.pad, self.ceil)

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        if self.method == "STOCHASTIC":
            return self._stochastic(x)
        if self.plain:
            pool = F.max_pool2d if self.method == "MAX" else F.avg_pool2d
            return pool(x, self.kernel, self.stride, self.pad, ceil_mode=self.ceil)
        return pool2d(x, self.method, self.kernel, self.stride, self.pad, self.ceil)

    def _stochastic(self, x: Tensor) -> Tensor:
        """Zeiler and Fergus 2013: a value drawn by its size; at test, their weighted mean."""
        outs = [
            -(-(n - k) // s) + 1
            for n, k, s in zip(x.shape[2:], self.kernel, self.stride, strict=True)
        ]
        behind = [
            max((o - 1) * s + k - n, 0)
            for n, k, s, o in zip(x.shape[2:], self.kernel, self.stride, outs, strict=True)
        ]
        padded = F.pad(x, (0, behind[1], 0, behind[0]))
        patches = padded.unfold(2, self.kernel[0], self.stride[0]).unfold(
            3, self.kernel[1], self.stride[1]
        )
        patches = patches.flatten(4)
        total = patches.sum(-1, keepdim=True)
        if not self.train_phase:
            return (patches * patches).sum(-1) / total.squeeze(-1).clamp(min=1e-30)
        threshold = torch.rand_like(total) * total
        chosen = (patches.cumsum(-1) < threshold).sum(-1, keepdim=True)
        return patches.gather(-1, chosen.clamp(max=patches.shape[-1] - 1)).squeeze(-1)


@register("LRN")
class LRN(Layer):
    """Local response normalisation, across channels or within one."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Check the window."""
        if self.param.lrn_param.local_size % 2 == 0:
            self.refuse(f"local_size {self.param.lrn_param.local_size} must be odd")

    def forward(self, x: Tensor) -> Tensor:
        """Divide by a power of the mean square of the neighbours."""
        p = self.param.lrn_param
        if p.norm_region == 0:
            return F.local_response_norm(x, p.local_size, p.alpha, p.beta, p.k)
        size, pad = p.local_size, (p.local_size - 1) // 2
        mean = pool2d(x * x, "AVE", (size, size), (1, 1), (pad, pad))
        return x.mul((1 + p.alpha * mean).pow(-p.beta))


@register("SPP")
class SPP(Layer):
    """Spatial pyramid pooling (He et al. 2014): 1, 4, 16, ... places a channel, flattened."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Check the size."""
        height = self.param.spp_param.pyramid_height
        if not height:
            self.refuse("it needs pyramid_height")
        if 2 ** min(height - 1, 32) > max(bottoms[0][2:]):
            self.refuse(f"pyramid_height {height} has more places than images of {bottoms[0]}")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C * (1 + 4 + ...))."""
        p = self.param.spp_param
        method = ("MAX", "AVE", "STOCHASTIC")[p.pool]
        levels = []
        for level in range(p.pyramid_height):
            bins = 2**level
            kernel = -(-x.shape[2] // bins), -(-x.shape[3] // bins)
            pad = (
                (kernel[0] * bins - x.shape[2] + 1) // 2,
                (kernel[1] * bins - x.shape[3] + 1) // 2,
            )
            levels.append(pool2d(x, method, kernel, kernel, pad).flatten(1))
        return torch.cat(levels, 1)
