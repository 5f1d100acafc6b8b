"""``caffe test``: the outputs of a trained net on some batches, and their means."""

from __future__ import annotations

from pellucid.caffe.log import LOGGER, number
from pellucid.caffe.single_net import SingleNet, open_net
from pellucid.caffe.solver.feed import Feed, Outputs
from pellucid.caffe.solver.testing import Means, mean_outputs

__all__ = ["evaluate"]


def evaluate(asked: SingleNet) -> Means:
    """Log what Caffe logs, and return the means.

    Raises:
        CaffeError: a file is missing or says what cannot be.
    """
    built, device = open_net(asked)
    LOGGER.info("Running for %d iterations.", asked.iterations)

    def each(index: int, outputs: Outputs) -> None:
        for name, blob in outputs.blobs.items():
            for value in blob.flatten().tolist():
                LOGGER.info("Batch %d, %s = %s", index, name, number(value))

    feed = Feed(built.net, built.batches(), device)
    means = mean_outputs(feed, asked.iterations, each=each) or Means()
    LOGGER.info("Loss: %s", number(means.loss))
    for name, values in means.blobs.items():
        for value in values:
            line = f"{name} = {number(value)}"
            if weight := means.weights.get(name, 0.0):
                line += f" (* {number(weight)} = {number(weight * value)} loss)"
            LOGGER.info(line)
    return means
