"""A net and the batches it is fed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pellucid.caffe.data import BROKEN

__all__ = ["Batches", "Feed", "Outputs"]


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


class Batches(Protocol):
    """The batches of a data layer, by number."""

    def take(self, number: int) -> Mapping[str, Tensor]:
        """One of them; to ask for the next costs nothing."""

    def some(self, start: int, count: int) -> Iterable[Mapping[str, Tensor]]:
        """Several, one behind the other."""


class Feed:
    """Runs a net on its data layers' batches.

    Args:
        net: its `run` gives the outputs on blobs.
        batches: of each data layer.
        device: where the net is.
        dtype: what it computes in.

    Attributes:
        broken: records that could not be read and were passed over, by all workers together.
    """

    def __init__(
        self,
        net: Any,
        batches: Sequence[Batches],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net = net
        self._batches = batches
        self._device = device
        self._dtype = dtype
        self.broken = 0

    def forward(self, number: int) -> Outputs:
        """The outputs on the batch of this number."""
        return self._run([source.take(number) for source in self._batches])

    def some(self, start: int, count: int) -> Iterator[Outputs]:
        """The outputs on several batches."""
        for read in zip(*(source.some(start, count) for source in self._batches), strict=True):
            yield self._run(read)

    def _run(self, read: Sequence[Mapping[str, Tensor]]) -> Outputs:
        blobs: dict[str, Tensor] = {}
        for batch in read:
            tops = dict(batch)
            if (broken := tops.pop(BROKEN, None)) is not None:
                self.broken += int(broken.sum())
            blobs |= {top: self._placed(blob) for top, blob in tops.items()}
        outputs: Outputs = self.net.run(blobs)
        return outputs

    def _placed(self, blob: Tensor) -> Tensor:
        dtype = self._dtype if blob.is_floating_point() else None
        return blob.to(device=self._device, dtype=dtype, non_blocking=True)
