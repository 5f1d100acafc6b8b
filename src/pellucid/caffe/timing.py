"""``caffe time``: how long each layer takes, forward and backward.

Every layer is run by itself on inputs cut off from what made them, so that its backward pass can
be timed alone. Whole passes, which overlap layers as a training does, are timed apart from that.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.caffe.log import LOGGER
from pellucid.caffe.single_net import SingleNet, open_net

__all__ = ["measure"]


class _Stopwatch:
    """Adds up milliseconds by name, waiting for the device before it looks at the clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.total: dict[tuple[str, str], float] = defaultdict(float)

    def time(self, key: tuple[str, str], action: Callable[[], Any]) -> Any:
        """Do something and note how long it took."""
        began = self._now()
        result = action()
        self.total[key] += (self._now() - began) * 1000
        return result

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def measure(asked: SingleNet) -> dict[tuple[str, str], float]:
    """Log what Caffe logs.

    Returns:
        Average milliseconds by layer and direction; those of the whole net by the name ``""``.

    Raises:
        CaffeError: a file is missing or says what cannot be.
    """
    built, device = open_net(asked)
    net, batches = built.net, built.batches()
    watch = _Stopwatch(device)
    LOGGER.info("*** Benchmark begins ***")
    LOGGER.info("Testing for %d iterations.", asked.iterations)
    for iteration in range(-1, asked.iterations):
        if iteration == 0:
            watch.total.clear()  # the pass before was to warm up
        blobs: dict[str, Tensor] = {}
        for layer, source in zip(net.data_layers, batches, strict=True):
            read = watch.time((layer.name, "forward"), lambda: source.take(iteration + 1))  # noqa: B023
            blobs |= {top: blob.to(device) for top, blob in read.items()}
        _whole(net, blobs, watch)
        _by_layer(net, blobs, watch)
    averages = {key: total / max(asked.iterations, 1) for key, total in watch.total.items()}
    _report(averages, asked.iterations)
    return averages


def _whole(net: Any, blobs: dict[str, Tensor], watch: _Stopwatch) -> None:
    outputs = watch.time(("", "forward"), lambda: net.run(blobs))
    if outputs.loss.requires_grad:
        watch.time(("", "backward"), outputs.loss.backward)
    net.zero_grad()


def _by_layer(net: Any, data: dict[str, Tensor], watch: _Stopwatch) -> None:
    blobs = dict(data)
    for layer in (*net.layers.values(), *net.head.layers):
        param = layer.param
        inputs = [_leaf(blobs[name]) for name in param.bottom]
        tops = watch.time((param.name, "forward"), lambda: layer(*inputs))  # noqa: B023
        tops = tops if isinstance(tops, tuple) else (tops,)
        learned = [p for p in layer.parameters() if p.requires_grad]
        wanted = [*(x for x in inputs if x.requires_grad), *learned]
        ends = [top for top in tops if top.requires_grad]
        if wanted and ends:
            ones = [torch.ones_like(top) for top in ends]

            def back(ends: Any = ends, wanted: Any = wanted, ones: Any = ones) -> Any:
                return torch.autograd.grad(ends, wanted, ones, allow_unused=True)

            watch.time((param.name, "backward"), back)
        blobs.update(zip(param.top, (top.detach() for top in tops), strict=False))


def _leaf(blob: Tensor) -> Tensor:
    """The same values; a gradient with respect to them can be asked for."""
    leaf = blob.detach()
    return leaf.requires_grad_() if leaf.is_floating_point() else leaf


def _report(averages: dict[tuple[str, str], float], iterations: int) -> None:
    LOGGER.info("Average time per layer: ")
    for (name, direction), value in averages.items():
        if name:
            LOGGER.info("%10s\t%s: %g ms.", name, direction, value)
    forward, backward = averages.get(("", "forward"), 0.0), averages.get(("", "backward"), 0.0)
    LOGGER.info("Average Forward pass: %g ms.", forward)
    LOGGER.info("Average Backward pass: %g ms.", backward)
    LOGGER.info("Average Forward-Backward: %g ms.", forward + backward)
    LOGGER.info("Total Time: %g ms.", (forward + backward) * iterations)
    LOGGER.info("*** Benchmark ends ***")
