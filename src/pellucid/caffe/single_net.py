"""A net by itself, without a solver: what ``caffe test`` and ``caffe time`` start from."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from pellucid.caffe.log import LOGGER
from pellucid.caffe.proto import read_net
from pellucid.caffe.solver.build import BuiltNet, NetFile, State, Way, build_net, device_named
from pellucid.caffe.weights import load_weights

__all__ = ["SingleNet", "open_net"]


@dataclass(frozen=True, kw_only=True)
class SingleNet:
    """Which net; the names are those of Caffe's flags.

    Attributes:
        model: its prototxt file.
        weights: .caffemodel files.
        iterations: how many batches.
        phase: TRAIN or TEST.
        level: of the net.
        stage: stages of the net.
        device: cpu or cuda; empty for the GPU if there is one.
    """

    model: str
    weights: tuple[str, ...] = ()
    iterations: int = 50
    phase: str = "TEST"
    level: int = 0
    stage: tuple[str, ...] = ()
    device: str = ""


def open_net(asked: SingleNet) -> tuple[BuiltNet, torch.device]:
    """Build it, with its weights, on its device.

    Raises:
        CaffeError: a file is missing or says what cannot be.
    """
    device = device_named(asked.device)
    LOGGER.info("Use %s.", torch.cuda.get_device_name() if device.type == "cuda" else "CPU")
    state = State(asked.phase, asked.level, asked.stage)
    file = NetFile(read_net(asked.model), asked.model, "")
    built = build_net(file, state, Way(seed=random.getrandbits(31), device=device))
    for path in asked.weights:
        load_weights(built.net, path)
    return built, device
