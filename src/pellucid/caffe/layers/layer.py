"""What every layer is: a module made of a LayerParameter and the shapes of its bottoms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from pellucid.caffe.errors import CaffeError
from pellucid.caffe.fillers import fill

__all__ = ["REGISTRY", "Layer", "Shape", "register"]

Shape = tuple[int, ...]
REGISTRY: dict[str, type[Layer]] = {}


def register(*types: str) -> Callable[[type[Layer]], type[Layer]]:
    """Make a class answer for these types of Caffe."""

    def note(cls: type[Layer]) -> type[Layer]:
        for name in types:
            REGISTRY[name] = cls
        return cls

    return note


class Layer(nn.Module):
    """A layer of a net.

    Its blobs (weights, in Caffe's order) are parameters, or buffers where Caffe does not learn
    them by gradients; `blobs` lists them.

    Args:
        param: the LayerParameter.
        bottoms: shapes of its bottoms.
        phase: TRAIN or TEST.
        generator: for the fillers.

    Attributes:
        is_head: it computes a loss or a measure of whole batches, outside of what is split.
        loss_weight: of its first top, where the net does not say.
    """

    is_head: ClassVar[bool] = False
    loss_weight: ClassVar[float] = 0.0
    counts: ClassVar[tuple[int, int]] = (1, 1)  # of bottoms: at least, at most

    def __init__(
        self, param: Any, bottoms: Sequence[Shape], phase: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.param = param
        self.train_phase = phase == "TRAIN"
        self._generator = generator
        self._blob_names: list[str] = []
        least, most = self.counts
        if not least <= len(bottoms) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            self.refuse(f"it has {len(bottoms)} bottoms and needs {wanted}")
        self.setup(list(bottoms))

    def setup(self, bottoms: list[Shape]) -> None:
        """Check the bottoms' shapes and make the blobs."""

    def refuse(self, why: str) -> None:
        """Raise what is wrong with the layer.

        Raises:
            CaffeError: always.
        """
        msg = f"layer {self.param.name!r} ({self.param.type}): {why}"
        raise CaffeError(msg, layer=self.param.name)

    def learn(self, shape: Sequence[int], filler: Any, *, learned: bool = True) -> Tensor:
        """Make the next blob, filled; a parameter, or a buffer if no gradient changes it."""
        wanted = tuple(int(n) for n in shape)
        if min(wanted, default=1) < 0 or math.prod(wanted) * 4 > psutil.virtual_memory().total:
            self.refuse(f"a blob of shape {wanted} is larger than the memory of this box")
        values = torch.empty(wanted)
        try:
            fill(values, filler, self._generator)
        except CaffeError as error:
            self.refuse(str(error))
        name = f"blob{len(self._blob_names)}"
        self._blob_names.append(name)
        if learned:
            self.register_parameter(name, nn.Parameter(values))
        else:
            self.register_buffer(name, values)
        return values

    def blobs(self) -> list[Tensor]:
        """The blobs in Caffe's order."""
        return [getattr(self, name) for name in self._blob_names]

    def axis(self, axis: int, dims: int) -> int:
        """An axis counted from the front; negative ones count from the end."""
        if not -dims <= axis < dims:
            self.refuse(f"axis {axis} of a blob of {dims} dimensions")
        return axis % dims
