"""Layers that rearrange, combine, reduce or choose."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from pellucid.caffe.layers.layer import Layer, Shape, register

__all__: list[str] = []

_MANY = 1000


@register("Concat")
class Concat(Layer):
    """Bottoms one behind the other along an axis."""

    counts = (1, _MANY)

    def setup(self, bottoms: list[Shape]) -> None:
        """Find the axis."""
        p = self.param.concat_param
        axis = p.concat_dim if p.HasField("concat_dim") else p.axis
        self.dim = self.axis(axis, len(bottoms[0]))
        rests = {(*s[: self.dim], *s[self.dim + 1 :]) for s in bottoms}
        if len(rests) > 1:
            self.refuse(f"its bottoms {bottoms} differ in more than axis {self.dim}")

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Join."""
        return torch.cat(bottoms, self.dim)


@register("Slice")
class Slice(Layer):
    """A bottom cut along an axis."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Find axis and sizes."""
        p = self.param.slice_param
        self.dim = self.axis(p.slice_dim if p.HasField("slice_dim") else p.axis, len(bottoms[0]))
        size, tops = bottoms[0][self.dim], len(self.param.top)
        points = [0, *p.slice_point, size]
        if not p.slice_point:
            if size % tops:
                self.refuse(f"axis {self.dim} of size {size} cannot be cut into {tops} equal parts")
            self.sizes = [size // tops] * tops
            return
        self.sizes = [b - a for a, b in itertools.pairwise(points)]
        if len(self.sizes) != tops or min(self.sizes) < 1:
            self.refuse(f"slice points {points[1:-1]} do not cut size {size} into {tops} tops")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Cut."""
        return torch.split(x, self.sizes, self.dim)


@register("Split")
class Split(Layer):
    """The same blob under several names."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Copy."""
        return (x,) * len(self.param.top)


@register("Silence")
class Silence(Layer):
    """Takes blobs out of the net's outputs."""

    counts = (1, _MANY)

    def forward(self, *bottoms: Tensor) -> tuple[()]:
        """Nothing."""
        return ()


@register("Eltwise")
class Eltwise(Layer):
    """Product, weighted sum or maximum of blobs."""

    counts = (2, _MANY)

    def setup(self, bottoms: list[Shape]) -> None:
        """Check shapes and coefficients."""
        p = self.param.eltwise_param
        if len(set(bottoms)) > 1:
            self.refuse(f"its bottoms have different shapes: {bottoms}")
        if len(p.coeff) not in (0, len(bottoms)):
            self.refuse(f"{len(p.coeff)} coefficients for {len(bottoms)} bottoms")

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Combine."""
        p = self.param.eltwise_param
        coefficients = list(p.coeff) or [1.0] * len(bottoms)
        y = bottoms[0] * coefficients[0] if p.operation == 1 and p.coeff else bottoms[0]
        for x, c in zip(bottoms[1:], coefficients[1:], strict=True):
            if p.operation == 0:
                y = y * x
            elif p.operation == 1:
                y = torch.add(y, x, alpha=c)
            else:
                y = torch.maximum(y, x)
        return y


@register("Flatten")
class Flatten(Layer):
    """Axes made one."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Find the axes."""
        p, dims = self.param.flatten_param, len(bottoms[0])
        self.dims = self.axis(p.axis, dims), self.axis(p.end_axis, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Flatten."""
        return x.flatten(*self.dims) if self.dims[1] >= self.dims[0] else x


@register("Reshape")
class Reshape(Layer):
    """The same values in another shape: 0 keeps a size, -1 is what is left."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Find out which axes are replaced."""
        p, dims = self.param.reshape_param, len(bottoms[0])
        self.start = p.axis if p.axis >= 0 else dims + p.axis + 1
        self.end = dims if p.num_axes == -1 else self.start + p.num_axes
        if not 0 <= self.start <= self.end <= dims:
            self.refuse(f"axis {p.axis} and num_axes {p.num_axes} do not fit {bottoms[0]}")
        self.sizes = list(p.shape.dim)
        self.batch = bottoms[0][0]

    def forward(self, x: Tensor) -> Tensor:
        """Reshape."""
        sizes = []
        for k, size in enumerate(self.sizes):
            kept = x.shape[self.start + k] if size == 0 else size
            # a fixed batch size stands for the rows there are, which may be a slice of the batch
            sizes.append(x.shape[0] if self.start + k == 0 and kept == self.batch else kept)
        return x.reshape(*x.shape[: self.start], *sizes, *x.shape[self.end :])


@register("Crop")
class Crop(Layer):
    """The first bottom cut to the size of the second."""

    counts = (2, 2)

    def setup(self, bottoms: list[Shape]) -> None:
        """Find offsets."""
        p, dims = self.param.crop_param, len(bottoms[0])
        first = self.axis(p.axis, dims)
        given = list(p.offset) or [0]
        if len(given) not in (1, dims - first):
            self.refuse(f"{len(given)} offsets for {dims - first} axes")
        offsets = given * (dims - first) if len(given) == 1 else given
        self.cuts = [(first + k, offset) for k, offset in enumerate(offsets)]
        for dim, offset in self.cuts:
            if offset + bottoms[1][dim] > bottoms[0][dim]:
                self.refuse(f"{bottoms[1]} at offset {offset} does not lie in {bottoms[0]}")

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Cut."""
        for dim, offset in self.cuts:
            x = x.narrow(dim, offset, like.shape[dim])
        return x


@register("Tile")
class Tile(Layer):
    """Copies along an axis."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Find the axis."""
        self.dim = self.axis(self.param.tile_param.axis, len(bottoms[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Repeat."""
        times = [1] * x.ndim
        times[self.dim] = self.param.tile_param.tiles
        return x.repeat(times)


@register("Reduction")
class Reduction(Layer):
    """A sum (of values, absolutes or squares) or mean over the axes from one on."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Find the axis."""
        self.first = self.axis(self.param.reduction_param.axis, len(bottoms[0]))
        self.count = math.prod(bottoms[0][self.first :])

    def forward(self, x: Tensor) -> Tensor:
        """Reduce."""
        p = self.param.reduction_param
        x = x.flatten(self.first)
        if p.operation == 2:
            x = x.abs()
        elif p.operation == 3:
            x = x.square()
        mean = p.operation == 4
        reduced = x.mean(-1) if mean else x.sum(-1)
        return reduced.mul(p.coeff)


@register("ArgMax")
class ArgMax(Layer):
    """Places of the largest values, and the values."""

    def setup(self, bottoms: list[Shape]) -> None:
        """Find the axis."""
        p = self.param.argmax_param
        self.dim = self.axis(p.axis, len(bottoms[0])) if p.HasField("axis") else None

    def forward(self, x: Tensor) -> Tensor:
        """Along an axis: values or places; else (N, 1, k) places or (N, 2, k) both."""
        p = self.param.argmax_param
        if self.dim is not None:
            values, places = x.topk(p.top_k, self.dim)
            return values if p.out_max_val else places.to(x.dtype)
        values, places = x.flatten(1).topk(p.top_k, 1)
        both = [places.to(x.dtype), values] if p.out_max_val else [places.to(x.dtype)]
        return torch.stack(both, 1)


@register("BatchReindex")
class BatchReindex(Layer):
    """Rows by number."""

    counts = (2, 2)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """Choose."""
        return x[rows.long().flatten()]


@register("Filter")
class Filter(Layer):
    """Rows of all bottoms but the last for which the last is not zero."""

    counts = (2, _MANY)

    def forward(self, *bottoms: Tensor) -> Any:
        """Choose."""
        chosen = bottoms[-1].flatten() != 0
        if chosen.is_meta:  # how many it will be depends on the values: at most all
            return tuple(bottoms[:-1])
        return tuple(x[chosen] for x in bottoms[:-1])
