"""The mean of a net's outputs over some batches: Caffe's test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.caffe.log import LOGGER, number
from pellucid.caffe.solver.feed import Feed, Outputs

__all__ = ["Means", "TestNet", "mean_outputs", "score_lines"]


@dataclass
class TestNet:
    """One of a solver's test nets.

    Attributes:
        number: which.
        feed: the net, whose weights are the training net's, and its batches.
        iterations: batches of a test.
        done: batches of the tests so far.
    """

    number: int
    feed: Feed
    iterations: int
    done: int = 0


@dataclass
class Means:
    """Means over batches.

    Attributes:
        loss: of the weighted total.
        blobs: of each output, flat, by name.
        weights: loss weight of each output.
    """

    loss: float = 0.0
    blobs: dict[str, list[float]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


def mean_outputs(
    feed: Feed,
    iterations: int,
    *,
    start: int = 0,
    go_on: Callable[[], bool] = lambda: True,
    each: Callable[[int, Outputs], None] = lambda _index, _outputs: None,
) -> Means | None:
    """Run a net on some batches without training it.

    Args:
        feed: the net and its batches.
        iterations: how many batches.
        start: the first of them.
        go_on: asked before each batch.
        each: told of each batch.

    Returns:
        The means; None if `go_on` said no.
    """
    loss, sums, weights = 0.0, dict[str, Tensor](), dict[str, float]()
    with torch.no_grad():
        for index, outputs in enumerate(feed.some(start, iterations)):
            if not go_on():
                return None
            each(index, outputs)
            loss += float(outputs.loss)
            for name, blob in outputs.blobs.items():
                values = blob.detach().flatten().double()
                sums[name] = sums[name] + values if name in sums else values
            weights = dict(outputs.weights)
    means = {name: (total / iterations).tolist() for name, total in sums.items()}
    return Means(loss / max(iterations, 1), means, weights)


def score_lines(kind: str, outputs: Outputs | Means) -> Iterator[str]:
    """Caffe's lines about a net's outputs: one a value.

    Args:
        kind: Train or Test.
        outputs: of one batch, or means.
    """
    index = 0
    for name, blob in outputs.blobs.items():
        values = blob.detach().flatten().tolist() if isinstance(blob, Tensor) else blob
        for value in values:
            line = f"    {kind} net output #{index}: {name} = {number(value)}"
            if weight := outputs.weights.get(name, 0.0):
                line += f" (* {number(weight)} = {number(weight * value)} loss)"
            yield line
            index += 1


def log_test(
    iteration: int, test: TestNet, *, compute_loss: bool, go_on: Callable[[], bool]
) -> bool:
    """Test one of a solver's nets and log it.

    Args:
        iteration: of the training.
        test: the net.
        compute_loss: whether the total loss is wanted.
        go_on: asked before each batch.

    Returns:
        Whether it went to its end.
    """
    LOGGER.info("Iteration %d, Testing net (#%d)", iteration, test.number)
    means = mean_outputs(test.feed, test.iterations, start=test.done, go_on=go_on)
    test.done += test.iterations
    if means is None:
        LOGGER.info("Test interrupted.")
        return False
    if compute_loss:
        LOGGER.info("Test loss: %s", number(means.loss))
    for line in score_lines("Test", means):
        LOGGER.info(line)
    return True
