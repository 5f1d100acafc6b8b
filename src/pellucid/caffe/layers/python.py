"""Layers of a user's class, as part of torch's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.layers.layer import Layer, Shape, register
from pellucid.caffe.layers.pycaffe import Program
from pellucid.caffe.proto import messages

__all__: list[str] = []

_MANY = 1000


@register("Python")
class Python(Layer):
    """A layer in Python, of the class and module that python_param names."""

    counts = (1, _MANY)

    def setup(self, bottoms: list[Shape]) -> None:
        """Set the user's class up, and take over the blobs it learns."""
        phase = "TRAIN" if self.train_phase else "TEST"
        try:
            self.program = Program(self.param.python_param, phase, bottoms, len(self.param.top))
        except CaffeError as error:
            self.refuse(str(error))
        for blob in self.program.blobs:
            values = self.learn(blob.shape, messages.FillerParameter())
            values.copy_(torch.from_numpy(blob.data))

    def forward(self, *bottoms: Tensor) -> Any:
        """Call it."""
        if bottoms[0].is_meta:
            return tuple(torch.empty(shape, device="meta") for shape in self.program.shapes)
        apply: Any = _Call.apply
        tops = apply(self.program, len(bottoms), *bottoms, *self.blobs())
        return tops[0] if len(tops) == 1 else tops


def _arrays(blobs: Sequence[Tensor]) -> list[np.ndarray]:
    """Blobs as numpy arrays of one float type: Caffe's blobs hold floats only."""
    floats = [blob.dtype for blob in blobs if blob.is_floating_point()] or [torch.float32]
    return [blob.detach().to("cpu", floats[0]).contiguous().numpy() for blob in blobs]


class _Call(torch.autograd.Function):
    """A pass through a `Program`."""

    @staticmethod
    def forward(ctx: Any, program: Program, count: int, *blobs: Tensor) -> tuple[Tensor, ...]:
        """Bottoms and learned blobs -> tops."""
        ctx.program, ctx.count = program, count
        ctx.save_for_backward(*blobs)
        arrays = [array.copy() for array in _arrays(blobs)]
        tops, ctx.number = program.forward(arrays[:count], arrays[count:])
        return tuple(torch.from_numpy(top).to(blobs[0].device) for top in tops)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of tops -> those of bottoms and learned blobs."""
        blobs, program, count = ctx.saved_tensors, ctx.program, ctx.count
        if not program.is_latest(ctx.number):  # it was called again since: bring it back
            arrays = [array.copy() for array in _arrays(blobs)]
            _, ctx.number = program.forward(arrays[:count], arrays[count:])
        wanted = ctx.needs_input_grad[2:]
        found = program.backward(_arrays(diffs), wanted[:count])
        given = [
            torch.from_numpy(diff).to(blob.device) if needed else None
            for diff, blob, needed in zip(found, blobs, wanted, strict=True)
        ]
        return (None, None, *given)
