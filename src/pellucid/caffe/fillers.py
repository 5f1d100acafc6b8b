"""Caffe's fillers: first values of weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pellucid.caffe.errors import CaffeError

__all__ = ["fill"]


@torch.no_grad()
def fill(values: Tensor, filler: Any, generator: torch.Generator) -> None:
    """Fill a blob as its FillerParameter says.

    Fan-in is the number of values divided by the first dimension, fan-out by the second, whatever
    the layer means by them.

    Args:
        values: the blob.
        filler: a FillerParameter.
        generator: of the random numbers.

    Raises:
        CaffeError: an unknown filler, or one that does not fit the blob's shape.
    """
    kind = filler.type
    if kind == "constant":
        values.fill_(filler.value)
    elif kind == "uniform":
        values.uniform_(filler.min, filler.max, generator=generator)
    elif kind == "gaussian":
        _gaussian(values, filler, generator)
    elif kind == "xavier":
        bound = math.sqrt(3.0 / _fan(values, filler))
        values.uniform_(-bound, bound, generator=generator)
    elif kind == "msra":
        values.normal_(0, math.sqrt(2.0 / _fan(values, filler)), generator=generator)
    elif kind == "positive_unitball":
        values.uniform_(0, 1, generator=generator)
        rows = values.view(values.shape[0], -1)
        rows /= rows.sum(1, keepdim=True)
    elif kind == "bilinear":
        _bilinear(values)
    else:
        msg = (
            f"unknown filler {kind!r}: known are constant, uniform, gaussian, xavier, msra, "
            f"positive_unitball and bilinear"
        )
        raise CaffeError(msg)


def _fan(values: Tensor, filler: Any) -> float:
    fan_in = values.numel() / values.shape[0]
    fan_out = values.numel() / (values.shape[1] if values.ndim > 1 else 1)
    return (fan_in, fan_out, (fan_in + fan_out) / 2)[filler.variance_norm]


def _gaussian(values: Tensor, filler: Any, generator: torch.Generator) -> None:
    values.normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:  # so many weights an output are kept, on the average
        kept = filler.sparse / values.shape[0]
        values *= torch.rand(values.shape, generator=generator, dtype=values.dtype) < kept


def _bilinear(values: Tensor) -> None:
    """Weights of a deconvolution that interpolates."""
    if values.ndim != 4 or values.shape[2] != values.shape[3]:
        msg = (
            f"the bilinear filler needs a square kernel, not a blob of shape {tuple(values.shape)}"
        )
        raise CaffeError(msg)
    size = values.shape[3]
    factor = math.ceil(size / 2.0)
    centre = (2 * factor - 1 - factor % 2) / (2.0 * factor)
    line = 1 - (torch.arange(size, dtype=values.dtype) / factor - centre).abs()
    values.copy_((line[:, None] * line[None, :]).expand_as(values))
