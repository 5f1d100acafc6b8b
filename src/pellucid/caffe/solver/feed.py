"""A net and the batches it is fed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pellucid.caffe.data import BROKEN

__all__ = ["Feed", "Outputs"]


class Outputs(Protocol):
    """What the head of a net gives.

    Attributes:
        loss: the weighted sum of all losses, without dimensions.
        blobs: the net's outputs by name, in the net's order.
        weights: the loss weight of an output; 0 for what is no loss.
    """

    @property
    def loss(self) -> Tensor: ...  # noqa: D102 - the class says it

    @property
    def blobs(self) -> Mapping[str, Tensor]: ...  # noqa: D102

    @property
    def weights(self) -> Mapping[str, float]: ...  # noqa: D102


class Feed:
    """Runs a net on its data layers' batches.

    Args:
        net: its `run` gives the outputs on blobs.
        batches: of each data layer; they do not end.
        device: where the net is.
        dtype: what it computes in.

    Attributes:
        broken: records that could not be read and were passed over, by all workers together.
    """

    def __init__(
        self,
        net: Any,
        batches: Sequence[Iterator[Mapping[str, Tensor]]],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net = net
        self._batches = batches
        self._device = device
        self._dtype = dtype
        self.broken = 0

    def forward(self) -> Outputs:
        """The outputs on the next batch."""
        blobs: dict[str, Tensor] = {}
        for source in self._batches:
            read = dict(next(source))
            if (broken := read.pop(BROKEN, None)) is not None:
                self.broken += int(broken.sum())
            blobs |= {top: self._placed(blob) for top, blob in read.items()}
        outputs: Outputs = self.net.run(blobs)
        return outputs

    def _placed(self, blob: Tensor) -> Tensor:
        dtype = self._dtype if blob.is_floating_point() else None
        return blob.to(device=self._device, dtype=dtype, non_blocking=True)
