"""Caffe's layers by type."""

from __future__ import annotations

from pellucid.caffe.layers import (
    arrange,
    common,
    losses,
    neurons,
    output,
    python,
    recurrent,
    spatial,
)
from pellucid.caffe.layers.layer import REGISTRY, Layer, Shape

__all__ = [
    "REGISTRY",
    "Layer",
    "Shape",
    "arrange",
    "common",
    "losses",
    "neurons",
    "output",
    "python",
    "recurrent",
    "spatial",
]
